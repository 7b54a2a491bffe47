"""Bootstrap over images: against the metric itself, and against what intervals must do."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import random_maps

from anovl.evaluation import bootstrap
from anovl.evaluation.bootstrap import bootstrap_aupro, bootstrap_auroc, bootstrap_interval
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


def test_interval_narrows_with_more_images_and_holds_the_estimate():
    widths = []
    for n in (20, 200):
        labels = np.arange(n) % 2
        scores = np.random.default_rng(0).standard_normal(n) + labels
        low, high = bootstrap_interval(bootstrap_auroc(scores, labels))
        assert low < auroc(scores, labels) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
