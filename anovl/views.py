"""The 22 views of an image whose mean is the published image score of MVTec AD.

They are made from the preprocessed image: its border, its mean and its scale are those that the
network sees, and "grey" mixes channels that are already normalised, as in the published code.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ANGLES = tuple(turn * math.pi / 16 for turn in (-4, -3, -2, -1, 1, 2, 3, 4))
SHIFTS = tuple((x * d, y * d) for d in (0.2, 0.1) for x, y in ((1, 1), (-1, 1), (-1, -1), (1, -1)))
VIEW_NAMES = (
    "as it is",
    *(f"turned {math.degrees(angle):+g}°" for angle in ANGLES),
    *(f"moved {x:+g}, {y:+g}" for x, y in SHIFTS),
    "mirrored",
    "grey",
    *(f"turned {90 * quarter}°" for quarter in (1, 2, 3)),
)
_LUMA = (0.299, 0.587, 0.114)


def augmented_views(images: Tensor) -> Tensor:
    """Make the 22 published views (B, 22, 3, S, S) of preprocessed images (B, 3, S, S).

    In the order of `VIEW_NAMES`: the image; 8 turns of up to 45 degrees; 8 shifts of a tenth
    and a twentieth of the side (0.2 and 0.1 in the grid's units of -1 to 1), both with the border
    reflected; the mirror image; grey; three right-angle turns, counter-clockwise.

    >>> augmented_views(torch.rand(1, 3, 8, 8)).shape
    torch.Size([1, 22, 3, 8, 8])

    Raises ValueError for another shape, or for images that are not square: a right-angle turn of
    those would have another shape.
    Source: published code.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must have shape (B, 3, S, S); found {tuple(images.shape)}")
    if images.shape[2] != images.shape[3]:
        raise ValueError(
            f"the 22 views need square images; found {images.shape[2]}x{images.shape[3]}: "
            "resize them, or use views=1"
        )
    turned = [_warp(images, _turn(angle)) for angle in ANGLES]
    moved = [_warp(images, [[1, 0, x], [0, 1, y]]) for x, y in SHIFTS]
    grey = (images * images.new_tensor(_LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)
    quarters = [images.rot90(quarter, dims=(2, 3)) for quarter in (1, 2, 3)]
    views = [images, *turned, *moved, images.flip(3), grey.expand_as(images), *quarters]
    return torch.stack(views, dim=1)


def _turn(angle: float) -> list[list[float]]:
    cos, sin = math.cos(angle), math.sin(angle)
    return [[cos, -sin, 0], [sin, cos, 0]]


def _warp(images: Tensor, matrix: list[list[float]]) -> Tensor:
    """Sample the images where an affine map (2, 3) of the output grid points to."""
    theta = images.new_tensor(matrix).expand(len(images), 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=True)
