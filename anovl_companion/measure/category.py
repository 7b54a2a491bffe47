"""One category of a data set, decoded once: what every part of the shared run measures.

A part is a function from a `Category` to `Variant`s: one map for each picture, by each way that is
compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from anovl.attention import encode_pixels
from anovl.clip import Clip, preprocess
from anovl.data.dataset import Dataset
from anovl.evaluation.metrics import mask_at
from anovl.prompts import PromptEnsemble, TextFeatures, encode_prompts, prompt_ensemble
from anovl_companion.measure.feature_cache import EncodedImages

BATCH = 16


@dataclass(frozen=True, eq=False)
class Variant:
    """One of the ways that a part compares.

    `maps` (n, H, W) of the pictures of a category; `scores` (n,) of whole pictures, None where the
    way has none; `each` has further values of each anomalous picture; `facts` has numbers of the
    whole category.
    """

    name: str
    maps: np.ndarray
    scores: np.ndarray | None = None
    each: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Category:
    """The pictures of a category, ready for a model.

    `pixels` (n, 3, S, S) are preprocessed, `labels` (n,) are 0 or 1, `truth` (n, S, S) bool marks
    defects. `encoded` keeps what it has encoded.
    """

    clip: Clip
    name: str
    words: PromptEnsemble
    pixels: Tensor
    labels: np.ndarray
    truth: np.ndarray
    _features: dict[tuple[str, int], EncodedImages] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, clip: Clip, data: Dataset, name: str) -> Category:
        """Read a category. Raises ValueError for pictures without labels or masks."""
        samples, words = list(data.samples(name)), data.prompts(name)
        if any(sample.label is None or sample.mask is None for sample in samples):
            raise ValueError(f"{name!r} has pictures without labels or masks: nothing to measure")
        return cls(
            clip,
            name,
            prompt_ensemble(words) if isinstance(words, str) else words,
            preprocess(clip, [sample.image for sample in samples]),
            np.array([sample.label for sample in samples]),
            np.stack([mask_at(sample.mask, clip.image_size) for sample in samples]),
        )

    @property
    def text(self) -> TextFeatures:
        """The published words of the category."""
        return encode_prompts(self.clip, self.words)

    def encoded(self, attention: str = "vv", first_block: int = 1) -> EncodedImages:
        """The pictures as class and patch tokens by one kind of attention, encoded once."""
        key = attention, first_block
        if key not in self._features:
            path = {"attention": attention, "first_block": first_block, "batch_size": BATCH}
            found = encode_pixels(self.clip, self.pixels, **path)
            self._features[key] = EncodedImages(found.cls, found.patches, self.labels, self.truth)
        return self._features[key]

    def coverage(self) -> np.ndarray:
        """How much of each patch the defect covers, 0-1: (n, h, w)."""
        height, width = self.clip.grid
        n, rows, columns = self.truth.shape
        blocks = self.truth.reshape(n, height, rows // height, width, columns // width)
        return blocks.mean(axis=(2, 4))
