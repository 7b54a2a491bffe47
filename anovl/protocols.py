"""The published protocols: 22 views of an image on MVTec AD, two tiles on VisA.

MVTec AD: the image score is the mean over 22 views; the map is that of the image itself.

VisA: an oblong image is cut into two overlapping squares at the ends of its long side; maps and
image scores are averaged. Unlike the published code, portraits are tiled, and very long images are
refused.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from anovl.attention import encode_pixels
from anovl.clip import Clip, check_pixels, normalise
from anovl.images import read_images
from anovl.maps import enlarge

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

    In the order of `VIEW_NAMES`: the image; 8 turns of up to 45 degrees, 8 shifts (borders are
    reflected); mirrored; grey; three right-angle turns, counter-clockwise. "moved +0.2, +0.2" moves
    the content left and up by a tenth of the side.

    >>> augmented_views(torch.rand(1, 3, 8, 8)).shape
    torch.Size([1, 22, 3, 8, 8])

    Raises ValueError unless images are square tensors. Source: published code.
    """
    shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise ValueError(
            f"the 22 views need preprocessed square images (B, 3, S, S); found {shape}"
        )
    batch, _, side, _ = images.shape
    warped = _warp(images.reshape(1, batch * 3, side, side))  # (16, B * 3, S, S)
    warped = warped.view(-1, batch, 3, side, side).transpose(0, 1)
    grey = (images * images.new_tensor(_LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)
    others = [images.flip(3), grey.expand_as(images), *(images.rot90(q, (2, 3)) for q in (1, 2, 3))]
    return torch.cat([images[:, None], warped, torch.stack(others, dim=1)], dim=1)


def encode_other_views(clip: Clip, pixels: Tensor, batch_size: int) -> Tensor:
    """Encode the other 21 views of images (B, 3, S, S): class tokens (B, 21, D).

    Class tokens need the ordinary path alone ("qk").
    """
    tokens = []
    for images in pixels.split(batch_size):  # each becomes 21 more in memory
        views = augmented_views(images.to(clip.device))[:, 1:]
        found = encode_pixels(clip, views.flatten(0, 1), attention="qk", batch_size=batch_size)
        tokens.append(found.cls.unflatten(0, views.shape[:2]))
    return torch.cat(tokens)


def _warp(planes: Tensor) -> Tensor:
    """Turn and shift planes (1, C, S, S) in all 16 ways at once: (16, C, S, S)."""
    # One affine matrix (2, 3) a turn or shift.
    turns = [[[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0]] for a in ANGLES]
    theta = planes.new_tensor([*turns, *([[1, 0, x], [0, 1, y]] for x, y in SHIFTS)])
    grid = F.affine_grid(theta, [len(theta), 1, *planes.shape[2:]], align_corners=True)
    planes = planes.expand(len(theta), -1, -1, -1)
    return F.grid_sample(planes, grid, padding_mode="reflection", align_corners=True)


def fit_short_side(
    picture: Image.Image, side: int, interpolation: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """Resize a picture in proportion, to `side` pixels on its short side.

    >>> fit_short_side(Image.new("RGB", (1000, 600)), 240).size
    (400, 240)

    Source: published code, VisA (bicubic; the long side is rounded down).
    """
    scale = side / min(picture.size)
    width, height = (max(side, int(length * scale)) for length in picture.size)
    return picture.resize((width, height), interpolation)


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
    short = _short_side(*images.shape[-2:])
    return torch.stack([images[..., :short, :short], images[..., -short:, -short:]], dim=1)


def tile_pixels(clip: Clip, images: list | Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Preprocess B images as two tiles each, (B, 2, 3, S, S); also return the shape (H, W).

    Raises ValueError for pictures of several shapes, and as `split_tiles` and `check_pixels` do.
    """
    if not isinstance(images, Tensor):
        side, how = clip.image_size[0], clip.interpolation
        pictures = [fit_short_side(one, side, how) for one in read_images(images)]
        if len(shapes := {picture.size[::-1] for picture in pictures}) > 1:  # one sequence
            raise ValueError(
                f"with reset_optimizer=False, images must have one shape; found {sorted(shapes)}"
            )
        images = normalise(clip, pictures)  # (B, 3, H, W)
    tiles = split_tiles(images)
    check_pixels(clip, tiles.flatten(0, 1))
    return tiles, tuple(images.shape[-2:])


def merge_tiles(tiles: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Merge tiles (B, 2, S, S) of values into (B, H, W), averaged where they overlap.

    >>> merge_tiles(torch.tensor([[[[1.0, 1], [1, 1]], [[3, 3], [3, 3]]]]), size=(2, 3))
    tensor([[[1., 2., 3.],
             [1., 2., 3.]]])

    Raises ValueError if the tiles do not belong to an image of this size.
    Source: published code, VisA.
    """
    height, width = size
    short = _short_side(height, width)
    if tiles.shape[1:] != (2, short, short):
        raise ValueError(
            f"an image of {height}x{width} has tiles (B, 2, {short}, {short}); "
            f"found {tuple(tiles.shape)}"
        )
    right, below = width - short, height - short  # one of them is 0

    def placed(values: Tensor) -> Tensor:  # (..., 2, S, S) → (..., H, W)
        first = F.pad(values[..., 0, :, :], (0, right, 0, below))
        return first + F.pad(values[..., 1, :, :], (right, 0, below, 0))

    return placed(tiles) / placed(tiles.new_ones(2, short, short))


def merge_grids(grids: Tensor, *, size: tuple[int, int], smooth: bool = True) -> Tensor:
    """Enlarge the grids of two tiles (B, 2, h, w) and merge them; `smooth` as in `enlarge`.

    >>> merge_grids(torch.zeros(5, 2, 4, 4), size=(24, 32)).shape
    torch.Size([5, 24, 32])
    """
    tiles = enlarge(grids.flatten(0, 1), size=min(size), smooth=smooth)  # (B * 2, S, S)
    return merge_tiles(tiles.unflatten(0, grids.shape[:2]), size=size)


def _short_side(height: int, width: int) -> int:
    short, long = sorted((height, width))
    if long > 2 * short:
        raise ValueError(
            f"two square tiles do not cover an image of {height}x{width}: use tiles=False"
        )
    return short
