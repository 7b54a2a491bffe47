"""Levels for alarms and calibrated detectors: by hand, by simulation, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

import anovl
from anovl.detector import Detector, Localization
from anovl.evaluation.threshold import (
    Level,
    calibrate,
    conformal_threshold,
    joint_thresholds,
)


class Told(Detector):
    """A stub with given maps and scores: an image is a number as a path."""

    name = "told"

    def __init__(self, maps, scores=None):
        self.maps = [np.asarray(one, dtype=np.float32) for one in maps]
        self.scores = [0.5] * len(maps) if scores is None else scores

    def localize(self, images, category, *, size=None):
        images = images if isinstance(images, list) else [images]
        return [Localization(self.maps[int(i)], self.scores[int(i)]) for i in images]


def logit(p):
    return math.log(p / (1 - p))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


MAPS = [[[0.50, 0.60]], [[0.52, 0.64]], [[0.48, 0.62]], [[0.70, 0.62]]]


def test_the_mean_map_is_subtracted_in_logits():
    calibrated = calibrate(Told(MAPS), ["0", "1", "2"], "nut")
    found = calibrated("3")
    for column in (0, 1):
        mean = np.mean([logit(MAPS[i][0][column]) for i in range(3)])
        expected = sigmoid(logit(MAPS[3][0][column]) - mean)
        assert found.map[0, column] == pytest.approx(expected, abs=1e-6)
    assert found.peak == pytest.approx(found.map.max())
    assert found.alarm is None and found.mask is None, "three images set no level"


def test_each_normal_image_is_compared_with_the_mean_of_the_others():
    calibrated = calibrate(Told(MAPS), ["0", "1", "2"], "nut", false_alarms=0.25)
    peaks = []
    for i in range(3):
        others = [j for j in range(3) if j != i]
        peaks.append(
            max(
                sigmoid(logit(MAPS[i][0][c]) - np.mean([logit(MAPS[j][0][c]) for j in others]))
                for c in (0, 1)
            )
        )
    assert calibrated.map_level.value == pytest.approx(max(peaks), abs=1e-6)
    assert calibrated.map_level == Level(calibrated.map_level.value, n=3, false_alarms=0.25)
    low, high = calibrated.scale
    assert low < calibrated.map_level.value < high


def test_alarms_are_by_the_score_or_by_the_peak_of_the_map():
    detector = Told(MAPS, [0.50, 0.51, 0.52, 0.515])
    by_score = calibrate(detector, ["0", "1", "2"], "nut", false_alarms=0.25)
    by_map = calibrate(detector, ["0", "1", "2"], "nut", false_alarms=0.25, alarm_by="map")
    assert by_score.level.value == 0.52 and by_score("3").alarm is False
    assert by_map("3").alarm is True
    np.testing.assert_array_equal(by_map("3").mask, by_score("3").mask)
    np.testing.assert_array_equal(by_map("3").mask, [[True, False]])


@pytest.mark.parametrize("alarm_by", ["score", "map"])
def test_the_promise_holds_on_average(alarm_by):
    """19 normal images, 5 %: over many draws, at most 5 % of new normal images are alarms.

    Compared with a mean that contains them, the peaks of the 19 would be too low: 7.5 % were seen.
    """
    rng, rates, draws = np.random.default_rng(0), [], 300
    images = [str(i) for i in range(69)]
    for _ in range(draws):
        maps = 1 / (1 + np.exp(-rng.normal(size=(69, 3, 3))))
        calibrated = calibrate(
            Told(maps, list(rng.normal(size=69))),
            images[:19],
            "nut",
            false_alarms=0.05,
            alarm_by=alarm_by,
        )
        rates.append(np.mean([found.alarm for found in calibrated.localize(images[19:])]))
    assert np.mean(rates) == pytest.approx(0.05, abs=3 * np.std(rates) / draws**0.5 + 0.003)
    assert np.mean(rates) < 0.065


def test_the_spread_of_a_level_is_that_of_many_draws():
    level = Level(0.0, n=19, false_alarms=0.05)
    scores = np.random.default_rng(1).uniform(size=(20_000, 19))
    rates = 1 - scores.max(axis=1)  # uniform scores: the chance of a score above the level
    assert level.expected == pytest.approx(rates.mean(), abs=0.002)
    assert level.rate_95 == pytest.approx(np.quantile(rates, 0.95), abs=0.004)


def test_too_few_images_still_subtract_but_a_typed_promise_is_refused():
    assert calibrate(Told(MAPS), ["0", "1"], "nut").map_level is None
    for images, options, named in (
        (["0", "1", "2"], {"false_alarms": 0.05}, "19 normal images; found 3"),
        (["0"], {}, "found 1"),
        (["0", "1"], {"false_alarms": 5}, "5"),
        (["0", "1"], {"alarm_by": "peak"}, "alarm_by"),
    ):
        with pytest.raises(ValueError, match=named):
            calibrate(Told(MAPS), images, "nut", **options)


def test_maps_that_are_no_probabilities_are_not_subtracted_in_silence():
    residuals = Told([[[0.0, 3.0]], [[1.0, 2.0]]])
    with pytest.raises(ValueError, match="subtract=False"):
        calibrate(residuals, ["0", "1"], "nut")
    assert calibrate(residuals, ["0", "1"], "nut", subtract=False)("0").map[0, 1] == 3


def test_a_real_detector_at_another_size(tiny_clip):
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 255, (50, 40, 3), dtype=np.uint8)) for _ in range(5)
    ]
    calibrated = calibrate(anovl.AnoVL(tiny_clip, tta=True), pictures[:4], "nut", false_alarms=0.2)
    small, large = calibrated(pictures[4]), calibrated(pictures[4], size=(50, 40))
    assert large.map.shape == large.mask.shape == large.map_before_tta.shape == (50, 40)
    assert (small.alarm, small.peak, small.score) == (large.alarm, large.peak, large.score)
    assert small.peak == pytest.approx(small.map.max())
    level = conformal_threshold(
        [r.score for r in anovl.AnoVL(tiny_clip).localize(pictures[:4], "nut")], rate=0.2
    )
    assert calibrated.level.value == pytest.approx(level, abs=1e-6)
    with pytest.raises(ValueError, match="one image; found 2"):
        calibrated(pictures[:2])


def test_new_images_have_the_range_of_pixel_values_of_the_normal_ones(tiny_clip, tmp_path):
    """Normal ones of 12 bits; alone, a dim new one would be taken for 8 bits."""
    rng, paths = np.random.default_rng(0), [tmp_path / f"{i}.png" for i in range(5)]
    pixels = [rng.integers(0, high, (32, 32), dtype=np.uint16) for high in [4000] * 4 + [250]]
    for path, values in zip(paths, pixels, strict=True):
        Image.fromarray(values).save(path)
    detector = anovl.AnoVL(tiny_clip, level="word")
    given = {"false_alarms": 0.2, "alarm_by": "map"}
    calibrated = calibrate(detector, paths[:4], "nut", **given)
    assert calibrated.pixel_range == (0, 4095)
    by_hand = [Image.fromarray(np.rint(one * (255 / 4095)).astype(np.uint8)) for one in pixels]
    expected = calibrate(detector, by_hand[:4], "nut", **given)
    assert calibrated.level == expected.level and expected.pixel_range is None
    np.testing.assert_array_equal(calibrated(paths[4]).map, expected(by_hand[4]).map)
    assert calibrate(detector, paths, "nut", pixel_range=(0, 9999)).pixel_range == (0, 9999)


def test_conformal_thresholds_by_hand():
    scores = [0.3, 0.1, 0.2, 0.5, 0.4, 0.9, 0.8, 0.7, 0.6]  # n = 9
    assert conformal_threshold(scores) == 0.9  # k = 10 · 0.9 = 9
    assert conformal_threshold(scores, rate=0.5) == 0.5  # k = 5
    assert conformal_threshold(scores, rate=0.45) == 0.6  # k = ⌈5.5⌉ = 6
    assert conformal_threshold(np.array(scores)[::-1], rate=0.5) == 0.5
    assert conformal_threshold([0.5] * 9) == 0.5


@pytest.mark.parametrize("draw", ["normal", "exponential", "standard_cauchy"])
@pytest.mark.parametrize(("n", "rate"), [(9, 0.1), (20, 0.1), (30, 0.25)])
def test_normal_images_raise_as_many_alarms_as_promised(draw, n, rate):
    rng = np.random.default_rng(0)
    trials = getattr(rng, draw)(size=(20_000, n + 1))
    alarms = np.mean([trial[-1] > conformal_threshold(trial[:-1], rate=rate) for trial in trials])
    assert rate - 1 / (n + 1) - 0.01 < alarms < rate + 0.01


def test_too_few_normal_images_and_bad_input_are_refused():
    for scores, rate, named in (
        ([0.5] * 8, 0.1, "9 normal images; found 8"),
        ([], 0.05, "19 normal images; found 0"),
        ([[0.5] * 20], 0.1, r"\(1, 20\)"),
        ([0.5] * 20 + [float("nan")], 0.1, "1 of 21"),
        *(([0.5] * 20, rate, f"{rate}") for rate in (0, 1, -0.1, float("nan"))),
    ):
        with pytest.raises(ValueError, match=named):
            conformal_threshold(scores, rate=rate)


# Score and map together


def smallest_rank(values, rate):
    """K by its definition, tried from 1 on."""
    n, (s, m) = len(values), values.T
    for low_s, low_m in zip(np.sort(s), np.sort(m), strict=True):
        first = 1 + ((s > low_s) | (m >= low_m)).sum()
        mirror = 1 + ((s >= low_s) | (m > low_m)).sum()
        if max(first, mirror) <= rate * (n + 1) + 1e-9:
            return [low_s, low_m]
    raise AssertionError


def pairs(rng, count, dependence):
    """Scores and peaks (count, 2), with this correlation of two normal distributions."""
    values = rng.normal(size=(count, 2))
    values[:, 1] = dependence * values[:, 0] + (1 - dependence**2) ** 0.5 * values[:, 1]
    return values


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3, 0.9])
@pytest.mark.parametrize("n", [39, 40, 59, 100])
def test_thresholds_for_both_are_the_lowest_that_the_rule_allows(n, rate):
    rng = np.random.default_rng(n)
    for dependence in (0, 0.7, 1, -1):
        values = pairs(rng, n, dependence)
        assert joint_thresholds(values, rate=rate).tolist() == smallest_rank(values, rate)


@pytest.mark.parametrize("n", [39, 59, 100])
@pytest.mark.parametrize("dependence", [0, 0.8, 1, -0.8])
@pytest.mark.parametrize("decimals", [9, 0])
def test_the_promise_holds_for_score_and_map_together(n, dependence, decimals):
    """Also where values are equal. Taking the larger of two ranks would give 6.5 % at n = 59."""
    rng, rates, draws = np.random.default_rng(0), [], 500
    for _ in range(draws):
        values = pairs(rng, n + 200, dependence).round(decimals)
        limits = joint_thresholds(values[:n], rate=0.05)
        rates.append((values[n:] > limits).any(axis=1).mean())
    assert np.mean(rates) <= 0.05 + 3 * np.std(rates) / draws**0.5
    assert np.mean(rates) > 0.02 or decimals == 0, "not so few that nothing is ever caught"


def test_either_raises_an_alarm_by_both_levels_and_needs_twice_the_images():
    scores = [i / 100 for i in range(39)] + [0.9, 0.0, 0.0]
    maps = [[[i / 100]] for i in range(39)] + [[[0.0]], [[0.9]], [[0.0]]]
    images, options = [str(i) for i in range(42)], {"alarm_by": "either", "subtract": False}
    calibrated = calibrate(Told(maps, scores), images[:39], "nut", **options)
    found = calibrated.localize(images[39:])
    assert [one.alarm for one in found] == [True, True, False]
    assert found[1].mask.all() and calibrated.thresholds == pytest.approx((0.38, 0.38))
    assert (
        calibrated.level.together and calibrated.level.rate_95 is calibrated.level.expected is None
    )
    for given in ({}, {"false_alarms": 0.05}):
        with pytest.raises(ValueError, match="39 normal images; found 38"):
            calibrate(Told(maps, scores), images[:38], "nut", **options, **given)
    with pytest.raises(ValueError, match=r"\(39,\)"):
        joint_thresholds(np.zeros(39), rate=0.05)
