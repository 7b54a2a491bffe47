"""The AUPRO from sampled thresholds that many tables use, to be compared with the exact one.

`anovl.evaluation.metrics.aupro` uses every threshold.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import auc

from anovl.evaluation.metrics import region_coverage


def sampled_aupro(
    maps: np.ndarray, masks: np.ndarray, *, thresholds: int = 200, fpr_limit: float = 0.3
) -> float:
    """Return AUPRO from evenly spaced thresholds between the smallest and the largest value.

    `maps` and `masks` (n, H, W), as for `aupro`. The curve ends at the last sample below
    `fpr_limit`, without interpolation; its false positive rates are then stretched to 0-1. So the
    value depends on how scores are spread and not only on their order, may be negative, and is NaN
    where fewer than two different rates lie below the limit.

    Raises ValueError for maps that are constant, and as `aupro` does.

    >>> mask = np.array([[[True, False, False, False]]])
    >>> sampled_aupro(np.array([[[0.9, 0.5, 0.1, 0.3]]]), mask, fpr_limit=0.7)
    1.0

    Source: published code (its settings are the defaults).
    """
    maps, masks, coverage = region_coverage(maps, masks, fpr_limit)
    if not np.ptp(maps):
        raise ValueError(f"expected maps that are not constant; all values are {maps.flat[0]:g}")
    levels = np.arange(maps.min(), maps.max(), np.ptp(maps) / thresholds)
    anomalous, normal = maps[masks], maps[~masks]
    overlap = np.array([coverage[anomalous > level].sum() for level in levels]) / coverage.sum()
    alarms = np.array([np.mean(normal > level) for level in levels])
    overlap, alarms = overlap[alarms < fpr_limit], alarms[alarms < fpr_limit]
    if not len(alarms) or not np.ptp(alarms):
        return float("nan")
    return float(auc((alarms - alarms.min()) / np.ptp(alarms), overlap))
