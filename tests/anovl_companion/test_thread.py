"""Pictures by rank, their normal counterparts, and the scale of a method."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anovl import load_dataset
from anovl.baselines import make_detector
from anovl.baselines.controls import Centre
from anovl_companion.charts import map_chart, scale_of
from anovl_companion.my_anovl import read_parts, save_part
from anovl_companion.notebook import Notebook
from anovl_companion.shared_run.reader import read_shared_run
from anovl_companion.thread import first_ones, map_row, pair, ranked

GIVEN = {"model": "pocket", "weights": "", "dataset": "pocket", "data_root": "", "out": ""}
GIVEN |= {"device": "cpu", "seed": 0, "quick": False}


@pytest.fixture(scope="module")
def data():
    return load_dataset("pocket", categories=["screw", "gear"], per_category=2)


def test_ranks_go_from_the_best_to_the_worst_picture_of_the_run():
    table = read_shared_run().images()
    own = table[(table["method"] == "anovl") & table["auroc_px"].notna()]
    best, median, worst = ranked(table, [0, 0.5, 1])
    for (category, number), value in (
        (best, own["auroc_px"].max()),
        (worst, own["auroc_px"].min()),
    ):
        rows = table[(table["method"] == "anovl") & (table["category"] == category)]
        assert rows["auroc_px"].iloc[number] == value
    assert len({best, median, worst}) == 3


def test_the_counterpart_is_the_twin_without_the_defect(data):
    drawn = pair(data, "gear", 2)
    assert drawn.is_twin and drawn.sample.label == 1
    changed = (np.asarray(drawn.sample.image) != np.asarray(drawn.normal)).any(axis=2)
    assert changed[drawn.sample.mask].mean() > 0.5 > changed[~drawn.sample.mask].mean()


def test_in_a_folder_it_is_a_normal_picture(tmp_path):
    for kind, value in (("good", 10), ("crack", 200)):
        folder = tmp_path / "nut/test" / kind
        folder.mkdir(parents=True)
        Image.new("RGB", (40, 40), (value, 0, 0)).save(folder / "a.png")
    data = load_dataset("folder", root=tmp_path)
    found = pair(data, *first_ones(data, 1)[0])
    assert not found.is_twin and found.sample.label == 1
    assert found.normal.getpixel((0, 0)) == (10, 0, 0)


def test_the_scale_is_that_of_normal_pictures_and_the_same_for_all(data):
    pairs = [pair(data, "gear", 2), pair(data, "screw", 3)]
    row = map_row("centre", Centre(16), pairs, data)
    assert row.maps.shape == row.twins.shape == (2, 112, 112)
    assert (row.low, row.high) == scale_of(row.twins[:1])
    assert np.array_equal(row.maps, row.twins), "a fixed map does not depend on the picture"


def test_a_chart_refuses_other_lengths():
    gray = np.zeros((2, 8, 8))
    with pytest.raises(ValueError, match="2"):
        map_chart(gray, gray[:1], [], masks=gray > 0, heads=["a", "b"], title="", note="")


def first(x):
    return x + 1


def second(x):
    return first(x) * 2


def test_parts_of_the_readers_own_code_are_kept_in_order(tmp_path):
    save_part(tmp_path, "02", second)
    save_part(tmp_path, "01", first)
    path = save_part(tmp_path, "02", second)  # again: it replaces its own part only
    assert list(read_parts(tmp_path)) == ["01", "02"]
    names: dict = {}
    exec(path.read_text(encoding="utf-8"), names)
    assert names["second"](1) == 4


def test_a_notebook_refuses_other_plain_values_and_knows_the_shipped_configuration(tmp_path):
    nb = Notebook.begin(GIVEN | {"out": str(tmp_path), "_i": "x", "tool": make_detector})
    assert nb.is_shipped and nb.runs[0].path.name == "pocket"
    with pytest.raises(ValueError, match=r"'sed'.*'seed'"):
        Notebook.begin(GIVEN | {"sed": 1})
    other = Notebook.begin(GIVEN | {"out": str(tmp_path), "seed": 3})
    assert not other.is_shipped


def test_without_labels_nothing_is_measured(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    given = {"dataset": "folder", "data_root": str(tmp_path), "out": str(tmp_path / "out")}
    nb = Notebook.begin(GIVEN | given)
    assert nb.runs == [] and "not measured" in nb.finding("00-maps").data
    assert "not measured" in nb.chart(lambda run: 1 / 0).texts[0].get_text()
