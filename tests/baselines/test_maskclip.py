"""MaskCLIP by hand on tiny models."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import make_clip, make_images
from looking import look, make_text
from torch.testing import assert_close

from anovl.attention import embed
from anovl.baselines.maskclip import MaskCLIP
from anovl.maps import anomalous_probability, image_scores


@pytest.mark.parametrize("values_only", [True, False])
@pytest.mark.parametrize("vision", [{}, {"ls_init_value": 0.1}], ids=["plain", "layer scale"])
def test_maskclip_is_the_value_projection_by_hand(vision, values_only):
    clip, text = make_clip(layers=2, **vision), make_text()
    visual, pixels = clip.model.visual, make_images(clip)
    first, last = visual.transformer.resblocks
    with torch.no_grad():
        z = first(embed(visual, pixels))
        attn = last.attn
        of_values = slice(2 * 64, 3 * 64)  # the last third of the stacked q, k and v
        value = last.ln_1(z) @ attn.in_proj_weight[of_values].T + attn.in_proj_bias[of_values]
        u = value @ attn.out_proj.weight.T + attn.out_proj.bias
        if vision:
            u = u * last.ls_1.gamma
        if not values_only:
            u = z + u
            hidden = F.gelu(F.linear(last.ln_2(u), last.mlp.c_fc.weight, last.mlp.c_fc.bias))
            added = F.linear(hidden, last.mlp.c_proj.weight, last.mlp.c_proj.bias)
            u = u + (added * last.ls_2.gamma if vision else added)
        patches = (visual.ln_post(u[:, 1:]) @ visual.proj).unflatten(1, (2, 2))
        cls = clip.model.encode_image(pixels)
    values, scores = look(MaskCLIP(clip, values_only=values_only), pixels, text)
    assert_close(values, anomalous_probability(patches, text), rtol=0, atol=1e-6)
    assert_close(scores, image_scores(cls, text), rtol=0, atol=1e-6)


def test_in_maskclip_of_one_block_every_patch_speaks_for_itself():
    clip = make_clip(layers=1)
    pixels = make_images(clip, 1)
    changed = pixels.clone()
    changed[:, :, 20, 3] += 1  # the patch of row 1, column 0
    before, after = (look(MaskCLIP(clip), x, make_text())[0][0] for x in (pixels, changed))
    assert (before != after).nonzero().tolist() == [[1, 0]]
