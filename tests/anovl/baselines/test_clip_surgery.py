"""CLIP Surgery: its blocks, and its feature surgery by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import make_clip, make_images, make_text, picture, score_patches
from torch.testing import assert_close

from anovl.attention import embed, encode_images, project_to_clip_space
from anovl.baselines.clip_surgery import ClipSurgery, feature_surgery
from anovl.detector import AnoVL
from anovl.maps import anomalous_probability, cosines, image_scores
from anovl_companion.measure.streams import local_attention


@pytest.mark.parametrize(("depth", "start"), [(1, 1), (2, 2), (4, 3), (12, 7), (24, 19)])
def test_clip_surgery_starts_six_blocks_from_the_end_or_in_the_middle(depth, start):
    clip, text = make_clip(layers=depth), make_text()
    visual, pixels = clip.model.visual, make_images(clip)
    with torch.no_grad():
        z = embed(visual, pixels)
        for number, block in enumerate(visual.transformer.resblocks, start=1):
            if number == start:
                u = z
            if number >= start:
                u = u + local_attention(block, z)
            z = block(z)
        patches = project_to_clip_space(visual, u[:, 1:]).unflatten(1, (2, 2))
    values, scores = score_patches(ClipSurgery(clip), pixels, text)
    assert ClipSurgery(clip).start == start
    assert_close(values, anomalous_probability(patches, text), rtol=0, atol=1e-5)
    assert_close(
        scores, image_scores(project_to_clip_space(visual, z[:, 0]), text), rtol=0, atol=1e-5
    )


def test_clip_surgery_in_all_blocks_is_anovl(tiny_clip):
    other = ClipSurgery(tiny_clip, first_block=1, level="word")(picture(0), "nut")
    anovl = AnoVL(tiny_clip, level="word")(picture(0), "nut")
    np.testing.assert_allclose(other.map, anovl.map, atol=1e-6)
    assert other.score == pytest.approx(anovl.score)


def test_feature_surgery_is_the_published_one_channel_by_channel():
    generator = torch.Generator().manual_seed(1)
    tokens, texts = (
        F.normalize(torch.randn(*shape, generator=generator), dim=-1)
        for shape in [(2, 1 + 6, 8), (3, 8)]
    )
    claims = (2 * tokens[:, 0] @ texts.T).softmax(dim=-1)
    weights = claims / claims.mean(dim=-1, keepdim=True)
    products = tokens[:, 1:, None] * texts * weights[:, None, :, None]  # (image, patch, text, D)
    expected = (products - products.mean(dim=2, keepdim=True)).sum(dim=-1).unflatten(1, (2, 3))
    patches = (tokens[:, 1:] @ texts.T).unflatten(1, (2, 3))
    assert_close(feature_surgery(patches, tokens[:, 0] @ texts.T), expected)


def test_feature_surgery_removes_what_all_texts_share():
    shared = torch.rand(1, 2, 2, 1, generator=torch.Generator().manual_seed(0)).expand(1, 2, 2, 3)
    undecided = torch.full((1, 3), 0.2)
    assert_close(feature_surgery(shared, undecided), torch.zeros(1, 2, 2, 3))


def test_surgery_weighs_each_cosine_by_the_claim_of_its_text(tiny_clip):
    text, pixels = make_text(32), make_images(tiny_clip)
    plain, _ = score_patches(ClipSurgery(tiny_clip), pixels, text)
    operated, scores = score_patches(ClipSurgery(tiny_clip, surgery=True), pixels, text)
    features = encode_images(tiny_clip, pixels, first_block=3)
    claims = 2 * (2 * cosines(features.cls, text)).softmax(dim=-1)
    normal, abnormal = (cosines(features.patches, text) * claims[:, None, None]).unbind(-1)
    assert_close(operated, torch.sigmoid(abnormal - normal))
    assert (operated - plain).abs().max() > 1e-4
    assert_close(scores, image_scores(features.cls, text))
