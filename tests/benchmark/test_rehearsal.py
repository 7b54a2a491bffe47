"""The rehearsal: a fake data set that is read like the real one, and a table of stages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anovl.benchmark import rehearsal
from anovl.cli import main
from anovl.data import load_dataset
from anovl.data.readers import MVTEC_AD

pytestmark = pytest.mark.filterwarnings("ignore:.*has not the test images of")


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
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(rehearsal, "METHODS", ("anovl",))
    command = ["bench", "--rehearsal", "--model", "pocket", "--images", "2", "--side", "48"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "rehearsal.csv").set_index("stage")
    assert (table["ms_per_image"] > 0).all()
    rounded = 0.0005 * table.sum(axis=1) + 1e-6  # each of the two factors has three decimals
    assert ((table.prod(axis=1) - 1000).abs() <= rounded).all()
    network = table["ms_per_image"]["network, one view"]
    assert "words, 924 prompts a category" in table.index
    assert table["ms_per_image"].iloc[-1] == pytest.approx(22 * network, rel=1e-3)
    printed = capsys.readouterr()
    assert "test-time adaptation" in printed.out and f"{2 * len(MVTEC_AD)} pictures" in printed.err
