"""The detector: the sum of its parts, its options, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from anovl.adapt import TTA, adapt
from anovl.attention import embed, encode_images
from anovl.baselines import METHODS, VARIANTS, make_detector
from anovl.baselines.pca_normal import PcaNormal
from anovl.clip import Clip, batches, encode_text, preprocess
from anovl.detector import AnoVL, Localization
from anovl.maps import anomaly_maps, image_scores
from anovl.prompts import encode_prompts, prompt_ensemble
from anovl.protocols import augmented_views


def picture(seed, width=50, height=40):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def pictures():
    return [picture(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def anovl(tiny_clip):
    return AnoVL(tiny_clip, level="word")


def assert_same(result, expected, **tolerance):
    np.testing.assert_allclose(result.map, expected.map, **tolerance)
    np.testing.assert_allclose(result.score, expected.score, **tolerance)


def test_it_is_the_sum_of_its_parts(tiny_clip, pictures):
    results = AnoVL(tiny_clip, level="states", tta=True).localize(pictures, "nut")
    text = encode_prompts(tiny_clip, prompt_ensemble("nut", level="states"))
    features = encode_images(tiny_clip, pictures)
    before = anomaly_maps(features.patches, text, size=64)
    after = anomaly_maps(adapt(features.patches, text), text, size=64)
    for i, result in enumerate(results):
        np.testing.assert_allclose(result.map, after[i], atol=1e-6)
        np.testing.assert_allclose(result.map_before_tta, before[i], atol=1e-6)
    scores = image_scores(features.cls, text)
    np.testing.assert_allclose([result.score for result in results], scores, atol=1e-6)


def test_what_comes_out(anovl, pictures):
    result = anovl(pictures[0], "left shoe")
    assert isinstance(result, Localization)
    assert (result.map.shape, result.map.dtype) == ((64, 64), np.float32)
    assert isinstance(result.score, float)
    assert result.map_before_tta is None
    assert anovl.localize(pictures, "left shoe", size=(20, 30))[4].map.shape == (20, 30)


def test_batches_do_not_matter(tiny_clip, pictures):
    options = {"level": "word", "tta": True}
    by_two = AnoVL(tiny_clip, batch_size=2, **options).localize(pictures, "nut")
    at_once = AnoVL(tiny_clip, **options).localize(pictures, "nut")
    for one, other in zip(by_two, at_once, strict=True):
        assert_same(one, other, atol=1e-5)


def test_full_batches_of_a_gpu_lose_nothing_and_add_nothing(tiny_clip, pictures, monkeypatch):
    """There the last batch is filled up with copies."""
    gpu = SimpleNamespace(device=torch.device("cuda"))
    methods = [
        make_detector(name, tiny_clip, level="word", batch_size=3) for name in ("anovl", "gem")
    ]
    methods += [PcaNormal(tiny_clip, normal=pictures[:2], pictures=2, batch_size=3)]
    expected = [method.localize(pictures, "nut") for method in methods]
    for place in ("attention", "detector", "baselines.pca_normal"):
        monkeypatch.setattr(f"anovl.{place}.batches", lambda _, *args: batches(gpu, *args))
    assert [len(one) for one in batches(gpu, preprocess(tiny_clip, pictures), 3)] == [3, 3]
    for method, alone in zip(methods, expected, strict=True):
        for one, other in zip(method.localize(pictures, "nut"), alone, strict=True):
            assert_same(one, other, atol=1e-5)


def test_any_kind_of_image(anovl, tiny_clip, pictures, tmp_path):
    pictures[0].save(path := tmp_path / "nut.png")
    pixels = preprocess(tiny_clip, pictures[:1])
    expected = anovl(pictures[0], "nut")
    for image in (path, str(path), pixels, pixels[0], [pictures[0]]):
        assert_same(anovl(image, "nut"), expected, atol=1e-6)
    assert anovl.localize([], "nut") == []


def test_a_call_is_for_one_image(anovl, pictures):
    with pytest.raises(ValueError, match="found 5"):
        anovl(pictures, "nut")


def test_own_prompts_in_place_of_a_name(anovl, pictures):
    ensemble = prompt_ensemble("nut", level="word")
    assert_same(anovl(pictures[0], ensemble), anovl(pictures[0], "nut"))
    with pytest.raises(ValueError, match="the class name"):
        anovl(pictures[0], " ")
    with pytest.raises(ValueError, match="the class name"):
        anovl(pictures[0], ["nut"])


def test_prompts_are_encoded_once_for_all_detectors(tiny_clip, pictures, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "anovl.prompts.encode_text",
        lambda clip, texts: calls.append(texts[0]) or encode_text(clip, texts),
    )
    clip = replace(tiny_clip)
    detectors = [AnoVL(clip, level="word"), AnoVL(clip, level="word", attention="qk")]
    for category in ("nut", "bolt", "nut"):
        for detector in detectors:
            detector.localize(pictures[:2], category)
    assert calls == ["normal nut", "normal bolt"]


def test_the_surface_reaches_the_prompts(tiny_clip):
    as_texture = AnoVL(tiny_clip, surface="texture").text("linen")
    expected = encode_prompts(tiny_clip, prompt_ensemble("linen", surface="texture"))
    assert torch.equal(as_texture.prototypes, expected.prototypes)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "anovl"),
        ({"tta": True}, "anovl-tta"),
        ({"tta": TTA(steps=1)}, "anovl-tta"),
        ({"attention": "kk"}, "anovl-kk"),
        ({"attention": "qk"}, "clip"),
        ({"attention": "qk", "tta": True}, "anovl-tta"),
    ],
)
def test_names(tiny_clip, options, name):
    assert AnoVL(tiny_clip, **options).name == name
    assert name in (*METHODS, *VARIANTS)


def test_22_views_make_the_image_score(tiny_clip, pictures):
    one, many = (AnoVL(tiny_clip, level="word", views=views) for views in (1, 22))
    text = one.text("nut")
    views = augmented_views(preprocess(tiny_clip, pictures[0]))[0]
    expected = image_scores(encode_images(tiny_clip, views).cls, text).mean().item()
    assert many(pictures[0], "nut").score == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(many(pictures[0], "nut").map, one(pictures[0], "nut").map)


def test_views_go_through_the_network_image_by_image(tiny_clip, pictures, monkeypatch):
    seen = []

    def watched(visual, images):
        seen.append(len(images))
        return embed(visual, images)

    monkeypatch.setattr("anovl.attention.embed", watched)
    detector = AnoVL(tiny_clip, level="word", views=22, batch_size=4)
    scores = [result.score for result in detector.localize(pictures[:3], "nut")]
    assert seen == 3 * [1, 4, 4, 4, 4, 4, 1], "the same for each image"
    monkeypatch.undo()
    alone = [detector(picture, "nut").score for picture in pictures[:3]]
    assert scores == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tta": "yes"}, "tta"),
        ({"views": 5}, "views"),
        ({"tiles": True, "views": 22}, "tiles=True"),
        ({"batch_size": 0}, "batch_size"),
        ({"attention": "v-v"}, "attention"),
        ({"first_block": 0}, "first_block"),
        ({"first_block": 99}, "first_block must be 1 to 4"),
        ({"level": "sentence"}, "level"),
        ({"surface": "carpet"}, "surface"),
    ],
)
def test_bad_options_are_refused_at_construction(tiny_clip, options, message):
    with pytest.raises(ValueError, match=message):
        AnoVL(tiny_clip, **options)


# Optimiser state: independent images, or one sequence


def test_a_kept_optimiser_sees_the_images_of_a_call_as_one_sequence(tiny_clip, pictures):
    kept = TTA(reset_optimizer=False)
    by_one = AnoVL(tiny_clip, level="word", tta=kept, batch_size=1).localize(pictures, "nut")
    together = AnoVL(tiny_clip, level="word", tta=kept).localize(pictures, "nut")
    alone = AnoVL(tiny_clip, level="word", tta=kept)(pictures[1], "nut")
    for one, other in zip(by_one, together, strict=True):
        assert_same(one, other, atol=1e-5)
    assert abs(alone.map - together[1].map).max() > 1e-5
    assert AnoVL(tiny_clip, tta=kept).whole_category
    assert not AnoVL(tiny_clip, tta=True).whole_category


# Tiles


def test_tiles_of_a_landscape_and_a_portrait(tiny_clip):
    detector = AnoVL(tiny_clip, level="word", tiles=True)
    wide, tall = detector.localize([picture(0, 80, 64), picture(0, 64, 80)], "nut")
    assert (wide.map.shape, tall.map.shape) == ((64, 80), (80, 64))
    assert detector(picture(0, 30, 20), "nut", size=(20, 30)).map.shape == (20, 30)


def test_the_ends_of_a_tiled_map_are_those_of_its_tiles(tiny_clip):
    detector, image = AnoVL(tiny_clip, level="word", tiles=True), picture(3, 64, 96)
    tiles = [image.crop((0, 0, 64, 64)), image.crop((0, 32, 64, 96))]
    first, last = AnoVL(tiny_clip, level="word").localize(tiles, "nut")
    tiled = detector(image, "nut")
    np.testing.assert_allclose(tiled.map[:32], first.map[:32], atol=1e-6)
    np.testing.assert_allclose(tiled.map[-32:], last.map[-32:], atol=1e-6)
    np.testing.assert_allclose(tiled.map[32:64], (first.map[32:] + last.map[:32]) / 2, atol=1e-6)
    assert tiled.score == pytest.approx((first.score + last.score) / 2)


def test_a_picture_is_tiled_at_its_own_proportions(tiny_clip):
    """1001x600 becomes 106x64: 106.8 columns, rounded down, by bicubic interpolation."""
    image = picture(5, 1001, 600)
    small = image.resize((106, 64), Image.Resampling.BICUBIC)
    tiles = [small.crop((0, 0, 64, 64)), small.crop((42, 0, 106, 64))]
    first, last = AnoVL(tiny_clip, level="word").localize(tiles, "nut")
    tiled = AnoVL(tiny_clip, level="word", tiles=True)(image, "nut")
    assert tiled.map.shape == (64, 106)
    np.testing.assert_allclose(tiled.map[:, :42], first.map[:, :42], atol=1e-6)
    np.testing.assert_allclose(tiled.map[:, 64:], last.map[:, 22:], atol=1e-6)


def test_a_tiled_map_of_another_size_is_smoothed_once(tiny_clip):
    detector, image = AnoVL(tiny_clip, level="word", tiles=True), picture(0, 96, 64)
    native = torch.from_numpy(detector(image, "nut").map)
    expected = functional.interpolate(
        native[None, None], size=(20, 30), mode="bilinear", align_corners=True
    )[0, 0]
    np.testing.assert_allclose(detector(image, "nut", size=(20, 30)).map, expected, atol=1e-6)


def test_raw_pixels_are_refused_with_tiles_too(tiny_clip):
    raw = torch.full((1, 3, 64, 80), 200.0)
    with pytest.raises(ValueError, match="200"):
        AnoVL(tiny_clip, level="word", tiles=True)(raw, "nut")


def test_tiles_come_with_the_linear_adapter(tiny_clip):
    assert AnoVL(tiny_clip, tiles=True, tta=True).tta == TTA(adapter="linear")
    assert AnoVL(tiny_clip, tiles=True, tta=TTA()).tta == TTA(adapter="text")


def test_images_that_cannot_be_tiled(tiny_clip):
    detector = AnoVL(tiny_clip, level="word", tiles=True)
    with pytest.raises(ValueError, match="64x160"):
        detector(picture(0, 100, 40), "nut")
    kept = replace(detector, tta=TTA(adapter="linear", reset_optimizer=False))
    with pytest.raises(ValueError, match="one shape"):
        kept.localize([picture(0, 80, 64), picture(0, 90, 64)], "nut")


def test_tiles_need_a_square_model(tiny_clip):
    class Oblong(Clip):
        def __post_init__(self):
            pass

    oblong = Oblong(tiny_clip.model, tiny_clip.tokenizer, image_size=(64, 32))
    with pytest.raises(ValueError, match="tiles are square"):
        AnoVL(oblong, tiles=True)
