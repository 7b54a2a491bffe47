"""A verdict follows from numbers alone, and a published number is judged only where it was run."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from anovl.data.published import MVTEC_AD
from anovl.evaluation.results import COLUMNS
from anovl_companion.claims import VERDICTS, numbers_ledger, verdict

NAN = math.nan


@pytest.mark.parametrize(
    ("numbers", "claimed", "said"),
    [
        ((0.1, 0.01, 0.2), "above", "reproduced"),
        ((0.1, 0.0, 0.2), "above", "within noise"),
        ((0.1, -0.1, 0.3), "above", "within noise"),
        ((-0.1, -0.2, 0.0), "above", "within noise"),
        ((-0.1, -0.2, -0.01), "above", "differs"),
        ((0.01, -0.02, 0.04), "equal", "reproduced"),
        ((0.0, 0.0, 0.0), "equal", "reproduced"),
        ((0.1, 0.01, 0.2), "equal", "differs"),
        ((-0.1, -0.2, -0.01), "equal", "differs"),
        ((NAN, 0.1, 0.2), "above", "not run here"),
        ((0.1, NAN, NAN), "equal", "not run here"),
    ],
)
def test_verdicts(numbers, claimed, said):
    assert verdict(*numbers, claimed=claimed) == said
    assert said in VERDICTS


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match=r"0\.2"):
        verdict(0.0, 0.2, 0.1)
    with pytest.raises(ValueError, match="'below'"):
        verdict(0.0, 0.1, 0.2, claimed="below")


def mvtec(*, categories=tuple(MVTEC_AD)):
    """A table as `evaluate` makes it, of AnoVL on MVTec AD."""
    values = {"auroc_sp": 0.92, "auroc_sp_lo": 0.91, "auroc_sp_hi": 0.93, "auroc_px": 0.897}
    values |= {"aupro": 0.70, "aupro_lo": 0.69, "aupro_hi": 0.71, "note": "", "dataset": "mvtec"}
    rows = [
        values
        | {"level": "mean" if category == "mean" else "category"}
        | {"category": category, "method": method}
        for method in ("anovl", "anovl-tta")
        for category in (*categories, "mean")
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_numbers_are_judged_where_they_were_run():
    def said(**options):
        book = numbers_ledger(mvtec(), same_model=True, **options)
        return book.set_index(["claim", "metric"])["verdict"]

    found = said()
    assert found["anovl on mvtec as published", "auroc_sp"] == "reproduced"  # inside the interval
    assert found["anovl-tta on mvtec as published", "aupro"] == "differs"
    assert found["anovl-tta on mvtec as published", "auroc_px"] == "reproduced"  # within a point
    assert (found.filter(like="visa", axis=0) == "not run here").all()
    strict = said(tolerance=0.001)
    assert strict["anovl-tta on mvtec as published", "auroc_px"] == "differs"


@pytest.mark.parametrize(
    ("table", "same_model"),
    [(mvtec(), False), (mvtec(categories=("pill", "wood")), True), (pd.DataFrame(), True)],
)
def test_another_model_or_a_part_of_the_data_judges_nothing(table, same_model):
    book = numbers_ledger(table, same_model=same_model)
    assert len(book) and (book["verdict"] == "not run here").all()
    assert book["other"].notna().all()
