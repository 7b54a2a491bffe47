"""A verdict follows from numbers alone, and pairs of methods share their resampled images."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from anovl.baselines.controls import Centre, DifferenceOfGaussians, PatchOutlier
from anovl.data import load_dataset
from anovl.data.published import MVTEC_AD
from anovl.evaluation.compare import Scores, compare_methods
from anovl.evaluation.harness import evaluate
from anovl.evaluation.results import COLUMNS, HEADLINES
from anovl_companion.claims import (
    VERDICTS,
    Claim,
    claim_of_measured,
    claim_of_methods,
    claims_of_numbers,
    ledger,
    read_ledger,
    verdict,
)
from anovl_companion.published import NO_SOURCE
from anovl_companion.saving import save_table

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


def test_the_ledger_has_a_row_a_claim():
    table = ledger([Claim("a", "aupro", 0.6, 0.5, low=0.05, high=0.15), Claim("b", "auroc_sp")])
    assert table["claim"].tolist() == ["a", "b"]
    assert table["verdict"].tolist() == ["reproduced", "not run here"]
    assert table["difference"][0] == pytest.approx(0.1)
    assert ledger([]).columns.tolist() == table.columns.tolist()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    data = load_dataset("pocket", categories=["wood", "screw"], per_category=10, image_size=48)
    methods = [Centre(48), DifferenceOfGaussians(48), PatchOutlier(48)]
    return out, evaluate(data, methods, out=out, resamples=60, progress=False)


@pytest.mark.parametrize("metric", HEADLINES)
def test_compared_means_are_those_of_the_table_whole_or_in_parts(run, metric):
    out, table = run
    means = table[table.level == "mean"].set_index("method")[metric]
    found = compare_methods(out, metric, "dog", "outlier")
    parts = [
        compare_methods(out, metric, "dog", "outlier", categories=[name])
        for name in ("wood", "screw")
    ]
    for key, method in (("ours", "dog"), ("other", "outlier")):
        assert found[key] == pytest.approx(means[method])
        assert np.mean([part[key] for part in parts]) == pytest.approx(means[method])
    assert found["low"] <= found["high"]


def test_the_interval_is_that_of_the_difference(run):
    out, _ = run
    pairs = (("dog", "centre"), ("centre", "dog"), ("dog", "dog"))
    ab, ba, same = (compare_methods(out, "aupro", *pair) for pair in pairs)
    assert (ab["low"], ab["high"]) == pytest.approx((-ba["high"], -ba["low"]))
    assert (same["low"], same["high"]) == (0, 0)
    unknown = compare_methods(out, "f1_px", "dog", "centre")  # it is not resampled
    assert np.isnan(list(unknown.values())).all()
    with pytest.raises(ValueError, match=r"anovl .*dog"):
        compare_methods(out, "aupro", "anovl", "dog")


def test_a_claim_of_methods_has_the_numbers_of_the_run(run):
    out, _ = run
    claim = claim_of_methods("contrast is above position", out, "aupro", "dog", "centre", by="us")
    found = compare_methods(out, "aupro", "dog", "centre")
    assert (claim.ours, claim.low, claim.by) == (found["ours"], found["low"], "us")
    assert math.isnan(claim.paper) and claim.source == NO_SOURCE


def test_a_claim_of_words_is_paired():
    def measured(value, drawn):
        return Scores({"nut": {"auroc_sp": value}}, {"auroc_sp": np.array(drawn)})

    many, few = measured(0.8, [0.7, 0.9, 0.5]), measured(0.7, [0.6, 0.8, 0.4])
    claim = claim_of_measured("more words", "auroc_sp", many, few)
    assert claim.verdict == "reproduced"
    assert (claim.low, claim.high) == pytest.approx((0.1, 0.1))


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
    book = ledger(claims_of_numbers(mvtec(), same_model=True)).set_index("claim")
    said = book["verdict"]
    assert said["anovl on mvtec: auroc_sp as published"] == "reproduced"  # 0.925 is in the interval
    assert said["anovl-tta on mvtec: aupro as published"] == "differs"
    assert said["anovl-tta on mvtec: auroc_px as published"] == "reproduced"  # within a point
    assert (said[book.index.str.contains("visa")] == "not run here").all()
    strict = ledger(claims_of_numbers(mvtec(), same_model=True, tolerance=0.001))
    said = strict.set_index("claim")["verdict"]
    assert said["anovl-tta on mvtec: auroc_px as published"] == "differs"


@pytest.mark.parametrize(
    ("table", "same_model"), [(mvtec(), False), (mvtec(categories=("pill", "wood")), True)]
)
def test_another_model_or_a_part_of_the_data_judges_nothing(table, same_model):
    book = ledger(claims_of_numbers(table, same_model=same_model))
    assert len(book) and (book["verdict"] == "not run here").all()
    assert book["paper"].notna().all() and (book["source"] != NO_SOURCE).all()


def test_a_ledger_is_read_back_for_the_weights_that_made_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="05"):
        read_ledger(tmp_path, weights_hash="abc")
    book = ledger([Claim("a", "aupro", 0.6, 0.5, low=0.05, high=0.15), Claim("b", "auroc_sp")])
    save_table(book, tmp_path / "05_claims", provenance={"weights_sha256": "abc"})
    again = read_ledger(tmp_path, weights_hash="abc")
    assert again["verdict"].tolist() == book["verdict"].tolist()
    with pytest.raises(ValueError, match="abc, not xyz"):
        read_ledger(tmp_path, weights_hash="xyz")
