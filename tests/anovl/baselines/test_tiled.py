"""Large images in tiles: where they lie, how maps come together, and what it costs."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import make_clip, make_images
from PIL import Image

from anovl.adapt import TTA
from anovl.baselines import make_detector
from anovl.baselines.controls import Centre, PatchOutlier, Shuffled
from anovl.baselines.tiled import Tiled, grid_tiles, join_grid, tile, tile_starts
from anovl.cli import main
from anovl.clip import as_list, preprocess
from anovl.detector import AnoVL, ClipDetector, Localization
from anovl.evaluation.run_folder import describe_run


class Echo(ClipDetector):
    """A method whose map is the red channel of what it is given, and whose score is its mean."""

    name = "echo"

    def localize(self, images, category, *, size=None):
        pixels = preprocess(self.clip, as_list(images))
        red = pixels[:, 0] * self.clip.std[0] + self.clip.mean[0]
        return [Localization(one.numpy(), float(one.mean())) for one in red]


@pytest.fixture(scope="module")
def clip():
    return make_clip()


@pytest.fixture(scope="module")
def echo(clip):
    return Tiled(Echo(clip))


def ramp(height, width):
    """A picture whose red grows to the right and downwards, and its red in 0-1."""
    y, x = np.mgrid[:height, :width]
    red = (y + x).astype(np.uint8)
    return Image.fromarray(np.stack([red, 0 * red, 0 * red], axis=2)), red / 255


@pytest.mark.parametrize("size", [(32, 32), (32, 100), (61, 40), (90, 130)])
def test_what_a_method_says_of_pixels_comes_back_to_them(echo, size):
    picture, red = ramp(*size)
    result = echo(picture, "nut")
    np.testing.assert_allclose(result.map, red, atol=1e-6)
    flat = Image.new("RGB", size[::-1], (51, 9, 9))
    np.testing.assert_allclose(echo(flat, "nut").map, 0.2, atol=1e-6)


def test_tensors_are_cut_as_pictures_are(echo, clip):
    picture, red = ramp(50, 70)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    pixels = (pixels - torch.tensor(clip.mean).view(3, 1, 1)) / torch.tensor(clip.std).view(3, 1, 1)
    result = echo(pixels.float(), "nut")
    np.testing.assert_allclose(result.map, red, atol=1e-6)
    assert result.score == pytest.approx(echo(picture, "nut").score, abs=1e-6)


def test_the_score_is_that_of_the_highest_tile(echo):
    picture = Image.new("RGB", (96, 32))
    picture.paste((255, 0, 0), (64, 0, 96, 32))
    assert echo(picture, "nut").score == pytest.approx(1)


def test_an_image_smaller_than_a_tile_is_enlarged(echo):
    result = echo(Image.new("RGB", (20, 10), (255, 0, 0)), "nut")
    assert result.map.shape == (32, 64)
    np.testing.assert_allclose(result.map, 1, atol=1e-6)


def test_maps_have_the_size_asked_for(echo):
    assert echo(ramp(50, 70)[0], "nut", size=(20, 30)).map.shape == (20, 30)


@pytest.mark.parametrize("size", [(32, 32), (10, 20), (40, 90), (200, 32)])
def test_passes_says_what_the_network_will_see(clip, size, monkeypatch):
    seen = []
    original = Echo.localize

    def counting(self, images, category, *, size=None):
        seen.append(len(images))
        return original(self, images, category, size=size)

    monkeypatch.setattr(Echo, "localize", counting)
    detector = Tiled(Echo(clip))
    detector(ramp(*size)[0], "nut")
    assert seen == [detector.passes(size)]


@pytest.mark.parametrize("tta", [False, True])
def test_an_image_of_one_tile_is_what_it_is_without(tiny_clip, tta):
    plain = AnoVL(tiny_clip, level="word", tta=tta)
    images = make_images(tiny_clip)
    for one, other in zip(
        Tiled(plain).localize(images, "nut"), plain.localize(images, "nut"), strict=True
    ):
        np.testing.assert_allclose(one.map, other.map, atol=1e-6)
        assert one.score == pytest.approx(other.score, abs=1e-6)
        assert (one.map_before_tta is None) == (not tta)


def test_what_cannot_be_tiled_is_refused(clip):
    for detector, options, named in (
        (AnoVL(clip, tta=TTA(reset_optimizer=False)), {}, "category"),
        (AnoVL(clip, tiles=True), {}, "tiles=True"),
        (AnoVL(clip), {"overlap": 1.0}, "overlap"),
        (AnoVL(make_clip(image_size=(32, 48))), {}, "square"),
    ):
        with pytest.raises(ValueError, match=named):
            Tiled(detector, **options)


def test_methods_of_all_kinds_can_be_asked_for(tiny_clip, clip):
    assert isinstance(tile(make_detector("winclip", tiny_clip)), Tiled)
    assert tile(make_detector("winclip", tiny_clip)).name == "winclip"
    assert isinstance(tile(Shuffled(AnoVL(clip))).detector, Tiled)
    assert tile(Centre(32)) == Centre(32)
    assert isinstance(tile(PatchOutlier(32)), PatchOutlier)


def test_a_run_records_that_it_was_tiled(clip):
    from anovl.data import load_dataset

    dataset = load_dataset("pocket", categories=["bottle"], per_category=2)
    run = describe_run(dataset, [tile(AnoVL(clip))])
    assert run["methods"]["anovl"]["overlap"] == 0.25
    assert run["models"] == {"custom": clip.weights_hash}


def test_tiles_gain_from_a_long_side_of_one_and_a_half_on(tiny_clip):
    detector = Tiled(AnoVL(tiny_clip))  # of 64 x 64 pixels
    sizes = {(40, 20): False, (64, 64): False, (95, 80): False, (96, 96): True, (300, 40): True}
    assert {size: detector.gains(size) for size in sizes} == sizes


def test_evaluate_knows_the_protocol(tmp_path):
    out = tmp_path / "out"
    asked = ["evaluate", "--dataset", "pocket", "--categories", "bottle", "--per-category", "2"]
    asked += ["--protocol", "tiles", "--methods", "anovl,centre,shuffled", "--no-cache"]
    assert main([*asked, "--size", "64", "--out", str(out)]) == 0
    assert '"overlap": 0.25' in (out / "run.json").read_text()


# --- a grid of tiles ------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize(("length", "side"), [(8, 8), (9, 8), (15, 8), (16, 8), (100, 7)])
def test_tiles_reach_from_end_to_end_and_overlap(length, side, overlap):
    starts = tile_starts(length, side, overlap=overlap)
    assert starts[0] == 0 and starts[-1] == length - side
    steps = [later - earlier for earlier, later in pairwise(starts)]
    assert max(steps, default=0) <= max(1, math.ceil(side * (1 - overlap)))
    fewer = (len(starts) - 2) * side * (1 - overlap)
    assert len(starts) == 1 or fewer < length - side, "as few as cover it"


@pytest.mark.parametrize("size", [(4, 4), (4, 9), (11, 5), (13, 17)])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5])
def test_merging_a_grid_undoes_cutting_it(size, overlap):
    ramp = torch.arange(2.0 * size[0] * size[1]).view(2, *size) / 1000
    for maps in (ramp, torch.full_like(ramp, 0.3)):
        tiles = grid_tiles(maps[:, None], 4, overlap=overlap)[:, :, 0]
        found = join_grid(tiles, size=size, overlap=overlap)
        torch.testing.assert_close(found, maps, atol=1e-6, rtol=0)


def test_where_tiles_of_a_grid_lie_on_each_other_is_a_mean():
    tiles = torch.stack([torch.full((2, 2), value) for value in (0.0, 1.0, 2.0, 3.0)])[None]
    expected = torch.tensor([[[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]]])
    assert torch.equal(join_grid(tiles, size=(3, 3)), expected)


def test_a_grid_that_cannot_be_is_refused():
    for call, named in (
        (lambda: grid_tiles(torch.ones(1, 3, 3, 9), 4), "does not fit into 3"),
        (lambda: tile_starts(9, 4, overlap=1), "overlap"),
        (lambda: grid_tiles(torch.ones(3, 4, 6), 2), r"\(B, C, H, W\)"),
        (lambda: join_grid(torch.ones(1, 5, 2, 2), size=(3, 4)), r"\(1, 5, 2, 2\)"),
    ):
        with pytest.raises(ValueError, match=named):
            call()
