"""A level for alarms keeps its promise, whatever the scores are like, and says when it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from anovl.evaluation.threshold import conformal_threshold


def test_by_hand():
    scores = [0.3, 0.1, 0.2, 0.5, 0.4, 0.9, 0.8, 0.7, 0.6]  # n = 9
    assert conformal_threshold(scores) == 0.9  # k = 10 · 0.9 = 9
    assert conformal_threshold(scores, rate=0.5) == 0.5  # k = 5
    assert conformal_threshold(scores, rate=0.45) == 0.6  # k = ⌈5.5⌉ = 6
    assert conformal_threshold(np.array(scores)[::-1], rate=0.5) == 0.5


@pytest.mark.parametrize("draw", ["normal", "exponential", "standard_cauchy"])
@pytest.mark.parametrize(("n", "rate"), [(9, 0.1), (20, 0.1), (30, 0.25)])
def test_normal_images_raise_as_many_alarms_as_promised(draw, n, rate):
    rng = np.random.default_rng(0)
    trials = getattr(rng, draw)(size=(20_000, n + 1))
    alarms = np.mean([trial[-1] > conformal_threshold(trial[:-1], rate=rate) for trial in trials])
    assert rate - 1 / (n + 1) - 0.01 < alarms < rate + 0.01


def test_ties_do_not_raise_alarms():
    assert conformal_threshold([0.5] * 9) == 0.5


def test_too_few_normal_images_and_bad_input_are_refused():
    with pytest.raises(ValueError, match="9 normal images; found 8"):
        conformal_threshold([0.5] * 8)
    with pytest.raises(ValueError, match="19 normal images; found 0"):
        conformal_threshold([], rate=0.05)
    for rate in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            conformal_threshold([0.5] * 20, rate=rate)
    with pytest.raises(ValueError, match=r"list of scores; found shape \(1, 20\)"):
        conformal_threshold([[0.5] * 20])
    with pytest.raises(ValueError, match="1 of 21 scores are not finite"):
        conformal_threshold([0.5] * 20 + [float("nan")])
