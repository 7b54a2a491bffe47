"""Other methods' ways of looking: by hand on tiny models, one signature, names, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_clip, make_images
from PIL import Image
from torch.testing import assert_close

from anovl.attention import embed, encode_images, local_attention, project_to_clip_space
from anovl.baselines import METHODS, VARIANTS, make_detector, published_options
from anovl.baselines.clip_surgery import ClipSurgery, feature_surgery
from anovl.baselines.transmm import TransMM, relevance
from anovl.clip import hash_state_dict, preprocess
from anovl.detector import TTA, AnoVL, ClipDetector
from anovl.maps import anomalous_probability, cosines, image_scores, smooth_and_upsample, upsample
from anovl.models.pocket import PocketTokenizer, token_ids
from anovl.prompts import TextFeatures, prompt_ensemble

LOOKING = ["transmm", "maskclip", "clip-surgery", "winclip", "gem", "naclip"]


def picture(seed, width=50, height=40):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def with_words(**vision):
    """A random CLIP that can read "normal nut" and "damaged nut"."""
    tokenizer = PocketTokenizer(token_ids(["normal damaged nut"]))
    return replace(make_clip(**vision), tokenizer=tokenizer)


def make_text(width=16):
    """Two random prototypes."""
    rows = F.normalize(torch.randn(2, width, generator=torch.Generator().manual_seed(5)), dim=1)
    return TextFeatures(rows, rows, [False, True])


def look(detector, pixels, text):
    with torch.no_grad():
        return detector.look(pixels, text)


# CLIP Surgery


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
    values, scores = look(ClipSurgery(clip), pixels, text)
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
    plain, _ = look(ClipSurgery(tiny_clip), pixels, text)
    operated, scores = look(ClipSurgery(tiny_clip, surgery=True), pixels, text)
    features = encode_images(tiny_clip, pixels, first_block=3)
    claims = 2 * (2 * cosines(features.cls, text)).softmax(dim=-1)
    normal, abnormal = (cosines(features.patches, text) * claims[:, None, None]).unbind(-1)
    assert_close(operated, torch.sigmoid(abnormal - normal))
    assert (operated - plain).abs().max() > 1e-4
    assert_close(scores, image_scores(features.cls, text))


# TransMM


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


def test_transmm_of_one_block_and_one_head_by_hand():
    """Without the MLP, looking at a token adds what W_O makes of its value, and no more."""
    clip = make_clip(layers=1, head_width=64)
    visual, pixels = clip.model.visual, make_images(clip, 1)
    (block,) = visual.transformer.resblocks
    block.mlp.c_proj.weight.data.zero_()
    visual.ln_post, visual.proj = torch.nn.Identity(), None
    direction = torch.randn(64, generator=torch.Generator().manual_seed(2))
    found, _ = relevance(visual, pixels, lambda cls: cls @ direction)
    with torch.no_grad():
        h = block.ln_1(embed(visual, pixels))
        _, attention = block.attn(h, h, h)
        value = F.linear(h, block.attn.in_proj_weight[128:], block.attn.in_proj_bias[128:])
        gain = value @ block.attn.out_proj.weight.T @ direction  # what looking at a token adds
        expected = (attention[:, 0] * gain).clamp(min=0)[:, 1:]
    assert_close(found, expected, rtol=0, atol=1e-5)


def test_transmm_explains_the_logit_of_the_abnormal_words(tiny_clip):
    text, pixels = make_text(32), make_images(tiny_clip)
    abnormal, scale = text.prototypes[1], tiny_clip.model.logit_scale.exp()

    def logit(cls):
        return scale * F.cosine_similarity(cls, abnormal, dim=-1)

    expected, _ = relevance(tiny_clip.model.visual, pixels, logit)
    values, _ = look(TransMM(tiny_clip), pixels, text)
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


def make_pixels(clip):
    return preprocess(clip, picture(0))


@pytest.mark.parametrize("method", [TransMM, ClipSurgery])
def test_blocks_out_of_range(tiny_clip, method):
    for block in (0, 5, -1):
        with pytest.raises(ValueError, match=f"first_block must be 1 to 4.*found {block}"):
            method(tiny_clip, first_block=block)


# All of them


@pytest.mark.parametrize("name", LOOKING)
def test_what_comes_out(name):
    clip = with_words(image_size=(48, 64))
    detector = make_detector(name, clip, level="word", batch_size=2)
    pictures = [picture(seed) for seed in range(3)]
    results = detector.localize(pictures, "nut")
    assert isinstance(detector, ClipDetector) and not detector.whole_category
    for result in results:
        assert (result.map.shape, result.map.dtype) == ((48, 64), np.float32)
        assert isinstance(result.score, float) and result.map_before_tta is None
    assert detector.localize(pictures, "nut", size=(20, 30))[2].map.shape == (20, 30)
    assert detector.localize([], "nut") == []


@pytest.mark.parametrize("name", LOOKING)
def test_maps_are_values_of_patches_enlarged(tiny_clip, name):
    detector = make_detector(name, tiny_clip, level="word")
    values, scores = look(detector, make_pixels(tiny_clip), detector.text("nut"))
    enlarge = upsample if name in ("winclip", "transmm") else smooth_and_upsample
    result = detector(picture(0), "nut", size=40)
    np.testing.assert_allclose(result.map, enlarge(values, size=40)[0], atol=1e-6)
    assert result.score == pytest.approx(scores.item())


@pytest.mark.parametrize("name", LOOKING)
def test_scores_are_plain_clips(tiny_clip, name):
    pictures = [picture(seed) for seed in range(4)]
    detector = make_detector(name, tiny_clip, level="word")
    found = [result.score for result in detector.localize(pictures, "nut")]
    clip = AnoVL(tiny_clip, attention="qk", level="word")
    plain = [result.score for result in clip.localize(pictures, "nut")]
    if name == "winclip":  # which divides the cosines by a temperature
        plain = 1 / (1 + (1 / np.array(plain) - 1) ** (1 / 0.07))
    np.testing.assert_allclose(found, plain, atol=1e-5)


@pytest.mark.parametrize("name", LOOKING)
def test_any_kind_of_image_in_any_batch(tiny_clip, name, tmp_path):
    pictures = [picture(seed) for seed in range(3)]
    at_once = make_detector(name, tiny_clip, level="word").localize(pictures, "nut")
    detector = make_detector(name, tiny_clip, level="word", batch_size=2)
    pictures[2].save(tmp_path / "nut.png")
    pixels = preprocess(tiny_clip, pictures)
    words = prompt_ensemble("nut", level="word")
    for images, category in ((pictures, "nut"), (pixels, words)):
        for result, expected in zip(detector.localize(images, category), at_once, strict=True):
            np.testing.assert_allclose(result.map, expected.map, atol=1e-5)
            assert result.score == pytest.approx(expected.score, abs=1e-5)
    for image in (tmp_path / "nut.png", str(tmp_path / "nut.png"), pixels[2], pixels[2:]):
        np.testing.assert_allclose(detector(image, "nut").map, at_once[2].map, atol=1e-5)


@pytest.mark.parametrize("name", LOOKING)
def test_the_model_is_left_as_it_was(name):
    clip = with_words(patch_dropout=0.5, layers=2, image_size=48)
    expected = make_detector(name, clip, level="word")(picture(0), "nut")
    clip.model.train()
    clip.model.visual.ln_pre.eval()
    flags = {part: module.training for part, module in clip.model.named_modules()}
    found = make_detector(name, clip, level="word")(picture(0), "nut")
    np.testing.assert_array_equal(found.map, expected.map)
    assert {part: module.training for part, module in clip.model.named_modules()} == flags
    assert hash_state_dict(clip.model.state_dict()) == clip.weights_hash
    assert all(p.grad is None and p.requires_grad for p in clip.model.parameters())
    for module in clip.model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert not module._backward_hooks and not module._backward_pre_hooks


@pytest.mark.parametrize("name", LOOKING)
@pytest.mark.parametrize(
    "vision",
    [
        {"ls_init_value": 0.1},
        {"block_type": "custom"},
        {"custom_text": True},
        {"image_size": (48, 64), "patch_size": (16, 8)},
    ],
    ids=str,
)
def test_any_vision_transformer_with_a_class_token(name, vision):
    clip = with_words(**{"image_size": 48, "layers": 2} | vision)
    assert np.ptp(make_detector(name, clip, level="word")(picture(0), "nut").map) > 0


@pytest.mark.parametrize("how", ["weights", "autocast"])
@pytest.mark.parametrize("name", LOOKING)
def test_a_model_in_half_precision(name, how):
    half, exact = (with_words(image_size=48, layers=2) for _ in range(2))
    if how == "weights":
        half.model.bfloat16()
    else:
        half = replace(half, precision="bfloat16")
    found, expected = (
        make_detector(name, clip, level="word")(picture(0), "nut") for clip in (half, exact)
    )
    assert found.map.dtype == np.float32 and not np.array_equal(found.map, expected.map)
    assert np.abs(found.map - expected.map).max() < 0.5 * np.ptp(expected.map)
    assert np.corrcoef(found.map.ravel(), expected.map.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", LOOKING)
def test_what_is_refused(tiny_clip, name):
    with pytest.raises(ValueError, match="batch_size must be at least 1; found 0"):
        make_detector(name, tiny_clip, batch_size=0)
    detector = make_detector(name, tiny_clip, level="word")
    with pytest.raises(ValueError, match="name of the category"):
        detector(picture(0), " ")
    with pytest.raises(ValueError, match=r"expected preprocessed images of shape \(B, 3, 64, 64\)"):
        detector(torch.zeros(1, 3, 32, 32), "nut")
    with pytest.raises(ValueError, match="size must be a whole number"):
        detector(picture(0), "nut", size=0)
    with pytest.raises(ValueError, match="expected one image; found 2"):
        detector([picture(0), picture(1)], "nut")


# Names


@pytest.mark.parametrize("name", METHODS | VARIANTS)
def test_every_method_by_its_name(tiny_clip, name):
    words = name not in ("centre", "outlier", "dog")
    detector = make_detector(name, tiny_clip, **{"level": "word"} if words else {})
    results = detector.localize([picture(0), picture(1)], "cloth")
    assert detector.name == name
    assert [result.map.shape for result in results] == [(64, 64)] * 2
    assert all(isinstance(result.score, float) for result in results)


def test_options_go_to_the_method(tiny_clip):
    assert make_detector("clip", tiny_clip).attention == "qk"
    assert make_detector("anovl-tta", tiny_clip, tta=TTA(steps=2)).tta.steps == 2
    assert make_detector("clip-surgery", tiny_clip, surgery=True).surgery
    assert make_detector("outlier", tiny_clip, patch=5).patch == 5


@pytest.mark.parametrize("name", METHODS)
def test_published_protocols_make_the_same_methods(tiny_clip, name):
    for dataset in ("mvtec", "visa", "pocket"):
        assert make_detector(name, tiny_clip, **published_options(name, dataset)).name == name


def test_published_protocols_differ_by_data_set(tiny_clip):
    mvtec, visa, pocket = (
        make_detector("anovl-tta", tiny_clip, **published_options("anovl-tta", dataset))
        for dataset in ("mvtec", "visa", "pocket")
    )
    assert [(d.views, d.tiles) for d in (mvtec, visa, pocket)] == [
        (22, False),
        (1, True),
        (1, False),
    ]
    assert [d.tta.adapter for d in (mvtec, visa, pocket)] == ["text", "linear", "text"]
    assert published_options("outlier", "visa") == {}


def test_a_wrong_name_is_answered_with_a_near_one(tiny_clip):
    with pytest.raises(ValueError, match="no method 'anovel': did you mean 'anovl'"):
        make_detector("anovel", tiny_clip)
    with pytest.raises(ValueError, match="did you mean 'clip-surgery'"):
        make_detector("clip_surgery", tiny_clip)
    with pytest.raises(ValueError, match="There are clip, transmm"):
        make_detector("xyz", tiny_clip)


def test_options_cannot_make_a_method_another(tiny_clip):
    with pytest.raises(ValueError, match="'anovl' is 'anovl-tta'"):
        make_detector("anovl", tiny_clip, tta=True)
