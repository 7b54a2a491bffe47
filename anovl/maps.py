"""From features and words to an anomaly map and an image score.

Everything here is done in float32, whatever comes in: without a temperature the published scores
of a whole data set span about 0.02, less than half precision can tell apart.
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


def anomalous_probability(
    features: Tensor, text: TextFeatures, *, temperature: float | None = None
) -> Tensor:
    """How probable "anomalous" is against "normal", for features (..., D): a tensor (...) in 0-1.

    The softmax of the cosines to the two prototypes. By default the cosines go in raw, as in the
    published code, so the answer lies between 0.12 and 0.88 and mostly near 0.5; CLIP's own
    softmax would divide them by `temperature` (about 0.01) first. The order of two features is
    the same either way.

    >>> text = TextFeatures([[1, 0], [0, 1]], [[1, 0], [0, 1]], [False, True])
    >>> anomalous_probability(torch.tensor([[2.0, 2.0], [0.0, 3.0]]), text)
    tensor([0.5000, 0.7311])

    Raises ValueError if the width is not that of the text, if a feature is NaN, infinite or zero
    (a zero vector points nowhere), or if the temperature is not above zero.
    Source: published code.
    """
    if temperature is not None and not temperature > 0:
        raise ValueError(f"temperature must be above 0, or None for raw cosines: {temperature!r}")
    return (cosines(features, text) / (temperature or 1)).softmax(dim=-1)[..., 1]


def cosines(features: Tensor, text: TextFeatures) -> Tensor:
    """Cosines of features (..., D) with the prototypes, normal and anomalous: (..., 2), float32.

    >>> text = TextFeatures([[1, 0], [0, 1]], [[1, 0], [0, 1]], [False, True])
    >>> cosines(torch.tensor([3.0, 4.0]), text)
    tensor([0.6000, 0.8000])

    Raises ValueError if the width is not that of the text, if a feature is NaN, infinite or zero.
    """
    check_features(features, text)
    prototypes = text.prototypes.to(features.device)
    with torch.autocast(features.device.type, enabled=False):
        return F.normalize(features.float(), dim=-1) @ prototypes.T


def smooth_and_upsample(probabilities: Tensor, *, size: Size) -> Tensor:
    """Turn probabilities on a grid (B, h, w) into maps (B, H, W) of the given size in pixels.

    A 3x3 mean, with the border repeated, then bilinear interpolation from corner to corner.

    >>> smooth_and_upsample(torch.tensor([[[0.0, 1.0]]]), size=(1, 3))
    tensor([[[0.3333, 0.5000, 0.6667]]])

    Raises ValueError for another shape, an impossible size, or values that are not finite.
    Source: published code.
    """
    bordered = F.pad(_grids(probabilities), (1, 1, 1, 1), mode="replicate")
    return upsample(F.avg_pool2d(bordered, kernel_size=3, stride=1), size=size)


def upsample(probabilities: Tensor, *, size: Size) -> Tensor:
    """Interpolate a grid (B, h, w) to (B, H, W), bilinear, from corner to corner.

    >>> upsample(torch.tensor([[[0.0, 1.0]]]), size=(1, 3))
    tensor([[[0.0000, 0.5000, 1.0000]]])

    Raises ValueError for another shape, an impossible size, or values that are not finite.
    """
    grids = _grids(probabilities)[:, None]
    return F.interpolate(grids, size=pair(size), mode="bilinear", align_corners=True)[:, 0]


def anomaly_maps(
    patches: Tensor,
    text: TextFeatures,
    *,
    size: Size,
    temperature: float | None = None,
) -> Tensor:
    """Anomaly maps (B, H, W), the probability of "anomalous" at every pixel.

    `patches` (B, h, w, D) are the embeddings of the patches; `size` is that of the map in
    pixels: one number for a square, or (H, W).

    >>> text = TextFeatures([[1, 0], [0, 1]], [[1, 0], [0, 1]], [False, True])
    >>> anomaly_maps(torch.ones(2, 3, 3, 2), text, size=24).shape
    torch.Size([2, 24, 24])

    Raises ValueError as `anomalous_probability` and `smooth_and_upsample` do.
    Source: published code.
    """
    if patches.ndim != 4:
        raise ValueError(f"patches must have shape (B, h, w, D); found {tuple(patches.shape)}")
    probabilities = anomalous_probability(patches, text, temperature=temperature)
    return smooth_and_upsample(probabilities, size=size)


def image_scores(cls: Tensor, text: TextFeatures, *, temperature: float | None = None) -> Tensor:
    """Scores (B,) of whole images: the probability of "anomalous" of their class tokens (B, D).

    >>> text = TextFeatures([[1, 0], [0, 1]], [[1, 0], [0, 1]], [False, True])
    >>> image_scores(torch.tensor([[1.0, 1.0]]), text)
    tensor([0.5000])

    Raises ValueError as `anomalous_probability` does. Source: published code.
    """
    if cls.ndim != 2:
        raise ValueError(f"class features must have shape (B, D); found {tuple(cls.shape)}")
    return anomalous_probability(cls, text, temperature=temperature)


def check_features(features: Tensor, text: TextFeatures) -> None:
    """Raise ValueError unless features (..., D) fit the text, are finite and none is zero."""
    width = text.prototypes.shape[1]
    if features.ndim == 0 or features.shape[-1] != width:
        raise ValueError(
            f"features must have the width of the text, (..., {width}); "
            f"found {tuple(features.shape)}: do both come from the same model?"
        )
    if not torch.isfinite(features).all():
        raise ValueError("features hold NaN or infinity: look at the image and the weights")
    if (features == 0).all(dim=-1).any():
        raise ValueError("features hold a zero vector, which has no direction and no cosine")


def pair(size: Size) -> tuple[int, int]:
    """A size in pixels as (height, width).

    >>> pair(240), pair((120, 160))
    ((240, 240), (120, 160))

    Raises ValueError unless both are whole numbers of at least 1.
    """
    sides = size if isinstance(size, Sequence) else (size, size)
    try:
        height, width = (operator.index(side) for side in sides)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(
            f"size must be a whole number of pixels or a pair (height, width); found {size!r}"
        )
    return height, width


def _grids(probabilities: Tensor) -> Tensor:
    if probabilities.ndim != 3 or 0 in probabilities.shape[1:]:
        raise ValueError(
            f"probabilities must have shape (B, h, w); found {tuple(probabilities.shape)}"
        )
    if not torch.isfinite(probabilities).all():
        raise ValueError("probabilities hold NaN or infinity")
    return probabilities.float()
