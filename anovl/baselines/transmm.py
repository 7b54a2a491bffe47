"""TransMM: the contribution of each patch to the anomalous logit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor, nn

from anovl.attention import (
    check_attention,
    embed,
    feed_forward,
    merge_heads,
    project_qkv,
    project_to_clip_space,
)
from anovl.baselines._base import Baseline
from anovl.maps import cosines, image_scores
from anovl.prompts import TextFeatures


@dataclass(frozen=True)
class TransMM(Baseline):
    """The contribution of each patch to the anomalous logit: attention, weighted by its gradient.

    From Chefer et al. (ICCV 2021, "Generic Attention-model Explainability"), for CLIP: what the
    logit of an image with a text owes to each patch, by `relevance`. The text is the anomalous
    prototype. `first_block=1` goes through all blocks, as the paper's rule does; the authors'
    notebook for CLIP takes the last one alone. Not taken: stretching each map to 0-1. A map holds
    relevance from 0 on, not probability; the image score is plain CLIP's.

    Raises ValueError for a block that the model does not have.
    """

    _: KW_ONLY
    first_block: int = 1
    name = "transmm"
    smooth = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_attention(self.clip, first_block=self.first_block)

    def score_patches(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        def logits(cls: Tensor) -> Tensor:
            return self.clip.model.logit_scale.exp() * cosines(cls, text)[:, 1]

        relevant, cls = relevance(
            self.clip.model.visual, pixels, logits, first_block=self.first_block
        )
        return relevant.unflatten(1, self.clip.grid), image_scores(cls, text)


def relevance(
    visual: nn.Module,
    images: Tensor,
    target: Callable[[Tensor], Tensor],
    *,
    first_block: int = 1,
) -> tuple[Tensor, Tensor]:
    """How much each patch contributed to `target`, (B, h·w), and the class embeddings (B, D).

    `target` turns class embeddings (B, D) into one number an image, (B,). With the attention
    weights A (heads, N, N) of each block from `first_block` on, and their gradient ∇A, the rule is

        R ← R + mean_heads((∇A ⊙ A)⁺) R        from R = I on,

    and the answer is the class token's row. The model is left without gradients and hooks.

    Source: the paper's rule for self-attention, and the authors' code for CLIP.
    """
    z, weights = embed(visual, images), []
    with torch.inference_mode(False), torch.enable_grad():
        z = z.clone().requires_grad_()
        for block in visual.transformer.resblocks:
            q, k, v = project_qkv(block, z)
            weights.append(torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1))
            z = feed_forward(block, z + merge_heads(block, weights[-1] @ v))
        cls = project_to_clip_space(visual, z[:, 0])
        gradients = torch.autograd.grad(target(cls).sum(), weights[first_block - 1 :])
    relevant = torch.eye(z.shape[1], device=z.device)
    with torch.autocast(z.device.type, enabled=False):
        for attention, gradient in zip(weights[first_block - 1 :], gradients, strict=True):
            contribution = (attention.detach() * gradient).float().clamp(min=0).mean(dim=1)
            relevant = relevant + contribution @ relevant
    return relevant[:, 0, 1:], cls.detach()
