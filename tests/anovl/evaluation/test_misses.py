"""What alarms miss: counts by hand, intervals that cover, rules that are told apart or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, norm

from anovl.detector import Detector, Localization
from anovl.evaluation.misses import Catch, best_rules, catches, share_interval
from anovl.evaluation.threshold import calibrate


class Values(Detector):
    """A stub: image number i has the i-th pair of values, score and peak of the map."""

    name = "values"

    def __init__(self, values):
        self.values = values

    def localize(self, images, class_name, *, size=None):
        images = images if isinstance(images, list) else [images]
        pairs = [self.values[int(i)] for i in images]
        return [Localization(np.full((1, 1), m, dtype=np.float32), s) for s, m in pairs]


def numbers(start: int, stop: int) -> list[str]:
    return [str(i) for i in range(start, stop)]


def calibrated(values, n, *, rate=0.05):
    detector = Values(np.asarray(values, dtype=np.float32))
    return calibrate(detector, numbers(0, n), "nut", false_alarms=rate, subtract=False)


def test_catches_and_false_alarms_by_hand():
    """Normal image i has score i and peak 39 - i; the level is the 38th of 39, or both 39th."""
    normal = [(i, 39 - i) for i in range(39)]
    anomalous = [(37.5, 0), (38.5, 0), (0, 38.5), (0, 39.5), (0, 0)]
    found = catches(calibrated([*normal, *anomalous], 39), numbers(39, 44))
    assert {one.alarm_by: one.caught.tolist() for one in found} == {
        "score": [True, True, False, False, False],
        "map": [False, False, True, True, False],
        "either": [False, True, False, True, False],
    }
    assert [one.missed for one in found] == [3, 3, 3]
    by_score, by_map, either = (one.false_alarms for one in found)
    assert by_score.tolist() == [i == 38 for i in range(39)]  # above the 38 others
    assert by_map.tolist() == [i == 0 for i in range(39)]
    assert either is None, "38 others are too few for both"


def test_a_normal_image_does_not_set_the_level_that_judges_it():
    """The level of 20 is their highest value: above the level of all 20 there is none."""
    (one, _) = catches(calibrated([(i, 0) for i in range(21)], 20), ["20"])
    assert np.flatnonzero(one.false_alarms).tolist() == [19]


def test_without_enough_normal_images_nothing_is_said_of_misses():
    few = [(i, i) for i in range(20)]
    assert [one.alarm_by for one in catches(calibrated(few, 19), ["19"])] == ["score", "map"]
    detector = replace(calibrated(few, 19), score_level=None, map_level=None)
    with pytest.raises(ValueError, match="19"):
        catches(detector, ["19"])


@pytest.mark.parametrize("n", [1, 5, 20, 80])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.8])
def test_the_interval_of_a_share_covers_it(n, share):
    """Summed over all possible counts: no simulation."""
    ends = [share_interval(k, n) for k in range(n + 1)]
    covered = [low <= share <= high for low, high in ends]
    assert binom.pmf(np.arange(n + 1), n, share)[covered].sum() >= 0.95


def test_intervals_of_misses_cover_the_true_share():
    """Scores of anomalous images are 1.5 higher: a share of Φ(level - 1.5) lies below the level."""
    rng, covered, draws = np.random.default_rng(0), [], 300
    for _ in range(draws):
        values = rng.normal(size=(59, 2))
        values[39:] += [1.5, 0]
        detector = calibrated(values, 39)
        one = catches(detector, numbers(39, 59))[0]
        low, high = share_interval(one.missed, len(one.caught))
        covered.append(low <= norm.cdf(detector.score_level.value - 1.5) <= high)
    assert np.mean(covered) >= 0.95 - 3 * (0.05 * 0.95 / draws) ** 0.5


def test_rules_are_told_apart_by_what_only_one_of_them_catches():
    def caught(by, *which):
        return Catch(by, np.isin(np.arange(40), which), None)

    score, other = caught("score", *range(3)), caught("map", *range(14))
    assert best_rules([score, other]) == ["map"]  # 11 to 0: p = 0.001
    assert best_rules([score, caught("map", *range(7))]) == ["map", "score"]  # 4 to 0: p = 0.125
    either = caught("either", *range(12))
    assert best_rules([score, other, either]) == ["map", "either"]
    same = [caught(by, 1, 2) for by in ("score", "map", "either")]
    assert best_rules(same) == ["score", "map", "either"]
