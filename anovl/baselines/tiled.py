"""A method on overlapping tiles of large images, at the resolution of its model.

A scratch of 4 pixels in an image of 2000 disappears when the image is squeezed to the model's size.
In tiles it stays, at the price of one pass of the network for each tile. A tile does not see the
pixels around it.
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

    Tiles have the size of the model in the pixels of the image; an image smaller than one tile is
    enlarged. Neighbours share at least `overlap` of a side. The map is as large as the image
    (enlarged or not), with the mean of the tiles that cover a pixel; the score is that of the
    highest tile. Test-time adaptation runs on each tile by itself.

    This is not in the paper, and not the two tiles of VisA's published protocol
    (`AnoVL(tiles=True)`).

    >>> from anovl import AnoVL
    >>> detector = Tiled(AnoVL(toy_clip, level="word"))
    >>> detector(Image.new("RGB", (90, 50), "teal"), "nut").map.shape
    (50, 90)

    Raises ValueError for a method that needs the images of a category together, that has a protocol
    of its own, or whose model does not take squares, for an overlap outside [0, 1), and for
    preprocessed tensors.
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
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap is a share of a tile, in [0, 1); found {self.overlap!r}")

    @property
    def name(self) -> str:
        """The name of the method inside."""
        return self.detector.name

    @property
    def side(self) -> int:
        """Pixels along a side of a tile."""
        return self.detector.clip.image_size[0]

    def adds_detail(self, size: tuple[int, int]) -> bool:
        """Tell whether tiles show more detail of an image (H, W): from 1.5 tiles on."""
        return max(size) >= 1.5 * self.side

    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        if isinstance(images, Tensor):
            raise ValueError(f"{self.name} in tiles needs pictures: give PIL images or paths")
        return [self._localize(image, class_name, size) for image in as_list(images)]

    def _localize(
        self, image: Image.Image | str | Path, class_name: Words, size: Size | None
    ) -> Localization:
        picture = read_image(image)
        scale = max(1, self.side / min(picture.size))
        width, height = (max(self.side, round(length * scale)) for length in picture.size)
        picture = picture.resize((width, height), self.detector.clip.interpolation)
        corners = tile_corners((height, width), self.side, overlap=self.overlap)
        tiles = [picture.crop((x, y, x + self.side, y + self.side)) for y, x in corners]
        found = self.detector.localize(tiles, class_name)

        def merged(maps: Sequence[np.ndarray]) -> np.ndarray:
            whole = join_tiles(np.stack(maps), corners)
            if size is None:
                return whole
            return enlarge(torch.from_numpy(whole)[None], size=size, smooth=False)[0].numpy()

        before = [one.map_before_tta for one in found]
        return Localization(
            merged([one.map for one in found]),
            max(one.score for one in found),
            None if before[0] is None else merged(before),
        )


def tile(detector: Detector) -> Detector:
    """The same method in tiles; a method without words has no size of its own and stays as it is.

    Of `Shuffled`, the method inside is tiled. Raises ValueError as `Tiled` does.
    """
    if isinstance(detector, Shuffled):
        return replace(detector, detector=tile(detector.detector))
    return Tiled(detector) if isinstance(detector, ClipDetector) else detector


def tile_corners(size: tuple[int, int], side: int, *, overlap: float) -> list[tuple[int, int]]:
    """The corners (y, x) of tiles that cover an image (H, W), row by row, evenly spread.

    There are as few as possible with at least this share of a side in common with the next. No
    side of the image may be below that of a tile.

    >>> tile_corners((240, 1024), 240, overlap=0.25)
    [(0, 0), (0, 156), (0, 313), (0, 470), (0, 627), (0, 784)]
    """
    starts = []
    for length in size:
        steps = math.ceil((length - side) / (side * (1 - overlap)))
        starts.append([step * (length - side) // max(steps, 1) for step in range(steps + 1)])
    return list(product(*starts))


def join_tiles(tiles: np.ndarray, corners: Sequence[tuple[int, int]]) -> np.ndarray:
    """Join maps of tiles (T, S, S) to one (H, W), with their mean where they overlap.

    >>> join_tiles(np.array([[[1.0]], [[4.0]]]), [(0, 0), (0, 1)])
    array([[1., 4.]])
    """
    side = tiles.shape[-1]
    total = np.zeros((corners[-1][0] + side, corners[-1][1] + side), dtype=tiles.dtype)
    cover = np.zeros_like(total)
    for values, (y, x) in zip(tiles, corners, strict=True):
        total[y : y + side, x : x + side] += values
        cover[y : y + side, x : x + side] += 1
    return total / cover
