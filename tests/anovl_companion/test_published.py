"""Published numbers: each has a source, and stands beside ours only where it can be compared."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from anovl.data.published import MVTEC_AD
from anovl.evaluation.results import COLUMNS
from anovl_companion.published import (
    NO_SOURCE,
    PUBLISHED_METRICS,
    beside_published,
    published,
    published_gain,
)


def results(*rows: dict) -> pd.DataFrame:
    """A table as `evaluate` makes it, of every category of MVTec AD, and its means."""
    methods = [
        {"dataset": "mvtec", "level": level, "category": category, "note": ""} | row
        for row in rows
        for level, categories in (("category", MVTEC_AD), ("mean", ["mean"]))
        for category in categories
    ]
    return pd.DataFrame(methods, columns=list(COLUMNS))


def test_every_number_has_a_source_and_is_there_once():
    table = published()
    key = ["dataset", "method", "metric", "reported"]
    assert not table.duplicated([*key, "source"]).any()
    assert not table[table["reported"] != "unclear"].duplicated(key).any()  # looked up by the key
    assert table["value"].between(0, 1, inclusive="neither").all()
    assert set(table["metric"]) == set(PUBLISHED_METRICS) < set(COLUMNS)
    assert set(table["reported"]) == {"paper", "re-run", "unclear"}
    assert set(table["certainty"]) == {"at the source", "two sources", "one source"}
    assert table["source"].str.len().min() > 5
    several = table["source"].str.contains(";")
    assert (several == (table["certainty"] == "two sources")).all()


def test_columns_that_do_not_say_what_they_print_are_not_the_papers():
    """Crane's two tables, Anomaly-OV's one and the five data sets of doubtful attribution."""
    unclear = published().query("reported == 'unclear'")
    assert set(unclear["method"]) == {"anovl (variant unspecified)", "winclip"}
    of = {name: unclear[unclear["source"].str.contains(name)] for name in ("Crane", "Anomaly-OV")}
    assert len(of["Crane"]) == 3 * (10 + 11) + 3 * 2 * 2
    assert len(of["Anomaly-OV"]) == 7
    doubtful = unclear[unclear["source"].str.contains("wizwand")]
    assert set(doubtful["dataset"]) == {"dagm", "rsdd", "ksdd2", "bsd", "gc"}
    assert doubtful["note"].str.startswith("a run by others, attribution unsure").all()
    assert not published()["method"].str.contains("v2").any()


def test_paper_ours_and_difference_stand_side_by_side():
    table = beside_published(results({"method": "anovl-tta", "auroc_px": 0.9, "aupro": 0.8}))
    rows = table.set_index("metric")
    assert tuple(rows.index) == PUBLISHED_METRICS
    assert rows.loc["auroc_px", "paper"] == pytest.approx(0.906)
    assert rows.loc["auroc_px", "difference"] == pytest.approx(-0.006)
    assert rows.loc["aupro", "difference"] == pytest.approx(0.022)
    assert "wizwand" in rows.loc["aupro", "source"]
    assert rows.loc["f1_px", "source"] == NO_SOURCE
    assert math.isnan(rows.loc["f1_px", "paper"]) and math.isnan(rows.loc["f1_px", "difference"])


def test_what_others_measured_is_asked_for_by_name():
    ours = results({"method": "clip", "aupro": 0.2}, {"method": "anovl-tta", "aupro": 0.77})
    papers = beside_published(ours, metrics=["aupro"])
    assert papers["source"].eq(NO_SOURCE).tolist() == [True, False]
    reruns = beside_published(ours, metrics=["aupro"], reported="re-run")
    assert reruns["paper"].tolist() == pytest.approx([0.113, 0.7746])
    assert "BaoIAD" in reruns["source"][1]


def test_a_published_gain_needs_both_numbers():
    gain, source = published_gain("mvtec", "anovl-tta", "winclip", "auroc_px")
    assert gain == pytest.approx(0.906 - 0.851)
    assert "wizwand" in source and "MuSc" in source
    for pair in (("anovl-tta", "maskclip"), ("maskclip", "anovl-tta")):
        gain, source = published_gain("mvtec", *pair, "auroc_px")
        assert math.isnan(gain) and source == NO_SOURCE


def test_a_mean_over_some_categories_is_not_compared():
    ours = results({"method": "anovl-tta", "aupro": 0.8})
    some = ours[ours["category"].isin(["pill", "wood", "mean"])]
    row = beside_published(some, metrics=["aupro"]).iloc[0]
    assert row["paper"] == pytest.approx(0.778) and row["ours"] == 0.8
    assert math.isnan(row["difference"]) and row["note"] == "ours: 2 of 15 categories"
    ours.loc[ours["level"] == "mean", "note"] = "14 of 15 categories complete"
    row = beside_published(ours, metrics=["aupro"]).iloc[0]
    assert math.isnan(row["difference"]) and row["note"] == "14 of 15 categories complete"


def test_other_tables_have_no_published_numbers_or_are_refused():
    table = beside_published(results({"method": "anovl", "dataset": "pocket", "aupro": 0.6}))
    assert table["paper"].isna().all() and (table["source"] == NO_SOURCE).all()
    ours = results({"method": "anovl", "aupro": 0.8})
    with pytest.raises(ValueError, match="mean"):
        beside_published(ours[ours["level"] != "mean"])
