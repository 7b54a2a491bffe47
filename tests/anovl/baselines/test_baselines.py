"""All methods: one signature, names, results, errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import make_pixels, picture, score_patches, with_words
from PIL import Image

from anovl.baselines import (
    CONTROLS,
    FEW_SHOT,
    METHODS,
    VARIANTS,
    WORDLESS,
    make_detector,
    published_options,
)
from anovl.baselines.tiled import tile
from anovl.baselines.transmm import TransMM
from anovl.clip import hash_state_dict, preprocess
from anovl.detector import AnoVL
from anovl.maps import enlarge
from anovl.prompts import PromptEnsemble, prompt_ensemble

OTHERS = ["transmm", "clip-surgery", "winclip", "gem"]


def test_blocks_out_of_range(tiny_clip):
    for block in (0, 5, -1):
        with pytest.raises(ValueError, match=f"first_block.*{block}"):
            TransMM(tiny_clip, first_block=block)


# All of them


@pytest.mark.parametrize("name", OTHERS)
def test_maps_are_values_of_patches_enlarged(tiny_clip, name):
    detector = make_detector(name, tiny_clip, level="word")
    values, scores = score_patches(detector, make_pixels(tiny_clip), detector.text("nut"))
    smooth = name not in ("winclip", "transmm")
    assert detector.localize([], "nut") == []
    result = detector(picture(0), "nut", size=40)
    assert result.map.dtype == np.float32 and result.map_before_tta is None
    np.testing.assert_allclose(result.map, enlarge(values, size=40, smooth=smooth)[0], atol=1e-6)
    assert result.score == pytest.approx(scores.item())


@pytest.mark.parametrize("name", OTHERS)
def test_scores_are_plain_clips(tiny_clip, name):
    pictures = [picture(seed) for seed in range(4)]
    detector = make_detector(name, tiny_clip, level="word")
    found = [result.score for result in detector.localize(pictures, "nut")]
    clip = AnoVL(tiny_clip, attention="qk", level="word")
    plain = [result.score for result in clip.localize(pictures, "nut")]
    if name == "winclip":  # which divides the cosines by a temperature
        plain = 1 / (1 + (1 / np.array(plain) - 1) ** (1 / 0.07))
    np.testing.assert_allclose(found, plain, atol=1e-5)


def test_equal_pictures_score_equally_wherever_they_stand(tiny_clip):
    """To the last bit: on a CPU the network sees the same shapes for each, one after the other."""
    seen = []
    conv1 = tiny_clip.model.visual.conv1
    hook = conv1.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    pictures = [picture(seed) for seed in (0, 1, 2, 1, 1, 3, 1)]
    copies = [1, 3, 4, 6]
    known = {"normal": pictures[:3], "pictures": 3}
    methods = [make_detector(name, tiny_clip, **known) for name in FEW_SHOT]
    methods += [make_detector(name, tiny_clip) for name in WORDLESS if name not in FEW_SHOT]
    methods += [
        make_detector(name, tiny_clip, level="word")
        for name in (*METHODS, *VARIANTS)
        if name not in (*WORDLESS, "shuffled")
    ]
    methods += [AnoVL(tiny_clip, level="word", views=22)]
    methods += [AnoVL(tiny_clip, level="word", tiles=True, tta=True), tile(methods[-1])]
    for method in methods:
        method(pictures[1], "nut")  # fits pca-normal, too
        seen.clear()
        alone, of_one = method(pictures[1], "nut"), [*seen]
        seen.clear()
        found = method.localize(pictures, "nut")
        assert seen == len(pictures) * of_one, method.name
        for at in copies:
            assert found[at].score == alone.score, method.name
            np.testing.assert_array_equal(found[at].map, alone.map, err_msg=method.name)
    hook.remove()


@pytest.mark.parametrize("name", OTHERS)
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


@pytest.mark.parametrize("name", OTHERS)
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


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(
    "vision",
    [
        {"ls_init_value": 0.1, "custom_text": True},
        {"block_type": "custom"},
        {"image_size": (48, 64), "patch_size": (16, 8)},
    ],
    ids=str,
)
def test_any_vision_transformer_with_a_class_token(name, vision):
    clip = with_words(**{"image_size": 48, "layers": 2} | vision)
    assert np.ptp(make_detector(name, clip, level="word")(picture(0), "nut").map) > 0


@pytest.mark.parametrize("how", ["weights", "autocast"])
@pytest.mark.parametrize("name", OTHERS)
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


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_refused(tiny_clip, name):
    with pytest.raises(ValueError, match="batch_size"):
        make_detector(name, tiny_clip, batch_size=0)
    detector = make_detector(name, tiny_clip, level="word")
    with pytest.raises(ValueError, match=r"\(B, 3, 64, 64\)"):
        detector(torch.zeros(1, 3, 32, 32), "nut")
    with pytest.raises(ValueError, match="size"):
        detector(picture(0), "nut", size=0)


# Names


@pytest.mark.parametrize("name", [*METHODS, *VARIANTS])
def test_every_method_by_its_name(tiny_clip, name):
    words = name == "shuffled" or name not in CONTROLS
    detector = make_detector(name, tiny_clip, **{"level": "word"} if words else {})
    results = detector.localize([picture(0), picture(1)], "cloth")
    assert detector.name == name
    assert [result.map.shape for result in results] == [(64, 64)] * 2
    assert all(isinstance(result.score, float) for result in results)


def test_published_protocols_differ_by_data_set(tiny_clip):
    mvtec, visa, pocket = (
        make_detector("anovl-tta", tiny_clip, **published_options("anovl-tta", dataset))
        for dataset in ("mvtec", "visa", "pocket")
    )
    found = [(d.views, d.tiles, d.tta.adapter) for d in (mvtec, visa, pocket)]
    assert found == [(22, False, "text"), (1, True, "linear"), (1, False, "text")]
    assert published_options("outlier", "visa") == {}


def test_names_that_are_refused(tiny_clip):
    for wrong, near in (("anovel", "'anovl'"), ("xyz", "transmm")):
        with pytest.raises(ValueError, match=near):
            make_detector(wrong, tiny_clip)
    with pytest.raises(ValueError, match="'anovl' is 'anovl-tta'"):
        make_detector("anovl", tiny_clip, tta=True)


@pytest.mark.parametrize("name", [*METHODS, *VARIANTS, *FEW_SHOT])
def test_words_change_the_maps_of_those_methods_that_use_them(tiny_clip, name):
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(3)]
    few = {"normal": images, "pictures": 2} if name in FEW_SHOT else {}
    detector = make_detector(name, tiny_clip, **few)
    nut, bolt = (
        detector.localize(images, PromptEnsemble((f"normal {word}",), (f"bad {word}",)))[0].map
        for word in ("nut", "bolt")
    )
    assert np.array_equal(nut, bolt) == (name in WORDLESS)
