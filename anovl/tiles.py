"""The VisA protocol: an oblong image as two overlapping square tiles, and the way back.

The tiles lie at the two ends of the long side. The published code knows landscapes only: a
portrait fails there, and an image more than twice as long as it is high silently loses its
middle. Here a portrait is tiled at its top and bottom, and a longer image is refused.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def fit_short_side(picture: Image.Image, side: int) -> Image.Image:
    """Resize a picture, in proportion, so that its short side has this many pixels.

    >>> fit_short_side(Image.new("RGB", (1000, 600)), 240).size
    (400, 240)

    Source: published code, VisA.
    """
    scale = side / min(picture.size)
    width, height = (max(side, int(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def cut_tiles(picture: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Cut a picture into the two squares at the ends of its long side; `split_tiles` for PIL.

    >>> [tile.size for tile in cut_tiles(Image.new("RGB", (5, 3)))]
    [(3, 3), (3, 3)]

    Raises ValueError if the long side is more than twice the short one.
    """
    width, height = picture.size
    short, long = sorted(picture.size)
    _check_reach(short, long)
    far = (width - short, height - short, width, height)
    return picture.crop((0, 0, short, short)), picture.crop(far)


def split_tiles(images: Tensor) -> Tensor:
    """Cut images (B, C, H, W) into two square tiles (B, 2, C, S, S), S being the short side.

    >>> image = torch.tensor([[1, 2, 3], [4, 5, 6]])
    >>> split_tiles(image.view(1, 1, 2, 3)).squeeze()
    tensor([[[1, 2],
             [4, 5]],
    <BLANKLINE>
            [[2, 3],
             [5, 6]]])

    Raises ValueError if the long side is more than twice the short one.
    Source: published code, VisA.
    """
    if images.ndim != 4:
        raise ValueError(f"images must have shape (B, C, H, W); found {tuple(images.shape)}")
    height, width = images.shape[-2:]
    if height > width:
        return split_tiles(images.mT).mT
    _check_reach(height, width)
    return torch.stack([images[..., :height], images[..., -height:]], dim=1)


def merge_tiles(tiles: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Lay tiles (B, 2, S, S) of values at their places in (B, H, W), with the mean where both lie.

    >>> merge_tiles(torch.tensor([[[[1.0, 1], [1, 1]], [[3, 3], [3, 3]]]]), size=(2, 3))
    tensor([[[1., 2., 3.],
             [1., 2., 3.]]])

    Raises ValueError if the tiles do not belong to an image of this size.
    Source: published code, VisA.
    """
    height, width = size
    if height > width:
        return merge_tiles(tiles.mT, size=(width, height)).mT
    if tiles.shape[1:] != (2, height, height):
        raise ValueError(
            f"an image of {height}x{width} has tiles (B, 2, {height}, {height}); "
            f"found {tuple(tiles.shape)}"
        )
    _check_reach(height, width)
    margin = width - height
    cover = tiles.new_ones(height)
    placed = F.pad(tiles[:, 0], (0, margin)) + F.pad(tiles[:, 1], (margin, 0))
    return placed / (F.pad(cover, (0, margin)) + F.pad(cover, (margin, 0)))


def _check_reach(short: int, long: int) -> None:
    if long > 2 * short:
        raise ValueError(
            f"two square tiles do not cover an image of {short}x{long}: its long side is more "
            "than twice the short one. Cut it into pieces, or use tiles=False"
        )
