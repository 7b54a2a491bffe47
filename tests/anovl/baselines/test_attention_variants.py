"""The family of attention repairs: each member by plain matrix products, and limits that hold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import make_clip, make_images
from torch.testing import assert_close

from anovl.attention import encode_images
from anovl.baselines import METHODS, VARIANTS, attention_variants, make_detector
from anovl.baselines.attention_variants import (
    FAMILY,
    STAIRCASE,
    AttentionVariant,
    repaired_streams,
)
from anovl.detector import AnoVL
from anovl.maps import anomalous_probability, image_scores
from anovl.prompts import TextFeatures

VISION = {"image_size": (32, 48), "layers": 4, "ls_init_value": 0.7}  # a grid of 2 by 3 patches


def layer_norm(x, norm):
    x = x - x.mean(dim=-1, keepdim=True)
    return x / (x.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def projected(block, z, letter):
    """Queries, keys or values of each head, (B, heads, N, 16), by slices of the stacked matrix."""
    start = 64 * "qkv".index(letter)
    rows = slice(start, start + 64)
    attn = block.attn
    x = layer_norm(z, block.ln_1) @ attn.in_proj_weight[rows].T + attn.in_proj_bias[rows]
    return torch.stack([x[..., 16 * head : 16 * head + 16] for head in range(4)], dim=1)


def softmax(scores):
    e = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
    return e / e.sum(dim=-1, keepdim=True)


def weights(block, z, pair):
    a, b = (projected(block, z, letter) for letter in pair)
    return softmax(a @ b.mT / math.sqrt(16))


def merged(block, mixed):
    """W_O of the heads put side by side, times LayerScale."""
    heads = torch.cat(list(mixed.unbind(dim=1)), dim=-1)
    return (heads @ block.attn.out_proj.weight.T + block.attn.out_proj.bias) * block.ls_1.gamma


def mlp(block, x):
    hidden = layer_norm(x, block.ln_2) @ block.mlp.c_fc.weight.T + block.mlp.c_fc.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return (hidden @ block.mlp.c_proj.weight.T + block.mlp.c_proj.bias) * block.ls_2.gamma


def ordinary(visual, pixels):
    """The tokens before each block, and after the last."""
    x = torch.nn.functional.conv2d(pixels, visual.conv1.weight, stride=16).flatten(2).mT
    cls = visual.class_embedding.expand(len(x), 1, -1)
    x = torch.cat([cls, x], dim=1) + visual.positional_embedding
    streams = [layer_norm(x, visual.ln_pre)]
    for block in visual.transformer.resblocks:
        z = streams[-1]
        z = z + merged(block, weights(block, z, "qk") @ projected(block, z, "v"))
        streams.append(z + mlp(block, z))
    return streams


def in_last_block(mixed, *, residual, with_mlp):
    """A method that changes the last block only, where `mixed` is what its heads say."""

    def method(visual, streams):
        block, z = visual.transformer.resblocks[-1], streams[-2]
        u = merged(block, mixed(block, z))
        u = z + u if residual else u
        return u + mlp(block, u) if with_mlp else u

    return method


def beside(mixed, first):
    """A second stream from block `first` on, with the residual connection and without MLP."""

    def method(visual, streams):
        u = streams[first - 1]
        for block, z in list(zip(visual.transformer.resblocks, streams))[first - 1 :]:  # noqa: B905
            u = u + merged(block, mixed(block, z))
        return u

    return method


def attending(*pairs):
    def mixed(block, z):
        return sum(weights(block, z, pair) for pair in pairs) @ projected(block, z, "v")

    return mixed


def own_value(block, z):
    return projected(block, z, "v")


def near_keys(block, z):
    bonus = torch.zeros(7, 7)
    for i in range(6):
        for j in range(6):
            squared = (i // 3 - j // 3) ** 2 + (i % 3 - j % 3) ** 2
            bonus[1 + i, 1 + j] = math.exp(-squared / (2 * 5**2))
    k = projected(block, z, "k")
    return softmax(k @ k.mT / math.sqrt(16) + bonus) @ projected(block, z, "v")


def gems(block, z):
    lengths = layer_norm(z, block.ln_1).square().sum(dim=-1).sqrt()
    tau = lengths.mean(dim=1)[:, None, None, None] / math.sqrt(16)
    total = 0
    for letter in "qkv":
        x = projected(block, z, letter)
        x = x / x.square().sum(dim=-1, keepdim=True).sqrt()
        x = softmax(tau * (x @ x.mT)) @ x
        x = x / x.square().sum(dim=-1, keepdim=True).sqrt()
        total = total + softmax(tau * (x @ x.mT)) @ projected(block, z, "v")
    return total / 3


# Four blocks: "last six" is the last half of them, from block 3 on.
REFERENCES = {
    "clip": lambda visual, streams: streams[-1],
    "second-stream-qk": beside(attending("qk"), 1),
    "anovl": beside(attending("vv"), 1),
    "second-stream-own": beside(own_value, 1),
    "anovl-qq": beside(attending("qq"), 1),
    "anovl-kk": beside(attending("kk"), 1),
    "clip-surgery": beside(attending("vv"), 3),
    "gem": beside(gems, 3),
    "maskclip": in_last_block(own_value, residual=True, with_mlp=True),
    "values-only": in_last_block(own_value, residual=False, with_mlp=False),
    "sclip": in_last_block(attending("qq", "kk"), residual=True, with_mlp=True),
    "clearclip": in_last_block(attending("qq"), residual=False, with_mlp=False),
    "naclip": in_last_block(near_keys, residual=False, with_mlp=False),
    "qkv": in_last_block(attending("qq", "kk", "vv"), residual=False, with_mlp=False),
}


@pytest.fixture(scope="module")
def clip():
    return make_clip(**VISION)


def streams_of(clip, repair, pixels=None):
    with torch.no_grad():
        return repaired_streams(
            clip.model.visual, make_images(clip) if pixels is None else pixels, repair
        )


def patches_of(clip, repair):
    """The patches' tokens u (B, h·w, width), without the class token."""
    return streams_of(clip, repair)[1][:, 1:]


@pytest.mark.parametrize("name", FAMILY)
def test_each_member_is_its_formula_in_plain_matrix_products(clip, name):
    visual = clip.model.visual
    z, u = streams_of(clip, FAMILY[name])
    with torch.no_grad():
        streams = ordinary(visual, make_images(clip))
        assert_close(u[:, 1:], REFERENCES[name](visual, streams)[:, 1:], rtol=0, atol=1e-5)
        cls = layer_norm(z[:, 0], visual.ln_post) @ visual.proj
        assert_close(cls, clip.model.encode_image(make_images(clip)), rtol=0, atol=1e-5)


def test_detectors_read_the_streams_with_words(clip):
    rows = torch.nn.functional.normalize(torch.randn(2, 16, generator=torch.Generator()), dim=1)
    text, visual = TextFeatures(rows, rows, [False, True]), clip.model.visual
    values, scores = AttentionVariant(clip, repair=FAMILY["sclip"]).score_patches(
        make_images(clip), text
    )
    u = layer_norm(patches_of(clip, FAMILY["sclip"]), visual.ln_post) @ visual.proj
    assert_close(values, anomalous_probability(u.unflatten(1, (2, 3)), text), rtol=0, atol=1e-6)
    cls = clip.model.encode_image(make_images(clip))
    assert_close(scores, image_scores(cls, text), rtol=0, atol=1e-6)


# Members that have a class of their own


@pytest.mark.parametrize("name", ["clip", "anovl", "anovl-qq", "anovl-kk"])
def test_a_member_equals_the_detector_of_that_name(tiny_clip, name):
    pixels = make_images(tiny_clip)
    own = make_detector(name, tiny_clip, level="word")
    assert type(own) is AnoVL
    variant = AttentionVariant(tiny_clip, repair=FAMILY[name], level="word")
    for ours, theirs in zip(*(d.localize(pixels, "nut") for d in (variant, own)), strict=True):
        np.testing.assert_allclose(ours.map, theirs.map, atol=1e-5)
        assert ours.score == pytest.approx(theirs.score, abs=1e-5)


# Limits


def test_naclip_without_its_bonus_and_with_the_residual_is_anovls_kk(clip, monkeypatch):
    flat = torch.zeros(7, 7)
    monkeypatch.setattr(attention_variants, "nearness", lambda grid: flat)
    bare = FAMILY["naclip"]
    u = layer_norm(patches_of(clip, replace(bare, keeps="residual")), clip.model.visual.ln_post)
    kk = encode_images(clip, make_images(clip), attention="kk", first_block=4).patches.flatten(1, 2)
    assert_close(u @ clip.model.visual.proj, kk, rtol=0, atol=1e-6)
    without = layer_norm(patches_of(clip, bare), clip.model.visual.ln_post)
    assert (without @ clip.model.visual.proj - kk).abs().max() > 1e-2


def test_clip_surgery_from_the_first_block_is_anovl(clip):
    first = patches_of(clip, replace(FAMILY["clip-surgery"], blocks="all"))
    assert_close(first, patches_of(clip, FAMILY["anovl"]), rtol=0, atol=0)


def test_with_its_own_value_only_a_patch_of_one_block_speaks_for_itself():
    clip = make_clip(layers=1)
    pixels = make_images(clip, 1)
    changed = pixels.clone()
    changed[:, :, 20, 3] += 1  # the patch of row 1, column 0
    for name in ("second-stream-own", "maskclip", "values-only"):
        before, after = (streams_of(clip, FAMILY[name], x)[1][0, 1:] for x in (pixels, changed))
        assert (before != after).any(dim=-1).nonzero().flatten().tolist() == [2], name


# Parts


@pytest.mark.parametrize(
    "wrong", [{"attention": "k-v"}, {"blocks": "first"}, {"keeps": "MLP"}], ids=str
)
def test_a_choice_that_does_not_exist(wrong):
    (choice,) = wrong
    with pytest.raises(ValueError, match=choice):
        replace(FAMILY["sclip"], **wrong)


# Names


def test_every_member_has_a_name_in_tables():
    assert set(FAMILY) <= {*METHODS, *VARIANTS} <= {*FAMILY, *METHODS}


def test_the_staircase_changes_one_thing_at_a_time():
    steps = [FAMILY[name] for name in STAIRCASE]
    assert list(FAMILY)[:4] == list(STAIRCASE)
    assert [step.attention for step in steps] == ["q-k", "q-k", "v-v", "own value"]
    assert {(step.blocks, step.keeps) for step in steps[1:]} == {("all", "residual")}
