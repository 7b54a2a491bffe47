"""From scores to a decision: a level for alarms, set by normal images alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def conformal_threshold(normal: Sequence[float] | np.ndarray, *, rate: float = 0.1) -> float:
    """The score above which to raise an alarm, if at most `rate` of normal images may raise one.

    `normal` holds the scores of n normal images, higher = more anomalous. If the next normal image
    comes from where these came from, each place among the n + 1 is equally likely for it, so it
    lies above the k-th smallest, k = ⌈(n + 1) (1 - rate)⌉, with a probability of at most `rate`,
    whatever the scores are like, as long as these images have decided nothing else. The promise is
    for the average over such sets of normal images.

    >>> conformal_threshold([0.51, 0.54, 0.52, 0.53], rate=0.2)
    0.54

    Raises ValueError for scores that are no finite list, a rate outside (0, 1), or fewer scores
    than the rate needs: n must be at least 1/rate - 1.
    Source: split conformal prediction (Papadopoulos et al., 2002).
    """
    scores = np.asarray(normal, dtype=float)
    if scores.ndim != 1:
        raise ValueError(f"normal must be a list of scores; found shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} scores are not finite")
    if not 0 < rate < 1:
        raise ValueError(f"rate must be between 0 and 1, such as 0.1; found {rate!r}")
    k = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    if k > len(scores):
        needed = math.ceil(1 / rate - 1 - 1e-9)
        raise ValueError(
            f"a rate of {rate:g} needs at least {needed} normal images; found {len(scores)}: "
            "collect more, or allow more alarms"
        )
    return float(np.sort(scores)[k - 1])
