"""Two paths through a vision transformer: the ordinary one and the paper's local one (V-V).

CLIP is trained through its class token alone: no gradient gives the patch tokens of the last block
a meaning. AnoVL gives them a second stream u beside the ordinary stream z. There each patch attends
to patches with similar *values* (CLIP compares queries with keys), without MLP:

    z_l = block_l(z_{l-1})                                  what CLIP computes
    u_l = u_{l-1} + VV_l(LN(z_{l-1})),      u_0 = z_0       `vv_attention_reference`

The class token of z gives the image score, the patches of u give the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anovl.clip import Clip, Images, as_list, batches, inference_context, preprocess

Attention = Literal["qk", "vv", "qq", "kk"]
ATTENTIONS: tuple[Attention, ...] = get_args(Attention)


def vv_attention_reference(
    z: Tensor, W_qkv: Tensor, b_qkv: Tensor, W_o: Tensor, b_o: Tensor, heads: int
) -> Tensor:
    """Compute one block's V-V attention of one image by plain matrix products.

        VV(z) = merge(softmax(V Vᵀ / √d) V) W_oᵀ + b_o         V = z W_vᵀ + b_v, d = width / heads

    `z` (N, width) are tokens after LayerNorm; `W_qkv` (3·width, width) and `W_o` (width, width) are
    weights as torch stores them. `both_paths` is the fast form.

    >>> I, o = torch.eye(2), torch.zeros(2)
    >>> vv_attention_reference(I, torch.cat([I, I, I]), torch.zeros(6), I, o, heads=1)
    tensor([[0.6698, 0.3302],
            [0.3302, 0.6698]])

    Source: published code.
    """
    W_v, b_v = W_qkv.chunk(3)[2], b_qkv.chunk(3)[2]  # (width, width), (width,)
    V = z @ W_v.T + b_v  # (N, width)
    V = V.unflatten(1, (heads, -1)).transpose(0, 1)  # (heads, N, d)
    logits = V @ V.mT / V.shape[-1] ** 0.5  # (heads, N, N); CLIP has Q Kᵀ here
    A = torch.softmax(logits, dim=-1)  # (heads, N, N), rows sum to 1
    out = (A @ V).transpose(0, 1).flatten(1)  # (N, width): the heads side by side
    return out @ W_o.T + b_o  # (N, width)


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Class tokens `cls` (B, D) and patch tokens `patches` (B, h, w, D), float32, not normalised.

    `patches.flatten(1, 2)` has the shape (B, N, D) of other libraries.
    """

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
    """Encode images as class tokens (B, D) and patch tokens (B, h, w, D); blocks count from 1.

    `images` are PIL images, paths, or a preprocessed tensor (B, 3, H, W). The class token comes
    from the ordinary path, the patches from the local one, which starts at `first_block`.
    `attention` is that of the local path: "vv" (the paper), "qq" or "kk"; "qk" has no local path
    and gives CLIP's own patches. `batch_size` is for a GPU, see `batches`.

    >>> features = encode_images(toy_clip, torch.zeros(5, 3, 32, 32))
    >>> features.cls.shape, features.patches.shape
    (torch.Size([5, 8]), torch.Size([5, 2, 2, 8]))

    Raises ValueError for an unknown attention, or a block or batch size out of range.
    Source: published code, which starts the local path at block 1.
    """
    check_attention(clip, attention, first_block)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; found {batch_size}")
    images, cls, patches = as_list(images), [], []
    for batch in batches(clip, images, batch_size) or [images]:
        pixels = preprocess(clip, batch)
        features = encode_pixels(clip, pixels, attention=attention, first_block=first_block)
        cls.append(features.cls)
        patches.append(features.patches)
    return ImageFeatures(torch.cat(cls)[: len(images)], torch.cat(patches)[: len(images)])


def encode_pixels(
    clip: Clip,
    pixels: Tensor,
    *,
    attention: Attention = "vv",
    first_block: int = 1,
    batch_size: int | None = None,
) -> ImageFeatures:
    """Encode preprocessed images (B, 3, H, W), unchecked, in one batch or several."""
    visual, cls, patches = clip.model.visual, [], []
    with torch.inference_mode(), inference_context(clip):
        for batch in pixels.split(batch_size or len(pixels)):
            batch = batch.to(visual.conv1.weight)
            z, u = two_streams(visual, batch, attention, first_block)
            cls.append(project_to_clip_space(visual, z).float())  # (B, D)
            patches.append(project_to_clip_space(visual, u[:, 1:]).float())  # (B, h·w, D)
    return ImageFeatures(torch.cat(cls), torch.cat(patches).unflatten(1, clip.grid))


def two_streams(
    visual: nn.Module, pixels: Tensor, attention: Attention = "vv", first_block: int = 1
) -> tuple[Tensor, Tensor]:
    """Run images (B, 3, H, W) through both paths: class token of z (B, width), all tokens of u.

    u (B, 1 + h·w, width) leaves z before block `first_block`; with "qk" never. Where they are
    separate, the last block computes only the class token of z.

    Source: published code. CLIP Surgery has the same path in the last blocks only.
    """
    blocks = list(visual.transformer.resblocks)
    shared = len(blocks) if attention == "qk" else first_block - 1
    z = embed(visual, pixels)  # (B, 1 + h·w, width)
    for block in blocks[:shared]:
        z = block(z)
    u = z
    for block in blocks[shared:]:
        z, u = both_paths(block, z, u, attention, needed=1 if block is blocks[-1] else None)
    return z[:, 0], u


def both_paths(
    block: nn.Module, z: Tensor, u: Tensor, attention: Attention = "vv", needed: int | None = None
) -> tuple[Tensor, Tensor]:
    """Run both streams z and u (B, N, width) through a block, with one projection for both.

    Only the first `needed` tokens of z are computed (None: all). "qq" and "kk" compare queries or
    keys instead of values.
    """
    q, k, v = project_qkv(block, z)  # each (B, heads, N, d)
    a = {"q": q, "k": k, "v": v}[attention[0]]
    u = u + merge_heads(block, F.scaled_dot_product_attention(a, a, v))  # no MLP
    mixed = F.scaled_dot_product_attention(q[:, :, :needed], k, v)  # (B, heads, needed, d)
    return feed_forward(block, z[:, :needed] + merge_heads(block, mixed)), u


def project_qkv(block: nn.Module, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Project tokens z (B, N, width) to queries, keys, values: (B, heads, N, width / heads)."""
    attn = block.attn
    projected = F.linear(block.ln_1(z), attn.in_proj_weight, attn.in_proj_bias)  # (B, N, 3·width)
    return projected.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def merge_heads(block: nn.Module, heads: Tensor) -> Tensor:
    """Merge heads (B, heads, N, d) by W_O to the attention's output (B, N, width).

    `ls_1` is LayerScale, where a model has it.
    """
    return block.ls_1(block.attn.out_proj(heads.transpose(1, 2).flatten(2)))


def feed_forward(block: nn.Module, tokens: Tensor) -> Tensor:
    """Add the MLP's output to tokens (B, N, width): the second half of a block."""
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def embed(visual: nn.Module, pixels: Tensor) -> Tensor:
    """Embed images (B, 3, H, W) as tokens (B, 1 + h·w, width): class token first, then patches."""
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)  # (B, h·w, width)
    cls = visual.class_embedding.to(patches.dtype).expand(pixels.shape[0], 1, -1)  # (B, 1, width)
    tokens = torch.cat([cls, patches], dim=1)
    return visual.ln_pre(tokens + visual.positional_embedding.to(tokens.dtype))


def project_to_clip_space(visual: nn.Module, tokens: Tensor) -> Tensor:
    """Project tokens (..., width) to the space (..., D) that images and texts share."""
    tokens = visual.ln_post(tokens)
    return tokens if visual.proj is None else tokens @ visual.proj


def check_attention(clip: Clip, attention: str = "vv", first_block: int = 1) -> None:
    """Raise ValueError for an unknown attention, or a block that the model does not have."""
    depth = len(clip.model.visual.transformer.resblocks)
    if attention not in ATTENTIONS:
        raise ValueError(f"attention must be one of {', '.join(ATTENTIONS)}; found {attention!r}")
    if first_block not in range(1, depth + 1):
        raise ValueError(f"first_block must be 1 to {depth}; found {first_block!r}")
