"""Features and words become an anomaly map and an image score (the paper's localization).

The softmax of a patch token's cosines with two text prototypes is its probability of "anomalous".
On the grid of patches this is already a map. All is float32: the published scores of a data set
span about 0.02 around 0.5, where float16 has about 60 values and bfloat16 9: too few for ranks.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from anovl.prompts import TextFeatures

Size: TypeAlias = int | tuple[int, int]


def anomaly_maps(
    patches: Tensor, text: TextFeatures, *, size: Size, temperature: float = 1.0
) -> Tensor:
    """Compute anomaly maps (B, H, W): the probability of "anomalous" at every pixel, 0-1.

    `patches` (B, h, w, D) are patch tokens. `size` is one number for a square map, or (H, W).

    >>> anomaly_maps(torch.ones(2, 3, 3, 2), toy_text, size=24).shape
    torch.Size([2, 24, 24])

    Raises ValueError for wrong shapes, NaN, infinity, or a zero vector.
    Source: published code.
    """
    if patches.ndim != 4:
        raise ValueError(f"patches must have shape (B, h, w, D); found {tuple(patches.shape)}")
    probabilities = anomalous_probability(patches, text, temperature=temperature)  # (B, h, w)
    return enlarge(probabilities, size=size)


def image_scores(cls: Tensor, text: TextFeatures, *, temperature: float = 1.0) -> Tensor:
    """Score whole images (B,), 0-1: higher is more anomalous (scikit-learn has it reversed).

    The score is the probability of "anomalous" of a class token; `cls` is (B, D).

    >>> image_scores(torch.tensor([[1.0, 1.0]]), toy_text)
    tensor([0.5000])

    Raises ValueError as `anomaly_maps` does. Source: published code.
    """
    if cls.ndim != 2:
        raise ValueError(f"class tokens must have shape (B, D); found {tuple(cls.shape)}")
    return anomalous_probability(cls, text, temperature=temperature)


def anomalous_probability(
    features: Tensor, text: TextFeatures, *, temperature: float = 1.0
) -> Tensor:
    """Turn features (..., D) into probabilities of "anomalous" (...), without CLIP's `logit_scale`.

        p = exp(c₁ / T) / (exp(c₀ / T) + exp(c₁ / T))        c = cosines with the two prototypes

    Published is T = 1: cosines differ by 2 at most, so p lies from 0.12 to 0.88, mostly near 0.5.
    CLIP's own softmax has T = 0.01. T does not change the order of features.

    >>> anomalous_probability(torch.tensor([[2.0, 2.0], [0.0, 3.0]]), toy_text)
    tensor([0.5000, 0.7311])

    Raises ValueError as `check_features` does, or if the temperature is not above 0.
    Source: published code.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0; found {temperature!r}")
    check_features(features, text)
    return (cosines(features, text) / temperature).softmax(dim=-1)[..., 1]


def cosines(features: Tensor, text: TextFeatures) -> Tensor:
    """Compute the cosines (..., 2) of checked features (..., D) with both prototypes, float32.

    >>> cosines(torch.tensor([3.0, 4.0]), toy_text)
    tensor([0.6000, 0.8000])
    """
    prototypes = text.prototypes.to(features.device)  # (2, D), length 1
    with torch.autocast(features.device.type, enabled=False):  # float32 in any mode of the caller
        return F.normalize(features.float(), dim=-1) @ prototypes.T


def enlarge(grids: Tensor, *, size: Size, smooth: bool = True) -> Tensor:
    """Enlarge values on a grid of patches (B, h, w) to pixels (B, H, W).

    First a 3x3 mean with repeated border, unless `smooth=False`; then bilinear interpolation with
    `align_corners=True`.

    >>> enlarge(torch.tensor([[[0.0, 1.0]]]), size=(1, 3))
    tensor([[[0.3333, 0.5000, 0.6667]]])
    >>> enlarge(torch.tensor([[[0.0, 1.0]]]), size=(1, 3), smooth=False)
    tensor([[[0.0000, 0.5000, 1.0000]]])

    Raises ValueError for another shape, an impossible size, NaN or infinity.
    Source: published code.
    """
    if grids.ndim != 3 or 0 in grids.shape[1:]:
        raise ValueError(f"values on a grid must have shape (B, h, w); found {tuple(grids.shape)}")
    if not torch.isfinite(grids).all():
        raise ValueError("values on a grid hold NaN or infinity")
    grids = grids.float()[:, None]  # (B, 1, h, w)
    if smooth:
        bordered = F.pad(grids, (1, 1, 1, 1), mode="replicate")  # (B, 1, h + 2, w + 2)
        grids = F.avg_pool2d(bordered, kernel_size=3, stride=1)  # (B, 1, h, w)
    return F.interpolate(grids, size=as_size(size), mode="bilinear", align_corners=True)[:, 0]


def check_features(features: Tensor, text: TextFeatures) -> None:
    """Raise ValueError unless features (..., D) fit the text, are finite, and none is zero."""
    width = text.prototypes.shape[1]
    if features.ndim == 0 or features.shape[-1] != width:
        raise ValueError(
            f"features must have the width of the text, (..., {width}); "
            f"found {tuple(features.shape)}: are they of the same model?"
        )
    if not torch.isfinite(features).all():
        raise ValueError("features hold NaN or infinity: check the image and the weights")
    if (features == 0).all(dim=-1).any():
        raise ValueError("features hold a zero vector, which has no cosine")


def as_size(size: Size) -> tuple[int, int]:
    """Turn a size in pixels into (height, width).

    >>> as_size(240), as_size((120, 160))
    ((240, 240), (120, 160))

    Raises ValueError unless both are whole numbers of at least 1.
    """
    sides = size if isinstance(size, Sequence) else (size, size)
    try:
        height, width = (operator.index(side) for side in sides)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(f"size must be pixels, at least 1, or a pair (H, W); found {size!r}")
    return height, width
