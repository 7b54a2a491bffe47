"""A calibrated detector: its numbers by hand, its promise by simulation, its refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

import anovl
from anovl.detector import Detector, Localization
from anovl.evaluation.threshold import Level, calibrate, conformal_threshold


class Told(Detector):
    """A detector that is told what to say of each image: images are paths of numbers."""

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


def test_alarms_are_by_the_score_or_by_the_peak_of_the_map():
    detector = Told(MAPS, [0.50, 0.51, 0.52, 0.515])
    by_score = calibrate(detector, ["0", "1", "2"], "nut", false_alarms=0.25)
    by_map = calibrate(detector, ["0", "1", "2"], "nut", false_alarms=0.25, alarm_by="map")
    assert by_score.level.value == 0.52 and by_score("3").alarm is False
    assert by_map("3").alarm is True
    np.testing.assert_array_equal(by_map("3").mask, by_score("3").mask)
    np.testing.assert_array_equal(by_map("3").mask, [[True, False]])


def test_without_subtraction_the_map_is_that_of_the_detector():
    calibrated = calibrate(Told(MAPS), ["0", "1", "2"], "nut", false_alarms=0.25, subtract=False)
    np.testing.assert_array_equal(calibrated("3").map, np.float32(MAPS[3]))
    assert calibrated.map_level.value == np.float32(0.64)


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
    with pytest.raises(ValueError, match="19 normal images; found 3"):
        calibrate(Told(MAPS), ["0", "1", "2"], "nut", false_alarms=0.05)
    with pytest.raises(ValueError, match="at least two normal images; found 1"):
        calibrate(Told(MAPS), ["0"], "nut")
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibrate(Told(MAPS), ["0", "1"], "nut", false_alarms=5)
    with pytest.raises(ValueError, match="'score' or 'map'"):
        calibrate(Told(MAPS), ["0", "1"], "nut", alarm_by="peak")


def test_maps_that_are_no_probabilities_are_not_subtracted_in_silence():
    residuals = Told([[[0.0, 3.0]], [[1.0, 2.0]]])
    with pytest.raises(ValueError, match="subtract=False"):
        calibrate(residuals, ["0", "1"], "nut")
    assert calibrate(residuals, ["0", "1"], "nut", subtract=False)("0").map[0, 1] == 3


def test_the_scale_goes_from_the_median_to_above_the_level():
    calibrated = calibrate(Told(MAPS), ["0", "1", "2"], "nut", false_alarms=0.25)
    low, high = calibrated.scale
    assert low < calibrated.map_level.value < high


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
