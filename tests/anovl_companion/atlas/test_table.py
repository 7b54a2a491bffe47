"""The table keeps its format, and one rule chooses the number that is printed beside ours."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

from anovl_companion.atlas.table import (
    COLUMNS,
    DATASETS,
    METRICS,
    NUMBERS,
    SETTINGS,
    best_numbers,
    family_of,
    kind_of,
    numbers,
    remarks,
)

ROW = {
    "dataset": "mvtec",
    "method": "toy",
    "metric": "aupro",
    "percent": 50.0,
    "setting": "zero-shot, training-free",
    "backbone": "",
    "resolution": "",
    "reported_by": "own",
    "where": "example.org/paper",
    "certainty": "read",
    "note": "",
}


def rows(*changes: dict) -> pd.DataFrame:
    return pd.DataFrame([ROW | change for change in changes], columns=list(COLUMNS))


@pytest.fixture(name="table", scope="module")
def whole_table() -> pd.DataFrame:
    return numbers()


def test_the_file_is_sorted_and_light(table):
    pd.testing.assert_frame_equal(pd.read_csv(NUMBERS, keep_default_na=False, dtype=str),
                                  table.astype(str))  # fmt: skip
    assert NUMBERS.stat().st_size < 700_000


def test_no_name_is_known_that_no_row_has(table):
    for column, names in (("dataset", DATASETS), ("metric", METRICS), ("setting", SETTINGS)):
        assert set(table[column]) == set(names)


def test_each_picture_is_marked_as_read_by_eye(table):
    pictures = table["where"].str.contains(".png", regex=False)
    assert pictures.equals(remarks(table, "by eye"))


def test_each_wrong_cell_has_a_reason_and_stays(table):
    wrong = table[remarks(table, "wrong:")].set_index(["dataset", "method", "metric"])
    assert wrong["note"].str.contains(r"wrong: \w").all()
    assert wrong.loc[("dtd-synthetic", "april-gan", "auroc_sp"), "percent"] == 94.6
    assert wrong.loc[("isic", "winclip", "aupro"), "percent"] == 5.5


def test_no_number_of_anovl_is_from_memory(table):
    """The tables of its paper could not be read: its own numbers are second hand, and no F1."""
    own = table[(table["method"].map(family_of) == "anovl") & (table["reported_by"] == "own")]
    assert set(own["certainty"]) == {"second hand"}
    assert set(own["metric"]) == {"auroc_px", "aupro", "auroc_sp"}


def test_tables_that_do_not_say_what_they_print_are_unclear(table):
    """Crane's two columns, Anomaly-OV's one, and five data sets of a collecting page."""
    is_anovl = table["method"] == "anovl (variant unspecified)"
    unclear = table[is_anovl | (table["method"] == "winclip")]
    unclear = unclear[unclear.apply(kind_of, axis="columns") == "unclear"]
    by = {name: unclear[unclear["reported_by"].str.contains(name)] for name in ("Crane", "wizwand")}
    assert by["Crane"]["method"].value_counts().to_dict() == {
        "anovl (variant unspecified)": 63,
        "winclip": 63,
    }
    assert {"dagm", "rsdd", "ksdd2", "bsd", "gc"} == set(by["wizwand"]["dataset"])
    anomaly_ov = table[is_anovl & table["where"].str.contains("2502.07601")]
    assert len(anomaly_ov) == 7


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({}, {"reported_by": "A (arXiv 2601.00001)", "note": "quoted"}),
        ({}, {"note": "side result: another backbone", "where": "arxiv.org/abs/2601.00001"}),
        ({"where": "b.org"}, {"certainty": "second hand", "where": "arxiv.org/abs/2601.00001"}),
        ({"where": "arxiv.org/abs/2401.00001"}, {"where": "a.org (2023-12)"}),
        ({"where": "a.org (2024-02)"}, {"where": "arxiv.org/abs/2401.00001"}),
        ({}, {"setting": "whole unlabelled test set", "where": "arxiv.org/abs/2601.00001"}),
        ({}, {"note": "wrong: a misprint", "where": "a.org (2026-01)"}),
        ({}, {"reported_by": "A", "note": "re-run"}),
        ({}, {"reported_by": "A", "note": "unclear"}),
    ],
)
def test_which_of_two_numbers_is_printed(better, worse):
    for pair in ((better, worse), (worse, better)):
        table = rows(*(change | {"percent": 80.0 if change is better else 20.0} for change in pair))
        best = best_numbers(table).query("reported == 'paper'")
        assert best["value"].tolist() == [0.8]


def test_what_others_measured_stands_for_itself():
    others = {"reported_by": "A", "percent": 40.0, "note": "re-run"}
    best = best_numbers(rows({}, others, others | {"where": "b.org (2026)", "percent": 30.0}))
    assert best.set_index("reported")["value"].to_dict() == {"paper": 0.5, "re-run": 0.3}


def test_places_that_agree_stand_together():
    table = rows({"where": "a.org"}, {"where": "b.org (2025)"}, {"where": "c.org", "percent": 1.0})
    assert best_numbers(table)["source"].tolist() == ["b.org (2025); a.org"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dataset": "mvtek"}, "mvtek"),
        ({"metric": "pro"}, "pro"),
        ({"setting": "zero-shot"}, "zero-shot"),
        ({"certainty": "from memory"}, "from memory"),
        ({"where": " "}, "where"),
        ({"method": ""}, "method"),
        ({"percent": 0.5, "reported_by": "A"}, "note"),
        ({"note": "re-run"}, "note"),
        ({"percent": 100.1}, "100.1"),
        ({"percent": -1.0}, "-1"),
        ({"percent": "nan"}, "nan"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line(tmp_path, change, named):
    path = tmp_path / "numbers.csv"
    rows({}, change).to_csv(path, index=False)
    with pytest.raises(ValueError, match=f"numbers.csv, line 3: .*{named}"):
        numbers(path)


def test_a_double_row_and_a_missing_column_are_refused(tmp_path):
    path = tmp_path / "numbers.csv"
    rows({}, {"note": "another note"}).to_csv(path, index=False)
    with pytest.raises(ValueError, match="line 3"):
        numbers(path)
    rows({}).drop(columns="where").to_csv(path, index=False)
    with pytest.raises(ValueError, match="where"):
        numbers(path)


def test_kinds():
    assert [kind_of(ROW), kind_of(ROW | {"reported_by": "A", "note": "quoted; by eye"})] == [
        "own",
        "quoted",
    ]
    assert kind_of(ROW | {"reported_by": "A", "note": "quoted by A"}) == ""


def test_a_stranger_adds_a_row_and_sees_what_it_contradicts(tmp_path):
    path = tmp_path / "numbers.csv"
    line = 'mvtec,anovl-tta,aupro,70.0,"zero-shot, training-free",,,A,example.org/b,read,re-run\n'
    path.write_text(NUMBERS.read_text(encoding="utf-8") + line, encoding="utf-8")
    command = [sys.executable, "-m", "anovl_companion.atlas", "--table", path, "--method", "anovl"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "mvtec, aupro, zero-shot, training-free: 7.8 points" in done.stdout
    assert "70 of anovl-tta [A]" in done.stdout
    assert len(numbers(path)) == len(numbers()) + 1
    done = subprocess.run([*command[:-1], "anolv"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "anolv" in done.stderr and "anovl" in done.stderr
    path.write_text(path.read_text(encoding="utf-8").replace("70.0", "170"), encoding="utf-8")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "line" in done.stderr and "170" in done.stderr
