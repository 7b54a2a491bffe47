"""AnoVL as one object: images and the name of a thing go in, maps and scores come out.

`AnoVL._localize_batch` is the whole method on one page, in the order of an image's way: pixels,
features, maps and scores by the words and, if asked for, test-time adaptation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from torch import Tensor

from anovl.adapt import adapt
from anovl.attention import Attention, ImageFeatures, encode_images
from anovl.clip import Clip, Images, as_list, preprocess
from anovl.images import read_image
from anovl.maps import Size, anomalous_probability, enlarge, image_scores
from anovl.prompts import (
    Level,
    PromptEnsemble,
    Surface,
    TextFeatures,
    encode_prompts,
    prompt_ensemble,
)
from anovl.protocols import (
    VIEW_NAMES,
    augmented_views,
    cut_tiles,
    fit_short_side,
    merge_tiles,
    split_tiles,
)

Category: TypeAlias = str | PromptEnsemble


@dataclass(frozen=True, eq=False)
class Localization:
    """What a detector says of one image.

    `map` (H, W) float32, higher where it looks more anomalous; `score`, the same for the image
    as a whole; `map_before_tta` (H, W), or None where nothing was adapted.
    """

    map: np.ndarray
    score: float
    map_before_tta: np.ndarray | None = None


@dataclass(frozen=True)
class TTA:
    """How to adapt at test time; the options, and their published values, are those of `adapt`.

    >>> TTA(steps=10)
    TTA(adapter='text', steps=10, lr=0.001, noise_std=0.055, optimizer_state='reset', seed=0)
    """

    adapter: Literal["text", "linear"] = "text"
    steps: int = 5
    lr: float = 1e-3
    noise_std: float = 0.055
    optimizer_state: Literal["reset", "kept"] = "reset"
    seed: int = 0


class Detector(ABC):
    """What every method has: a name in tables, `localize` for many images, a call for one.

    `whole_category` says that what it tells of an image depends on the others of the call, so that
    a category must come in one.
    """

    name: str
    whole_category: ClassVar[bool] = False

    @abstractmethod
    def localize(
        self, images: Images, category: Category, *, size: Size | None = None
    ) -> list[Localization]:
        """Localize what is anomalous in each image of a category.

        `images`: PIL images, paths, or a preprocessed tensor (B, 3, H, W). `category`: the
        name of the thing, any words, or a `PromptEnsemble`. `size`: that of the maps, one
        number or (H, W); None for the size at which the method looks.
        """

    def prepare(self, category: Category) -> None:  # noqa: B027 (most have nothing to do)
        """Do what has to be done once for a category, before its first image."""

    def __call__(
        self, image: Images, category: Category, *, size: Size | None = None
    ) -> Localization:
        """Localize what is anomalous in one image. Raises ValueError for more than one."""
        results = self.localize(image, category, size=size)
        if len(results) != 1:
            raise ValueError(f"expected one image; found {len(results)}: use localize(images, …)")
        return results[0]


@dataclass(frozen=True)
class ClipDetector(Detector):
    """A method that compares what a CLIP sees with words: what all of these have in common.

    - `level`, `surface`: which prompts are made of a name, as in `prompt_ensemble`.
    - `batch_size`: how many images go through the network together.
    - `cache`: a folder that keeps the features of prompts, as in `encode_prompts`; decides nothing.

    Raises ValueError for a batch size below 1.
    """

    clip: Clip
    _: KW_ONLY
    level: Level = "domains"
    surface: Surface | None = None
    batch_size: int = 16
    cache: str | Path | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; found {self.batch_size!r}")

    def prepare(self, category: Category) -> None:
        self.text(category)

    def text(self, category: Category) -> TextFeatures:
        """The features of a category's prompts, made once for all detectors on this `Clip`."""
        prompts = category
        if not isinstance(category, PromptEnsemble):
            prompts = prompt_ensemble(category, level=self.level, surface=self.surface)
        return encode_prompts(self.clip, prompts, cache=self.cache)


@dataclass(frozen=True)
class AnoVL(ClipDetector):
    """Zero-shot anomaly detection and localization by words and V-V attention, on any CLIP.

    - `tta`: False, True (as published), or a `TTA` of your own.
    - `attention`, `first_block`: the path of the patches, as in `encode_images`; "qk"
      without adaptation is plain CLIP.
    - `views`: 1, or 22 for the published image score of MVTec AD, a mean over views.
    - `tiles`: the published protocol of VisA: the short side as the model wants it, two square
      tiles at the ends of the long one, and, with `tta=True`, the linear adapter.
    - `level`, `surface`, `batch_size`, `cache`: as in `ClipDetector`.

    >>> import open_clip
    >>> vision = dict(image_size=32, patch_size=16, width=64, layers=1)
    >>> model = open_clip.CLIP(8, vision, dict(width=64, heads=1, layers=1))
    >>> detector = AnoVL(Clip(model, open_clip.tokenize, image_size=32), level="states", tta=True)
    >>> result = detector(Image.new("RGB", (50, 40), "teal"), "metal nut")
    >>> detector.name, result.map.shape
    ('anovl-tta', (32, 32))

    Raises ValueError for options that do not exist or exclude each other.
    Source: published code; with the defaults, its numbers.
    """

    _: KW_ONLY
    tta: bool | TTA = False
    attention: Attention = "vv"
    first_block: int = 1
    views: Literal[1, 22] = 1
    tiles: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tta is True:
            object.__setattr__(self, "tta", TTA(adapter="linear" if self.tiles else "text"))
        if self.tta is not False and not isinstance(self.tta, TTA):
            raise ValueError(f"tta must be True, False or TTA(...); found {self.tta!r}")
        if self.views not in (1, len(VIEW_NAMES)):
            raise ValueError(f"views must be 1 or {len(VIEW_NAMES)}; found {self.views!r}")
        if self.tiles and self.views != 1:
            raise ValueError("tiles=True goes with views=1: its score is the mean of two tiles")
        if self.tiles and len(set(self.clip.image_size)) > 1:
            raise ValueError(f"tiles are square, but {self.clip.name} takes {self.clip.image_size}")

    @property
    def name(self) -> str:
        """The name of the method in tables: "anovl", "anovl-tta", "clip", "anovl-qq", …"""
        if self.attention == "qk" and not self.tta:
            return "clip"
        attention = f"-{self.attention}" if self.attention in ("qq", "kk") else ""
        return f"anovl{attention}{'-tta' if self.tta else ''}"

    @property
    def whole_category(self) -> bool:
        """True with a kept optimiser: the images of a call are then one sequence."""
        return bool(self.tta) and self.tta.optimizer_state == "kept"

    def localize(
        self, images: Images, category: Category, *, size: Size | None = None
    ) -> list[Localization]:
        """Localize what is anomalous in each image, in batches; see `Detector.localize`.

        Images are independent, except with `TTA(optimizer_state="kept")`, where those of a call
        are one sequence. Without `size`, maps are as large as the pixels that the network saw
        (published).
        """
        images = as_list(images)
        text = self.text(category)
        together = 1 if self.tiles else self.batch_size  # tiled images may differ in shape
        if self.whole_category:
            together = len(images)
        results = []
        for start in range(0, len(images), together or 1):
            results += self._localize_batch(images[start : start + together], text, size)
        return results

    def _localize_batch(
        self, images: list | Tensor, text: TextFeatures, size: Size | None
    ) -> list[Localization]:
        tiles, shape = self._tiles(images)  # (B, tiles, 3, S, S)
        features = self._encode(tiles.flatten(0, 1), self.attention)
        patches = features.patches.unflatten(0, tiles.shape[:2])  # (B, tiles, h, w, D)
        maps = self._maps(patches, text, shape, size)
        scores = self._scores(tiles, features.cls, text)
        if not self.tta:
            return [Localization(*result) for result in zip(maps, scores, strict=True)]
        readout = partial(_merged, shape=shape, smooth=False) if self.tiles else None
        adapted = adapt(patches, text, readout=readout, **vars(self.tta))
        better = self._maps(adapted, text, shape, size)
        return [Localization(*result) for result in zip(better, scores, maps, strict=True)]

    def _tiles(self, images: list | Tensor) -> tuple[Tensor, tuple[int, int]]:
        """What the network will see, (B, tiles, 3, S, S), and the shape (H, W) that it covers."""
        if not self.tiles:
            return preprocess(self.clip, images)[:, None], self.clip.image_size
        if isinstance(images, Tensor):
            return split_tiles(images), tuple(images.shape[-2:])
        pictures = [fit_short_side(read_image(one), self.clip.image_size[0]) for one in images]
        shapes = {picture.size[::-1] for picture in pictures}
        if len(shapes) > 1:
            raise ValueError(
                f"images of one sequence must have one shape; found {sorted(shapes)}: "
                "use TTA(optimizer_state='reset') or images of one shape"
            )
        squares = [tile for picture in pictures for tile in cut_tiles(picture)]
        return preprocess(self.clip, squares).unflatten(0, (-1, 2)), shapes.pop()

    def _encode(self, pixels: Tensor, attention: str) -> ImageFeatures:
        return encode_images(
            self.clip,
            pixels,
            attention=attention,
            first_block=self.first_block,
            batch_size=self.batch_size,
        )

    def _scores(self, tiles: Tensor, cls: Tensor, text: TextFeatures) -> list[float]:
        """The mean over its tiles or its views, for each image; class tokens (B * tiles, D).

        The first view is the image itself, whose class token is there already.
        """
        if self.views == 1:
            return image_scores(cls, text).view(tiles.shape[:2]).mean(dim=1).tolist()
        total = image_scores(cls, text)
        for start in range(0, len(tiles), self.batch_size):  # 21 more views of each in memory
            images = tiles[start : start + self.batch_size, 0].to(self.clip.device)
            views = augmented_views(images)[:, 1:]
            tokens = self._encode(views.flatten(0, 1), "qk").cls
            added = image_scores(tokens, text).unflatten(0, views.shape[:2]).sum(dim=1)
            total[start : start + self.batch_size] += added
        return (total / len(VIEW_NAMES)).tolist()

    def _maps(
        self, patches: Tensor, text: TextFeatures, shape: tuple[int, int], size: Size | None
    ) -> np.ndarray:
        """Maps of patches (B, tiles, h, w, D); `shape` is that of the pixels."""
        probabilities = anomalous_probability(patches, text)
        if self.tiles:
            maps = _merged(probabilities, shape=shape)
            maps = maps if size is None else enlarge(maps, size=size, smooth=False)
        else:
            maps = enlarge(probabilities[:, 0], size=shape if size is None else size)
        return maps.cpu().numpy()


def _merged(probabilities: Tensor, *, shape: tuple[int, int], smooth: bool = True) -> Tensor:
    """Enlarge the grids of two tiles (B, 2, h, w) and lay them out in maps (B, H, W)."""
    maps = enlarge(probabilities.flatten(0, 1), size=min(shape), smooth=smooth)
    return merge_tiles(maps.unflatten(0, probabilities.shape[:2]), size=shape)
