"""The family of attention repairs: each is three choices, and one function makes them all.

1. `attention`: with which weights does a patch mix the values of the tokens?
2. `blocks`: in which blocks do the patches leave CLIP's own stream?
3. `keeps`: which parts of such a block do they keep, its residual connection, its MLP?

Attention is always computed from the tokens of the ordinary stream, which nothing here changes. So
the class token and the image score are plain CLIP's. The published codes of SCLIP, ClearCLIP,
NACLIP and SegEarth-OV change the class token of the last block too; their maps do not use it,
except by an option of SegEarth-OV. Their post-processing (sliding windows, upsampling networks,
PAMR, stretching to 0-1) and their prompts are not taken: all members use AnoVL's prompts, so that
only attention differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anovl.attention import (
    Attention,
    check_attention,
    embed,
    feed_forward,
    merge_heads,
    project_qkv,
    project_to_clip_space,
)
from anovl.baselines._base import Baseline
from anovl.clip import Clip, Images, as_list, inference_context, preprocess
from anovl.maps import anomalous_probability, image_scores
from anovl.prompts import TextFeatures


class Tokens(NamedTuple):
    """Input to attention: `q`, `k`, `v` (B, heads, N, d), `norm` = LN(z) (B, N, width), `grid`."""

    q: Tensor
    k: Tensor
    v: Tensor
    norm: Tensor
    grid: tuple[int, int]


def mix(tokens: Tokens, *pairs: str, near: bool = False) -> Tensor:
    """Sum over `pairs` such as "qq" of softmax(A Bᵀ / √d) V: (B, heads, N, d).

    The weights of n pairs sum to n, as published. `near` adds `nearness` inside the softmax.
    """
    mask = nearness(tokens.grid).to(tokens.v) if near else None
    attend, of = F.scaled_dot_product_attention, tokens._asdict()
    return sum(attend(of[a], of[b], tokens.v, attn_mask=mask) for a, b in pairs)


def nearness(grid: tuple[int, int], *, std: float = 5.0) -> Tensor:
    """NACLIP's bonus for neighbours, exp(-distance² / 2 std²) in patches: (N, N), N = 1 + h·w.

    Row and column 0, of the class token, are 0.

    >>> nearness((1, 2)).round(decimals=2)
    tensor([[0.0000, 0.0000, 0.0000],
            [0.0000, 1.0000, 0.9800],
            [0.0000, 0.9800, 1.0000]])
    """
    places = torch.cartesian_prod(*(torch.arange(float(side)) for side in grid))
    bonus = torch.exp(-(torch.cdist(places, places) ** 2) / (2 * std**2))
    return F.pad(bonus, (1, 0, 1, 0))


def gem(tokens: Tokens) -> Tensor:
    """GEM's attention, (B, heads, N, d): the mean of three, of queries, of keys and of values.

        x ← x/‖x‖,   x ← σ(τ x xᵀ) x,   x ← x/‖x‖,   out = mean of σ(τ x xᵀ) V over x = q, k, v

    τ = mean over the tokens of ‖LN(z)‖ / √d, one number an image.
    """
    length = tokens.norm.norm(dim=-1).mean(dim=-1)  # (B,)
    sharpness = (length / tokens.v.shape[-1] ** 0.5).view(-1, 1, 1, 1).to(tokens.v)
    attend, found = F.scaled_dot_product_attention, []
    for x in (tokens.q, tokens.k, tokens.v):
        x = F.normalize(x, dim=-1)
        x = F.normalize(attend(sharpness * x, x, x, scale=1.0), dim=-1)
        found.append(attend(sharpness * x, x, tokens.v, scale=1.0))
    return torch.stack(found).mean(dim=0)


ATTENTIONS: dict[str, Callable[[Tokens], Tensor]] = {
    "q-k": lambda tokens: mix(tokens, "qk"),
    "q-q": lambda tokens: mix(tokens, "qq"),
    "k-k": lambda tokens: mix(tokens, "kk"),
    "v-v": lambda tokens: mix(tokens, "vv"),
    "q-q + k-k": lambda tokens: mix(tokens, "qq", "kk"),
    "q-q + k-k + v-v": lambda tokens: mix(tokens, "qq", "kk", "vv"),
    "k-k, near": lambda tokens: mix(tokens, "kk", near=True),
    "GEM's": gem,
    "own value": lambda tokens: tokens.v,
}
KEEPS = ("residual and MLP", "residual", "attention only")


@dataclass(frozen=True)
class Repair:
    """One member of the family: its name in tables and its three choices.

    `attention` is a key of `ATTENTIONS`, `blocks` is "none", "all", "last six" or "last", and
    `keeps` is one of `KEEPS`.

    >>> Repair("mine", "q-q", "last", "residual").first_block(12)
    12

    Raises ValueError for a choice that does not exist.
    """

    name: str
    attention: str
    blocks: str
    keeps: str

    def __post_init__(self) -> None:
        for choice, known in (("attention", ATTENTIONS), ("blocks", _starts(1)), ("keeps", KEEPS)):
            if (found := getattr(self, choice)) not in known:
                raise ValueError(f"{choice} must be one of {', '.join(known)}; found {found!r}")

    def first_block(self, depth: int) -> int:
        """The first block, counted from 1, in which the patches leave the ordinary stream."""
        return _starts(depth)[self.blocks]


def _starts(depth: int) -> dict[str, int]:
    """The first blocks that the choices of `blocks` mean, counted from 1."""
    return {"none": depth + 1, "all": 1, "last six": last_six(depth), "last": depth}


def last_six(depth: int) -> int:
    """The sixth block from the end or, in a model of fewer than twelve, the first of the last half.

    Six of twelve are published. With six of six blocks, CLIP Surgery would be the same as AnoVL.

    >>> last_six(24), last_six(12), last_six(4)
    (19, 7, 3)
    """
    return depth + 1 - min(6, (depth + 1) // 2)


# The paper and the code that was read, what is taken of them and what is not.
_MEMBERS = (
    # CLIP (2103.00020)
    Repair("clip", "q-k", "none", "residual and MLP"),
    # No paper: a step between two members.
    Repair("second-stream-qk", "q-k", "all", "residual"),
    # AnoVL (2308.15939); hq-deng/AnoVL
    Repair("anovl", "v-v", "all", "residual"),
    # No paper: a step between two members.
    Repair("second-stream-own", "own value", "all", "residual"),
    # Two ablations of AnoVL.
    Repair("anovl-qq", "q-q", "all", "residual"),
    Repair("anovl-kk", "k-k", "all", "residual"),
    # CLIP Surgery (2304.05653); xmed-lab/CLIP_Surgery. Taken: the path. Not taken: feature surgery,
    # templates made for ImageNet.
    Repair("clip-surgery", "v-v", "last six", "residual"),
    # GEM (2312.00878); WalBouss/GEM, gem_utils.py, gem_wrapper.py (depth=7). Taken: one round of
    # gathering and the sharpness of each image, as by default.
    Repair("gem", "GEM's", "last six", "residual"),
    # MaskCLIP (ECCV 2022, 2112.01071), its code for transformers. Taken: the block as published.
    # Not taken: key smoothing and prompt denoising, which mend label maps of many classes.
    Repair("maskclip", "own value", "last", "residual and MLP"),
    # MaskCLIP as mc-lan/ClearCLIP runs it, open_clip/transformer.py. Later papers mean this one:
    # without the residual connection and the MLP.
    Repair("values-only", "own value", "last", "attention only"),
    # SCLIP (2312.01597); wangf3014/SCLIP, clip/model.py. Taken: weights that sum to 2, residual
    # connection and MLP. Not taken: PAMR.
    Repair("sclip", "q-q + k-k", "last", "residual and MLP"),
    # ClearCLIP (2407.12442); mc-lan/ClearCLIP, open_clip/transformer.py. Taken: the last block. Not
    # taken: its option to add up several last blocks.
    Repair("clearclip", "q-q", "last", "attention only"),
    # NACLIP (2404.08181); sinahmr/NACLIP, clip/model.py (arch 'reduced'). Taken: a bonus with a
    # standard deviation of 5 patches, not divided by √d. On grids smaller than the 14×14 of its
    # code it is nearly flat. Not taken: PAMR.
    Repair("naclip", "k-k, near", "last", "attention only"),
    # SegEarth-OV (2410.01768); likyoo/SegEarth-OV, open_clip/transformer.py. Taken: weights that
    # sum to 3. Not taken: SimFeatUp and the subtraction of the class token. Crane
    # (AlirezaSalehy/Crane, models/Crane.py) has the same three in its last 19 of 24 blocks, with
    # the residual connection and without the MLP.
    Repair("qkv", "q-q + k-k + v-v", "last", "attention only"),
)
FAMILY = {repair.name: repair for repair in _MEMBERS}
STAIRCASE = ("clip", "second-stream-qk", "anovl", "second-stream-own")
"""Four steps, each with one change: a second stream, v-v attention, the own value alone."""


def repaired_streams(visual: nn.Module, images: Tensor, repair: Repair) -> tuple[Tensor, Tensor]:
    """Run images (B, 3, H, W) to the end: tokens z and u (B, 1 + h·w, width), class token first.

    z is CLIP's own stream. u is the patches' stream, which is z up to the first repaired block:

        a_l = W_O attention(W_QKV LN(z_{l-1}))
        u_l = a_l  ["attention only"],   u_{l-1} + a_l  ["residual"],   or that + its MLP
    """
    blocks = list(visual.transformer.resblocks)
    shared = repair.first_block(len(blocks)) - 1
    z = embed(visual, images)
    for block in blocks[:shared]:
        z = block(z)
    u = z
    for block in blocks[shared:]:
        tokens = Tokens(*project_qkv(block, z), block.ln_1(z), tuple(visual.grid_size))
        added = merge_heads(block, ATTENTIONS[repair.attention](tokens))
        u = added if repair.keeps == "attention only" else u + added
        if repair.keeps == "residual and MLP":
            u = feed_forward(block, u)
        z = feed_forward(block, z + merge_heads(block, mix(tokens, "qk")))
    return z, u


@dataclass(frozen=True)
class AttentionVariant(Baseline):
    """A member of the family as a detector: maps from u, image scores from the class token of z.

    >>> method = AttentionVariant(toy_clip, repair=FAMILY["sclip"], level="word")
    >>> method.name, method(torch.zeros(1, 3, 32, 32), "nut").map.shape
    ('sclip', (32, 32))
    """

    _: KW_ONLY
    repair: Repair

    @property
    def name(self) -> str:
        """The name of the member."""
        return self.repair.name

    def score_patches(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        visual = self.clip.model.visual
        z, u = repaired_streams(visual, pixels, self.repair)
        patches = project_to_clip_space(visual, u[:, 1:]).unflatten(1, self.clip.grid)
        cls = project_to_clip_space(visual, z[:, 0])
        return anomalous_probability(patches, text), image_scores(cls, text)


def attention_weights(
    clip: Clip, images: Images, *, attention: Attention = "qk", block: int = -1
) -> Tensor:
    """Compute attention weights (B, heads, N, N), N = 1 + h·w; rows sum to 1, token 0 is the class.

    `block` counts from 1, or from the end (-1). All weights are of the ordinary stream's tokens.

    >>> attention_weights(toy_clip, torch.zeros(1, 3, 32, 32), block=1).shape
    torch.Size([1, 4, 5, 5])

    Raises ValueError for an unknown attention or a block that the model does not have.
    """
    visual = clip.model.visual
    check_attention(clip, attention)
    depth = len(visual.transformer.resblocks)
    if block == 0 or block not in range(-depth, depth + 1):
        raise ValueError(f"block must be 1 to {depth}, or -{depth} to -1; found {block!r}")
    *before, last = list(visual.transformer.resblocks)[: block % (depth + 1)]
    with torch.inference_mode(), inference_context(clip):
        z = embed(visual, preprocess(clip, as_list(images)).to(visual.conv1.weight))
        for ordinary in before:
            z = ordinary(z)
        parts = dict(zip("qkv", project_qkv(last, z), strict=True))
    a, b = (parts[letter].float() for letter in attention)  # (B, heads, N, d)
    return torch.softmax(a @ b.mT / a.shape[-1] ** 0.5, dim=-1)
