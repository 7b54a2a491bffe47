"""A method that looks at large images piece by piece, at the resolution of its model.

Squeezed to the model's size, a scratch of 4 pixels in an image of 2000 disappears. In tiles it
stays, at the price of one pass of the network a tile, and of the whole: a tile does not see what
lies around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anovl.baselines.controls import Shuffled
from anovl.clip import Images, as_list
from anovl.detector import ClipDetector, Detector, Localization, Words
from anovl.images import read_image
from anovl.maps import Size, enlarge


@dataclass(frozen=True)
class Tiled(Detector):
    """A method on overlapping square tiles of each image, merged by averaging.

    Tiles have the size of the model in the pixels of the image, which is enlarged where it is
    smaller than one tile; neighbours share at least `overlap` of a side. The map is as large as the
    image (enlarged or not), with the mean of the tiles that cover a pixel; the score is that of the
    highest tile.
    Test-time adaptation goes tile by tile. `passes` says what an image costs.

    Not of the paper, and not the two tiles of VisA's published protocol (`AnoVL(tiles=True)`).

    >>> import open_clip
    >>> from anovl import AnoVL, Clip
    >>> vision = dict(image_size=32, patch_size=16, width=64, layers=1)
    >>> model = open_clip.CLIP(8, vision, dict(width=64, heads=1, layers=1))
    >>> detector = Tiled(AnoVL(Clip(model, open_clip.tokenize, image_size=32), level="word"))
    >>> detector(Image.new("RGB", (90, 50), "teal"), "nut").map.shape
    (50, 90)
    >>> detector.passes((50, 90))
    8

    Raises ValueError for a method that needs the images of a category together, that has a protocol
    of its own, or whose model does not take squares, and for an overlap outside [0, 1).
    """

    detector: ClipDetector
    _: KW_ONLY
    overlap: float = 0.25

    def __post_init__(self) -> None:
        detector, size = self.detector, self.detector.clip.image_size
        if detector.whole_category:
            raise ValueError(f"{detector.name} needs a whole category at once, and cannot be tiled")
        if getattr(detector, "tiles", False):
            raise ValueError("tiles=True is a tiling already: leave it out")
        if len(set(size)) > 1:
            raise ValueError(f"tiles are square, but {detector.clip.name} takes {size}")
        self._starts(self.side)

    @property
    def name(self) -> str:
        """That of the method inside."""
        return self.detector.name

    @property
    def side(self) -> int:
        """Pixels along a side of a tile."""
        return self.detector.clip.image_size[0]

    def passes(self, size: tuple[int, int]) -> int:
        """How many tiles an image (H, W) has: so often the network runs, where once is usual."""
        rows, columns = (self._starts(length) for length in self._seen(*size))
        return len(rows) * len(columns)

    def gains(self, size: tuple[int, int]) -> bool:
        """Tell whether tiles show clearly more of an image (H, W) than one look at all of it.

        Not where its long side is below 1.5 tiles: what is smaller than a tile is only enlarged, in
        pieces or as it is without tiles, and of what is little larger each tile is almost all.
        """
        return max(size) >= 1.5 * self.side

    def prepare(self, class_name: Words) -> None:
        self.detector.prepare(class_name)

    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        return [self._localize(image, class_name, size) for image in as_list(images)]

    def _localize(
        self, image: Image.Image | str | Path | Tensor, class_name: Words, size: Size | None
    ) -> Localization:
        tiles, shape = self._tiles(image)
        found = self.detector.localize(tiles, class_name)
        score, before = max(one.score for one in found), None
        if found[0].map_before_tta is not None:
            before = self._merged([one.map_before_tta for one in found], shape, size)
        return Localization(self._merged([one.map for one in found], shape, size), score, before)

    def _tiles(
        self, image: Image.Image | str | Path | Tensor
    ) -> tuple[Tensor | list[Image.Image], tuple[int, int]]:
        """The tiles of one image, and the size (H, W) at which it was cut."""
        if isinstance(image, Tensor):
            tiles = grid_tiles(image[None], self.side, overlap=self.overlap)
            return tiles[0], tuple(image.shape[1:])
        picture = read_image(image)
        height, width = self._seen(picture.height, picture.width)
        if (width, height) != picture.size:
            picture = picture.resize((width, height), self.detector.clip.interpolation)
        corners = product(self._starts(height), self._starts(width))
        boxes = [(x, y, x + self.side, y + self.side) for y, x in corners]
        return [picture.crop(box) for box in boxes], (height, width)

    def _seen(self, height: int, width: int) -> tuple[int, int]:
        """The size of an image, or, of one that is smaller than a tile, as it is enlarged."""
        scale = max(1, self.side / min(height, width))
        return max(self.side, round(height * scale)), max(self.side, round(width * scale))

    def _starts(self, length: int) -> list[int]:
        return tile_starts(length, self.side, overlap=self.overlap)

    def _merged(
        self, maps: Sequence[np.ndarray], shape: tuple[int, int], size: Size | None
    ) -> np.ndarray:
        tiles = torch.from_numpy(np.stack(maps))[None]
        merged = join_grid(tiles, size=shape, overlap=self.overlap)
        return (merged if size is None else enlarge(merged, size=size, smooth=False))[0].numpy()


def tile(detector: Detector) -> Detector:
    """The same method in tiles; one that knows no words has no size of its own and stays as it is.

    Of `Shuffled`, the method inside is tiled. Raises ValueError as `Tiled` does.
    """
    if isinstance(detector, Shuffled):
        return replace(detector, detector=tile(detector.detector))
    return Tiled(detector) if isinstance(detector, ClipDetector) else detector


def tile_starts(length: int, side: int, *, overlap: float = 0.25) -> list[int]:
    """Where tiles of a side begin along a length: evenly spread, from one end to the other.

    As few as cover it with at least that share of a tile in common with the next.

    >>> tile_starts(1024, 240), tile_starts(240, 240)
    ([0, 156, 313, 470, 627, 784], [0])

    Raises ValueError for a length below the side, or an overlap that is not in [0, 1).
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is the share that two tiles have in common, 0 to 1: {overlap!r}")
    if not 1 <= side <= length:
        raise ValueError(f"a tile of {side} pixels does not fit into {length}: enlarge the image")
    steps = math.ceil((length - side) / (side * (1 - overlap)))
    return [step * (length - side) // steps for step in range(steps + 1)] if steps else [0]


def grid_tiles(images: Tensor, side: int, *, overlap: float = 0.25) -> Tensor:
    """Cut images (B, C, H, W) into overlapping square tiles (B, T, C, side, side), row by row.

    >>> grid_tiles(torch.zeros(1, 3, 480, 1024), 240).shape
    torch.Size([1, 18, 3, 240, 240])

    Raises ValueError as `tile_starts` does, and for another shape.
    """
    if images.ndim != 4:
        raise ValueError(f"images must have shape (B, C, H, W); found {tuple(images.shape)}")
    rows, columns = (tile_starts(length, side, overlap=overlap) for length in images.shape[2:])
    tiles = [images[..., y : y + side, x : x + side] for y in rows for x in columns]
    return torch.stack(tiles, dim=1)


def join_grid(tiles: Tensor, *, size: tuple[int, int], overlap: float = 0.25) -> Tensor:
    """Lay the tiles (B, T, S, S) of `grid_tiles` out in (B, H, W), with the mean where they lie.

    >>> ramp = torch.arange(12.0).view(1, 1, 3, 4)
    >>> join_grid(grid_tiles(ramp, 2)[:, :, 0], size=(3, 4)).equal(ramp[0])
    True

    Raises ValueError if the tiles do not belong to an image of this size.
    """
    side = tiles.shape[-1]
    rows, columns = (tile_starts(length, side, overlap=overlap) for length in size)
    corners = [(y, x) for y in rows for x in columns]
    if tiles.shape[1:] != (len(corners), side, side):
        raise ValueError(
            f"an image of {size[0]}x{size[1]} has tiles (B, {len(corners)}, {side}, {side}); "
            f"found {tuple(tiles.shape)}"
        )
    total, cover = tiles.new_zeros(len(tiles), *size), tiles.new_zeros(size)
    for tile, (y, x) in zip(tiles.unbind(1), corners, strict=True):
        total[:, y : y + side, x : x + side] += tile
        cover[y : y + side, x : x + side] += 1
    return total / cover
