"""One step of training: a contrastive loss over pictures and captions, and the update.

These choices make the training cheap:
- few categories and normal/anomalous twins in a batch: then the state tells pictures apart;
- every true caption counts as a match (`contrastive_loss`);
- close-ups first: a quarter of the patches, as fine as in the whole picture (`embed_pictures`);
- the last block for the class token alone, attention as two products on a CPU (`run_block`);
- patches decorrelated from the first step (`whiten_patches`), Muon for the matrices;
- the trained weights are a running average of the weights of the steps.

Masks are never read here: `Batch` has no field for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anovl.attention import feed_forward, merge_heads, project_qkv, project_to_clip_space
from anovl.clip import encode_tokens
from anovl_companion.training.batches import Batch, pixels
from anovl_companion.training.recipe import Recipe

Arithmetic = Literal["float32", "bfloat16"]
"""Of the two towers in training; the loss is always in float32."""


def faster_arithmetic(device: torch.device) -> Arithmetic:
    """bfloat16 where there are matrix units for it: on CUDA, and on CPUs with AMX."""
    units = device.type == "cuda" or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if units else "float32"


@dataclass
class State:
    """The state of a training after `step` steps.

    `average` has the running average of the weights of `model`; `optimizers` train `model`.
    """

    model: nn.Module
    average: nn.Module
    optimizers: list[torch.optim.Optimizer]
    step: int


def contrastive_loss(images: Tensor, texts: Tensor, truth: Tensor, scale: Tensor) -> Tensor:
    """Image-text contrastive loss in which every true pair is a match.

    Each picture spreads its probability evenly over the captions that are true of it, and each
    caption over its pictures. With one true pair a row and column this is CLIP's own loss.

    `images` (B, D) and `texts` (C, D) are unit-norm, `truth` is bool (B, C), `scale` multiplies the
    cosines.

    >>> eye = torch.eye(3)
    >>> loss = contrastive_loss(eye, eye, torch.eye(3, dtype=torch.bool), torch.tensor(1.0))
    >>> round(float(loss), 4) == round(math.log(math.e + 2) - 1, 4)
    True
    """
    logits = scale * images @ texts.T
    by_image = truth / truth.sum(dim=1, keepdim=True)
    by_text = truth / truth.sum(dim=0, keepdim=True)
    image_loss = -(by_image * logits.log_softmax(dim=1)).sum(dim=1).mean()
    text_loss = -(by_text * logits.log_softmax(dim=0)).sum(dim=0).mean()
    return (image_loss + text_loss) / 2


def embed_pictures(visual: nn.Module, images: Tensor, corners: Tensor) -> Tensor:
    """Class embeddings (B, D) of pictures (B, 3, S, S) that may be windows of larger ones.

    `corners` (B, 2) say at which patch of the model's grid, row and column, each picture begins:
    its patches have the positions that they would have there. Whole pictures begin at (0, 0), and
    then this is what the model itself computes.
    """
    patches = visual.conv1(images)
    height, width = patches.shape[2:]
    cls, grid = visual.positional_embedding[0], visual.positional_embedding[1:]
    rows = corners[:, :1] + torch.arange(height, device=corners.device)
    columns = corners[:, 1:] + torch.arange(width, device=corners.device)
    positions = grid[rows[:, :, None] * visual.grid_size[1] + columns[:, None]].flatten(1, 2)
    tokens = patches.flatten(2).transpose(1, 2) + positions
    cls = (visual.class_embedding + cls).to(tokens.dtype).expand(len(images), 1, -1)
    z = visual.ln_pre(torch.cat([cls, tokens], dim=1))
    *before, last = visual.transformer.resblocks
    for block in before:
        z = run_block(block, z)
    return project_to_clip_space(visual, run_block(last, z, needed=1)[:, 0])


def run_block(block: nn.Module, z: Tensor, needed: int | None = None) -> Tensor:
    """Run tokens z (B, N, width) through a block, computing only the first `needed` (None: all).

    The loss sees the class token alone, so the last block needs one token, with keys and values of
    all.
    """
    q, k, v = project_qkv(block, z)
    mixed = attend(q[:, :, :needed], k, v)
    return feed_forward(block, z[:, :needed] + merge_heads(block, mixed))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of queries (B, heads, M, d): two products with a softmax between them.

    On a CPU this trains faster than the fused kernel (`make bench` shows the ratio), not on a GPU.
    """
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v)
    weights = (q * q.shape[-1] ** -0.5) @ k.mT  # (B, heads, M, N)
    return weights.softmax(dim=-1).to(v.dtype) @ v


@torch.no_grad()
def whiten_patches(model: nn.Module, images: Tensor) -> None:
    """Start the patch embedding from the principal components of patches, each at equal size.

    Neighbouring pixels are alike: without this, brightness drowns the fine marks of anomalies.
    """
    conv = model.visual.conv1
    patch = conv.kernel_size[0]
    patches = F.unfold(images, patch, stride=patch).transpose(1, 2).flatten(0, 1).double()
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    whitening = vectors / (values + 1e-2 * values.mean()).sqrt()
    filters = whitening.T.flip(0)[: conv.out_channels].float()
    conv.weight.copy_(filters.view(conv.weight.shape) * 0.5)


def make_optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the two towers, AdamW for everything else."""
    inner, outer = [], []
    for name, parameter in model.named_parameters():
        (inner if "resblocks" in name and parameter.ndim == 2 else outer).append(parameter)
    return [
        torch.optim.Muon(
            inner, lr=recipe.lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(outer, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def train_step(
    state: State, batch: Batch, recipe: Recipe, arithmetic: Arithmetic
) -> tuple[float, float]:
    """Update weights and average; returns the loss and how often the best caption is a true one."""
    model = state.model
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(state.step, recipe)
    loss, accuracy = backward(model, batch, arithmetic)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in state.optimizers:
        optimizer.step()
        optimizer.zero_grad()
    keep = min(recipe.average, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(100))
        for mean, new in zip(state.average.parameters(), model.parameters(), strict=True):
            mean.lerp_(new, 1 - keep)
    state.step += 1
    return loss, accuracy


def backward(
    model: nn.Module,
    batch: Batch,
    arithmetic: Arithmetic,
    *,
    embed: Callable[[nn.Module, Tensor, Tensor], Tensor] = embed_pictures,
) -> tuple[float, float]:
    """Leave the gradients of a batch in the model; returns its loss and accuracy.

    `embed` turns pictures and corners into class embeddings; another one is for comparisons.
    """
    with torch.autocast(batch.images.device.type, torch.bfloat16, arithmetic == "bfloat16"):
        images = embed(model.visual, pixels(batch.images), batch.corners).float()
        texts = encode_tokens(model, batch.tokens).float()
    images, texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
    loss = contrastive_loss(images, texts, batch.truth, model.logit_scale.exp())
    loss.backward()
    best = (images @ texts.T).argmax(dim=1, keepdim=True)
    return loss.item(), batch.truth.gather(1, best).float().mean().item()


def learning_rate(step: int, recipe: Recipe) -> float:
    """Warm up, hold until `steps_hold`, and fall in a straight line to zero.

    >>> [learning_rate(step, Recipe()) for step in (0, 99, 2999, 5050, 7099)]
    [2e-05, 0.002, 0.002, 0.001, 4.8...e-07]
    """
    hold = min(recipe.steps_hold, recipe.steps - 1)
    falling = (recipe.steps - step) / max(1, recipe.steps - hold)
    return recipe.lr * min(1.0, (step + 1) / recipe.warm_up, falling)
