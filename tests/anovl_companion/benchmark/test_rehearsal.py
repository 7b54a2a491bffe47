"""The rehearsal: a fake data set that is read like the real one, and a table of stages."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import anovl
from anovl.data import load_dataset
from anovl.data.published import MVTEC_AD
from anovl_companion.__main__ import main
from anovl_companion.benchmark import rehearsal
from anovl_companion.benchmark.materials import write_category

BENCH = Path(__file__).parents[3] / "figures/bench"


def test_a_fake_category_is_read_like_a_real_one(tmp_path):
    write_category(tmp_path / "nut", images=5, side=32)
    dataset = load_dataset("folder", tmp_path)
    assert sorted(dataset.labels("nut")) == [0, 0, 0, 1, 1]
    samples = list(dataset.samples("nut"))
    assert {sample.image.size for sample in samples} == {(32, 32)}
    assert len({sample.image.tobytes() for sample in samples}) == 5
    assert all(sample.mask.any() == sample.label for sample in samples)


def test_the_command_line_is_run_and_the_stages_are_printed(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(rehearsal, "REHEARSED", "centre")  # without 924 prompts a category
    small = ("--images", "2", "--side", "48")
    assert main(["bench", "--rehearsal", "--model", "pocket", *small, "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "rehearsal.csv").set_index("stage")
    assert (table["ms_per_image"] > 0).all()
    rounded = 0.0005 * table.sum(axis=1) + 1e-6  # each of the two factors has three decimals
    assert ((table.prod(axis=1) - 1000).abs() <= rounded).all()
    committed = pd.read_csv(BENCH / "rehearsal.csv")["stage"]
    assert list(table.index) == committed.str.replace("1024", "48").tolist()
    network = table["ms_per_image"]["network, one view"]
    assert table["ms_per_image"].iloc[-1] == pytest.approx(22 * network, rel=1e-3)
    printed = capfd.readouterr()
    assert "results.csv" not in printed.out
    assert "test-time adaptation" in printed.out and f"{2 * len(MVTEC_AD)} pictures" in printed.err
    assert "warning" not in printed.err


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--rehearsal", "--images", "1"), "--images"),
        (("--rehearsal", "--side", "0"), "--side"),
        (("--images", "3"), "--rehearsal"),
        (("--precision", "float16"), "--rehearsal"),
    ],
)
def test_options_that_cannot_be_are_refused(capsys, monkeypatch, tiny_clip, given, named):
    monkeypatch.setattr(anovl, "load_clip", lambda *names, **options: tiny_clip)
    assert main(["bench", *given]) == 2
    assert named in capsys.readouterr().err


def test_a_failing_command_is_an_error_and_shows_what_it_said(
    tmp_path, monkeypatch, capfd, tiny_clip
):
    (tmp_path / "anovl.py").write_text("import sys; print('hidden'); sys.exit('shown')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="anovl evaluate"):
        rehearsal.evaluate_by_command(tiny_clip, tmp_path)
    printed = capfd.readouterr()
    assert "shown" in printed.err and "hidden" not in printed.out
