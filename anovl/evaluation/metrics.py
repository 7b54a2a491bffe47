"""Metrics of maps and scores: AUROC, average precision, F1-max and exact AUPRO, from one sort.

Every metric pools its scores over a set of images, as the field does, and uses every threshold:
none is sampled, and equal scores share one. Scores are higher for "anomalous".

Masks come to the size of the maps by `mask_at`. A defect too small for that size vanishes: its
pixels then count as normal, for pixel metrics and AUPRO; its image stays anomalous for the image
metrics. `anovl data check`, and the first lines of `evaluate`, name such images.
"""

from __future__ import annotations

import numpy as np

from anovl.masks import mask_at as mask_at  # what masks become at the maps' size


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the area under the ROC curve: the chance that an anomaly scores above a normal one.

    `scores` and `labels` (1 = anomalous) have one shape, of images or of pixels; ties count one
    half. Raises ValueError when a class is absent, shapes differ, a score is NaN or a label is not
    0 or 1.

    >>> auroc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([0, 0, 1, 1]))  # 3.5 of 4 pairs in order
    0.875
    """
    return _roc_area(*_hits_and_alarms(scores, labels))


def average_precision(scores: np.ndarray, labels: np.ndarray, *, rule: str = "step") -> float:
    """Return the area under the precision-recall curve; shapes and errors as for `auroc`.

    `rule="step"` weighs each precision by the recall it adds, the usual average precision;
    `"trapezoid"` joins the points by straight lines, as the published code does for image scores.

    >>> average_precision(np.array([0.1, 0.8, 0.4, 0.9]), np.array([0, 0, 1, 1]))  # (1 + 2/3) / 2
    0.8333333333333333
    """
    if rule not in ("step", "trapezoid"):
        raise ValueError(f"rule must be 'step' or 'trapezoid', found {rule!r}")
    return _precision_recall_area(*_hits_and_alarms(scores, labels), rule=rule)


def f1_max(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the largest F1 score over all thresholds; shapes and errors as for `auroc`.

    >>> f1_max(np.array([0.1, 0.8, 0.4, 0.9]), np.array([0, 0, 1, 1]))  # at 0.4: 2·2 / (2·2 + 1)
    0.8
    """
    return _best_f1(*_hits_and_alarms(scores, labels))


def auroc_f1_ap(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Return `auroc`, `f1_max` and `average_precision` together, for the price of one sort.

    >>> auroc_f1_ap(np.array([0.1, 0.8, 0.4, 0.9]), np.array([0, 0, 1, 1]))
    (0.75, 0.8, 0.8333333333333333)
    """
    curve = _hits_and_alarms(scores, labels)
    return _roc_area(*curve), _best_f1(*curve), _precision_recall_area(*curve)


def aupro(maps: np.ndarray, masks: np.ndarray, *, fpr_limit: float = 0.3) -> float:
    """Return the area under the per-region-overlap curve up to a false positive rate, in [0, 1].

    `maps` and `masks` (n, H, W) are one set of images, normal ones included. The overlap is the
    mean, over the 8-connected regions of all masks, of the share of a region at or above the
    threshold; the false positive rate pools all normal pixels. The curve passes every threshold,
    is interpolated at `fpr_limit` and divided by it; the published code samples 200 thresholds
    and stops short of the limit. Errors as for `auroc`.

    >>> mask = np.array([[1, 0, 0, 1]])  # one region above both normal pixels, one between them
    >>> aupro(np.array([[[0.9, 0.5, 0.1, 0.3]]]), mask[None], fpr_limit=1.0)
    0.75
    """
    maps, masks, coverage = region_coverage(maps, masks, fpr_limit)
    return _region_area(*_corners(maps, masks, coverage), limit=fpr_limit)


def pixel_metrics(
    maps: np.ndarray, masks: np.ndarray, *, fpr_limit: float = 0.3
) -> tuple[float, float, float, float]:
    """Return `auroc`, `f1_max`, `average_precision` and `aupro` of maps, for the price of one sort.

    >>> mask = np.array([[1, 0, 0, 1]])
    >>> pixel_metrics(np.array([[[0.9, 0.5, 0.1, 0.3]]]), mask[None], fpr_limit=1.0)
    (0.75, 0.8, 0.8333333333333333, 0.75)
    """
    maps, masks, coverage = region_coverage(maps, masks, fpr_limit)
    hits, overlap, alarms = _corners(maps, masks, np.ones_like(coverage), coverage)
    three = _roc_area(hits, alarms), _best_f1(hits, alarms), _precision_recall_area(hits, alarms)
    return *three, _region_area(overlap, alarms, limit=fpr_limit)


def position_debiased(maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Subtract the mean map of the normal images, so that knowing the usual place earns nothing.

    `maps` (n, H, W) and the `labels` (n,) of their images. Maps in [0, 1] are probabilities and
    are compared as logits, other maps of positive values as logarithms (else one bright pixel of
    one image would set the mean), and maps with negative values as they are. The result is rounded
    to 10 decimals, so that a fixed map becomes 0 everywhere. Raises ValueError without a normal
    image, for NaN, for labels that are not 0 or 1, and for another number of them.

    >>> position_debiased(np.array([[[0.5, 0.8]], [[0.5, 0.9]]]), np.array([0, 1])).round(2)
    array([[[0.  , 0.  ]],
           [[0.  , 0.81]]])
    """
    maps, normal = np.asarray(maps), np.flatnonzero(~_as_labels(labels))
    if maps.ndim != 3 or np.shape(labels) != maps.shape[:1]:
        raise ValueError(
            f"expected maps (n, H, W) and labels (n,); found {maps.shape} and {np.shape(labels)}"
        )
    if np.isnan(maps).any():
        raise ValueError(f"{np.isnan(maps).sum()} of {maps.size} values of the maps are NaN")
    if not len(normal):
        raise ValueError("no normal image among the labels: there is no mean map to subtract")
    is_positive, is_probability = maps.min() >= 0, maps.max() <= 1
    debiased = maps.astype(np.float64)
    for values in debiased if is_positive else ():  # one map at a time, to save memory
        np.clip(values, 1e-7, 1 - 1e-7 if is_probability else None, out=values)
        values[:] = np.log(values) - (np.log1p(-values) if is_probability else 0)
    mean = sum(debiased[i] for i in normal) / len(normal)
    for values in debiased:
        np.round(values - mean, 10, out=values)
    return debiased


def _as_labels(labels: np.ndarray) -> np.ndarray:
    """Labels as booleans; ValueError for others than 0 and 1, such as scores in their place."""
    labels = np.asarray(labels)
    if labels.dtype != bool and not ((labels == 0) | (labels == 1)).all():
        some = np.unique(labels)
        raise ValueError(
            "labels and masks must be 0 (normal) or 1 (anomalous), or booleans; found values from "
            f"{some[0]} to {some[-1]}: give scores first, and a mask of 0 and 255 as mask > 0"
        )
    return labels.astype(bool, copy=False)


def check_scores(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and boolean labels; ValueError for wrong ones."""
    scores, labels = np.asarray(scores), _as_labels(labels)
    if scores.shape != labels.shape:
        raise ValueError(f"scores have the shape {scores.shape} but labels {labels.shape}")
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {scores.size} scores are NaN")
    if labels.all() or not labels.any():
        missing = "normal" if labels.any() else "anomalous"
        raise ValueError(
            f"there is no {missing} image or pixel among {labels.size}; the metric needs both kinds"
        )
    return scores, labels


def _hits_and_alarms(scores: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Return the true and the false positives at the corners of the ROC curve."""
    scores, labels = check_scores(scores, labels)
    return _corners(scores, labels, np.ones(np.count_nonzero(labels)))


def _roc_area(hits: np.ndarray, alarms: np.ndarray) -> float:
    return float(area_under(hits / hits[-1], alarms / alarms[-1]))


def _precision_recall_area(hits: np.ndarray, alarms: np.ndarray, *, rule: str = "step") -> float:
    found = hits + alarms
    precision = np.divide(hits, found, out=np.ones_like(hits), where=found > 0)
    gained = np.diff(hits / hits[-1], prepend=0.0)
    if rule == "trapezoid":
        precision = (precision + np.append(1.0, precision[:-1])) / 2
    return float(gained @ precision)


def _best_f1(hits: np.ndarray, alarms: np.ndarray) -> float:
    return float((2 * hits / (hits + alarms + hits[-1])).max())


def _region_area(overlap: np.ndarray, alarms: np.ndarray, *, limit: float) -> float:
    return float(area_under(overlap / overlap[-1], alarms / alarms[-1], limit=limit) / limit)


def _corners(scores: np.ndarray, anomalous: np.ndarray, *masses: np.ndarray) -> list[np.ndarray]:
    """Return masses of anomalies, and the number of false positives, from the highest score down.

    `masses` are those of `scores[anomalous]`. Between two scores of anomalies only false
    positives are added, on a straight line. So there are two points for each distinct score of an
    anomaly, above it and at it, and one at the end: every threshold is in the curve, but only
    normal scores have to be sorted.
    """
    normal = scores[~anomalous]
    normal.sort()
    levels, level = np.unique(scores[anomalous], return_inverse=True)
    added = [np.bincount(level.ravel(), weights=mass)[::-1] for mass in masses]
    before = [
        len(normal) - np.searchsorted(normal, levels[::-1], side) for side in ("right", "left")
    ]
    alarms = np.append(np.stack(before, axis=1), len(normal)).astype(float)
    gained = (np.append(np.stack([np.zeros_like(mass), mass], axis=1), 0.0) for mass in added)
    return [*map(np.cumsum, gained), alarms]


def area_under(height: np.ndarray, x: np.ndarray, *, limit: float = 1.0) -> np.ndarray:
    """Return the area under straight lines from (0, 0) through the points, for x up to `limit`."""
    x, height = (np.concatenate([np.zeros_like(v[..., :1]), v], axis=-1) for v in (x, height))
    step, inside = np.diff(x), np.diff(np.minimum(x, limit))
    share = np.divide(inside, step, out=np.zeros_like(step), where=step > 0)
    return (inside * (height[..., :-1] + np.diff(height) * share / 2)).sum(axis=-1)


def region_coverage(
    maps: np.ndarray, masks: np.ndarray, fpr_limit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return maps, bool masks, and for each pixel of a mask its share (in 0-1) of its region."""
    from skimage.measure import label

    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit must be in (0, 1], found {fpr_limit}")
    maps, masks = check_scores(maps, masks)
    if maps.ndim != 3:
        raise ValueError(f"maps must have the shape (n, H, W), found {maps.shape}")
    coverage = []
    for mask in masks:
        region = label(mask, connectivity=2)[mask]
        coverage.append(1.0 / np.bincount(region)[region])
    return maps, masks, np.concatenate(coverage)
