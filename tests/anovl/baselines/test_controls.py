"""Controls and model-free methods: toy pictures, one signature, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from anovl.baselines.controls import (
    Centre,
    DifferenceOfGaussians,
    PatchOutlier,
    Shuffled,
)
from anovl.detector import AnoVL, Detector, Localization


def woven(side=64):
    """A regular texture with a little noise, no defect."""
    rows, columns = np.indices((side, side))
    pixels = 120 + 20 * ((rows // 2 + columns // 2) % 2)
    pixels = pixels + np.random.default_rng(0).normal(0, 2, pixels.shape)
    return np.repeat(pixels[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)


def with_spot(pixels, row, column, *, radius=4, colour=(200, 60, 60)):
    rows, columns = np.indices(pixels.shape[:2])
    spotted = pixels.copy()
    spotted[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = colour
    return Image.fromarray(spotted)


def peak(result):
    return np.unravel_index(result.map.argmax(), result.map.shape)


def test_centre_sees_nothing_but_the_frame():
    first, second = Centre(32).localize([Image.fromarray(woven()), with_spot(woven(), 9, 50)], "")
    np.testing.assert_array_equal(first.map, second.map)
    assert first.score == second.score
    np.testing.assert_allclose(first.map, first.map[::-1, ::-1], atol=1e-7)
    assert max(abs(np.array(peak(Centre(33)(Image.fromarray(woven()), ""))) - 16)) == 0
    assert first.map[0, 0] == first.map.min()


@pytest.mark.parametrize("method", [PatchOutlier(64), DifferenceOfGaussians(64)])
def test_pixel_statistics_find_a_spot(method):
    clean, spotted = method.localize(
        [Image.fromarray(woven()), with_spot(woven(), 12, 45)], "cloth"
    )
    assert np.hypot(*(np.array(peak(spotted)) - (12, 45))) <= 8
    assert spotted.score > 1.5 * clean.score
    large = method(with_spot(woven(), 12, 45), "cloth", size=(128, 192))
    assert large.map.shape == (128, 192)
    assert large.score == spotted.score == spotted.map.max(), "of the pixels, at any size"
    assert spotted.map.dtype == np.float32


@pytest.mark.parametrize("method", [PatchOutlier(32), DifferenceOfGaussians(32), Centre(32)])
def test_a_flat_picture_is_finite(method):
    result = method(Image.new("L", (40, 20), 77), "wall")
    assert np.isfinite(result.map).all()
    assert np.isfinite(result.score)


def test_tensors_are_no_pictures():
    with pytest.raises(ValueError, match="centre"):
        Centre(32).localize(torch.zeros(1, 3, 32, 32), "nut")


class Counting(Detector):
    """Says the position of an image in the list."""

    name = "counting"

    def localize(self, images, class_name, *, size=None):
        side = (2, 2) if size is None else size
        return [Localization(np.full(side, float(i)), float(i)) for i in range(len(images))]


@pytest.mark.parametrize(("count", "order"), [(2, [1, 0]), (5, [2, 3, 4, 0, 1])])
def test_shuffled_gives_everyone_another_map(count, order):
    results = Shuffled(Counting()).localize([None] * count, "")
    assert all(math.isnan(result.score) for result in results), "another's score tells nothing"
    assert [result.map[0, 0] for result in results] == order


def test_one_image_has_no_other():
    with pytest.raises(ValueError, match="at least two"):
        Shuffled(Counting()).localize([None], "")


def test_maps_of_different_shapes_cannot_change_places(tiny_clip):
    tiled = Shuffled(AnoVL(tiny_clip, level="word", tiles=True))
    images = [Image.new("RGB", size, "red") for size in ((80, 64), (90, 64))]
    with pytest.raises(ValueError, match="cannot change places"):
        tiled.localize(images, "nut")
    assert len(tiled.localize(images, "nut", size=32)) == 2
