"""Which pictures and categories test-time adaptation changes most."""

from __future__ import annotations

import numpy as np
import pytest

from anovl import AnoVL, load_clip, load_dataset
from anovl.evaluation.metrics import auroc, mask_at
from anovl_companion.measure.tta_variants import NONE, PUBLISHED
from anovl_companion.run_charts.notebook_04 import changes, gains_most
from anovl_companion.shared_run.reader import read_shared_run


@pytest.fixture(scope="module")
def run():
    return read_shared_run("pocket")


def test_changes_are_those_of_the_run_largest_gain_first(run):
    found = changes(run)["change"]
    better, worse, n = run.pictures_better(PUBLISHED, NONE, table="tta")
    assert ((found > 0).sum(), (found < 0).sum(), len(found)) == (better, worse, n)
    assert found.is_monotonic_decreasing


def test_a_change_belongs_to_the_picture_with_its_number(run):
    category, number, change = changes(run).iloc[-1]
    sample = load_dataset("pocket", per_category=16).entries(category)[number].sample(category)
    one = AnoVL(load_clip("pocket"), tta=True)(sample.image, category, size=(112, 112))
    truth = mask_at(sample.mask, (112, 112))
    assert auroc(one.map, truth) - auroc(one.map_before_tta, truth) == pytest.approx(
        change, abs=2e-3
    )


def test_the_category_that_gains_most_is_no_worse_than_any(run):
    names = run.table("tta").rows["category"].unique()
    rows = run.table("tta").rows.set_index(["category", "variant"])["aupro"]
    gain = {name: rows[name, PUBLISHED] - rows[name, NONE] for name in names}
    assert gain[gains_most(run)] == np.max(list(gain.values()))
