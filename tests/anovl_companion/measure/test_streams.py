"""The streams taken apart: terms that add up, shares that add up, and where tokens look."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from helpers import make_clip, make_images
from torch import nn
from torch.testing import assert_close

import anovl
from anovl.attention import embed, project_qkv, project_to_clip_space, two_streams
from anovl_companion.measure.streams import local_attention, local_terms, projection_shares


def test_v_v_attention_by_hand():
    """Two orthogonal tokens, one head, d = 2, V = z: each looks at itself by e^(|v|²/√d) to 1."""
    attn = SimpleNamespace(
        in_proj_weight=torch.cat([torch.full((4, 2), 7.0), torch.eye(2)]),
        in_proj_bias=None,
        num_heads=1,
        out_proj=nn.Identity(),
    )
    block = SimpleNamespace(ln_1=nn.Identity(), ls_1=nn.Identity(), attn=attn)
    z = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    first = math.exp(4 / math.sqrt(2)) / (math.exp(4 / math.sqrt(2)) + 1)  # |v_1|² = 4, v_1·v_2 = 0
    second = math.exp(9 / math.sqrt(2)) / (math.exp(9 / math.sqrt(2)) + 1)  # |v_2|² = 9
    expected = [[2 * first, 3 * (1 - first)], [2 * (1 - second), 3 * second]]
    assert_close(local_attention(block, z, "vv"), torch.tensor([expected]))


@pytest.mark.parametrize("vision", [{}, {"ls_init_value": 0.1}], ids=["plain", "layer scale"])
@pytest.mark.parametrize("first_block", [1, 2, 3])
@pytest.mark.parametrize("kind", ["vv", "qq", "kk"])
def test_local_stream_is_the_sum_of_its_terms(kind, first_block, vision):
    clip = make_clip(**vision)
    visual, images = clip.model.visual, make_images(clip)
    blocks = visual.transformer.resblocks
    with torch.no_grad():
        terms = local_terms(visual, images, kind, first_block)
        _, u = two_streams(visual, images, kind, first_block)
        z = embed(visual, images)
        for number, block in enumerate(blocks, start=1):
            if number == first_block:
                assert_close(terms[0], z)
            if number >= first_block:
                added = local_attention(block, z, kind)
                assert_close(terms[1 + number - first_block], added, rtol=0, atol=1e-6)
            z = block(z)
    assert len(terms) == 2 + len(blocks) - first_block
    assert_close(terms.sum(dim=0), u, rtol=0, atol=1e-5)


@pytest.mark.parametrize("projected", [True, False])
def test_shares_add_up_to_the_projection(projected):
    clip = make_clip()
    visual = clip.model.visual
    if not projected:
        visual.proj = None
    with torch.no_grad():
        terms = local_terms(visual, make_images(clip))
        shares = projection_shares(visual, terms)
        whole = project_to_clip_space(visual, terms.sum(dim=0))
        constant = project_to_clip_space(visual, torch.zeros_like(terms[0]))
    assert shares.shape == (*terms.shape[:-1], clip.embed_dim)
    assert_close(shares.sum(dim=0) + constant, whole, rtol=0, atol=1e-5)


def test_shares_by_hand():
    """LayerNorm of (1, 3) + (3, 5) = (4, 8): mean 6, spread 2; each term has half of (-1, 1)."""
    visual = SimpleNamespace(ln_post=nn.LayerNorm(2, eps=0), proj=torch.tensor([[1.0], [3.0]]))
    terms = torch.tensor([[1.0, 3.0], [3.0, 5.0]])
    assert_close(projection_shares(visual, terms).detach(), torch.tensor([[1.0], [1.0]]))


@pytest.mark.parametrize("block", [1, 3, 4])
def test_attention_weights_are_the_library_s(tiny_clip, block):
    images = make_images(tiny_clip)
    blocks = tiny_clip.model.visual.transformer.resblocks
    with torch.no_grad():
        z = embed(tiny_clip.model.visual, images)
        for before in blocks[: block - 1]:
            z = before(z)
        h = blocks[block - 1].ln_1(z)
        _, expected = blocks[block - 1].attn(h, h, h, average_attn_weights=False)
    ours = anovl.attention_weights(tiny_clip, images, block=block)
    assert ours.shape == (2, 2, 17, 17)
    assert_close(ours, expected, rtol=0, atol=1e-6)
    assert_close(ours, anovl.attention_weights(tiny_clip, images, block=block - 5))


def test_local_attention_mixes_values_by_its_own_weights(tiny_clip):
    images, visual = make_images(tiny_clip), tiny_clip.model.visual
    first = visual.transformer.resblocks[0]
    weights = anovl.attention_weights(tiny_clip, images, attention="vv", block=1)
    with torch.no_grad():
        z = embed(visual, images)
        mixed = weights @ project_qkv(first, z)[2]
        expected = first.attn.out_proj(mixed.transpose(1, 2).flatten(2))
        assert_close(local_attention(first, z, "vv"), expected, rtol=0, atol=1e-5)


def test_unknown_attention_and_blocks_out_of_range(tiny_clip):
    images = make_images(tiny_clip)
    with pytest.raises(ValueError, match="'qv'"):
        anovl.attention_weights(tiny_clip, images, attention="qv")
    for block in (0, 5, -5):
        with pytest.raises(ValueError, match="block"):
            anovl.attention_weights(tiny_clip, images, block=block)
