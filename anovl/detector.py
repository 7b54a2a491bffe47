"""AnoVL as one object: images and a class name go in, maps and scores come out.

`AnoVL.localize` is the whole method, in the order of an image's way: pixels, features, scores and
maps by the words and, if asked for, test-time adaptation. `Detector` is what every method shares.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from torch import Tensor

from anovl.adapt import TTA, adapt
from anovl.attention import (
    Attention,
    ImageFeatures,
    check_attention,
    encode_pixels,
)
from anovl.clip import Clip, Images, as_list, check_pixels, normalise, preprocess
from anovl.images import read_images
from anovl.maps import Size, anomalous_probability, enlarge, image_scores
from anovl.prompts import (
    Level,
    PromptEnsemble,
    Surface,
    TextFeatures,
    check_level,
    encode_prompts,
    prompt_ensemble,
)
from anovl.protocols import VIEW_NAMES, augmented_views, fit_short_side, merge_grids, split_tiles

Words: TypeAlias = str | PromptEnsemble


@dataclass(frozen=True, eq=False)
class Localization:
    """What a detector says of one image; higher is more anomalous.

    `map` (H, W) float32 and `score`, the same for the image as a whole, are probabilities in 0-1
    for AnoVL; `map_before_tta` (H, W), or None where nothing was adapted.
    """

    map: np.ndarray
    score: float
    map_before_tta: np.ndarray | None = None


class Detector(ABC):
    """What every method has: a name in tables, `localize` for many images, a call for one.

    `whole_category` says that what it tells of an image depends on the others of the call, so that
    a category must come in one.
    """

    name: str
    whole_category: ClassVar[bool] = False

    @abstractmethod
    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        """Localize what is anomalous in each image of one class.

        `images`: PIL images, paths, or a preprocessed tensor (B, 3, H, W). `class_name`: any
        words for the thing, or a `PromptEnsemble`. `size`: that of the maps, one number or
        (H, W); None for the size at which the method looks.
        """

    def prepare(self, class_name: Words) -> None:  # noqa: B027 (most have nothing to do)
        """Do what has to be done once for a class name, before its first image."""

    def with_normal(self, normal: Callable[[], Iterable]) -> Detector:
        """This method, told how to get normal pictures of the class; most need none."""
        return self

    def __call__(
        self, image: Images, class_name: Words, *, size: Size | None = None
    ) -> Localization:
        """Localize what is anomalous in one image. Raises ValueError for more than one."""
        results = self.localize(image, class_name, size=size)
        if len(results) != 1:
            raise ValueError(f"expected one image; found {len(results)}: use localize(images, …)")
        return results[0]


@dataclass(frozen=True)
class ClipDetector(Detector):
    """A method that compares what a CLIP sees with words: what all of these have in common.

    - `level`, `surface`: which prompts are made of a class name, as in `prompt_ensemble`.
    - `batch_size`: how many images go through the network together.
    - `encode`: what turns (clip, ensemble) into `TextFeatures`; one that caches may stand in.

    Raises ValueError for options that cannot be.
    """

    clip: Clip
    _: KW_ONLY
    level: Level = "domains"
    surface: Surface | None = None
    batch_size: int = 16
    encode: Callable[[Clip, PromptEnsemble], TextFeatures] = field(
        default=encode_prompts, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_level(self.level, self.surface)
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; found {self.batch_size!r}")

    def prepare(self, class_name: Words) -> None:
        self.text(class_name)

    def text(self, class_name: Words) -> TextFeatures:
        """The embedded prompts of a class name, made once for all detectors on this `Clip`."""
        prompts = class_name
        if not isinstance(class_name, PromptEnsemble):
            prompts = prompt_ensemble(class_name, level=self.level, surface=self.surface)
        return self.encode(self.clip, prompts)


@dataclass(frozen=True)
class AnoVL(ClipDetector):
    """Zero-shot anomaly detection and localization by words and V-V attention, on any CLIP.

    The map is as published with the defaults. Published too, but not the default: the image score
    of MVTec AD (`views=22`), the protocol of VisA (`tiles=True`), and test-time adaptation in
    which an image depends on those before it (`tta=TTA(reset_optimizer=False)`).

    - `tta`: False, True for the options of `TTA()`, or a `TTA` of your own.
    - `attention`, `first_block`: the path of the patches, as in `encode_images`; "qk"
      without adaptation is plain CLIP.
    - `views`: 1, or 22 for an image score that is a mean over views.
    - `tiles`: the short side as the model wants it, two square tiles at the ends of the long one,
      and, with `tta=True`, the linear adapter. A map is then as large as the resized image.
    - `level`, `surface`, `batch_size`, `encode`: as in `ClipDetector`.

    >>> import open_clip
    >>> from PIL import Image
    >>> vision = dict(image_size=32, patch_size=16, width=64, layers=1)
    >>> model = open_clip.CLIP(8, vision, dict(width=64, heads=1, layers=1))
    >>> detector = AnoVL(Clip(model, open_clip.tokenize, image_size=32), level="states", tta=True)
    >>> result = detector(Image.new("RGB", (50, 40), "teal"), "metal nut")
    >>> detector.name, result.map.shape
    ('anovl-tta', (32, 32))

    Raises ValueError for options that do not exist or exclude each other.
    Source: published code.
    """

    _: KW_ONLY
    tta: bool | TTA = False
    attention: Attention = "vv"
    first_block: int = 1
    views: Literal[1, 22] = 1
    tiles: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_attention(self.clip, self.attention, self.first_block)
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
        """True with `reset_optimizer=False`: the images of a call are then one sequence."""
        return bool(self.tta) and not self.tta.reset_optimizer

    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        """Localize what is anomalous in each image, in batches; see `Detector.localize`.

        Images are independent, except with `TTA(reset_optimizer=False)`, where those of a call
        are one sequence. Without `size`, maps are as large as the pixels that the network saw
        (published).
        """
        results, text = [], self.text(class_name)
        for batch in self._batches(as_list(images)):
            crops, shape = self._crops(batch)  # (B, T, 3, S, S), T = 1, or 2 tiles of (H, W)
            features = self._encode(crops.flatten(0, 1), self.attention)
            scores = self._scores(crops, features.cls, text)
            patches = features.patches.unflatten(0, crops.shape[:2])  # (B, T, h, w, D)
            maps = [self._maps(patches, text, shape, size)]
            if self.tta:
                readout = partial(merge_grids, size=shape, smooth=False) if self.tiles else None
                adapted = adapt(patches, text, readout=readout, **vars(self.tta))
                maps.insert(0, self._maps(adapted, text, shape, size))
            results += map(Localization, maps[0], scores, *maps[1:])
        return results

    def _batches(self, images: list | Tensor) -> Iterator[list | Tensor]:
        together = 1 if self.tiles else self.batch_size  # tiled images may differ in shape
        together = len(images) if self.whole_category else together
        for start in range(0, len(images), together or 1):
            yield images[start : start + together]

    def _crops(self, images: list | Tensor) -> tuple[Tensor, tuple[int, int]]:
        """What the network will see, (B, T, 3, S, S), and the shape (H, W) that it covers."""
        if not self.tiles:
            return preprocess(self.clip, images)[:, None], self.clip.image_size
        if not isinstance(images, Tensor):
            pictures = [fit_short_side(one, self.clip.image_size[0]) for one in read_images(images)]
            shapes = {picture.size[::-1] for picture in pictures}
            if len(shapes) > 1:
                raise ValueError(
                    f"images of one sequence must have one shape; found {sorted(shapes)}: "
                    "use TTA(reset_optimizer=True) or images of one shape"
                )
            images = normalise(self.clip, pictures)  # (B, 3, H, W)
        tiles = split_tiles(images)
        check_pixels(self.clip, tiles.flatten(0, 1))
        return tiles, tuple(images.shape[-2:])

    def _encode(self, pixels: Tensor, attention: Attention) -> ImageFeatures:
        return encode_pixels(
            self.clip,
            pixels,
            attention=attention,
            first_block=self.first_block,
            batch_size=self.batch_size,
        )

    def _scores(self, crops: Tensor, cls: Tensor, text: TextFeatures) -> list[float]:
        """The mean over its crops or its views, for each image; class tokens (B * T, D).

        The first view is the image itself, whose class token is there already.
        """
        scores = image_scores(cls, text)
        if self.views == 1:
            return scores.view(crops.shape[:2]).mean(dim=1).tolist()
        for start in range(0, len(crops), self.batch_size):  # 21 more views of each in memory
            batch = slice(start, start + self.batch_size)
            views = augmented_views(crops[batch, 0].to(self.clip.device))[:, 1:]
            tokens = self._encode(views.flatten(0, 1), "qk").cls  # (B * 21, D)
            scores[batch] += image_scores(tokens, text).unflatten(0, views.shape[:2]).sum(dim=1)
        return (scores / len(VIEW_NAMES)).tolist()

    def _maps(
        self, patches: Tensor, text: TextFeatures, shape: tuple[int, int], size: Size | None
    ) -> np.ndarray:
        """Maps (B, H, W) of patches (B, T, h, w, D); `shape` is that of the pixels."""
        probabilities = anomalous_probability(patches, text)  # (B, T, h, w)
        if not self.tiles:
            maps = enlarge(probabilities[:, 0], size=shape if size is None else size)
        else:
            maps = merge_grids(probabilities, size=shape)
            maps = maps if size is None else enlarge(maps, size=size, smooth=False)
        return maps.cpu().numpy()
