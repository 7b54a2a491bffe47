"""Levels that few normal pictures set, counted by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from anovl_companion.findings.notebook_a2 import misses, split_rates, splits
from anovl_companion.run_charts.notebook_a2 import luck


def run(**categories: tuple[list[float], list[float]]) -> SimpleNamespace:
    """A run with scores of normal and of anomalous pictures by category."""
    rows = [
        {"category": name, "method": "anovl", "kind": kind, "score": score}
        for name, both in categories.items()
        for kind, scores in zip(("good", "crack"), both, strict=True)
        for score in scores
    ]
    return SimpleNamespace(images=lambda: pd.DataFrame(rows), value=lambda *_, **__: (0.9,) * 3)


LOW, HIGH = [1, 2, 3, 4, 5, 0], [11, 12, 14, 13, 10, 15]
TWO = run(low=(LOW, [4, 6]), high=(HIGH, [20, 21, 15, 0]), few=([1, 2, 3, 4], [5]))


def test_the_first_four_pictures_set_the_level_that_the_others_test():
    rates = {name: f"{rate:of}" for name, rate in split_rates(TWO).items()}
    assert rates == {"low": "1 of 2", "high": "1 of 2"}
    found = splits(run(a=(LOW, [1]), b=([9, *LOW], [1])))
    assert f"{found['worst']:of}, {found['best']:of}" == "1 of 2, 0 of 3"
    assert found["average"].value == 0.25 and found["average"].low < 0.25 < found["average"].high
    assert len(luck(TWO).axes[0].patches) == 2


def test_what_is_not_above_all_normal_pictures_is_missed():
    found = misses(TWO)
    assert f"{found['missed']:of}" == "3 of 6"
    assert found["promised"].value == pytest.approx(1 / 7)


@pytest.mark.parametrize("numbers", [splits, misses])
def test_too_few_pictures_are_not_measured(numbers):
    values = [one for name, one in numbers(run(few=([1, 2], [3]))).items() if name != "auroc"]
    assert all(math.isnan(one.value) for one in values)
