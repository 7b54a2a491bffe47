"""Tables say what was measured: nothing is lost, and what is unknown is a gap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from anovl.data import DATASETS
from anovl.data.published import LICENCES
from anovl.evaluation.results import COLUMNS
from anovl.models.weights import TERMS
from anovl.prompts import TextFeatures
from anovl_companion.measure.feature_cache import EncodedImages
from anovl_companion.tables import (
    false_alarms,
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


@pytest.mark.parametrize("name", sorted({*DATASETS, *TERMS} - {"folder", "photos", "pocket"}))
def test_the_licences_in_the_readme_are_those_that_the_program_knows(name):
    data = (Path(__file__).parents[2] / "DATA.md").read_text(encoding="utf-8")
    if name in TERMS:
        licence, page = TERMS[name]
        row = f"| `{name}` | weights | {licence} | {page} |  |"
    else:
        own = LICENCES[name]
        row = f"| `{name}` | {own.title} | {own.licence} | {own.page} | {own.read} |"
    assert row in data.splitlines(), "DATA.md: put this row into the table of licences"


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
