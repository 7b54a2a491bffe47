"""Maps and scores: arithmetic by hand, float32 always, nothing bad passes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from anovl.maps import anomalous_probability, anomaly_maps, enlarge, image_scores
from anovl.prompts import TextFeatures

AXES = TextFeatures(torch.eye(2), torch.eye(2), [False, True])


def test_the_softmax_of_two_raw_cosines():
    features = torch.tensor([[3.0, 4.0], [5.0, 0.0], [0.0, -2.0]])
    cosines = [(0.6, 0.8), (1.0, 0.0), (0.0, -1.0)]
    expected = [math.exp(a) / (math.exp(n) + math.exp(a)) for n, a in cosines]
    torch.testing.assert_close(anomalous_probability(features, AXES), torch.tensor(expected))


def test_length_does_not_matter_and_axes_are_kept():
    features = torch.randn(2, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    once = anomalous_probability(features, AXES)
    assert once.shape == (2, 3, 4)
    torch.testing.assert_close(anomalous_probability(features * 1000, AXES), once)


def test_a_temperature_spreads_but_keeps_the_order():
    features = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    raw, sharp = (anomalous_probability(features, AXES, temperature=t) for t in (1.0, 0.05))
    torch.testing.assert_close(sharp, torch.sigmoid(torch.logit(raw) / 0.05))
    assert sharp.amax() - sharp.amin() > raw.amax() - raw.amin()


def test_half_precision_has_few_values_where_the_scores_lie():
    """Why all is float32: how many numbers there are in a span of 0.02 around 0.5."""
    scores = torch.linspace(0.49, 0.51, 100_001)
    assert scores.half().unique().numel() == 62
    assert scores.bfloat16().unique().numel() == 9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_comes_out_as_float32_arithmetic(dtype):
    features = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    answer = anomalous_probability(features, AXES)
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, anomalous_probability(features.float(), AXES))


def test_autocast_does_not_coarsen_it():
    features = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = anomalous_probability(features, AXES)
    assert torch.equal(inside, anomalous_probability(features, AXES))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.ones(4, 3), r"\(\.\.\., 2\); found \(4, 3\)"),
        (torch.tensor(1.0), "width of the text"),
        (torch.tensor([[1.0, torch.nan]]), "NaN or infinity"),
        (torch.tensor([[1.0, torch.inf]]), "NaN or infinity"),
        (torch.tensor([[1.0, 1.0], [0.0, 0.0]]), "zero vector"),
    ],
)
def test_bad_features_never_pass(features, message):
    with pytest.raises(ValueError, match=message):
        anomalous_probability(features, AXES)


@pytest.mark.parametrize("temperature", [0, -1, torch.nan])
def test_a_temperature_is_above_zero(temperature):
    with pytest.raises(ValueError, match="temperature must be above 0"):
        anomalous_probability(torch.ones(1, 2), AXES, temperature=temperature)


def test_smoothing_by_hand():
    grid = torch.zeros(1, 3, 3)
    grid[0, 0, 0] = 9.0
    # with the border repeated, the corner is met by 4, 2, 2 and 1 of the 3x3 windows' cells
    expected = torch.tensor([[[4.0, 2, 0], [2, 1, 0], [0, 0, 0]]])
    torch.testing.assert_close(enlarge(grid, size=3), expected)


def test_upsampling_goes_from_corner_to_corner():
    grid = torch.tensor([[[0.0, 3.0]]])  # smoothed: 1, 2
    expected = torch.tensor([[1.0, 1.25, 1.5, 1.75, 2.0]]).repeat(2, 1)
    torch.testing.assert_close(enlarge(grid, size=(2, 5))[0], expected)


def test_without_smoothing_the_patches_keep_their_values():
    grid = torch.tensor([[[0.0, 3.0]]])
    expected = torch.tensor([[0.0, 1.5, 3.0]])
    torch.testing.assert_close(enlarge(grid, size=(1, 3), smooth=False)[0], expected)


def test_a_grid_of_one_patch():
    torch.testing.assert_close(
        enlarge(torch.tensor([[[0.25]]]), size=4), torch.full((1, 4, 4), 0.25)
    )


@pytest.mark.parametrize(
    ("grid", "size", "message"),
    [
        (torch.ones(3, 3), 6, r"\(B, h, w\); found \(3, 3\)"),
        (torch.full((1, 3, 3), torch.nan), 6, "NaN"),
        (torch.ones(1, 3, 3), 0, "size"),
        (torch.ones(1, 3, 3), (6, 2.5), "size"),
        (torch.ones(1, 3, 3), (6, 6, 6), "size"),
        (torch.ones(1, 3, 3), "big", "size"),
        (torch.ones(1, 3, 3), None, "size"),
    ],
)
def test_bad_grids_and_sizes_are_refused(grid, size, message):
    with pytest.raises(ValueError, match=message):
        enlarge(grid, size=size)


def test_numpy_sizes_are_sizes():
    shape = np.array([6, 4])
    assert enlarge(torch.ones(1, 3, 3), size=tuple(shape)).shape == (1, 6, 4)


def test_shapes_of_maps_and_scores():
    assert anomaly_maps(torch.ones(2, 3, 5, 2), AXES, size=(6, 10)).shape == (2, 6, 10)
    assert image_scores(torch.ones(4, 2), AXES).shape == (4,)
    with pytest.raises(ValueError, match=r"\(B, h, w, D\)"):
        anomaly_maps(torch.ones(2, 15, 2), AXES, size=6)
    with pytest.raises(ValueError, match=r"\(B, D\)"):
        image_scores(torch.ones(2), AXES)
