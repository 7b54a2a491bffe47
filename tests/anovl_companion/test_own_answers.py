"""Sentences and tables about one's own pictures: each number against a computation by hand."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from anovl.data.dataset import Entry
from anovl.evaluation.threshold import Level
from anovl_companion import own_answers
from anovl_companion.own_answers import (
    alarm_sentences,
    alarm_table,
    in_one,
    mark_sentences,
    verdicts,
)
from anovl_companion.own_images import OwnPictures

SCORES = {"good/0.png": 0.50, "good/1.png": 0.53, "crack/0.png": 0.51, "crack/1.png": 0.55}
LEVEL = Level(0.52, n=19, false_alarms=0.05)


def pictures(names=SCORES, normal=19) -> OwnPictures:
    entries = tuple(
        Entry(Path(name), name, name.partition("/")[0], lambda: None, str) for name in names
    )
    files = tuple(Path(name) for name in names)
    return OwnPictures("cell", "cell", entries, files, tuple(names), (None,) * normal, "of mine")


def found(level: float | None = 0.52, scores=SCORES) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(score=score, alarm=None if level is None else score > level)
        for score in scores.values()
    ]


def test_files_are_listed_the_highest_score_first():
    table = alarm_table(pictures(), found())
    assert table.to_numpy().tolist() == [
        ["crack/1.png", 0.55, "yes"],
        ["good/1.png", 0.53, "yes"],
        ["crack/0.png", 0.51, "no"],
        ["good/0.png", 0.50, "no"],
    ]
    assert set(alarm_table(pictures(), found(None)).alarm) == {""}


def test_what_is_caught_stands_against_what_chance_would_catch():
    # the 19th of 19 is the level: 1/20 on average; Beta(1, 19) is above 1 - 0.05^(1/19) one in 20
    said = alarm_sentences(pictures(), found(), LEVEL, 0.05)
    assert said.startswith("**cell**: 19 normal pictures (of mine)")
    unlucky = 1 - 0.05 ** (1 / 19)
    for part in ("0.5200", "most 5.0%", "(5.0%, ", f"{unlucky:.1%}", "0.1 (5.0%) by lot"):
        assert part in said
    assert said.count("**1 of 2 (50%)**") == 3
    low, high = 1 - 0.975**0.5, 0.975**0.5  # 1 of 2: Clopper and Pearson
    assert "Missed" in said and f"{low:.0%} to {high:.0%}" in said and "Not promised" in said
    for there, missing in (("good", "Caught"), ("crack", "Seen"), ("crack", "not known")):
        only = {name: score for name, score in SCORES.items() if name.startswith(there)}
        assert missing not in alarm_sentences(pictures(only), found(scores=only), LEVEL, 0.05)


def test_without_a_level_it_says_what_is_missing_and_what_could_be_asked_for():
    said = alarm_sentences(pictures(normal=6), found(None), None, 0.05)
    assert "most 5.0% false alarms, 19 normal" in said and "found 6" in said
    assert "false_alarms 0.15" in said  # 1/7 = 0.1429
    assert "-p" not in alarm_sentences(pictures(normal=0), found(None), None, 0.05)


def test_marks_are_counted_and_compared_with_the_masks_of_the_others():
    marked = np.zeros((4, 2, 2), dtype=bool)
    marked[1, 0, 0] = marked[2, 0, 0] = marked[3, 1, 1] = True
    left, right = np.array([[1, 0], [1, 0]], bool), np.array([[1, 1], [0, 0]], bool)
    said = mark_sentences(pictures(), marked, {2: left, 3: right})
    assert re.findall(r"\d+ of \d+|\d+%", re.sub(r" \(\d+%\)\*\*", "", said)) == [
        *("1 of 2", "2 of 2", "50%", "50%")
    ]
    for masks in ({}, {2: left}):
        assert "touches" not in mark_sentences(pictures(), marked, masks)


def test_of_several_categories_the_first_column_tells():
    one = pd.DataFrame({"a": [1]})
    assert in_one({"x": one}) is one
    joined = in_one({"x": one, "y": one})
    assert list(joined.columns) == ["category", "a"]
    assert joined.category.tolist() == ["x", "y"]


def results(**values: tuple[float, float, float]) -> pd.DataFrame:
    """A table of `evaluate` for one category: values of anovl with intervals, controls at 0.5."""
    rows = []
    for method in ("anovl", *own_answers.CONTROLS):
        row = {"category": "cell", "method": method}
        level = 0.5 if method == "dog" else 0.4
        for metric in ("auroc_sp", "auroc_px_debiased", "aupro", "auroc_px"):
            own = values.get(metric, (np.nan,) * 3)
            if method != "anovl" and metric in values:
                own = (level, level - 0.1, level + 0.1)
            row |= dict(zip((metric, f"{metric}_lo", f"{metric}_hi"), own, strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("interval", "gap", "said"),
    [
        ((0.573, 0.43, 0.71), (-0.07, 0.21), "57.3 [43, 71]: not told from a coin (50); not told"),
        ((0.8, 0.7, 0.9), (0.2, 0.4), "80.0 [70, 90]: above a coin (50); above"),
        ((0.3, 0.2, 0.4), (-0.3, -0.1), "30.0 [20, 40]: below a coin (50); below"),
        ((0.6, 0.51, 0.7), (-0.01, 0.2), "60.0 [51, 70]: above a coin (50); not told from"),
    ],
)
def test_a_verdict_is_as_good_as_its_intervals(monkeypatch, interval, gap, said):
    asked = []

    def compare(run, metric, method, other, *, categories):
        asked.append((run, metric, method, other, categories))
        return {"low": gap[0], "high": gap[1]}

    monkeypatch.setattr(own_answers, "compare_methods", compare)
    text = verdicts("run", results(auroc_sp=interval), "cell")
    assert f"- image AUROC {said}" in text
    assert "the best control, dog (50.0)" in text
    assert asked == [("run", "auroc_sp", "anovl", "dog", ["cell"])]
    assert "AUPRO" not in text


def test_a_control_that_would_be_best_turned_around_is_named(monkeypatch):
    monkeypatch.setattr(own_answers, "compare_methods", lambda *_, **__: {"low": -0.1, "high": 0.2})
    table = results(auroc_sp=(0.534, 0.38, 0.68))
    ends = ["auroc_sp", "auroc_sp_lo", "auroc_sp_hi"]
    table.loc[table.method == "outlier", ends] = (0.173, 0.08, 0.29)
    text = verdicts("run", table, "cell")
    assert "not told from the best control, dog (50.0); outlier is reversed (17.3)" in text
    assert "turned around it would have 82.7" in text


def test_a_verdict_on_places_needs_masks_and_an_overlap_has_no_coin(monkeypatch):
    monkeypatch.setattr(own_answers, "compare_methods", lambda *_, **__: {"low": 0.1, "high": 0.2})
    text = verdicts("run", results(aupro=(0.6, 0.5, 0.7), auroc_px=(0.6, 0.5, 0.7)), "cell")
    assert text.splitlines()[-1] == "- AUPRO 60.0 [50, 70]: above the best control, dog (50.0)"
    assert "[" not in verdicts("run", results(), "cell"), "of one kind of pictures"
