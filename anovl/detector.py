"""AnoVL as one object: images and a class name go in, maps and scores come out.

`AnoVL.localize` is the whole method: pixels, features, scores and maps by the words and, on
request, test-time adaptation. `Detector` is the interface of all methods, `ClipDetector` the common
part of methods with a CLIP.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from anovl.adapt import TTA, adapt
from anovl.attention import Attention, check_attention, encode_pixels
from anovl.clip import Clip, Images, as_list, batches, preprocess
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
from anovl.protocols import VIEW_NAMES, encode_other_views, merge_grids, tile_pixels

Words: TypeAlias = str | PromptEnsemble


@dataclass(frozen=True, eq=False)
class Localization:
    """A detector's map (H, W) and score of one image; higher is more anomalous.

    AnoVL's are probabilities, 0-1. `map_before_tta` is None without adaptation.
    """

    map: np.ndarray
    score: float
    map_before_tta: np.ndarray | None = None


class Detector(ABC):
    """The interface of all methods: a name, `localize` for many images, a call for one.

    `whole_category`: results depend on the other images; pass a whole category.
    """

    name: str
    whole_category: ClassVar[bool] = False

    @abstractmethod
    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        """Localize what is anomalous in each image of one class.

        `images`: PIL images, paths, or a preprocessed tensor (B, 3, H, W). `class_name`: words for
        the object, or a `PromptEnsemble`. `size` of the maps: one number, (H, W), or None for the
        size of the method's own pixels.
        """

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
    """A method that compares the features of a CLIP with words.

    - `level`, `surface`: the prompts of a class name, as in `prompt_ensemble`.
    - `batch_size`: images in one pass of the network on a GPU.
    - `encode`: turns (clip, ensemble) into `TextFeatures`, perhaps from a cache.

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

    def __post_init__(self) -> None:
        check_level(self.level, self.surface)
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; found {self.batch_size!r}")

    def batches(self, images: list | Tensor) -> list[list | Tensor]:
        """Split images as the network takes them; a sequence is one batch."""
        is_sequence = self.whole_category and len(images)
        return [images] if is_sequence else batches(self.clip, images, self.batch_size)

    def text(self, class_name: Words) -> TextFeatures:
        """Encode the prompts of a class name, once for all detectors on this `Clip`."""
        prompts = class_name
        if not isinstance(class_name, PromptEnsemble):
            prompts = prompt_ensemble(class_name, level=self.level, surface=self.surface)
        return self.encode(self.clip, prompts)


@dataclass(frozen=True, eq=False)
class CropFeatures:
    """Features of B images before any words.

    `cls` (B, V, D): class tokens of crops or views. `patches` (B, T, h, w, D): patch tokens of
    T = 1 or 2 crops. `shape`: the pixels (H, W) that the crops cover.
    """

    cls: Tensor
    patches: Tensor
    shape: tuple[int, int]


@dataclass(frozen=True)
class AnoVL(ClipDetector):
    """Zero-shot anomaly localization by words and V-V attention.

    With the defaults the map is as published. Published, but not the default: the image score of
    MVTec AD (`views=22`), the protocol of VisA (`tiles=True`), and test-time adaptation that
    depends on the order of images (`tta=TTA(reset_optimizer=False)`).

    - `tta`: False, True for `TTA()`, or your own `TTA`.
    - `attention`, `first_block`: the path of the patches, as in `encode_images`; "qk" without
      adaptation is plain CLIP.
    - `views`: 1, or 22 for an image score averaged over views.
    - `tiles`: resize the short side to the model's, and use two square tiles at the ends of the
      long side; with `tta=True`, the adapter is linear. Maps have the resized image's size.

    >>> from PIL import Image
    >>> detector = AnoVL(toy_clip, level="states", tta=True)
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
        """Localize what is anomalous in each image; see `Detector.localize`, `whole_category`."""
        images, text, results = as_list(images), self.text(class_name), []
        for batch in self.batches(images):
            results += self.compare(self.features(batch), text, size=size)
        return results[: len(images)]

    def batches(self, images: list | Tensor) -> list[list | Tensor]:
        """Return tiled images one by one: their shapes may differ."""
        if not self.tiles or self.whole_category:
            return super().batches(images)
        return [images[i : i + 1] for i in range(len(images))]

    def features(self, images: list | Tensor) -> CropFeatures:
        """Encode one batch of images."""
        if self.tiles:
            crops, shape = tile_pixels(self.clip, images)  # (B, 2, 3, S, S) and (H, W)
        else:
            crops, shape = preprocess(self.clip, images)[:, None], self.clip.image_size
        how = {"attention": self.attention, "first_block": self.first_block}
        found = encode_pixels(self.clip, crops.flatten(0, 1), batch_size=self.batch_size, **how)
        cls, patches = (part.unflatten(0, crops.shape[:2]) for part in (found.cls, found.patches))
        if self.views > 1:
            others = encode_other_views(self.clip, crops[:, 0], self.batch_size)
            cls = torch.cat([cls, others], dim=1)  # (B, 22, D)
        return CropFeatures(cls, patches, shape)

    def compare(
        self, features: CropFeatures, text: TextFeatures, *, size: Size | None = None
    ) -> list[Localization]:
        """Compare features with words: a map, a score and, if asked for, the adapted map.

        A score is the mean over the crops of an image, or over its views.
        """
        shape, scores = features.shape, image_scores(features.cls.flatten(0, 1), text)  # (B * V,)
        scores = scores.unflatten(0, features.cls.shape[:2]).mean(dim=1).tolist()

        def maps_of(patches: Tensor) -> np.ndarray:  # (B, T, h, w, D) → (B, H, W)
            grids = anomalous_probability(patches, text)  # (B, T, h, w)
            grids = merge_grids(grids, size=shape) if self.tiles else grids[:, 0]  # (B, h, w)
            maps = enlarge(grids, size=shape if size is None else size, smooth=not self.tiles)
            return maps.cpu().numpy()

        maps, before = maps_of(features.patches), [None] * len(scores)
        if self.tta:
            readout = partial(merge_grids, size=shape, smooth=False) if self.tiles else None
            adapted = adapt(features.patches, text, readout=readout, **vars(self.tta))
            maps, before = maps_of(adapted), maps
        return list(map(Localization, maps, scores, before))
