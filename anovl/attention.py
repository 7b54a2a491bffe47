"""Two paths through a vision transformer: the ordinary one, and the local one of AnoVL.

CLIP learns from its class token alone: no gradient ever asks the last block's patch tokens to mean
anything. The local path gives the patches a stream of their own, in which each patch looks only at
patches that carry similar *values*, and which the MLPs never touch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anovl.clip import inference_context, preprocess

if TYPE_CHECKING:
    from anovl.clip import Clip, Images

Attention = Literal["qk", "vv", "qq", "kk"]
KINDS = ("qk", "vv", "qq", "kk")


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Un-normalised embeddings of B images: `cls` (B, D) and `patches` (B, h, w, D), float32."""

    cls: Tensor
    patches: Tensor


def encode_images(
    clip: Clip,
    images: Images,
    *,
    attention: Attention = "vv",
    first_block: int = 1,
    batch_size: int = 16,
) -> ImageFeatures:
    """Embed images: the class token by the ordinary path, the patches by the local one.

    `attention` tells how patches look at each other on the local path: "vv" (the paper), "qq" or
    "kk"; with "qk" there is no local path and the patches are CLIP's own. `first_block` (1 to the
    depth of the model) is where the local path starts. One ordinary pass serves both paths; the
    arithmetic is in the model's `precision`.

    `images` are PIL images, paths, or a preprocessed tensor (B, 3, H, W).

    Source: published code, which starts the local path at block 1.
    Raises ValueError for an unknown attention, or a block or batch size out of range.

    >>> import anovl, open_clip
    >>> vision = dict(image_size=32, patch_size=16, width=64, layers=2)
    >>> model = open_clip.CLIP(8, vision, dict(width=64, heads=1, layers=1))
    >>> clip = anovl.Clip(model, open_clip.tokenize, image_size=32)
    >>> features = encode_images(clip, torch.zeros(5, 3, 32, 32))
    >>> features.cls.shape, features.patches.shape
    (torch.Size([5, 8]), torch.Size([5, 2, 2, 8]))
    """
    visual = clip.model.visual
    _check_kind(attention)
    check_first_block(clip, first_block)
    cls, patches = [], []
    with torch.inference_mode(), inference_context(clip):
        for batch in _batches(clip, images, batch_size):
            z, u = two_streams(visual, batch, attention, first_block, class_only=attention != "qk")
            cls.append(project_to_clip_space(visual, z[:, 0]).float())
            patches.append(project_to_clip_space(visual, u[:, 1:]).float())
    return ImageFeatures(torch.cat(cls), torch.cat(patches).unflatten(1, clip.grid))


def two_streams(
    visual: nn.Module,
    images: Tensor,
    kind: Attention = "vv",
    first_block: int = 1,
    *,
    class_only: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run images (B, 3, H, W) through both paths: tokens z and u (B, 1 + h·w, width), class first.

    The ordinary stream z is the model's own, block by block. The local stream u leaves it before
    block `first_block` and then only adds up what local attention finds; with "qk" it never leaves.

        z_l = block_l(z_{l-1})
        u_l = u_{l-1} + W_O softmax(V Vᵀ / √d) V        with V = W_V LN(z_{l-1})

    With `class_only` the last z is the class token alone, (B, 1, width): nobody reads its patches.

    Source: published code; the same path, in the last blocks only, is that of CLIP Surgery.
    """
    blocks = list(visual.transformer.resblocks)
    shared = len(blocks) if kind == "qk" else first_block - 1
    z = embed(visual, images)
    for block in blocks[:shared]:
        z = block(z)
    u = z
    for block in blocks[shared:]:
        wanted = 1 if class_only and block is blocks[-1] else None
        z, added = both_paths(block, z, kind, wanted=wanted)
        u = u + added
    return z, u


def both_paths(
    block: nn.Module, z: Tensor, kind: Attention = "vv", *, wanted: int | None = None
) -> tuple[Tensor, Tensor]:
    """What `block(z)` and `local_attention(block, z, kind)` give, with one projection for both.

    Of the ordinary tokens only the first `wanted` are computed, or all.
    """
    attn, attend = block.attn, F.scaled_dot_product_attention
    projected = F.linear(block.ln_1(z), attn.in_proj_weight, attn.in_proj_bias)
    q, k, v = projected.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    a = {"q": q, "k": k, "v": v}[kind[0]]
    ordinary = z[:, :wanted] + merge_heads(block, attend(q[:, :, :wanted], k, v))
    return feed_forward(block, ordinary), merge_heads(block, attend(a, a, v))


def local_terms(
    visual: nn.Module, images: Tensor, kind: Attention = "vv", first_block: int = 1
) -> Tensor:
    """What the local stream is the sum of: tokens (1 + n, B, N, width) that add up to u.

    First the tokens from which it starts, those of the ordinary stream before block `first_block`;
    then what each of the n blocks from there on adds. The sum of the first 1 + l is u after l.

    >>> import open_clip
    >>> vision = dict(image_size=32, patch_size=16, width=64, layers=3)
    >>> visual = open_clip.CLIP(8, vision, dict(width=64, heads=1, layers=1)).visual
    >>> local_terms(visual, torch.zeros(2, 3, 32, 32), first_block=2).shape
    torch.Size([3, 2, 5, 64])
    """
    blocks = list(visual.transformer.resblocks)
    z = embed(visual, images)
    for block in blocks[: first_block - 1]:
        z = block(z)
    terms = [z]
    for block in blocks[first_block - 1 :]:
        terms.append(local_attention(block, z, kind))
        z = block(z)
    return torch.stack(terms)


def local_attention(block: nn.Module, z: Tensor, kind: Attention = "vv") -> Tensor:
    """What a block adds to the local stream u, given the ordinary tokens z (B, N, width).

    Per head, W_O softmax(V Vᵀ / √d) V; for "qq" and "kk" the softmax sees queries or keys instead.
    A model with LayerScale multiplies whatever its attention adds by a learned vector, often tiny;
    without that factor the local stream would swamp the tokens that it starts from.
    """
    v = project(block, z, "v")
    a = v if kind == "vv" else project(block, z, kind[0])
    return merge_heads(block, F.scaled_dot_product_attention(a, a, v))


def project(block: nn.Module, z: Tensor, letter: str) -> Tensor:
    """Queries "q", keys "k" or values "v" of tokens z (B, N, width), as (B, heads, N, width/heads).

    The weights of the three lie in one matrix, stacked in this order.
    """
    attn, third = block.attn, "qkv".index(letter)
    bias = None if attn.in_proj_bias is None else attn.in_proj_bias.chunk(3)[third]
    projected = F.linear(block.ln_1(z), attn.in_proj_weight.chunk(3)[third], bias)
    return projected.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)


def merge_heads(block: nn.Module, heads: Tensor) -> Tensor:
    """What a block adds to its tokens (B, N, width) if its heads say (B, heads, N, width/heads)."""
    return block.ls_1(block.attn.out_proj(heads.transpose(1, 2).flatten(2)))


def feed_forward(block: nn.Module, tokens: Tensor) -> Tensor:
    """The second half of a block: tokens (B, N, width) and what the MLP adds to each."""
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def embed(visual: nn.Module, images: Tensor) -> Tensor:
    """Embed images (B, 3, H, W) as tokens (B, 1 + h·w, width): class token first, then patches."""
    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    cls = visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
    tokens = torch.cat([cls, patches], dim=1)
    return visual.ln_pre(tokens + visual.positional_embedding.to(tokens.dtype))


def project_to_clip_space(visual: nn.Module, tokens: Tensor) -> Tensor:
    """Bring tokens (..., width) into the space that images and texts share: (..., D)."""
    tokens = visual.ln_post(tokens)
    return tokens if visual.proj is None else tokens @ visual.proj


def projection_shares(visual: nn.Module, terms: Tensor) -> Tensor:
    """Share out the read-out of a sum among its terms (T, ..., width): embeddings (T, ..., D).

    The final LayerNorm divides by the spread of the whole sum. With that one number held fixed the
    rest is linear, so the shares add up to `project_to_clip_space` of the sum, less that of zero
    (what the LayerNorm adds to every token). A share is not the projection of its term alone.

    >>> import open_clip
    >>> vision = dict(image_size=32, patch_size=16, width=64, layers=1)
    >>> visual = open_clip.CLIP(8, vision, dict(width=64, heads=1, layers=1)).visual
    >>> projection_shares(visual, torch.zeros(3, 2, 5, 64)).shape
    torch.Size([3, 2, 5, 8])
    """
    norm = visual.ln_post
    spread = (terms.sum(dim=0).var(dim=-1, keepdim=True, correction=0) + norm.eps).sqrt()
    shares = (terms - terms.mean(dim=-1, keepdim=True)) / spread * norm.weight
    return shares if visual.proj is None else shares @ visual.proj


def attention_weights(
    clip: Clip, images: Images, *, attention: Attention = "qk", block: int = -1
) -> Tensor:
    """Where each token looks: weights (B, heads, N, N), N = 1 + h·w, with rows that sum to 1.

    Token 0 is the class token. `block` counts from 1, or from the end: -1 is the last. Weights of
    every kind are computed from the tokens of the ordinary stream, as on the local path.

    Raises ValueError for an unknown attention or a block that the model does not have.

    >>> import anovl, open_clip
    >>> vision = dict(image_size=32, patch_size=16, width=64, head_width=16, layers=2)
    >>> model = open_clip.CLIP(8, vision, dict(width=64, heads=1, layers=1))
    >>> clip = anovl.Clip(model, open_clip.tokenize, image_size=32)
    >>> attention_weights(clip, torch.zeros(1, 3, 32, 32), block=1).shape
    torch.Size([1, 4, 5, 5])
    """
    visual = clip.model.visual
    depth = len(visual.transformer.resblocks)
    _check_kind(attention)
    if block == 0 or block not in range(-depth, depth + 1):
        raise ValueError(f"block must be 1 to {depth}, or -{depth} to -1; found {block!r}")
    *before, last = list(visual.transformer.resblocks)[: block % (depth + 1)]
    weights = []
    with torch.inference_mode(), inference_context(clip):
        for batch in _batches(clip, images, batch_size=16):
            z = embed(visual, batch)
            for ordinary in before:
                z = ordinary(z)
            a, b = (project(last, z, letter).float() for letter in attention)
            with torch.autocast(a.device.type, enabled=False):
                weights.append(torch.softmax(a @ b.mT / a.shape[-1] ** 0.5, dim=-1))
    return torch.cat(weights)


def check_first_block(clip: Clip, first_block: int) -> None:
    """Raise ValueError unless the model has such a block, counted from 1."""
    depth = len(clip.model.visual.transformer.resblocks)
    if first_block not in range(1, depth + 1):
        raise ValueError(
            f"first_block must be 1 to {depth}, the number of blocks of {clip.name}; "
            f"found {first_block!r}"
        )


def _check_kind(attention: str) -> None:
    if attention not in KINDS:
        raise ValueError(f"attention must be one of {', '.join(KINDS)}; found {attention!r}")


def _batches(clip: Clip, images: Images, batch_size: int) -> Iterator[Tensor]:
    """Preprocessed images, a few at a time, where the model is and in its precision."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; found {batch_size}")
    if not isinstance(images, (Tensor, list, tuple)):
        images = [images]
    like = clip.model.visual.conv1.weight
    for start in range(0, max(len(images), 1), batch_size):
        yield preprocess(clip, images[start : start + batch_size]).to(like)
