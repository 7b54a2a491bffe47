"""The sampled AUPRO is that of the published routine, with its faults; ours has none of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from anovl.evaluation.metrics import aupro
from anovl_companion.measure.microscope import sampled_aupro

REFERENCE = Path(__file__).parents[2] / "reference"
CASES = json.loads((REFERENCE / "metrics_cases.json").read_text())["cases"]


@pytest.fixture(scope="module")
def arrays():
    with np.load(REFERENCE / "metrics_cases.npz") as npz:
        return dict(npz)


@pytest.mark.parametrize("case", CASES)
def test_it_equals_the_published_routine(arrays, case):
    maps, masks = (arrays[f"{case}/{name}"] for name in ("maps", "masks"))
    published = CASES[case]["aupro_published_routine"]
    assert sampled_aupro(maps, masks) == pytest.approx(published, abs=1e-9)


def toy(seed=0):
    rng = np.random.default_rng(seed)
    masks = np.zeros((4, 12, 12), dtype=bool)
    masks[0, 2:5, 2:5] = masks[1, 6:8, 1:9] = True
    return rng.random(masks.shape) + 0.6 * masks, masks


def test_it_depends_on_how_scores_are_spread_where_ours_does_not():
    maps, masks = toy()
    spread = np.exp(6 * maps)
    assert aupro(spread, masks) == pytest.approx(aupro(maps, masks), abs=1e-12)
    assert abs(sampled_aupro(spread, masks) - sampled_aupro(maps, masks)) > 0.01


def test_regions_of_different_images_are_different_and_diagonal_neighbours_are_one():
    masks = np.zeros((2, 3, 3), dtype=bool)
    masks[:, 1, 1] = masks[0, 0, 0] = True  # two regions: of two pixels, and of one
    maps = np.linspace(0, 0.5, 18).reshape(2, 3, 3)
    maps[0, 1, 1] = maps[0, 0, 0] = 1
    maps[1, 1, 1] = 0.01  # found last
    assert sampled_aupro(maps, masks, fpr_limit=0.9) == pytest.approx(0.5, abs=0.02)


def test_what_it_cannot_tell_is_nan_and_what_is_wrong_is_said():
    masks = np.array([[[True, False]]])
    assert np.isnan(sampled_aupro(np.array([[[1.0, 0.0]]]), masks))
    some = np.array([[[0.0, 1.0]]])
    for maps, truth, named in (
        (np.ones((1, 1, 2)), masks, "constant"),
        (some, ~masks & masks, "no anomalous"),
        (some[0], masks[0], "n, H, W"),
        (some, masks[0], "shape"),
    ):
        with pytest.raises(ValueError, match=named):
            sampled_aupro(maps, truth)
