"""Adapt the patches of images that were encoded once, and make maps of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from torch import Tensor

from anovl.adapt import adapt
from anovl.maps import anomaly_maps
from anovl.prompts import TextFeatures
from anovl_companion.measure.feature_cache import EncodedImages

Encoded: TypeAlias = Mapping[str, EncodedImages]
Texts: TypeAlias = Mapping[str, TextFeatures]


def in_batches(
    images: EncodedImages,
    text: TextFeatures,
    *,
    start: Literal["random", "zero"] = "random",
    batch_size: int = 8,
    **options: Any,
) -> Iterator[Any]:
    """Yield what `adapt` returns with these options, batch after batch of a category's images.

    `start="zero"` begins with an adapter that answers nothing, so that the first map is that
    without adaptation; "random" is published. With `reset_optimizer=False`, the whole category is
    one sequence. Raises ValueError for another start, and as `adapt` does.
    """
    if start not in ("random", "zero"):
        raise ValueError(f"start must be 'random' or 'zero'; found {start!r}")
    reset = options.get("reset_optimizer", True)
    for patches in images.patches.split(batch_size if reset else len(images.patches)):
        if start == "zero":
            options["init"] = silent(patches, text, adapter=options.get("adapter", "text"))
        yield adapt(patches, text, **options)


def silent(patches: Tensor, text: TextFeatures, *, adapter: str = "text") -> tuple[Tensor, Tensor]:
    """Weights (B, P, D) and biases (B, P) of zero: an adapter that halves x and turns nothing.

    >>> text = TextFeatures([[1, 0], [0, 1]], [[1, 0], [0, 1]], [False, True])
    >>> x = torch.tensor([[[[3.0, 4.0]]]])
    >>> adapt(x, text, steps=0, init=silent(x, text))
    tensor([[[[1.5000, 2.0000]]]])
    """
    count, width = len(patches), patches.shape[-1]
    outputs = len(text.prompts) if adapter == "text" else width
    return patches.new_zeros(count, outputs, width), patches.new_zeros(count, outputs)


def maps_of(images: EncodedImages, text: TextFeatures) -> np.ndarray:
    """Anomaly maps (n, H, W) at the size of the truth.

    Raises ValueError for images without masks.
    """
    if images.truth is None:
        raise ValueError("images without masks: nothing can be measured on their maps")
    return anomaly_maps(images.patches, text, size=images.truth.shape[1:]).cpu().numpy()
