"""Kinds of attention x first block, and what a patch with a defect receives of its own value."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anovl.attention import ATTENTIONS, embed, feed_forward, merge_heads, project_qkv
from anovl.attention import project_to_clip_space as project
from anovl.maps import anomaly_maps
from anovl_companion.measure.ablation import maps_of
from anovl_companion.measure.category import BATCH, Category, Variant

OWN_STREAM = "own value in all blocks, own stream"


def attention_variants(category: Category) -> Iterator[Variant]:
    """Yield "q-k", and "v-v from 1" and its like: each kind of a second stream by its first block.

    Those that begin with block 1, and "q-k", bring the own-value shares of the last block. One more
    variant has no second stream: CLIP's own blocks, with own values alone.
    """
    blocks = range(1, len(category.clip.model.visual.transformer.resblocks) + 1)
    for kind in ATTENTIONS:
        shares = own_value_shares(category, kind)
        for first in blocks[:1] if kind == "qk" else blocks:
            name = "q-k" if kind == "qk" else f"{'-'.join(kind)} from {first}"
            maps = maps_of(category.encoded(kind, first), category.text)
            yield Variant(name, maps, each=shares if first == 1 else {})
    patches = torch.cat([own_stream(category, batch) for batch in category.pixels.split(BATCH)])
    maps = anomaly_maps(patches, category.text, size=category.truth.shape[1:])
    yield Variant(OWN_STREAM, maps.cpu().numpy())


@torch.inference_mode()
def own_stream(category: Category, pixels: Tensor) -> Tensor:
    """Patches (B, h, w, D) of CLIP's own stream when no token looks at another, in any block."""
    visual = category.clip.model.visual
    z = embed(visual, pixels.to(category.clip.device))
    for block in visual.transformer.resblocks:
        z = feed_forward(block, z + merge_heads(block, project_qkv(block, z)[2]))
    return project(visual, z[:, 1:]).float().unflatten(1, category.clip.grid)


@torch.inference_mode()
def own_value_shares(category: Category, kind: str) -> dict[str, np.ndarray]:
    """How much of its own value a patch with a defect receives in the last block.

    For each anomalous picture, the mean over heads and over patches, weighted by how much of a
    patch the defect covers: `own_value` is o·v / v·v of what arrives, o, and the own value, v;
    `own_value_centred` is the same after the picture's mean value is subtracted from both;
    `own_value_negative` is the share of patches and heads where o·v is negative.
    """
    visual = category.clip.model.visual
    *before, last = visual.transformer.resblocks
    anomalous = np.flatnonzero(category.labels)
    weights = torch.from_numpy(category.coverage()[anomalous]).flatten(1)  # (n, h·w)
    found = []
    for batch in category.pixels[anomalous].split(BATCH):
        z = embed(visual, batch.to(category.clip.device))
        for block in before:
            z = block(z)
        q, k, v = project_qkv(last, z)  # each (B, heads, N, d)
        a, b = ({"q": q, "k": k, "v": v}[letter] for letter in kind)
        arrives = F.scaled_dot_product_attention(a, b, v)[:, :, 1:]
        found.append(_shares(arrives.double(), v[:, :, 1:].double()))
    raw, centred, negative = torch.cat(found, dim=1).cpu().mean(dim=2)  # each (n, h·w)
    names = ("own_value", "own_value_centred", "own_value_negative")
    means = ((weights * one).sum(dim=1) / weights.sum(dim=1) for one in (raw, centred, negative))
    return {name: mean.numpy() for name, mean in zip(names, means, strict=True)}


def _shares(arrives: Tensor, own: Tensor) -> Tensor:
    """Own-value shares (3, B, heads, n) of what arrives at patches (B, heads, n, d)."""
    mean = own.mean(dim=2, keepdim=True)
    raw = (arrives * own).sum(dim=-1) / own.square().sum(dim=-1)
    apart = own - mean
    centred = ((arrives - mean) * apart).sum(dim=-1) / apart.square().sum(dim=-1)
    return torch.stack([raw, centred, (raw < 0).double()])
