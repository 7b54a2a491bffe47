"""Marks: what of a map lies above its level, and whether it is large enough to be a place."""

from __future__ import annotations

import numpy as np

from anovl.detector import Detector
from anovl.evaluation.run_folder import clips_of
from anovl.evaluation.threshold import CalibratedDetector


def patch_area(detector: Detector | CalibratedDetector) -> float:
    """Pixels of a map that are one patch of the network; 1 for a method that has no network."""
    areas = [np.prod(clip.image_size) / np.prod(clip.grid) for clip in clips_of(detector)]
    return float(max(areas, default=1.0))


def largest_region(mask: np.ndarray) -> int:
    """Pixels of the largest connected region of a mask (H, W) bool; 0 for an empty one.

    >>> largest_region(np.array([[1, 1, 0, 0], [0, 0, 0, 1]], dtype=bool))
    2
    """
    from scipy.ndimage import label

    regions, _ = label(mask)
    return int(np.bincount(regions.ravel())[1:].max(initial=0))
