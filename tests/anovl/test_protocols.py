"""The 22 views and the two tiles: each by hand, the views also against the published pixels."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from anovl.maps import enlarge
from anovl.protocols import (
    ANGLES,
    SHIFTS,
    VIEW_NAMES,
    augmented_views,
    merge_grids,
    merge_tiles,
    split_tiles,
)

SIDE = 21  # a shift of 0.2 in grid units is then exactly 2 pixels, of 0.1 exactly 1


@pytest.fixture
def image():
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def view(image, name):
    return augmented_views(image)[:, VIEW_NAMES.index(name)]


def test_22_named_views(image):
    assert augmented_views(image.repeat(2, 1, 1, 1)).shape == (2, 22, 3, SIDE, SIDE)
    assert len(VIEW_NAMES) == len(set(VIEW_NAMES)) == 22


def test_views_are_made_image_by_image(image):
    both = augmented_views(torch.cat([image, image.flip(2)]))
    torch.testing.assert_close(both[1:], augmented_views(image.flip(2)))


def test_exact_views(image):
    assert torch.equal(view(image, "as it is"), image)
    assert torch.equal(view(image, "mirrored"), image.flip(3))
    assert torch.equal(view(image, "turned 180°"), image.flip(2, 3))
    assert torch.equal(view(image, "turned 90°"), image.mT.flip(2))  # counter-clockwise
    assert torch.equal(view(view(image, "turned 90°"), "turned 270°"), image)


def test_grey_has_three_equal_channels(image):
    grey = view(image, "grey")
    red, green, blue = image.unbind(1)
    torch.testing.assert_close(grey[:, 0], 0.299 * red + 0.587 * green + 0.114 * blue)
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])


def test_a_shift_moves_the_content_left_and_reflects_at_the_border(image):
    moved = view(image, "moved +0.2, +0.2")
    torch.testing.assert_close(moved[..., :-2, :-2], image[..., 2:, 2:])
    torch.testing.assert_close(moved[..., :-2, -2:], image[..., 2:, [-2, -3]])
    torch.testing.assert_close(view(image, "moved -0.1, +0.1")[..., :-1, 1:], image[..., 1:, :-1])


def test_turns_keep_the_middle_and_undo_each_other():
    y, x = torch.meshgrid(*2 * [torch.linspace(-1, 1, SIDE)], indexing="ij")
    ramp = (2 * x + y).expand(1, 3, SIDE, SIDE)  # bilinear sampling is exact on a plane
    turned = view(ramp, "turned +22.5°")
    torch.testing.assert_close(turned[..., 10, 10], ramp[..., 10, 10], atol=1e-6, rtol=0)
    back = view(turned, "turned -22.5°")
    torch.testing.assert_close(back[..., 7:14, 7:14], ramp[..., 7:14, 7:14], atol=1e-5, rtol=0)
    assert not torch.allclose(turned[..., 7:14, 7:14], ramp[..., 7:14, 7:14], atol=1e-2)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 20, 24), "20, 24"),
        ((3, 24, 24), "3, 24, 24"),
        ((1, 1, 24, 24), "1, 24, 24"),
    ],
)
def test_other_shapes_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        augmented_views(torch.rand(shape))


def test_views_of_a_picture_are_refused():
    with pytest.raises(ValueError, match="Image"):
        augmented_views(Image.new("RGB", (24, 24)))


def test_sixteen_warps_are_one_call_and_each_is_what_it_is_alone(image, monkeypatch):
    images, sample, calls = torch.cat([image, image.flip(2)]), F.grid_sample, []
    monkeypatch.setattr(F, "grid_sample", lambda *a, **o: calls.append(a) or sample(*a, **o))
    views = augmented_views(images)
    assert len(calls) == 1
    turns = [[[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0]] for a in ANGLES]
    for number, matrix in enumerate([*turns, *([[1, 0, x], [0, 1, y]] for x, y in SHIFTS)], 1):
        theta = torch.tensor(matrix, dtype=torch.float32).expand(2, 2, 3)
        grid = F.affine_grid(theta, list(images.shape), align_corners=True)
        alone = sample(images, grid, padding_mode="reflection", align_corners=True)
        torch.testing.assert_close(views[:, number], alone, rtol=0, atol=1e-6)


# Of 22: two turns and two shifts, then the exact ones (the published right angles are warped too)
PUBLISHED = {1: 1e-5, 8: 1e-5, 9: 1e-5, 16: 1e-5} | dict.fromkeys(range(17, 22), 5e-5)


def test_published_pixels(small_reference):
    published = small_reference["forward/views_quarter"]
    views = augmented_views(small_reference.images)[1, :, :, ::4, ::4]
    for (number, atol), expected in zip(PUBLISHED.items(), published, strict=True):
        torch.testing.assert_close(views[number], expected, rtol=0, atol=atol)


def test_all_published_pixels(small_reference):
    published = small_reference["forward/views_image1"]  # in the full reference only
    views = augmented_views(small_reference.images)[1]
    for (number, atol), expected in zip(PUBLISHED.items(), published, strict=True):
        torch.testing.assert_close(views[number], expected, rtol=0, atol=atol)


# Two tiles


def tiled_picture(height, width):
    return torch.arange(2 * 3 * height * width, dtype=torch.float32).view(2, 3, height, width)


@pytest.mark.parametrize("width", [4, 5, 7, 8])
def test_tiles_lie_at_the_ends(width):
    image = tiled_picture(4, width)
    tiles = split_tiles(image)
    assert tiles.shape == (2, 2, 3, 4, 4)
    assert torch.equal(tiles[:, 0], image[..., :4])
    assert torch.equal(tiles[:, 1], image[..., width - 4 :])


def test_portraits_are_tiled_at_top_and_bottom():
    image = tiled_picture(7, 4)
    tiles = split_tiles(image)
    assert torch.equal(tiles[:, 0], image[..., :4, :])
    assert torch.equal(tiles[:, 1], image[..., 3:, :])


@pytest.mark.parametrize("size", [(4, 4), (4, 5), (4, 8), (7, 4), (8, 4)])
def test_merging_undoes_splitting(size):
    image = tiled_picture(*size)
    torch.testing.assert_close(merge_tiles(split_tiles(image)[:, :, 0], size=size), image[:, 0])


def test_the_overlap_is_a_mean():
    tiles = torch.stack([torch.zeros(3, 3), torch.ones(3, 3)])[None]
    row = torch.tensor([0, 0, 0.5, 1, 1])
    assert torch.equal(merge_tiles(tiles, size=(3, 5)), row.expand(1, 3, 5))
    assert torch.equal(merge_tiles(tiles, size=(5, 3)), row[:, None].expand(1, 5, 3))


def test_gradients_flow_through():
    tiles = torch.ones(1, 2, 3, 3, requires_grad=True)
    merge_tiles(tiles, size=(3, 5)).sum().backward()
    torch.testing.assert_close(tiles.grad[0, 0, 0], torch.tensor([1.0, 1.0, 0.5]))


def test_what_two_tiles_do_not_cover_is_refused():
    with pytest.raises(ValueError, match="4x9"):
        split_tiles(tiled_picture(4, 9))
    with pytest.raises(ValueError, match="9x4"):
        split_tiles(tiled_picture(9, 4))
    with pytest.raises(ValueError, match="4x9"):
        merge_tiles(torch.ones(1, 2, 4, 4), size=(4, 9))
    with pytest.raises(ValueError, match=r"\(B, C, H, W\)"):
        split_tiles(torch.ones(3, 4, 6))
    with pytest.raises(ValueError, match=r"\(B, 2, 4, 4\).*\(1, 2, 3, 3\)"):
        merge_tiles(torch.ones(1, 2, 3, 3), size=(4, 6))


@pytest.mark.parametrize("smooth", [True, False])
def test_grids_are_enlarged_and_then_merged(smooth):
    grids = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    tiles = torch.stack([enlarge(grids[:, i], size=8, smooth=smooth) for i in (0, 1)], dim=1)
    merged = merge_grids(grids, size=(8, 11), smooth=smooth)
    torch.testing.assert_close(merged, merge_tiles(tiles, size=(8, 11)))
    torch.testing.assert_close(merged[..., :3], tiles[:, 0, :, :3])
