"""TransMM: its rule with gradients by finite differences, and whose logit it explains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import (
    make_clip,
    make_images,
    make_pixels,
    make_text,
    picture,
    score_patches,
    with_words,
)
from torch.testing import assert_close

from anovl.attention import embed, project_to_clip_space
from anovl.baselines.transmm import TransMM, relevance


def target(cls):
    return cls.square().sum(dim=1) + cls[:, 0]


def written_out(clip, z, *, change=None):
    """The target of tokens z, and the attention weights of all blocks; `change` adds to one."""
    weights = []
    for number, block in enumerate(clip.model.visual.transformer.resblocks):
        attn, heads = block.attn, block.attn.num_heads
        stacked = F.linear(block.ln_1(z), attn.in_proj_weight, attn.in_proj_bias)
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in stacked.chunk(3, dim=-1))
        weights.append((q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1))
        if change and change[0] == number:
            _, place, step = change
            weights[-1][(slice(None), *place)] += step
        z = z + attn.out_proj((weights[-1] @ v).transpose(1, 2).flatten(2))
        z = z + block.mlp(block.ln_2(z))
    return target(project_to_clip_space(clip.model.visual, z[:, 0])), weights


@pytest.mark.parametrize("first_block", [1, 2])
def test_transmm_is_its_rule_with_gradients_by_finite_differences(first_block):
    clip = make_clip(layers=2, head_width=32)
    clip.model.double()
    visual, pixels = clip.model.visual, make_images(clip).double()
    found, cls = relevance(visual, pixels, target, first_block=first_block)
    with torch.no_grad():
        z = embed(visual, pixels)
        expected = torch.eye(5).double()
        for number, weights in list(enumerate(written_out(clip, z)[1]))[first_block - 1 :]:
            slope = torch.empty_like(weights)
            for place in np.ndindex(*weights.shape[1:]):
                up, down = (
                    written_out(clip, z, change=(number, place, step))[0] for step in (1e-5, -1e-5)
                )
                slope[(slice(None), *place)] = (up - down) / 2e-5
            expected = expected + (slope * weights).clamp(min=0).mean(dim=1) @ expected
        assert_close(cls, clip.model.encode_image(pixels))
    assert_close(found.double(), expected[:, 0, 1:], rtol=1e-4, atol=1e-7)
    assert found.max() > 1e-3


def test_transmm_explains_the_logit_of_the_abnormal_words(tiny_clip):
    text, pixels = make_text(32), make_images(tiny_clip)
    abnormal, scale = text.prototypes[1], tiny_clip.model.logit_scale.exp()

    def logit(cls):
        return scale * F.cosine_similarity(cls, abnormal, dim=-1)

    expected, _ = relevance(tiny_clip.model.visual, pixels, logit)
    values, _ = score_patches(TransMM(tiny_clip), pixels, text)
    assert_close(values, expected.unflatten(1, (4, 4)))
    assert (values >= 0).all() and values.max() > 0


@pytest.mark.parametrize("around", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_transmm_in_any_mode_and_with_frozen_weights(around):
    clip, frozen = with_words(), with_words()
    for parameter in frozen.model.parameters():
        parameter.requires_grad_(False)
    expected = TransMM(clip, level="word")(picture(0), "nut")
    with around():
        np.testing.assert_allclose(TransMM(clip, level="word")(picture(0), "nut").map, expected.map)
        result = TransMM(frozen, level="word")(make_pixels(clip), "nut")
    np.testing.assert_allclose(result.map, expected.map, atol=1e-6)
