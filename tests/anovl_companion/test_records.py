"""The record of a figure or table, and the check of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from anovl_companion import records as provenance
from anovl_companion.records import verify
from anovl_companion.saving import save_figure, save_table


@pytest.fixture(name="fig")
def small_figure() -> Figure:
    fig = Figure(figsize=(2, 1))
    fig.subplots().plot([0, 1])
    return fig


@pytest.fixture(name="folder")
def folder_with_a_figure_and_a_table(tmp_path, fig) -> Path:
    record = {"model": "ViT-B-16-plus-240", "weights_sha256": "699c4b84"}
    save_figure(fig, tmp_path / "curve", provenance=record)
    save_table(pd.DataFrame({"a": [1.0]}), tmp_path / "sub" / "table", provenance=record)
    return tmp_path


def test_provenance_speaks_of_the_result_and_not_of_the_machine(tiny_clip):
    class Data:
        name = "mvtec"

        def manifest_hash(self):
            return "abc"

    parameters = {"out": "there", "weights": "a/b/w.pt", "data_root": "", "seed": 3}
    record = provenance.provenance(
        clip=tiny_clip, dataset=Data(), parameters=parameters, method="anovl"
    )
    assert record["parameters"] == {"weights": "w.pt", "data_root": "", "seed": 3}
    assert record["weights_sha256"] == tiny_clip.weights_hash
    assert (record["model"], record["device"]) == (tiny_clip.name, "cpu")
    assert record["precision"] == "float32"
    assert (record["dataset"], record["data_sha256"], record["method"]) == ("mvtec", "abc", "anovl")
    assert record["versions"]["numpy"] == np.__version__
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f / "curve.png").write_bytes(b"other"), "curve.png has changed"),
        (lambda f: (f / "sub" / "table.csv").unlink(), "table.csv is missing"),
        (lambda f: (f / "curve.provenance.json").write_text("{"), "cannot be read as a record"),
        (lambda f: (f / "curve.provenance.json").write_text("[]"), "cannot be read as a record"),
        (lambda f: (f / "curve.provenance.json").unlink(), "curve.pdf has no record"),
        (lambda f: (f / "stray.csv").write_text(""), "stray.csv has no record"),
        (lambda f: (f / "curve.provenance.json").write_text('{"files": {}}'), "must name a PNG"),
    ],
)
def test_verify_finds_what_is_wrong(folder, harm, said):
    assert verify(folder) == []
    harm(folder)
    assert said in "\n".join(verify(folder))


def test_verify_compares_pocket_results_with_the_model_that_is_shipped(folder, fig, monkeypatch):
    monkeypatch.setattr(provenance, "_shipped_weights", lambda: "today")
    save_figure(fig, folder / "new", provenance={"model": "pocket", "weights_sha256": "today"})
    assert verify(folder) == []
    save_figure(fig, folder / "old", provenance={"model": "pocket", "weights_sha256": "before"})
    [problem] = verify(folder)
    assert "old.provenance.json was made with other weights" in problem


@pytest.mark.parametrize("record", ["run.json", "localize.json"])
def test_verify_leaves_the_folder_of_a_run_alone(folder, record):
    (folder / "run").mkdir()
    (folder / "run" / "results.csv").write_text("dataset\n")
    assert verify(folder) == [f"{folder / 'run' / 'results.csv'} has no record"]
    (folder / "run" / record).write_text("{}")
    assert verify(folder) == []


def test_verify_of_nothing_is_not_a_success(tmp_path):
    assert "nothing to verify" in verify(tmp_path)[0]
    with pytest.raises(FileNotFoundError, match="make reproduce"):
        verify(tmp_path / "absent")


def test_pdf_and_latex_may_be_absent_and_a_record_does_not_vouch_for_them(folder):
    named = json.loads((folder / "curve.provenance.json").read_text())["files"]
    assert named["curve.pdf"] is None
    assert len(named["curve.png"]) == 64
    (folder / "curve.pdf").write_bytes(b"drawn on another machine")
    (folder / "sub" / "table.tex").unlink()
    assert verify(folder) == []
    (folder / "stray.pdf").write_bytes(b"")
    assert verify(folder) == [f"{folder / 'stray.pdf'} has no record"]
