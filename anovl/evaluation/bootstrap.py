"""How sure a metric is: bootstrap over images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anovl.evaluation.metrics import _area, _checked, _region_masses

_BOOTSTRAP_BINS = 2000


def bootstrap_auroc(
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int | Sequence[int] = 0,
) -> np.ndarray:
    """Return `auroc` on `resamples` bootstrap samples of the images, (resamples,).

    The first axis of `scores` and `labels` counts images: (n,) for image scores, (n, H, W) for
    maps. Images are drawn with replacement, normal and anomalous ones separately, so that every
    sample has both. Above 2000 distinct scores, thresholds are their quantiles (error < 0.001).
    """
    scores, labels = _checked(scores, labels)
    hits, alarms = _resampled(scores, labels, (labels, ~labels), resamples=resamples, seed=seed)
    return _area(hits / hits[:, -1:], alarms / alarms[:, -1:])


def bootstrap_aupro(
    maps: np.ndarray,
    masks: np.ndarray,
    *,
    fpr_limit: float = 0.3,
    resamples: int = 1000,
    seed: int | Sequence[int] = 0,
) -> np.ndarray:
    """Return `aupro` on `resamples` bootstrap samples of the images, as `bootstrap_auroc` does."""
    scores, coverage, normal = _region_masses(maps, masks, fpr_limit)
    overlap, alarms = _resampled(
        scores, coverage > 0, (coverage, normal), resamples=resamples, seed=seed
    )
    return _area(overlap / overlap[:, -1:], alarms / alarms[:, -1:], limit=fpr_limit) / fpr_limit


def bootstrap_interval(replicates: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap replicates, (low, high).

    For the mean over categories, average the categories' replicates first.

    >>> bootstrap_interval(np.arange(101.0), level=0.5)
    (25.0, 75.0)
    """
    tail = (1 - level) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def _resampled(
    scores: np.ndarray,
    anomalous: np.ndarray,
    masses: tuple[np.ndarray, ...],
    *,
    resamples: int,
    seed: int | Sequence[int],
) -> list[np.ndarray]:
    """Return the masses at or above each threshold for each bootstrap sample, (resamples, k).

    One histogram of each image over common thresholds turns resampling into a matrix product.
    """
    n = len(scores)
    ordered = np.sort(scores, axis=None)
    thresholds = np.unique(ordered[:: -(-ordered.size // _BOOTSTRAP_BINS)])
    k = len(thresholds) + 1
    bins = k - 1 - np.searchsorted(thresholds, scores.reshape(n, -1), side="right")
    bins += k * np.arange(n)[:, None]
    times_drawn = _draws(anomalous.reshape(n, -1).any(axis=1), resamples=resamples, seed=seed)
    histograms = (
        np.bincount(bins.ravel(), weights=mass.ravel(), minlength=n * k).reshape(n, k)
        for mass in masses
    )
    return [np.cumsum(times_drawn @ histogram, axis=1) for histogram in histograms]


def _draws(anomalous: np.ndarray, *, resamples: int, seed: int | Sequence[int]) -> np.ndarray:
    """Return how often each image is drawn in each sample, (resamples, n), stratified by class."""
    rng = np.random.default_rng(seed)
    times = np.zeros((resamples, len(anomalous)))
    for stratum in (np.flatnonzero(anomalous), np.flatnonzero(~anomalous)):
        if len(stratum):
            times[:, stratum] = rng.multinomial(
                len(stratum), np.full(len(stratum), 1 / len(stratum)), size=resamples
            )
    return times
