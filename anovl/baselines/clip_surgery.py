"""CLIP Surgery: the local path through the last blocks, and feature surgery."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from anovl.attention import check_attention, encode_pixels
from anovl.baselines._base import Baseline
from anovl.baselines.attention_variants import last_six
from anovl.maps import anomalous_probability, cosines, image_scores
from anovl.prompts import TextFeatures


@dataclass(frozen=True)
class ClipSurgery(Baseline):
    """The local path through the last blocks only and, if asked for, feature surgery.

    From CLIP Surgery (Li et al., arXiv 2304.05653): V-V attention beside the ordinary path, without
    MLP, in the last six blocks. `first_block` is where it starts; None is six blocks from the end
    or, in a model of fewer than twelve, in the middle, so that it does not become AnoVL's path.
    `surgery` adds the second half of the paper, `feature_surgery`. Not taken: its templates, made
    for ImageNet, and stretching each map to 0-1, which makes every image look damaged. The image
    score is plain CLIP's.

    Raises ValueError for a block that the model does not have.
    """

    _: KW_ONLY
    first_block: int | None = None
    surgery: bool = False
    name = "clip-surgery"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_attention(self.clip, first_block=self.start)

    @property
    def start(self) -> int:
        """The first block of the local path, counted from 1."""
        published = last_six(len(self.clip.model.visual.transformer.resblocks))
        return published if self.first_block is None else self.first_block

    def score_patches(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        features = encode_pixels(self.clip, pixels, first_block=self.start)
        scores = image_scores(features.cls, text)
        if not self.surgery:
            return anomalous_probability(features.patches, text), scores
        similarity = feature_surgery(cosines(features.patches, text), cosines(features.cls, text))
        return similarity.softmax(dim=-1)[..., 1], scores


def feature_surgery(patches: Tensor, cls: Tensor) -> Tensor:
    """Take from each patch's cosines (B, h, w, C) to C texts what all the texts share.

    The shared part is the mean over texts, each weighted by how much of the image it claims: the
    softmax of twice the cosines (B, C) of the class token, divided by its mean. Summed over the
    channels this is the published subtraction of "redundant features".

    >>> import torch
    >>> feature_surgery(torch.tensor([[[[0.1, 0.3]]]]), torch.tensor([[0.2, 0.2]]))
    tensor([[[[-0.1000,  0.1000]]]])

    Source: CLIP Surgery's published code.
    """
    claims = (2 * cls).softmax(dim=-1)
    weights = claims / claims.mean(dim=-1, keepdim=True)
    weighted = patches * weights[:, None, None]
    return weighted - weighted.mean(dim=-1, keepdim=True)
