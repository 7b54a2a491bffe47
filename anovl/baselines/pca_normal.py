"""PCA of the patches of normal pictures: the residual of a patch is its anomaly value.

Not zero-shot: it needs normal pictures of the same thing, and uses no words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from anovl._shared.messages import counted
from anovl.attention import Attention, encode_images
from anovl.clip import Clip, Images, as_list, batches
from anovl.detector import Detector, Localization, Words
from anovl.maps import Size, enlarge

KNOWN = (
    "pca-normal with the pocket model had image AUROC 64 on solar cells of ELPV (monocrystalline; "
    "54 to 80, by which 12 normal pictures it was fitted to) and 67 (polycrystalline; 63 to 74). "
    "50 is chance"
)
"""Means and ranges over 20 random choices of the 12 pictures, in percent, on the cells of ELPV that
are certainly normal or defective: 588 and 313, 920 and 402."""


@dataclass(frozen=True)
class PcaNormal(Detector):
    """The distance of each patch from the subspace of the patches of normal pictures.

    After SubspaceAD (Lendering et al., arXiv 2602.23013): PCA of the patches of a few normal
    pictures, squared residual of each patch, image score = mean of the highest 1 % of them. Taken:
    these, and the share of variance that the components explain. Not taken: DINOv2 (here CLIP's
    patches, scaled to length 1), turned copies of the pictures, Gaussian blur (here the 3x3 mean
    of all maps of this package).

    - `normal`: normal pictures of the thing. Without them `evaluate` uses the normal pictures of
      each category of the data set.
    - `pictures`: how many of them are used; the number is part of the method's name in tables.
    - `attention`: which patches, "vv" or "qk", as in `encode_images`.
    - `explained`: the components explain this share of the variance of normal patches.

    A map holds squared distances from 0 on, not probabilities. The class name is ignored.

    >>> method = PcaNormal(toy_clip, normal=torch.randn(2, 3, 32, 32), pictures=2)
    >>> method.name, method(torch.zeros(1, 3, 32, 32), "nut").map.shape
    ('pca-normal (not zero-shot: 2 normal pictures)', (32, 32))

    Raises ValueError for numbers out of range and, when it is fitted, for fewer normal pictures
    than `pictures`.
    """

    clip: Clip
    _: KW_ONLY
    normal: Images | None = None
    pictures: int = 12
    attention: Attention = "vv"
    explained: float = 0.99
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.pictures < 1 or not 0 < self.explained < 1:
            raise ValueError(
                "expected pictures of at least 1 and explained between 0 and 1; "
                f"found {self.pictures!r} and {self.explained!r}"
            )

    @property
    def name(self) -> str:
        """The name in tables; it says that the method is not zero-shot, and why."""
        which = "" if self.attention == "vv" else f"-{self.attention}"
        return f"pca-normal{which} (not zero-shot: {counted(self.pictures, 'normal picture')})"

    def fitted_to_half(self, normal: Sequence[Any]) -> tuple[PcaNormal, Sequence[Any]]:
        """Fit to half of these pictures, at most `pictures`; return the others, to set a level.

        The pictures of the fit cannot set a level: their residuals are too small.
        """
        count = min(self.pictures, len(normal) // 2)
        return replace(self, normal=normal[:count], pictures=max(count, 1)), normal[count:]

    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        images, results = as_list(images), []
        for batch in batches(self.clip, images, self.batch_size):
            values = residuals(self._patches(batch), *self.subspace)  # (B, h, w)
            highest = values.flatten(1).topk(max(1, round(0.01 * values[0].numel())), dim=1).values
            maps = enlarge(values, size=self.clip.image_size if size is None else size)
            results += map(Localization, maps.cpu().numpy(), highest.mean(dim=1).tolist())
        return results[: len(images)]

    @cached_property
    def subspace(self) -> tuple[Tensor, Tensor]:
        """Mean (D,) and components (D, k) of the normal patches, fitted when first needed."""
        found = [] if self.normal is None else as_list(self.normal)[: self.pictures]
        if len(found) < self.pictures:
            raise ValueError(
                f"{self.name.split(' (')[0]} learns from "
                f"{counted(self.pictures, 'normal picture')}; found {len(found)}: give more as "
                "normal=, or a smaller number as pictures="
            )
        return principal_components(self._patches(found).flatten(0, 2), self.explained)

    def _patches(self, images: Any) -> Tensor:
        """Directions of the patches (B, h, w, D)."""
        features = encode_images(
            self.clip, images, attention=self.attention, batch_size=self.batch_size
        )
        return F.normalize(features.patches, dim=-1)


def principal_components(patches: Tensor, explained: float) -> tuple[Tensor, Tensor]:
    """Mean (D,) of patches (N, D) and the fewest components (D, k) that explain enough of them.

    >>> line = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    >>> mean, components = principal_components(line, 0.99)
    >>> mean, components.abs().round(decimals=4)
    (tensor([1., 1.]), tensor([[0.7071],
            [0.7071]]))
    """
    mean = patches.mean(dim=0)
    centred = (patches - mean).double()
    variances, vectors = torch.linalg.eigh(centred.T @ centred)  # from the smallest on
    variances, vectors = variances.flip(0).clamp(min=0), vectors.flip(1)
    share = variances.cumsum(0) / variances.sum()
    count = int((share < explained).sum()) + 1
    return mean, vectors[:, :count].float()


def residuals(patches: Tensor, mean: Tensor, components: Tensor) -> Tensor:
    """Squared distances (...) of patches (..., D) from the subspace through `mean`.

    >>> plane = torch.eye(3)[:, :2]
    >>> residuals(torch.tensor([[5.0, 7.0, 2.0]]), torch.zeros(3), plane)
    tensor([4.])
    """
    centred = patches - mean
    return (centred - centred @ components @ components.T).square().sum(dim=-1)
