"""What a decision owes to each patch: attention, weighted by its gradient, block after block.

The method of Chefer, Gur and Wolf (ICCV 2021), known as TransMM.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from anovl.attention import embed, feed_forward, join_heads, project, read_out


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
            q, k, v = (project(block, z, letter) for letter in "qkv")
            weights.append(torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1))
            z = feed_forward(block, z + join_heads(block, weights[-1] @ v))
        cls = read_out(visual, z[:, 0])
        gradients = torch.autograd.grad(target(cls).sum(), weights[first_block - 1 :])
    relevant = torch.eye(z.shape[1], device=z.device)
    with torch.autocast(z.device.type, enabled=False):
        for attention, gradient in zip(weights[first_block - 1 :], gradients, strict=True):
            contribution = (attention.detach() * gradient).float().clamp(min=0).mean(dim=1)
            relevant = relevant + contribution @ relevant
    return relevant[:, 0, 1:], cls.detach()
