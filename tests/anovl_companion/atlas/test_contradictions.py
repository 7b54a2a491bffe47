"""Contradictions follow the stated rule; reasons and averages are data that fit the table."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from pandas import read_csv

from anovl_companion.atlas.contradictions import (
    MEASURED,
    averages,
    contradictions,
    pairs,
    reasons,
)
from anovl_companion.atlas.table import COLUMNS, DATASETS, METRICS, family_of, numbers

ROW = ("mvtec", "toy", "aupro", 50.0, "1-shot", "", "", "own", "a.org", "read", "")


@pytest.fixture(name="table", scope="module")
def whole_table() -> pd.DataFrame:
    return numbers()


def two(**change: object) -> pd.DataFrame:
    first = dict(zip(COLUMNS, ROW, strict=True))
    return pd.DataFrame([first, first | {"percent": 51.0, "where": "b.org"} | change])


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({}, 1),
        ({"percent": 50.1}, 0),
        ({"percent": 50.15}, 1),
        ({"dataset": "visa"}, 0),
        ({"metric": "ap_px"}, 0),
        ({"method": "toy+"}, 0),
        ({"method": "toy (variant unspecified)"}, 1),
        ({"setting": "2-shot"}, 0),
        ({"backbone": "CLIP"}, 1),
        ({"note": "wrong: a misprint"}, 0),
        ({"note": "doubtful: too high"}, 1),
    ],
)
def test_which_rows_contradict(change, count):
    assert len(pairs(two(**change))) == len(contradictions(two(**change))) == count


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [("CLIP", "CLIP ViT-B/16", 1), ("CLIP", "DINOv2", 0), ("", "CLIP", 1)],
)
def test_backbones_agree_as_far_as_both_say_them(one, other, count):
    table = two()
    table["backbone"] = [one, other]
    assert len(pairs(table)) == count
    table["backbone"], table["resolution"] = "", ["240", "518"]
    assert pairs(table).empty


def test_the_telling_contradictions_are_found(table):
    found = contradictions(table).set_index(["dataset", "method", "metric", "setting"])
    free, trained = "zero-shot, training-free", "zero-shot, auxiliary training"
    visa = found.loc[("visa", "anovl", "auroc_px", free)]
    assert visa["spread"] == pytest.approx(6.2)
    for said in ("85.2 ", "87.75 ", "91.4 ", "BaoIAD", "second hand"):
        assert said in visa["said"]
    assert found.loc[("mvtec", "adaclip", "aupro", trained), "spread"] == pytest.approx(40.32)
    assert "[code]" in found.loc[("mvtec", "adaclip", "aupro", trained), "reasons"]
    assert ("btad", "anovl", "auroc_sp", free) not in found.index  # two sources, one value
    assert len(found) >= 368 and (found["spread"] >= 5).sum() >= 139
    assert found["spread"].is_monotonic_decreasing


def test_each_reason_fits_a_group_and_says_how_sure_it_is(table):
    known = reasons()
    assert set(known["how_sure"]) == {"text", "code", "arithmetic", "guess"}
    assert known["reason"].is_unique
    assert (known.loc[known["how_sure"] != "guess", "source"] != "").all()
    names = {
        "dataset": set(DATASETS),
        "method": set(table["method"].map(family_of)),
        "metric": set(METRICS),
    }
    for column, of_table in names.items():
        cells = known.loc[known[column] != "", column].str.split("|")
        assert {name for cell in cells for name in cell} <= of_table


def test_effects_are_measured_and_their_examples_are_groups_that_they_fit(table):
    known, rows = reasons(), read_csv(MEASURED)
    assert set(known["effect"]) == {"", *rows["effect"]}
    assert ((known["measured"] != "") == (known["effect"] != "")).all()
    found = contradictions(table).set_index(["dataset", "method", "metric"]).sort_index()
    of_effect = rows.groupby("effect")["metric"].agg(set)
    for reason in known.query("example != ''").itertuples():
        key = tuple(reason.example.split(", "))
        assert found.loc[[key], "reasons"].str.contains(reason.reason, regex=False).any()
        assert key[2] in of_effect[reason.effect]
    assert set(known.query("example != ''")["effect"]) == set(rows["effect"])


def test_the_size_of_an_effect_stands_in_the_groups_of_its_metric():
    found = contradictions(two()).set_index("metric")
    said = found.loc["aupro", "reasons"]
    assert "200 thresholds" in said and "our maps: aupro -" in said and "(transmm)" in said
    assert "ap_px" not in said
    said = contradictions(two(metric="ap_sp").assign(metric="ap_sp"))["reasons"].item()
    assert "trapezoids" in said and "our maps: ap_sp" in said and "aupro" not in said


def test_printed_averages_are_recomputed_from_their_own_table(table):
    found = averages(table).set_index(["method", "metric"])
    assert found["recomputed"].notna().all()
    crane = found.loc[("anomalyclip", "f1_sp")]
    assert crane["recomputed"] == pytest.approx(86.24, abs=0.01) and not crane["agrees"]
    assert found.loc[("coop", "aupro"), "recomputed"] == pytest.approx(9.2)
    assert found.loc[("winclip", "aupro"), "agrees"]  # it holds the wrong cell
    less = averages(table[table["dataset"] != "btad"]).set_index(["method", "metric"])
    assert math.isnan(less.loc[("coop", "aupro"), "recomputed"])
    assert not less.loc[("coop", "aupro"), "agrees"]
