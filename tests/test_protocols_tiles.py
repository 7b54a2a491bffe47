"""Two tiles: where they lie, how they come together again, and what they cannot cover."""

from __future__ import annotations

import pytest
import torch

from anovl.maps import enlarge
from anovl.protocols import merge_grids, merge_tiles, split_tiles


def picture(height, width):
    return torch.arange(2 * 3 * height * width, dtype=torch.float32).view(2, 3, height, width)


@pytest.mark.parametrize("width", [4, 5, 7, 8])
def test_tiles_lie_at_the_ends(width):
    image = picture(4, width)
    tiles = split_tiles(image)
    assert tiles.shape == (2, 2, 3, 4, 4)
    assert torch.equal(tiles[:, 0], image[..., :4])
    assert torch.equal(tiles[:, 1], image[..., width - 4 :])


def test_portraits_are_tiled_at_top_and_bottom():
    image = picture(7, 4)
    tiles = split_tiles(image)
    assert torch.equal(tiles[:, 0], image[..., :4, :])
    assert torch.equal(tiles[:, 1], image[..., 3:, :])


@pytest.mark.parametrize("size", [(4, 4), (4, 5), (4, 8), (7, 4), (8, 4)])
def test_merging_undoes_splitting(size):
    image = picture(*size)
    torch.testing.assert_close(merge_tiles(split_tiles(image)[:, :, 0], size=size), image[:, 0])


def test_the_overlap_is_a_mean():
    tiles = torch.stack([torch.zeros(3, 3), torch.ones(3, 3)])[None]
    row = torch.tensor([0, 0, 0.5, 1, 1])
    assert torch.equal(merge_tiles(tiles, size=(3, 5)), row.expand(1, 3, 5))
    assert torch.equal(merge_tiles(tiles, size=(5, 3)), row[:, None].expand(1, 5, 3))


@pytest.mark.parametrize("smooth", [True, False])
def test_grids_are_enlarged_and_then_merged(smooth):
    grids = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    tiles = torch.stack([enlarge(grids[:, i], size=8, smooth=smooth) for i in (0, 1)], dim=1)
    merged = merge_grids(grids, size=(8, 11), smooth=smooth)
    torch.testing.assert_close(merged, merge_tiles(tiles, size=(8, 11)))
    torch.testing.assert_close(merged[..., :3], tiles[:, 0, :, :3])


def test_gradients_flow_through():
    tiles = torch.ones(1, 2, 3, 3, requires_grad=True)
    merge_tiles(tiles, size=(3, 5)).sum().backward()
    torch.testing.assert_close(tiles.grad[0, 0, 0], torch.tensor([1.0, 1.0, 0.5]))


def test_what_two_tiles_do_not_cover_is_refused():
    with pytest.raises(ValueError, match="do not cover an image of 4x9"):
        split_tiles(picture(4, 9))
    with pytest.raises(ValueError, match="do not cover an image of 9x4"):
        split_tiles(picture(9, 4))
    with pytest.raises(ValueError, match="do not cover"):
        merge_tiles(torch.ones(1, 2, 4, 4), size=(4, 9))
    with pytest.raises(ValueError, match=r"\(B, C, H, W\)"):
        split_tiles(torch.ones(3, 4, 6))
    with pytest.raises(ValueError, match=r"has tiles \(B, 2, 4, 4\); found \(1, 2, 3, 3\)"):
        merge_tiles(torch.ones(1, 2, 3, 3), size=(4, 6))
