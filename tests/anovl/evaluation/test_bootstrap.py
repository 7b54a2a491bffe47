"""Bootstrap over images: against the metric itself, and against what intervals must do."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import random_maps
from scipy.stats import binomtest, norm

from anovl.evaluation import bootstrap
from anovl.evaluation.bootstrap import (
    are_enough,
    bootstrap_aupro,
    bootstrap_auroc,
    bootstrap_interval,
    cautious_interval,
)
from anovl.evaluation.metrics import (
    aupro,
    auroc,
)


def test_bootstrap_is_the_metric_on_redrawn_images():
    maps, masks = random_maps(2, n=8)
    masks[1] = False
    times = bootstrap._draws(masks.any(axis=(1, 2)), resamples=3, seed=4).astype(int)
    aurocs = bootstrap_auroc(maps, masks, resamples=3, seed=4)
    aupros = bootstrap_aupro(maps, masks, resamples=3, seed=4)
    for drawn, found_auroc, found_aupro in zip(times, aurocs, aupros, strict=True):
        again = np.repeat(np.arange(8), drawn)
        assert len(again) == 8
        assert found_auroc == pytest.approx(auroc(maps[again], masks[again]), abs=1e-3)
        assert found_aupro == pytest.approx(aupro(maps[again], masks[again]), abs=1e-3)


def test_bootstrap_of_image_scores_is_exact_and_seeded():
    rng = np.random.default_rng(0)
    labels = np.arange(30) < 12
    scores = np.round(rng.standard_normal(30) + labels, 1)
    times = bootstrap._draws(labels, resamples=50, seed=1).astype(int)
    expected = [auroc(np.repeat(scores, t), np.repeat(labels, t)) for t in times]
    found = bootstrap_auroc(scores, labels, resamples=50, seed=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_array_equal(found, bootstrap_auroc(scores, labels, resamples=50, seed=1))
    assert not np.array_equal(found, bootstrap_auroc(scores, labels, resamples=50, seed=2))


# Few images


def drawn_scores(rng, n, truth):
    """Normal and anomalous scores (n,), whose AUROC is `truth` in the long run."""
    distance = np.sqrt(2) * norm.ppf(truth)
    return np.append(rng.normal(size=n), rng.normal(distance, size=n)), np.repeat([0, 1], n)


@pytest.mark.parametrize("n", [2, 3, 5, 9])
def test_the_interval_of_few_images_covers(n):
    rng = np.random.default_rng(n)
    assert not are_enough([{"n_images": 2 * n, "n_anomalous": n}])
    for truth in (0.5, 0.75, 0.9, 0.97):
        found = [auroc(*drawn_scores(rng, n, truth)) for _ in range(200)]
        ends = [cautious_interval(value, n) for value in found]
        assert np.mean([low <= truth <= high for low, high in ends]) >= 0.95
        assert all(low <= value <= high for value, (low, high) in zip(found, ends, strict=True))


@pytest.mark.parametrize(("n", "categories"), [(10, 4), (10, 10)])
def test_bootstrap_intervals_of_means_cover_where_they_are_printed(n, categories):
    rng, truth = np.random.default_rng(n), 0.9
    assert are_enough([{"n_images": 2 * n, "n_anomalous": n}] * categories)
    covered = []
    for _ in range(100):
        scores = [drawn_scores(rng, n, truth) for _ in range(categories)]
        drawn = [bootstrap_auroc(*one, resamples=100, seed=i) for i, one in enumerate(scores)]
        low, high = bootstrap_interval(np.mean(drawn, axis=0))
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.9


def drawn_maps(rng, n):
    """Make maps (2n, 1, 8) of images that differ, and masks: two pixels of half of them."""
    masks = np.zeros((2 * n, 1, 8), dtype=bool)
    masks[n:, :, 3:5] = True
    return rng.normal(size=masks.shape) + rng.normal(size=(2 * n, 1, 1)) + 1.5 * masks, masks


@pytest.mark.parametrize(("n", "categories"), [(10, 1), (10, 4)])
@pytest.mark.parametrize("metric", [(auroc, bootstrap_auroc), (aupro, bootstrap_aupro)])
def test_bootstrap_intervals_of_pixels_cover_where_they_are_printed(n, categories, metric):
    rng, (of_maps, bootstrap_of) = np.random.default_rng(n), metric
    truth = of_maps(*drawn_maps(rng, 4000))
    covered = []
    for _ in range(100):
        maps = [drawn_maps(rng, n) for _ in range(categories)]
        drawn = [bootstrap_of(*one, resamples=100, seed=i) for i, one in enumerate(maps)]
        low, high = bootstrap_interval(np.mean(drawn, axis=0))
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.9


def test_a_perfect_separation_of_few_images_is_not_certain():
    low, high = cautious_interval(1.0, 4)
    assert (low, high) == pytest.approx((0.025 ** (1 / 4), 1))  # the rule of Clopper and Pearson
    assert cautious_interval(0.0, 4) == pytest.approx((0, 1 - low))
    exact = binomtest(3, 5).proportion_ci(method="exact")
    assert cautious_interval(3 / 5, 5) == pytest.approx(tuple(exact))


@pytest.mark.parametrize(
    ("counts", "enough"),
    [
        *(([(10, 10)], True), ([(9, 10)], False), ([(100, 9)], False), ([(0, 10)], True)),
        *(([(10, 10)] * 2, True), ([(10, 10), (9, 9)], False), ([(40, 40), (40, 0)], True)),
    ],
    ids=str,
)
def test_what_is_enough(counts, enough):
    rows = [{"n_images": sum(both), "n_anomalous": both[1]} for both in counts]
    assert are_enough(rows) == enough


def test_interval_narrows_with_more_images_and_holds_the_estimate():
    widths = []
    for n in (20, 200):
        labels = np.arange(n) % 2
        scores = np.random.default_rng(0).standard_normal(n) + labels
        low, high = bootstrap_interval(bootstrap_auroc(scores, labels))
        assert low < auroc(scores, labels) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
