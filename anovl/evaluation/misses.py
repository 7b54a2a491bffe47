"""How many anomalous images an alarm misses, from images that are known to be anomalous.

A level bounds the rate of false alarms. Normal images cannot say what it misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anovl.clip import Images
from anovl.evaluation import threshold
from anovl.evaluation.bootstrap import cautious_interval


@dataclass(frozen=True, eq=False)
class Catch:
    """What alarms by one rule catch, and what this costs.

    `caught` (N,) tells which of the images known to be anomalous raise an alarm. `false_alarms`
    (n,) tells it of the normal images, each judged by a level that the others set; None where
    these are too few.
    """

    alarm_by: threshold.AlarmBy
    caught: np.ndarray
    false_alarms: np.ndarray | None

    @property
    def missed(self) -> int:
        """How many anomalous images raise no alarm."""
        return int((~self.caught).sum())


def catches(calibrated: threshold.CalibratedDetector, anomalous: Images) -> list[Catch]:
    """Count what alarms by score, by map and by either catch of images known to be anomalous.

    The rate and the normal images are those of the calibration. "either" is left out where they
    are too few for it. Raises ValueError for a calibration without a level, and as `localize` does.
    """
    if calibrated.level is None:
        raise ValueError(
            "what is missed depends on a level for alarms, and there is none: give more normal "
            f"images ({threshold.images_needed(0.05)} for at most 5% false alarms), or allow more"
        )
    normal, rate = calibrated.values, calibrated.level.false_alarms
    found = calibrated.localize(anomalous, what="images known to be anomalous")
    values = np.array([(result.score, result.peak) for result in found])
    rules = [by for by in threshold.ALARM_BY if len(normal) >= threshold.images_needed(rate, by)]
    return [_catch(normal, values, rate, by) for by in rules]


def _catch(normal: np.ndarray, anomalous: np.ndarray, rate: float, by: threshold.AlarmBy) -> Catch:
    thresholds = threshold.alarm_thresholds(normal, rate=rate, alarm_by=by)
    false_alarms = None
    if len(normal) > threshold.images_needed(rate, by):
        others = (np.delete(normal, i, axis=0) for i in range(len(normal)))
        levels = [threshold.alarm_thresholds(one, rate=rate, alarm_by=by) for one in others]
        false_alarms = (normal > threshold.deciding(levels, by)).any(axis=1)
    return Catch(by, (anomalous > threshold.deciding(thresholds, by)).any(axis=1), false_alarms)


def share_interval(count: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share, `count` of n, after Clopper and Pearson.

    It holds the true share in at least 95 % of samples, also of few images.

    >>> [round(end, 3) for end in share_interval(0, 10)]
    [0.0, 0.308]
    """
    return cautious_interval(count / n, n)


def best_rules(found: Sequence[Catch]) -> list[threshold.AlarmBy]:
    """The rule that catches most, and those that are not told apart from it.

    Two rules are told apart by the images that only one of them catches: McNemar's exact test, at
    5 % for all pairs together (Bonferroni).

    >>> few, all_but_one = np.arange(12) < 2, np.arange(12) < 11
    >>> best_rules([Catch("score", few, None), Catch("map", all_but_one, None)])
    ['map']
    >>> best_rules([Catch("score", few, None), Catch("map", ~few & (np.arange(12) < 5), None)])
    ['map', 'score']
    """
    from scipy.stats import binomtest

    ordered = sorted(found, key=lambda one: one.missed)
    best, pairs, alike = ordered[0], len(found) * (len(found) - 1) / 2, []
    for other in ordered:
        more, fewer = (best.caught & ~other.caught).sum(), (other.caught & ~best.caught).sum()
        differ = int(more + fewer)
        if not differ or binomtest(int(more), differ).pvalue * pairs > 0.05:
            alike.append(other.alarm_by)
    return alike
