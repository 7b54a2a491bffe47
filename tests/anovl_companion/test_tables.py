"""Tables say what was measured: nothing is lost, and what is unknown is a gap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from anovl.data import DATASETS
from anovl.data.published import LICENCES
from anovl.evaluation.compare import Measured, gains
from anovl.evaluation.results import COLUMNS
from anovl.models.weights import PAPER_MODEL, TINYCLIP
from anovl.prompts import TextFeatures
from anovl_companion.measure.feature_cache import EncodedImages
from anovl_companion.tables import (
    describe_model,
    false_alarms,
    licences_markdown,
    means_of,
    worst_localized,
)

AXES = TextFeatures(torch.eye(2), torch.eye(2), torch.tensor([False, True]))


def images(towards, labels, truth):
    """Images of 1x3 patches; `towards` (n, 3) is how abnormal each patch is."""
    towards = torch.tensor(towards)
    patches = torch.stack([1 - towards, towards], dim=-1)[:, None]
    truth = None if truth is None else np.array(truth, dtype=bool)[:, None]
    return EncodedImages(patches[:, 0].mean(dim=1), patches, np.array(labels), truth)


def test_every_published_data_set_and_all_weights_have_a_line_on_their_licence():
    lines = licences_markdown().splitlines()[2:]
    names = [line.split("`")[1] for line in lines]
    assert set(names) == {*DATASETS, PAPER_MODEL, TINYCLIP} - {"folder", "photos", "pocket"}
    assert {line.count("|") for line in lines} == {6}
    [mvtec] = [line for line in lines if line.startswith("| `mvtec` |")]
    assert LICENCES["mvtec"].licence in mvtec and LICENCES["mvtec"].page in mvtec


def test_the_licences_in_the_readme_are_those_that_the_program_knows():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = licences_markdown()
    if table.splitlines()[0] not in readme:
        pytest.skip("README.md holds no table of licences")
    assert table in readme, "README.md: put in what licences_markdown() returns"


def test_a_model_is_described_as_it_is(tiny_clip):
    row = describe_model(tiny_clip.model, tiny_clip.name, tiny_clip.weights_hash)
    assert row["grid"] == "×".join(map(str, tiny_clip.grid))
    assert row["embedding"] == tiny_clip.embed_dim
    assert row["weights (SHA-256)"] == tiny_clip.weights_hash


def test_means_have_their_intervals_and_gaps_stay_gaps():
    rows = [
        {"level": "category", "method": "anovl", "aupro": 0.9},
        {"level": "mean", "method": "anovl", "aupro": 0.5, "aupro_lo": 0.4, "aupro_hi": 0.61},
        {"level": "mean", "method": "clip"},
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    shown = means_of(table, ["aupro"], bounded=["aupro"])
    assert shown["method"].tolist() == ["anovl", "clip"]
    assert shown["aupro, 95 % interval"].tolist() == ["40.0 to 61.0", "–"]


def test_gains_are_over_the_one_that_was_asked_for():
    def one(value, drawn):
        return Measured({"nut": {"auroc_sp": value}}, {"auroc_sp": np.array(drawn)})

    ways = {"a": one(0.5, [0.4, 0.6]), "b": one(0.7, [0.6, 0.8])}
    table = pd.DataFrame(gains(ways, "auroc_sp", over=ways["a"]))
    assert list(table) == ["variant", "auroc_sp", "gain", "low", "high"]
    assert table["gain"].tolist() == pytest.approx([0, 0.2])
    assert table[["low", "high"]].to_numpy() == pytest.approx(np.array([[0, 0], [0.2, 0.2]]))


def test_the_worst_localized_image_comes_first():
    found = images(
        [[0.1, 0.1, 0.1], [0.1, 0.1, 0.9], [0.1, 0.1, 0.9]],
        [0, 1, 1],
        [[0, 0, 0], [0, 0, 1], [1, 0, 0]],
    )
    without = images([[0.1, 0.1, 0.1], [0.1, 0.1, 0.9]], [0, 1], None)
    table = worst_localized({"nut": found, "bolt": without}, {"nut": AXES, "bolt": AXES})
    assert table["index"].tolist() == [2, 1]
    assert table["auroc"].tolist() == [0, 1]
    assert table["area"].tolist() == pytest.approx([1 / 3, 1 / 3])


def test_the_loudest_normal_image_comes_first():
    found = images(
        [[0.1, 0.1, 0.1], [0.8, 0.8, 0.8], [0.5, 0.5, 0.5], [0.9, 0.9, 0.9]],
        [0, 0, 1, 1],
        None,
    )
    only = images([[0.5, 0.5, 0.5]], [0], None)
    table = false_alarms({"nut": found, "bolt": only}, {"nut": AXES, "bolt": AXES})
    assert table["index"].tolist() == [1, 0]
    assert table["above"].tolist() == [0.5, 0]
    assert set(table["category"]) == {"nut"}
