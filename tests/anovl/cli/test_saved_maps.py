"""Maps of an evaluation on disk: all of them, in the data set's tree, whatever stopped the run."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from anovl.baselines.controls import Brightness, DifferenceOfGaussians
from anovl.cli.panels import overlay
from anovl.cli.saved_maps import SavedMaps, colour_range
from anovl.data import load_dataset
from anovl.evaluation.harness import evaluate

BRIGHTNESS = Brightness(8)


def lay_out(home, names=("good/0.png", "good/1.png", "spot/0.png", "spot/0.bmp")):
    """A category "nut" with pictures (10, 12), two of which differ in their suffix alone."""
    rng = np.random.default_rng(0)
    for name in names:
        path = home / "nut/test" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 12), dtype=np.uint8)).save(path)
    return load_dataset("folder", root=home)


@pytest.fixture
def nuts(tmp_path):
    return lay_out(tmp_path / "data")


@pytest.fixture
def maps(tmp_path):
    return SavedMaps(tmp_path / "out/maps")


@pytest.fixture
def run(nuts, tmp_path):
    """A function: evaluate methods on the nuts."""

    def evaluated(*methods, data=nuts, **options):
        return evaluate(data, methods, out=tmp_path / "out", resamples=10, **options)

    return evaluated


def has(maps, *pair):
    return all(file.is_file() for file in maps.files(*pair))


def test_maps_lie_in_the_tree_of_the_data_set(nuts, maps, run):
    run(BRIGHTNESS, save_maps=maps)
    folder = maps.root / "brightness"
    names = ["good/0", "good/1", "spot/0.bmp", "spot/0.png"]
    ends = [f"nut/test/{name}{end}" for name in names for end in (".npy", ".png")]
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert found == sorted([*ends, "nut.scale.json"])
    scale = json.loads((folder / "nut.scale.json").read_text())
    for sample, label in zip(nuts.samples("nut"), nuts.labels("nut"), strict=True):
        name = "good/" + sample.path.stem if label == 0 else f"spot/{sample.path.name}"
        values = np.load(folder / f"nut/test/{name}.npy")
        np.testing.assert_array_equal(values, BRIGHTNESS(sample.image, "nut").map)
        with Image.open(folder / f"nut/test/{name}.png") as panel:
            expected = overlay(sample.image, values, vmin=scale["low"], vmax=scale["high"])
            np.testing.assert_array_equal(np.asarray(panel), np.asarray(expected))


def test_a_scale_is_that_of_the_normal_pictures():
    maps = [np.float32([0, 0.1, 0.2]), np.float32([0.1, 0.1, 0.3]), np.float32([0.9, 0.9, 0.9])]
    assert colour_range(maps, [0, 0, 1]) == pytest.approx((0.1, 0.1 + 1.6 * (0.3 - 0.1)))
    assert colour_range(maps, [1, 1, 1]) == pytest.approx((0, 0.9))
    low, high = colour_range([np.ones(3)], [0])
    assert low < high


@pytest.mark.parametrize("lost", ["nut/test/good/1.npy", "nut/test/spot/0.png.png", "all"])
def test_a_finished_run_gets_the_maps_that_it_lacks(nuts, maps, run, lost):
    methods = BRIGHTNESS, DifferenceOfGaussians(8)
    first = run(*methods, save_maps=None if lost == "all" else maps)
    if lost != "all":
        (maps.root / "dog" / lost).unlink()
    assert not has(maps, nuts, "nut", "dog")
    assert first.equals(run(*methods, save_maps=maps, jobs=2 if lost == "all" else 1))
    assert has(maps, nuts, "nut", "dog") and has(maps, nuts, "nut", "brightness")


def test_a_run_that_is_stopped_while_it_saves_ends_with_all_maps(nuts, maps, run, monkeypatch):
    own, calls = np.save, []

    def stopped(file, arr):
        calls.append(file)
        if len(calls) == 2:
            raise KeyboardInterrupt
        own(file, arr)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(np, "save", stopped)
        run(BRIGHTNESS, save_maps=maps)
    assert not (maps.root.parent / "results.csv").exists()
    assert not has(maps, nuts, "nut", "brightness")
    run(BRIGHTNESS, save_maps=maps)
    assert has(maps, nuts, "nut", "brightness") and not list(maps.root.rglob("*.tmp*"))


@pytest.mark.parametrize("where", ["below", "linked"])
def test_maps_never_replace_the_pictures_or_lie_among_them(maps, run, tmp_path, where):
    home = maps.root / "brightness" if where == "below" else tmp_path / "other"
    data = lay_out(home, ["good/0.png", "spot/0.png"])
    if where == "linked":
        maps.root.mkdir(parents=True)
        (maps.root / "brightness").symlink_to(home)
    before = {path: path.read_bytes() for path in home.rglob("*.png")}
    with pytest.raises(ValueError, match="good"):
        run(BRIGHTNESS, data=data, save_maps=maps)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    assert not (maps.root.parent / "run.json").exists()
    run(BRIGHTNESS, data=data)
