"""Large images in tiles: their corners, the merged maps, and methods that cannot be tiled."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import make_clip, picture
from PIL import Image

from anovl.adapt import TTA
from anovl.baselines import make_detector
from anovl.baselines.controls import Centre, Shuffled
from anovl.baselines.tiled import Tiled, join_tiles, tile, tile_corners
from anovl.cli import main
from anovl.clip import as_list, preprocess
from anovl.detector import AnoVL, ClipDetector, Localization


class Echo(ClipDetector):
    """A method whose map is the red channel of its input, and whose score is the mean of it."""

    name = "echo"

    def localize(self, images, category, *, size=None):
        pixels = preprocess(self.clip, as_list(images))
        red = pixels[:, 0] * self.clip.std[0] + self.clip.mean[0]
        return [Localization(one.numpy(), float(one.mean())) for one in red]


@pytest.fixture(scope="module")
def echo():
    return Tiled(Echo(make_clip()))


def ramp(height, width):
    """A picture whose red grows to the right and downwards, and its red in 0-1."""
    y, x = np.mgrid[:height, :width]
    red = (y + x).astype(np.uint8)
    return Image.fromarray(np.stack([red, 0 * red, 0 * red], axis=2)), red / 255


@pytest.mark.parametrize("size", [(32, 32), (32, 100), (61, 40), (90, 130)])
def test_the_merged_map_has_the_values_of_the_pixels(echo, size):
    image, red = ramp(*size)
    np.testing.assert_allclose(echo(image, "nut").map, red, atol=1e-6)
    assert echo(image, "nut", size=(20, 30)).map.shape == (20, 30)


def test_the_score_is_that_of_the_highest_tile(echo):
    image = Image.new("RGB", (96, 32))
    image.paste((255, 0, 0), (64, 0, 96, 32))
    assert echo(image, "nut").score == pytest.approx(1)


def test_an_image_smaller_than_a_tile_is_enlarged(echo):
    result = echo(Image.new("RGB", (20, 10), (255, 0, 0)), "nut")
    assert result.map.shape == (32, 64)
    np.testing.assert_allclose(result.map, 1, atol=1e-6)


@pytest.mark.parametrize("tta", [False, True])
def test_an_image_of_one_tile_gives_the_result_without_tiles(tiny_clip, tta):
    plain, image = AnoVL(tiny_clip, level="word", tta=tta), picture(0).resize((64, 64))
    one, other = Tiled(plain)(image, "nut"), plain(image, "nut")
    np.testing.assert_allclose(one.map, other.map, atol=1e-6)
    assert one.score == pytest.approx(other.score, abs=1e-6)
    assert (one.map_before_tta is None) == (not tta)


def test_what_cannot_be_tiled_is_refused(echo):
    clip = echo.detector.clip
    for detector, options, named in (
        (AnoVL(clip, tta=TTA(reset_optimizer=False)), {}, "category"),
        (AnoVL(clip, tiles=True), {}, "tiles=True"),
        (AnoVL(clip), {"overlap": 1.0}, "overlap"),
        (AnoVL(make_clip(image_size=(32, 48))), {}, "square"),
    ):
        with pytest.raises(ValueError, match=named):
            Tiled(detector, **options)
    with pytest.raises(ValueError, match="pictures"):
        echo.localize(torch.zeros(1, 3, 64, 64), "nut")


def test_methods_without_words_stay_as_they_are(tiny_clip):
    assert isinstance(tile(make_detector("winclip", tiny_clip)), Tiled)
    assert isinstance(tile(Shuffled(AnoVL(tiny_clip))).detector, Tiled)
    assert tile(Centre(32)) == Centre(32)


def test_tiles_add_detail_from_a_long_side_of_one_and_a_half_on(tiny_clip):
    detector = Tiled(AnoVL(tiny_clip))  # of 64 x 64 pixels
    sizes = {(40, 20): False, (64, 64): False, (95, 80): False, (96, 96): True, (300, 40): True}
    assert {size: detector.adds_detail(size) for size in sizes} == sizes


def test_evaluate_records_that_images_were_tiled(tmp_path):
    out = tmp_path / "out"
    asked = ["evaluate", "--dataset", "pocket", "--categories", "bottle", "--per-category", "2"]
    asked += ["--protocol", "tiles", "--methods", "anovl,centre,shuffled", "--no-cache"]
    assert main([*asked, "--size", "64", "--out", str(out)]) == 0
    assert '"overlap": 0.25' in (out / "run.json").read_text()


@pytest.mark.parametrize("overlap", [0, 0.25, 0.9])
@pytest.mark.parametrize(("length", "side"), [(8, 8), (9, 8), (16, 8), (100, 7)])
def test_tiles_cover_all_and_overlap(length, side, overlap):
    starts = [x for _, x in tile_corners((side, length), side, overlap=overlap)]
    assert starts[0] == 0 and starts[-1] == length - side
    steps = [later - earlier for earlier, later in pairwise(starts)]
    assert max(steps, default=0) <= max(1, math.ceil(side * (1 - overlap)))
    fewer = (len(starts) - 2) * side * (1 - overlap)
    assert len(starts) == 1 or fewer < length - side, "as few as cover it"


def test_where_tiles_overlap_there_is_their_mean():
    tiles = np.stack([np.full((2, 2), value) for value in (0.0, 1.0, 2.0, 3.0)])
    expected = [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]]
    corners = tile_corners((3, 3), 2, overlap=0.25)
    np.testing.assert_array_equal(join_tiles(tiles, corners), expected)
