"""The charts of notebook 03 show what stands in the run, and where prompts and pictures stand."""

from __future__ import annotations

import numpy as np
import pytest

from anovl import load_clip, load_dataset
from anovl_companion.run_charts import notebook_03
from anovl_companion.run_charts.base import label_of
from anovl_companion.shared_run.reader import read_shared_run


@pytest.fixture(scope="module")
def wood():
    return load_dataset("pocket", categories=["wood"], per_category=2)


def rows_of(fig):
    return [text.get_text() for text in fig.axes[0].get_yticklabels()]


def test_the_strip_parts_the_prompts_at_zero(wood):
    fig = notebook_03.strip(load_clip("pocket"), wood, "wood")
    dots = [line.get_xdata() for line in fig.axes[0].lines if len(line.get_xdata()) != 2]
    normal, anomalous = dots
    assert rows_of(fig)[2:] == ["normal pictures", "anomalous pictures"]
    assert np.max(normal) < 0 < np.min(anomalous)


def test_pictures_without_labels_are_one_row(tmp_path, wood):
    for place, sample in enumerate(wood.samples("wood")):
        sample.image.save(tmp_path / f"{place}.png")
    own = load_dataset("folder", root=tmp_path)
    fig = notebook_03.strip(load_clip("pocket"), own, own.categories[0])
    assert rows_of(fig)[2:] == ["pictures"]


@pytest.mark.parametrize("draw", [notebook_03.states, notebook_03.naming])
def test_changes_are_those_of_the_run(draw):
    run = read_shared_run()
    fig = draw(run)
    names = notebook_03.STATES if draw is notebook_03.states else notebook_03.NAMING
    assert rows_of(fig) == [label_of(name) for name in names]
    for ax, metric in zip(fig.axes, ("auroc_sp", "auroc_px_debiased"), strict=True):
        shown = ax.lines[0].get_xdata()
        known = [run.gain(one, "domains", metric, table="words")[0] for one in names]
        np.testing.assert_allclose(shown, 100 * np.array(known))
