"""AnoVL as one object: images and a class name go in, maps and scores come out.

`AnoVL.localize` is the whole method, in the order of an image's way: pixels, features, scores and
maps by the words and, if asked for, test-time adaptation. `Detector` is what all methods share,
`ClipDetector` what those share that compare a CLIP's features with words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from anovl.adapt import TTA, adapt
from anovl.attention import Attention, check_attention, encode_pixels
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
LooksAt: TypeAlias = tuple[int, int] | int | None


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

    The rest is for programs that run many methods on many images, such as `evaluate`.
    `whole_category` says that what it tells of an image depends on the others of the call, so that
    a category must come in one. `looks_at` is the size to which the method resizes a picture, so
    that it may be done before, once for several methods: (H, W), a number for the short side, or
    None for a method that resizes nothing.
    """

    name: str
    whole_category: ClassVar[bool] = False
    looks_at: ClassVar[LooksAt] = None

    @abstractmethod
    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        """Localize what is anomalous in each image of one class.

        `images`: PIL images, paths, or a preprocessed tensor (B, 3, H, W). `class_name`: any
        words for the thing, or a `PromptEnsemble`. `size`: that of the maps, one number or
        (H, W); None for the size at which the method looks.
        """

    def __call__(
        self, image: Images, class_name: Words, *, size: Size | None = None
    ) -> Localization:
        """Localize what is anomalous in one image. Raises ValueError for more than one."""
        results = self.localize(image, class_name, size=size)
        if len(results) != 1:
            raise ValueError(f"expected one image; found {len(results)}: use localize(images, …)")
        return results[0]

    def prepare(self, class_name: Words) -> None:  # noqa: B027 (most have nothing to do)
        """Do what has to be done once for a class name, before its first image."""

    def with_normal(self, normal: Callable[[], Iterable]) -> Detector:
        """This method, told how to get normal pictures of the class; most need none."""
        return self

    def look_ahead(self, images: Images) -> None:  # noqa: B027
        """Do what needs no network for images that `localize` will get next; in another thread."""


def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function, and remember nothing."""
    return function(*arguments, **options)


@dataclass(frozen=True)
class ClipDetector(Detector):
    """A method that compares what a CLIP sees with words: what all of these have in common.

    - `level`, `surface`: which prompts are made of a class name, as in `prompt_ensemble`.
    - `batch_size`: how many images go through the network together.
    - `encode`: what turns (clip, ensemble) into `TextFeatures`; one that caches may stand in.
    - `compute`: what calls functions of images, `compute(function, *arguments)`; one that remembers
      may stand in, so that methods on the same images share what they have in common.

    Raises ValueError for an unknown option, or a value out of range.
    """

    clip: Clip
    _: KW_ONLY
    level: Level = "domains"
    surface: Surface | None = None
    batch_size: int = 16
    encode: Callable[[Clip, PromptEnsemble], TextFeatures] = field(
        default=encode_prompts, repr=False, compare=False
    )
    compute: Callable[..., Any] = field(default=call, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_level(self.level, self.surface)
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; found {self.batch_size!r}")

    @property
    def looks_at(self) -> LooksAt:
        return self.clip.image_size

    def prepare(self, class_name: Words) -> None:
        self.text(class_name)

    def look_ahead(self, images: Images) -> None:
        for batch in self.batches(as_list(images)):
            self.compute(pixels_of, self.clip, batch)

    def batches(self, images: list | Tensor) -> Iterator[list | Tensor]:
        """Images that go through the network together."""
        for start in range(0, len(images), self.batch_size):
            yield images[start : start + self.batch_size]

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
    - `tiles`: the image is resized so that its short side is the model's, and two square tiles at
      the ends of its long side are looked at; with `tta=True`, the adapter is then the linear one.
      A map is as large as the resized image.
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

    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        """Localize what is anomalous in each image, in batches; see `Detector.localize`.

        Images are independent, except with `TTA(reset_optimizer=False)`, where those of a call
        are one sequence. Without `size`, maps are as large as the pixels that the network saw
        (published).
        """
        text, results = self.text(class_name), []
        how = dict(
            attention=self.attention, first_block=self.first_block, batch_size=self.batch_size
        )
        for batch in self.batches(as_list(images)):
            # crops (B, T, 3, S, S): T = 1, the image itself, or its two tiles; shape = (H, W)
            crops, shape = self.compute(crops_of, self.clip, batch, tiles=self.tiles)
            features = self.compute(encode_pixels, self.clip, crops.flatten(0, 1), **how)
            scores = self._scores(crops, features.cls, text)
            patches = features.patches.unflatten(0, crops.shape[:2])  # (B, T, h, w, D)
            maps, before = self._maps(patches, text, shape, size), [None] * len(crops)
            if self.tta:
                readout = partial(merge_grids, size=shape, smooth=False) if self.tiles else None
                adapted = adapt(patches, text, readout=readout, **vars(self.tta))
                maps, before = self._maps(adapted, text, shape, size), maps
            results += map(Localization, maps, scores, before)
        return results

    def _scores(self, crops: Tensor, cls: Tensor, text: TextFeatures) -> list[float]:
        """Scores of B images, from class tokens (B * T, D): each a mean over crops, or over views.

        The first view is the image itself, whose class token is there already.
        """
        scores = image_scores(cls, text)
        if self.views == 1:
            return scores.view(crops.shape[:2]).mean(dim=1).tolist()
        others = self.compute(
            score_other_views, self.clip, crops[:, 0], text, batch_size=self.batch_size
        )
        return ((scores + others) / len(VIEW_NAMES)).tolist()

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

    @property
    def whole_category(self) -> bool:
        """True with `reset_optimizer=False`: the images of a call are then one sequence."""
        return bool(self.tta) and not self.tta.reset_optimizer

    @property
    def looks_at(self) -> LooksAt:
        return self.clip.image_size[0] if self.tiles else self.clip.image_size

    def look_ahead(self, images: Images) -> None:
        for batch in self.batches(as_list(images)):
            self.compute(crops_of, self.clip, batch, tiles=self.tiles)

    def batches(self, images: list | Tensor) -> Iterator[list | Tensor]:
        """One by one with tiles, which may differ in shape; all of them if they are a sequence."""
        together = 1 if self.tiles else self.batch_size
        together = len(images) if self.whole_category else together
        for start in range(0, len(images), together or 1):
            yield images[start : start + together]


def crops_of(clip: Clip, images: list | Tensor, *, tiles: bool) -> tuple[Tensor, tuple[int, int]]:
    """What the network will see, (B, T, 3, S, S), T = 1 or 2, and the shape (H, W) it covers."""
    if not tiles:
        return pixels_of(clip, images)[:, None], clip.image_size
    if not isinstance(images, Tensor):
        side, interpolation = clip.image_size[0], clip.interpolation
        pictures = [fit_short_side(one, side, interpolation) for one in read_images(images)]
        shapes = {picture.size[::-1] for picture in pictures}
        if len(shapes) > 1:
            raise ValueError(
                f"images of one sequence must have one shape; found {sorted(shapes)}: "
                "use TTA(reset_optimizer=True) or images of one shape"
            )
        images = normalise(clip, pictures)  # (B, 3, H, W)
    squares = split_tiles(images)
    check_pixels(clip, squares.flatten(0, 1))
    return to_device(clip, squares), tuple(images.shape[-2:])


def pixels_of(clip: Clip, images: Images) -> Tensor:
    """`preprocess`, and the way to the network."""
    return to_device(clip, preprocess(clip, images))


def to_device(clip: Clip, pixels: Tensor) -> Tensor:
    """Pixels where the model is; a GPU fetches them from pinned memory while it computes."""
    if clip.device.type != "cuda" or pixels.is_cuda:
        return pixels
    stream = torch.cuda.Stream(clip.device)
    with torch.cuda.stream(stream):
        moved = pixels.pin_memory().to(clip.device, non_blocking=True)
    stream.synchronize()
    moved.record_stream(torch.cuda.default_stream(clip.device))
    return moved


def score_other_views(clip: Clip, pixels: Tensor, text: TextFeatures, *, batch_size: int) -> Tensor:
    """The sum (B,) of the image scores of the other 21 views of each image (B, 3, S, S)."""
    sums = []
    for images in pixels.split(batch_size):  # 21 more views of each in memory
        views = augmented_views(images.to(clip.device))[:, 1:]
        tokens = encode_pixels(clip, views.flatten(0, 1), attention="qk", batch_size=batch_size).cls
        sums.append(image_scores(tokens, text).unflatten(0, views.shape[:2]).sum(dim=1))
    return torch.cat(sums)
