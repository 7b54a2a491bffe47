"""MaskCLIP: the last block's values, without attention."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from torch import Tensor, nn

from anovl.attention import embed, feed_forward, merge_heads, project_qkv, project_to_clip_space
from anovl.baselines._base import Baseline
from anovl.maps import anomalous_probability, image_scores
from anovl.prompts import TextFeatures


@dataclass(frozen=True)
class MaskCLIP(Baseline):
    """The last block's values in place of what its attention would mix from them.

    From MaskCLIP (Zhou et al., ECCV 2022, "Extract Free Dense Labels from CLIP"): drop queries and
    keys of the last block, keep its values and W_O. As in the published code for transformers, the
    rest of the block, skip connection and MLP, stays; `values_only` leaves it out. Not taken:
    prompt denoising and key smoothing, which mend label maps of many classes. The image score is
    plain CLIP's.

    >>> import open_clip, torch
    >>> from anovl import Clip
    >>> vision = dict(image_size=32, patch_size=16, width=64, layers=2)
    >>> model = open_clip.CLIP(8, vision, dict(width=64, heads=1, layers=1))
    >>> method = MaskCLIP(Clip(model, open_clip.tokenize, image_size=32), level="word")
    >>> method(torch.zeros(1, 3, 32, 32), "nut").map.shape
    (32, 32)
    """

    _: KW_ONLY
    values_only: bool = False
    name = "maskclip"

    def look(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        visual = self.clip.model.visual
        z, u = value_path(visual, pixels, values_only=self.values_only)
        patches = project_to_clip_space(visual, u[:, 1:]).unflatten(1, self.clip.grid)
        return anomalous_probability(patches, text), image_scores(
            project_to_clip_space(visual, z[:, 0]), text
        )


def value_path(
    visual: nn.Module, images: Tensor, *, values_only: bool = False
) -> tuple[Tensor, Tensor]:
    """Run images (B, 3, H, W) to the end in two ways: tokens z and u (B, 1 + h·w, width).

    Stream z is the model's own. Stream u is the same up to the last block, where each token keeps
    its own value: attention whose weights are the identity matrix.

        a = W_O W_V LN(z)        u = z + a + MLP(LN(z + a)), or u = a if `values_only`
    """
    *blocks, last = visual.transformer.resblocks
    z = embed(visual, images)
    for block in blocks:
        z = block(z)
    added = merge_heads(last, project_qkv(last, z)[2])
    return last(z), added if values_only else feed_forward(last, z + added)
