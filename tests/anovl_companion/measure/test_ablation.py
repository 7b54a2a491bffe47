"""Ablations of test-time adaptation: the numbers of `adapt` and `score_prompts`, and paired."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from anovl.adapt import adapt
from anovl.evaluation.compare import gains
from anovl.evaluation.metrics import aupro, auroc, average_precision
from anovl.prompts import TextFeatures
from anovl_companion.measure.ablation import (
    MAP_METRICS,
    adapt_encoded,
    at_step,
    each_image,
    few,
    maps_of,
    score_maps,
    take,
    trace_encoded,
)
from anovl_companion.measure.feature_cache import EncodedImages, score_prompts

D, P = 8, 6


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(seed, **changes):
    truth = np.zeros((4, 6, 6), dtype=bool)
    truth[2:, 1:3, 2:5] = True
    values = {
        "cls": rand(4, D, seed=seed),
        "patches": rand(4, 3, 3, D, seed=seed + 1),
        "labels": np.array([0, 0, 1, 1]),
        "truth": truth,
    }
    return EncodedImages(**{**values, **changes})


@pytest.fixture
def texts():
    prompts = F.normalize(rand(P, D, seed=1), dim=1)
    text = TextFeatures(prompts[[0, -1]], prompts, torch.arange(P) >= P // 2)
    return {"a": text, "b": text}


@pytest.fixture
def encoded():
    return {"a": images(2), "b": images(4)}


@pytest.mark.parametrize(
    "options",
    [{}, {"adapter": "linear", "steps": 2}, {"reset_optimizer": False}, {"terms": ("noisy",)}],
)
def test_it_adapts_as_adapt_does(encoded, texts, options):
    adapted = adapt_encoded(encoded, texts, batch_size=3, **options)
    for category in encoded:
        expected = adapt(encoded[category].patches, texts[category], **options)
        torch.testing.assert_close(adapted[category].patches, expected, rtol=0, atol=1e-5)
        assert adapted[category].truth is encoded[category].truth
        assert adapted[category].cls is encoded[category].cls


def test_a_step_of_a_trace_is_an_adaptation_with_fewer_steps(encoded, texts):
    traces = trace_encoded(encoded, texts, steps=5)
    assert traces["a"].total.shape == (4, 5)
    for step in (0, 3):
        expected = adapt_encoded(encoded, texts, steps=step)
        found = at_step(encoded, traces, step)
        torch.testing.assert_close(found["b"].patches, expected["b"].patches)


@pytest.mark.parametrize("adapter", ["text", "linear"])
def test_a_start_at_zero_leaves_the_maps_as_they_were(encoded, texts, adapter):
    quiet = adapt_encoded(encoded, texts, start="zero", adapter=adapter, steps=0)
    torch.testing.assert_close(quiet["a"].patches, encoded["a"].patches / 2)
    before, after = (maps_of(some["a"], texts["a"]) for some in (encoded, quiet))
    np.testing.assert_allclose(after, before, atol=1e-6)
    moved = adapt_encoded(encoded, texts, start="zero", adapter=adapter)
    assert not torch.allclose(moved["a"].patches, quiet["a"].patches)


def test_an_unknown_start_is_refused(encoded, texts):
    with pytest.raises(ValueError, match="'ones'"):
        adapt_encoded(encoded, texts, start="ones")


def test_the_measures_are_those_of_the_metrics(encoded, texts):
    measured = score_maps(encoded, texts, resamples=0)
    maps = maps_of(encoded["a"], texts["a"])
    truth, row = encoded["a"].truth, measured.by_category["a"]
    assert row["auroc_px"] == auroc(maps, truth)
    assert row["aupro"] == aupro(maps, truth)
    assert row["ap_px"] == average_precision(maps, truth)
    assert np.isnan(measured.interval("aupro")).all()


def test_the_draws_are_those_of_score_words(encoded, texts):
    ours = score_maps(encoded, texts, seed=3, resamples=20)
    words = score_prompts(encoded, texts, seed=3, resamples=20)
    metric = "auroc_px_debiased"
    assert ours.mean(metric) == words.mean(metric)
    np.testing.assert_array_equal(ours.replicates[metric], words.replicates[metric])


@pytest.mark.parametrize(
    "changes",
    [
        {"truth": None},
        {"truth": np.zeros((4, 6, 6), dtype=bool)},
        {"labels": np.ones(4, dtype=int)},
    ],
)
def test_what_cannot_be_measured_is_left_out(encoded, texts, changes):
    both = {"a": encoded["a"], "b": images(4, **changes)}
    measured = score_maps(both, texts, resamples=5)
    assert np.isnan(measured.by_category["b"]["aupro"])
    alone = score_maps({"a": encoded["a"]}, texts, resamples=5)
    for metric in MAP_METRICS:
        assert measured.mean(metric) == alone.mean(metric)


def test_gains_are_paired(encoded, texts):
    few = score_maps(encoded, texts, resamples=20)
    assert np.isnan([few.interval(metric) for metric in ("aupro", "auroc_px")]).all()
    encoded = {name: take(one, np.tile(np.arange(4), 5)) for name, one in encoded.items()}
    before = score_maps(encoded, texts, resamples=20)
    after = score_maps(adapt_encoded(encoded, texts), texts, resamples=20)
    same, other = gains({"same": before, "after": after}, "aupro", over=before)
    assert list(same) == ["variant", "aupro", "gain", "low", "high"]
    assert (same["gain"], same["low"], same["high"]) == (0, 0, 0)
    assert other["gain"] == pytest.approx(other["aupro"] - before.mean("aupro"))
    assert other["low"] <= other["high"]


def test_each_image_with_both_kinds_of_pixels_has_a_row(encoded, texts):
    rows = each_image(encoded, texts)
    assert [(row["category"], row["index"]) for row in rows] == [
        ("a", 2), ("a", 3), ("b", 2), ("b", 3),
    ]  # fmt: skip
    one = maps_of(encoded["a"], texts["a"])[3]
    assert rows[1]["auroc_px"] == auroc(one, encoded["a"].truth[3])
    with pytest.raises(ValueError, match="without masks"):
        each_image({"a": images(2, truth=None)}, texts)


def test_a_few_images_of_each_kind(encoded):
    many = images(2, labels=np.array([1, 0, 1, 1]))
    assert few(many, 2).tolist() == [1, 0, 2]
    assert few(encoded["a"], 1).tolist() == [0, 2]
    some = take(encoded["a"], np.array([3, 0]))
    assert some.labels.tolist() == [1, 0]
    assert torch.equal(some.patches[0], encoded["a"].patches[3])
    assert some.truth[0].any() and not some.truth[1].any()
    assert take(images(2, truth=None), np.array([0])).truth is None
