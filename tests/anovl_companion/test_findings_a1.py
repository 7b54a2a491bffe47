"""What the findings of notebook A1 compute from a run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pandas import DataFrame

from anovl_companion.findings.base import Estimate
from anovl_companion.findings.notebook_a1 import missed, on


def run_of(rows: list[tuple[str, str, float, float]]) -> SimpleNamespace:
    table = DataFrame(rows, columns=["category", "kind", "score", "area"]).assign(method="clip")
    return SimpleNamespace(images=lambda: table)


def test_missed_pictures_are_those_on_the_wrong_side_of_the_other_mean():
    nut = [("nut", "good", 0.1, 0), ("nut", "good", 0.3, 0), ("nut", "good", 0.9, 0)]
    nut += [("nut", "hole", 0.8, 0.20), ("nut", "hole", 0.4, 0.01), ("nut", "hole", 0.9, 0.30)]
    wood = [("wood", "good", 0.0, 0), ("wood", "hole", 0.1, 0.02)]  # low, and above its own mean
    found = missed(run_of(nut + wood))
    assert f"{found['missed']:of}, {found['alarms']:of}" == "1 of 4, 1 of 4"
    assert found["smaller"].value == 1
    assert found["missed"].low < 0.25 < found["missed"].high


def test_sizes_are_not_compared_where_nothing_is_missed():
    found = missed(run_of([("nut", "good", 0.1, 0), ("nut", "hole", 0.8, 0.2)]))
    assert found["missed"].value == 0 and f"{found['smaller']}" == "not measured"


@pytest.mark.parametrize(("groups", "asked"), [({"unseen": ["a"]}, "unseen"), ({"all": []}, None)])
def test_a_group_that_is_not_there_means_all_categories(groups, asked):
    said = []

    def read(run, *of, group):
        said.append((of, group))
        return Estimate(0.5)

    on(read, SimpleNamespace(record={"groups": groups}), "clip", "aupro", group="unseen")
    assert said == [(("clip", "aupro"), asked)]
