"""Controls and model-free methods: toy pictures, one signature, names, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from anovl.baselines import (
    METHODS,
    Centre,
    DifferenceOfGaussians,
    PatchOutlier,
    Shuffled,
    make_detector,
    published_options,
)
from anovl.detector import TTA, AnoVL, Detector, Localization


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
    assert spotted.score == spotted.map.max()
    assert spotted.map.dtype == np.float32


@pytest.mark.parametrize("method", [PatchOutlier(32), DifferenceOfGaussians(32), Centre(32)])
def test_a_flat_picture_is_finite(method):
    result = method(Image.new("L", (40, 20), 77), "wall")
    assert np.isfinite(result.map).all()
    assert np.isfinite(result.score)


def test_a_flat_picture_has_no_outlier():
    assert PatchOutlier(32)(Image.new("L", (40, 20), 77), "wall").score == pytest.approx(0)


def test_the_size_of_a_map_and_the_size_looked_at_are_two_things():
    image = with_spot(woven(), 12, 45)
    small, large = (PatchOutlier(64)(image, "", size=size) for size in (None, (128, 192)))
    assert (small.map.shape, large.map.shape) == ((64, 64), (128, 192))
    assert small.score == large.score


@pytest.mark.parametrize("method", [Centre(32), PatchOutlier(32), DifferenceOfGaussians(32)])
def test_tensors_are_no_pictures(method):
    with pytest.raises(ValueError, match="looks at pictures"):
        method.localize(torch.zeros(1, 3, 32, 32), "nut")


class Counting(Detector):
    """Says the position of an image in the list."""

    name = "counting"

    def localize(self, images, category, *, size=None):
        side = (2, 2) if size is None else size
        return [Localization(np.full(side, float(i)), float(i)) for i in range(len(images))]


@pytest.mark.parametrize(("count", "order"), [(2, [1, 0]), (5, [2, 3, 4, 0, 1])])
def test_shuffled_gives_everyone_another_map(count, order):
    results = Shuffled(Counting()).localize([None] * count, "")
    assert [result.score for result in results] == order
    assert [result.map[0, 0] for result in results] == order


def test_one_image_has_no_other():
    assert Shuffled(Counting()).whole_category
    assert not Centre().whole_category
    with pytest.raises(ValueError, match="at least two"):
        Shuffled(Counting()).localize([None], "")


def test_maps_of_different_shapes_cannot_change_places(tiny_clip):
    tiled = Shuffled(AnoVL(tiny_clip, level="word", tiles=True))
    images = [Image.new("RGB", size, "red") for size in ((80, 64), (90, 64))]
    with pytest.raises(ValueError, match="cannot change places"):
        tiled.localize(images, "nut")
    assert len(tiled.localize(images, "nut", size=32)) == 2


@pytest.mark.parametrize("name", METHODS)
def test_every_method_by_its_name(tiny_clip, name):
    options = {"level": "word"} if name in ("clip", "anovl", "anovl-tta", "shuffled") else {}
    detector = make_detector(name, tiny_clip, **options)
    results = detector.localize([with_spot(woven(), 12, 45), with_spot(woven(), 40, 9)], "cloth")
    assert detector.name == name
    assert [result.map.shape for result in results] == [(64, 64)] * 2
    assert all(isinstance(result.score, float) for result in results)


def test_options_go_to_the_method(tiny_clip):
    assert make_detector("clip", tiny_clip).attention == "qk"
    assert make_detector("anovl-tta", tiny_clip, tta=TTA(steps=2)).tta.steps == 2
    assert make_detector("outlier", tiny_clip, patch=5).patch == 5


@pytest.mark.parametrize("name", METHODS)
def test_published_protocols_make_the_same_methods(tiny_clip, name):
    for dataset in ("mvtec", "visa", "pocket"):
        assert make_detector(name, tiny_clip, **published_options(name, dataset)).name == name


def test_published_protocols_differ_by_data_set(tiny_clip):
    mvtec, visa, pocket = (
        make_detector("anovl-tta", tiny_clip, **published_options("anovl-tta", dataset))
        for dataset in ("mvtec", "visa", "pocket")
    )
    assert [(d.views, d.tiles) for d in (mvtec, visa, pocket)] == [
        (22, False),
        (1, True),
        (1, False),
    ]
    assert [d.tta.adapter for d in (mvtec, visa, pocket)] == ["text", "linear", "text"]
    assert published_options("outlier", "visa") == {}


def test_a_wrong_name_is_answered_with_a_near_one(tiny_clip):
    with pytest.raises(ValueError, match="no method 'anovel': did you mean 'anovl'"):
        make_detector("anovel", tiny_clip)
    with pytest.raises(ValueError, match="There are clip, anovl"):
        make_detector("xyz", tiny_clip)


def test_options_cannot_make_a_method_another(tiny_clip):
    with pytest.raises(ValueError, match="'anovl' is 'anovl-tta'"):
        make_detector("anovl", tiny_clip, tta=True)
