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


# in percent; a number changes here only when a newer source or a mistake is found
PRINTED = {
    ("mvtec", "af-clip", "paper"): "auroc_sp=92.9 auroc_px=92.3 aupro=85.7",
    ("mvtec", "anomalyclip", "paper"): "auroc_sp=91.5 auroc_px=91.1 aupro=81.4",
    ("mvtec", "anovl", "paper"): "auroc_sp=92.5",
    ("mvtec", "anovl-tta", "paper"): "auroc_px=90.6 aupro=77.8",
    (
        "mvtec",
        "anovl-tta",
        "re-run",
    ): "auroc_sp=92.16 f1_sp=93.03 ap_sp=96.68 auroc_px=89.71 aupro=77.46",
    ("mvtec", "april-gan", "paper"): "auroc_sp=86.1 auroc_px=87.6 aupro=44",
    ("mvtec", "clip", "re-run"): "auroc_sp=74.1 auroc_px=38.4 aupro=11.3",
    ("mvtec", "musc", "paper"): "auroc_sp=97.8 auroc_px=97.3 aupro=93.8",
    ("mvtec", "musc-240", "paper"): "auroc_sp=94.8 auroc_px=96.3 aupro=87.7",
    ("mvtec", "visualad", "paper"): "auroc_sp=92.2 auroc_px=90.8 aupro=87.5",
    (
        "mvtec",
        "winclip",
        "paper",
    ): "auroc_sp=91.8 f1_sp=92.9 ap_sp=96.5 auroc_px=85.1 f1_px=31.7 aupro=64.6",
    (
        "mvtec",
        "winclip",
        "re-run",
    ): "auroc_sp=90.4 f1_sp=92.7 ap_sp=95.6 auroc_px=82.3 f1_px=24.8 aupro=61.9",
    ("visa", "anovl", "paper"): "auroc_sp=79.2",
    ("visa", "anovl-tta", "paper"): "auroc_px=91.4",
    ("visa", "clip", "re-run"): "auroc_sp=66.4 auroc_px=46.6 aupro=14.8",
    (
        "visa",
        "winclip",
        "paper",
    ): "auroc_sp=78.1 f1_sp=79 ap_sp=81.2 auroc_px=79.6 f1_px=14.8 aupro=56.8",
    (
        "visa",
        "winclip",
        "re-run",
    ): "auroc_sp=75.5 f1_sp=78.2 ap_sp=78.7 auroc_px=73.2 f1_px=9 aupro=51",
}


def test_every_number_has_a_source_and_is_there_once():
    table = published()
    assert not table.duplicated(["dataset", "method", "metric", "reported"]).any()
    assert table["value"].between(0, 1, inclusive="neither").all()
    assert set(PUBLISHED_METRICS) < set(table["metric"]) < set(COLUMNS)
    assert set(table["reported"]) == {"paper", "re-run"}
    assert set(table["certainty"]) == {"read", "second hand"}
    assert table["source"].str.len().min() > 5


def test_numbers_that_stand_beside_ours_stay():
    table = published().set_index(["dataset", "method", "reported", "metric"])["value"]
    for key, pairs in PRINTED.items():
        for metric, percent in (pair.split("=") for pair in pairs.split()):
            found = 100 * table[(*key, metric)]
            assert found == pytest.approx(float(percent), abs=1e-6), (*key, metric)


def test_the_ledger_judges_the_numbers_of_anovls_paper_and_no_others():
    rows = published().query("method in ('anovl', 'anovl-tta') and reported == 'paper'")
    assert sorted(zip(rows["dataset"], rows["method"], rows["metric"], strict=True)) == [
        ("mvtec", "anovl", "auroc_sp"),
        ("mvtec", "anovl-tta", "aupro"),
        ("mvtec", "anovl-tta", "auroc_px"),
        ("visa", "anovl", "auroc_sp"),
        ("visa", "anovl-tta", "auroc_px"),
    ]


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
