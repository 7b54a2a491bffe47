"""From words to maps, scores and adaptation: ours against the published implementation."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import anovl.detector
from anovl.adapt import TTA, adapt
from anovl.attention import encode_images
from anovl.detector import AnoVL
from anovl.maps import anomalous_probability, anomaly_maps, image_scores
from anovl.prompts import TextFeatures, encode_prompts
from anovl.protocols import augmented_views

CLOSE = {"rtol": 0, "atol": 1e-5}
LOSSES = {"rtol": 1e-4, "atol": 0}


def random_text(reference):
    """Words of the `rand_*` arrays, whose prototypes are further apart than a random tower's."""
    prototypes, prompts = reference.random_text()
    return TextFeatures(prototypes, prompts, torch.arange(924) >= 462)


@pytest.fixture(
    params=["small_reference", pytest.param("full_reference", marks=pytest.mark.full)],
    ids=["small", "full"],
    scope="module",
)
def published(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def text(published):
    return encode_prompts(published.clip, "bottle")


@pytest.fixture(scope="module")
def features(published):
    return encode_images(published.clip, published.images)


def test_prototypes(published, text):
    assert_close(text.prototypes, published["text/bottle_prototypes"].T, **CLOSE)


def test_prompt_embeddings(published, text):
    normal, abnormal = published["text/bottle_all"].unbind(2)
    assert_close(text.prompts[~text.is_anomalous], normal, **CLOSE)
    if published.size == "small":  # the full reference holds one state only
        assert_close(text.prompts[text.is_anomalous], abnormal, **CLOSE)


def test_prototypes_of_a_texture(small_reference):
    carpet = encode_prompts(small_reference.clip, "carpet")
    assert_close(carpet.prototypes, small_reference["text/carpet_prototypes"].T, **CLOSE)


def test_patch_probabilities(published, text, features):
    expected = published["forward/patch_prob_no_adapter"]
    assert_close(anomalous_probability(features.patches, text), expected, **CLOSE)


def test_map(published, text, features):
    maps = anomaly_maps(features.patches, text, size=published.clip.image_size)
    assert_close(maps, published["forward/map_no_adapter"], **CLOSE)


def test_map_of_random_words(published, features):
    words, size = random_text(published), published.clip.image_size
    maps = anomaly_maps(features.patches, words, size=size)
    assert_close(maps, published["forward/rand_map_no_adapter"], **CLOSE)


def test_image_score_of_one_view(published, text, features):
    scores = image_scores(features.cls, text)
    assert_close(scores, published["forward/image_score_1view"], **CLOSE)


def test_image_score_of_22_views(published, text):
    """Of the second image only: 22 passes of the full model take long enough."""
    views = augmented_views(published.images[1:])[0]
    scores = image_scores(encode_images(published.clip, views, attention="qk").cls, text)
    assert_close(scores, published["forward/view_scores_identity_order"][1], **CLOSE)
    assert_close(scores.mean(), published["forward/image_score_22view"][1], **CLOSE)


QUARTER = [1, 8, 9, 16, 17, 18, 19, 20, 21]


@pytest.mark.parametrize(("key", "step"), [("views_quarter", 4), ("views_image1", 1)])
def test_pixels_of_views(small_reference, key, step):
    views = augmented_views(small_reference.images)[1, QUARTER, :, ::step, ::step]
    assert_close(views, small_reference[f"forward/{key}"], rtol=0, atol=5e-5)


@pytest.mark.full
def test_mean_and_spread_of_views(full_reference):
    views = augmented_views(full_reference.images)
    found = torch.stack([views.mean(dim=(2, 3, 4)), views.std(dim=(2, 3, 4))], dim=2)
    assert_close(found, full_reference["forward/views_mean_std"], rtol=0, atol=1e-4)


def test_the_detector_does_all_of_this(small_reference):
    detector = AnoVL(small_reference.clip, views=22)
    results = detector.localize(small_reference.images, "bottle")
    maps = np.stack([result.map for result in results])
    scores = torch.tensor([result.score for result in results])
    assert_close(torch.from_numpy(maps), small_reference["forward/map_no_adapter"], **CLOSE)
    assert_close(scores, small_reference["forward/image_score_22view"], **CLOSE)


def published_draws(reference, *, tiles, outputs):
    """Noise and first adapters of the two images, as `adapt` takes them."""
    noise = torch.stack([reference.noise(k, tiles=tiles) for k in range(10)]).unflatten(0, (2, 5))
    starts = [reference.adapter_init(i, outputs=outputs) for i in range(2)]
    weights, biases = (torch.stack(part) for part in zip(*starts, strict=True))
    return {"noise": noise, "init": (weights, biases)}


@pytest.mark.parametrize(
    ("words", "reset_optimizer", "maps", "losses"),
    [
        ("bottle", False, "tta_map", "tta_losses"),
        ("bottle", True, "tta_map_fresh_opt", "tta_losses_fresh_opt"),
        ("random", False, "rand_tta_map", "rand_tta_losses"),
    ],
)
def test_adaptation(small_reference, words, reset_optimizer, maps, losses):
    text = random_text(small_reference) if words == "random" else None
    text = text or encode_prompts(small_reference.clip, words)
    patches = encode_images(small_reference.clip, small_reference.images).patches
    draws = published_draws(small_reference, tiles=1, outputs=924)
    draws["noise"] = draws["noise"].squeeze(2)
    adapted, trace = adapt(
        patches, text, reset_optimizer=reset_optimizer, return_trace=True, **draws
    )
    assert_close(trace.total.double(), small_reference[f"tta/{losses}"], **LOSSES)
    assert_close(anomaly_maps(adapted, text, size=64), small_reference[f"tta/{maps}"], **CLOSE)


def test_visa(small_reference, monkeypatch):
    """Two tiles, linear adapter, loss over merged pixels, optimiser state kept: all of it."""
    draws = published_draws(small_reference, tiles=2, outputs=32)
    traces = []

    def adapt_with_published_draws(patches, text, **options):
        adapted, trace = adapt(patches, text, return_trace=True, **draws, **options)
        traces.append(trace)
        return adapted

    monkeypatch.setattr(anovl.detector, "adapt", adapt_with_published_draws)
    tta = TTA(adapter="linear", reset_optimizer=False)
    detector = AnoVL(small_reference.clip, tiles=True, tta=tta)
    results = detector.localize(small_reference.visa_images, "candle")
    prototypes = detector.text("candle").prototypes
    assert_close(prototypes, small_reference["visa/candle_prototypes"].T, **CLOSE)
    assert_close(traces[0].total.double(), small_reference["visa/tta_losses"], **LOSSES)
    for name, values in {
        "map_no_adapter": [result.map_before_tta for result in results],
        "tta_map": [result.map for result in results],
        "image_score": [result.score for result in results],
    }.items():
        expected = small_reference[f"visa/{name}"].numpy()
        np.testing.assert_allclose(np.stack(values), expected, **CLOSE)
