"""The uncertainty of a metric: bootstrap over images, where there are enough of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from anovl.evaluation.metrics import area_under, check_scores, region_coverage

_BOOTSTRAP_BINS = 2000
FEW = 10  # below it, normal or anomalous images of a category are few


def bootstrap_auroc(
    scores: np.ndarray, labels: np.ndarray, *, resamples: int = 1000, seed: int | Sequence[int] = 0
) -> np.ndarray:
    """Return `auroc` on `resamples` bootstrap samples of the images, (resamples,).

    The first axis of `scores` and `labels` counts images: (n,) for image scores, (n, H, W) for
    maps. Images are drawn with replacement, normal and anomalous ones separately, so that every
    sample has both. Above 2000 distinct scores, thresholds are their quantiles (error < 0.001).
    """
    scores, labels = check_scores(scores, labels)
    ones = np.ones(np.count_nonzero(labels))
    hits, alarms = _resampled(scores, labels, ones, resamples=resamples, seed=seed)
    return area_under(hits / hits[:, -1:], alarms / alarms[:, -1:])


def bootstrap_aupro(
    maps: np.ndarray,
    masks: np.ndarray,
    *,
    fpr_limit: float = 0.3,
    resamples: int = 1000,
    seed: int | Sequence[int] = 0,
) -> np.ndarray:
    """Return `aupro` on `resamples` bootstrap samples of the images, as `bootstrap_auroc` does."""
    maps, masks, coverage = region_coverage(maps, masks, fpr_limit)
    overlap, alarms = _resampled(maps, masks, coverage, resamples=resamples, seed=seed)
    return (
        area_under(overlap / overlap[:, -1:], alarms / alarms[:, -1:], limit=fpr_limit) / fpr_limit
    )


def bootstrap_interval(replicates: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap replicates, (low, high).

    For the mean over categories, average the categories' replicates first.

    >>> bootstrap_interval(np.arange(101.0), level=0.5)
    (25.0, 75.0)
    """
    tail = (1 - level) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def are_enough(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether each category has enough images for a bootstrap interval, of it or of a mean.

    `rows` are those of `evaluate`'s table, with `n_images` and `n_anomalous`. Below 10 normal or 10
    anomalous images, bootstrap intervals are too narrow, and that of a perfect separation has no
    width at all. Many categories do not help: pixel metrics of few images are biased, too.

    >>> few, enough = ({"n_images": 10 + n, "n_anomalous": n} for n in (9, 10))
    >>> are_enough([enough]), are_enough([enough, few])
    (True, False)
    """
    counts = [(row["n_images"] - row["n_anomalous"], row["n_anomalous"]) for row in rows]
    return all(count >= FEW for both in counts for count in both if count)  # 0: not redrawn


def cautious_interval(value: float, count: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of the image AUROC of few images, after Clopper and Pearson.

    `count` is the number of images of the rarer kind: as if each were found or missed alone.

    >>> low, high = cautious_interval(1.0, 4)
    >>> round(low, 2), high
    (0.4, 1.0)
    """
    from scipy.stats import beta

    hits, tail = count * value, (1 - level) / 2
    low = beta.ppf(tail, hits, count - hits + 1) if hits > 0 else 0.0
    high = beta.ppf(1 - tail, hits + 1, count - hits) if hits < count else 1.0
    return float(low), float(high)


def _resampled(
    scores: np.ndarray,
    anomalous: np.ndarray,
    mass: np.ndarray,
    *,
    resamples: int,
    seed: int | Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Return mass and false positives at each threshold for each bootstrap sample, (resamples, k).

    `mass` is that of `scores[anomalous]`. One histogram of each image over common thresholds turns
    resampling into a matrix product.
    """
    n = len(scores)
    scores, anomalous = scores.reshape(n, -1), anomalous.reshape(n, -1)
    times_drawn = _draws(anomalous.any(axis=1), resamples=resamples, seed=seed)
    histograms = _histograms(scores, anomalous, mass, thresholds=_thresholds(scores))
    mass_at, alarms_at = (np.cumsum(times_drawn @ histogram, axis=1) for histogram in histograms)
    return mass_at, alarms_at


def _thresholds(scores: np.ndarray) -> np.ndarray:
    """Return the distinct scores, ascending; of more than 2000, their quantiles."""
    ordered = np.sort(scores, axis=None)
    return np.unique(ordered[:: -(-ordered.size // _BOOTSTRAP_BINS)])


def _histograms(
    scores: np.ndarray, anomalous: np.ndarray, mass: np.ndarray, *, thresholds: np.ndarray
) -> np.ndarray:
    """Count between thresholds, from the highest down: mass, and normal scores, (2, n, k).

    The few anomalies are searched among the thresholds, the thresholds among the normal scores.
    """
    k = len(thresholds) + 1
    histograms, done = np.zeros((2, len(scores), k)), 0
    for own, is_anomalous, (found, alarms) in zip(
        scores, anomalous, histograms.swapaxes(0, 1), strict=True
    ):
        bins = k - 1 - np.searchsorted(thresholds, own[is_anomalous], side="right")
        found += np.bincount(bins, weights=mass[done : done + len(bins)], minlength=k)
        done += len(bins)
        below = np.searchsorted(np.sort(own[~is_anomalous]), thresholds)
        alarms += np.diff(below, prepend=0, append=len(own) - len(bins))[::-1]
    return histograms


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
