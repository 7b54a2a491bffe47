"""The AUPRO from sampled thresholds that many tables use, to be compared with the exact one.

`anovl.evaluation.metrics.aupro` uses every threshold.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label

_ONE_IMAGE = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])  # 8 neighbours


def sampled_aupro(
    maps: np.ndarray, masks: np.ndarray, *, thresholds: int = 200, fpr_limit: float = 0.3
) -> float:
    """Return AUPRO from evenly spaced thresholds between the smallest and the largest value.

    `maps` and `masks` (n, H, W), as for `aupro`. The curve ends at the last sample below
    `fpr_limit`, without interpolation; its false positive rates are then stretched to 0-1. So the
    value depends on how scores are spread and not only on their order, may be negative, and is NaN
    where fewer than two different rates lie below the limit.

    Raises ValueError for maps that are constant, shapes that differ, or masks without a defect.

    >>> mask = np.array([[[True, False, False, False]]])
    >>> sampled_aupro(np.array([[[0.9, 0.5, 0.1, 0.3]]]), mask, fpr_limit=0.7)
    1.0

    Source: published code (its settings are the defaults).
    """
    maps, masks = np.asarray(maps), np.asarray(masks) != 0
    if maps.ndim != 3 or maps.shape != masks.shape:
        raise ValueError(f"expected two arrays (n, H, W); found {maps.shape} and {masks.shape}")
    if maps.min() == maps.max() or not masks.any():
        raise ValueError("expected maps that are not constant, and a defect in the masks")
    regions, count = label(masks, structure=_ONE_IMAGE)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)
    levels = np.arange(maps.min(), maps.max(), (maps.max() - maps.min()) / thresholds)
    overlap, alarms = np.empty(len(levels)), np.empty(len(levels))
    for i, level in enumerate(levels):
        found = np.bincount(regions[maps > level], minlength=count + 1)
        overlap[i] = (found[1:] / sizes[1:]).mean()
        alarms[i] = found[0] / sizes[0]
    return _stretched_area(overlap[alarms < fpr_limit], alarms[alarms < fpr_limit])


def _stretched_area(overlap: np.ndarray, alarms: np.ndarray) -> float:
    """The area over rates that fall from the first to the last, stretched to 0-1."""
    if not len(alarms) or alarms.min() == alarms.max():
        return float("nan")
    rates = (alarms - alarms.min()) / (alarms.max() - alarms.min())
    return float(((overlap[:-1] + overlap[1:]) / 2 * -np.diff(rates)).sum())
