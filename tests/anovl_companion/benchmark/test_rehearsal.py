"""The rehearsal: a fake data set that is read like the real one, and a table of stages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anovl.cli import main
from anovl.data import load_dataset
from anovl.data.published import MVTEC_AD
from anovl_companion.benchmark import rehearsal

COMMAND = ("bench", "--rehearsal", "--model", "pocket")


@pytest.mark.filterwarnings("ignore:.*has not the test images of")
def test_the_fake_data_set_has_the_published_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(rehearsal, "MVTEC_AD", {"bottle": (2, 3), "grid": (1, 1)})
    assert rehearsal.write_mvtec(tmp_path, side=32) == 7
    dataset = load_dataset("mvtec", root=tmp_path, categories=["bottle", "grid"])
    assert dataset.labels("bottle") in [(0, 0, 1, 1, 1), (1, 1, 1, 0, 0)]
    samples = [*dataset.samples("bottle"), *dataset.samples("grid")]
    assert {sample.image.size for sample in samples} == {(32, 32)}
    assert len({sample.image.tobytes() for sample in samples}) == 7
    for sample in samples:
        assert sample.mask.any() == sample.label
        grey = np.ptp(np.asarray(sample.image), axis=2).max() == 0
        assert grey == (sample.category == "grid")
    with pytest.raises(ValueError, match="at least 2"):
        rehearsal.write_mvtec(tmp_path, images=1)


def test_the_command_runs_the_published_protocol_and_prints_the_stages(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(rehearsal, "METHODS", ("anovl",))
    assert main([*COMMAND, "--images", "2", "--side", "48", "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "rehearsal.csv").set_index("stage")
    assert (table["ms_per_image"] > 0).all()
    rounded = 0.0005 * table.sum(axis=1) + 1e-6  # each of the two factors has three decimals
    assert ((table.prod(axis=1) - 1000).abs() <= rounded).all()
    network = table["ms_per_image"]["network, one view"]
    assert "words, 924 prompts a category" in table.index
    assert table["ms_per_image"].iloc[-1] == pytest.approx(22 * network, rel=1e-3)
    printed = capfd.readouterr()
    assert "results.csv" not in printed.out
    assert "test-time adaptation" in printed.out and f"{2 * len(MVTEC_AD)} pictures" in printed.err
    assert "warning" not in printed.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--images", "1"), "at least 2 of each category, a normal and an anomalous one; found 1"),
        (("--images", "0"), "at least 2 of each category, a normal and an anomalous one; found 0"),
        (("--side", "0"), "at least 16 pixels; found 0"),
    ],
)
def test_too_few_pictures_are_refused_before_anything_is_done(capsys, monkeypatch, given, said):
    monkeypatch.setattr("anovl.models.load.load_clip", None)  # not even a model is loaded
    assert main([*COMMAND, *given]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and "writing" not in printed.err and not printed.out


@pytest.mark.parametrize("works", [True, False])
def test_what_the_command_inside_prints_is_shown_only_where_it_fails(
    tmp_path, monkeypatch, capfd, tiny_clip, works
):
    (tmp_path / "anovl.py").write_text(
        f"print('told within'); raise SystemExit({0 if works else 3})"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rehearsal, "_stages", lambda clip, data: [("network, one view", 1.0)])
    monkeypatch.setattr(rehearsal, "MVTEC_AD", {"bottle": (1, 1)})
    if works:
        assert len(rehearsal.rehearse(tiny_clip, tmp_path, images=2, side=16)) == 4
    else:
        with pytest.raises(OSError, match=r"exit code 3.*python -m anovl evaluate"):
            rehearsal.rehearse(tiny_clip, tmp_path, images=2, side=16)
    printed = capfd.readouterr()
    assert "told within" not in printed.out and ("told within" in printed.err) == (not works)
