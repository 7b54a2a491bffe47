"""What the map of one picture says of its own defect, without any other picture."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import distance_transform_edt

from anovl.evaluation.metrics import auroc

NEAR = 8.0
"""Pixels from a defect that still count as pointing at it: one patch of the pocket model."""
NOT_A_NUMBER = float("nan")


def within_picture(maps: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> dict[str, list]:
    """AUROC of each picture's own pixels, and how far its highest value is from the defect.

    `maps` and `truths` (H, W) come in pairs. `auroc_px` and `distance` are NaN for a picture whose
    truth is empty, or full. The distance is in pixels of the map, 0 on the defect; of equal highest
    values the first counts.

    >>> found = within_picture([np.array([[0.1, 0.9, 0.2]])], [np.array([[False, False, True]])])
    >>> found
    {'auroc_px': [0.5], 'distance': [1.0]}
    """
    values: dict[str, list] = {"auroc_px": [], "distance": []}
    for one, truth in zip(maps, truths, strict=True):
        known = bool(truth.any() and not truth.all())
        values["auroc_px"].append(auroc(one, truth) if known else NOT_A_NUMBER)
        values["distance"].append(pointing_distance(one, truth) if known else NOT_A_NUMBER)
    return values


def pointing_distance(values: np.ndarray, truth: np.ndarray) -> float:
    """Pixels from the highest value of a map (H, W) to the nearest pixel of the defect.

    >>> pointing_distance(np.eye(3)[::-1], np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0]], dtype=bool))
    2.82...
    """
    highest = np.unravel_index(np.argmax(values), values.shape)
    return float(distance_transform_edt(~truth)[highest])
