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
from anovl.evaluation.harness import UnreadWarning, evaluate


@pytest.fixture
def nuts(tmp_path):
    """Two normal and two anomalous pictures (10, 12), two of which differ in their suffix alone."""
    rng = np.random.default_rng(0)
    for name in ("good/0.png", "good/1.png", "spot/0.png", "spot/0.bmp"):
        path = tmp_path / "data/nut/test" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 12), dtype=np.uint8)).save(path)
    return load_dataset("folder", root=tmp_path / "data")


NAMES = ["good/0", "good/1", "spot/0.bmp", "spot/0.png"]


def has(maps, *pair):
    return all(file.is_file() for file in maps.files(*pair))


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_maps_lie_in_the_tree_of_the_data_set(nuts, tmp_path):
    method = Brightness(8)
    out = tmp_path / "out"
    evaluate(nuts, [method], out=out, resamples=10, save_maps=SavedMaps(out / "maps"))
    folder = out / "maps/brightness"
    ends = [f"nut/test/{name}{end}" for name in NAMES for end in (".npy", ".png")]
    assert files(folder) == sorted([*ends, "nut.scale.json"])
    scale = json.loads((folder / "nut.scale.json").read_text())
    for sample, label in zip(nuts.samples("nut"), nuts.labels("nut"), strict=True):
        name = "good/" + sample.path.stem if label == 0 else f"spot/{sample.path.name}"
        values = np.load(folder / f"nut/test/{name}.npy")
        np.testing.assert_array_equal(values, method(sample.image, "nut").map)
        with Image.open(folder / f"nut/test/{name}.png") as panel:
            expected = overlay(sample.image, values, vmin=scale["low"], vmax=scale["high"])
            np.testing.assert_array_equal(np.asarray(panel), np.asarray(expected))


def test_a_scale_is_that_of_the_normal_pictures():
    maps = [np.float32([0, 0.1, 0.2]), np.float32([0.1, 0.1, 0.3]), np.float32([0.9, 0.9, 0.9])]
    low, high = colour_range(maps, [0, 0, 1])
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.1 + 1.6 * (0.3 - 0.1)))
    assert colour_range(maps, [1, 1, 1]) == (pytest.approx(0), pytest.approx(0.9))
    low, high = colour_range([np.ones(3)], [0])
    assert low < high


def test_generated_pictures_have_a_tree_too(tmp_path):
    data = load_dataset("pocket", categories=["wood"], per_category=2, image_size=16)
    maps = SavedMaps(tmp_path / "maps")
    evaluate(data, [Brightness(8)], out=tmp_path, resamples=10, save_maps=maps)
    stems = maps.stems(data, "wood", "brightness")
    assert len(set(stems)) == 4 and has(maps, data, "wood", "brightness")
    assert {stem.parts[-4:-2] for stem in stems} == {("wood", "test")}


@pytest.mark.parametrize("lost", ["nut/test/good/1.npy", "nut/test/spot/0.png.png", "all"])
def test_a_finished_run_gets_the_maps_that_it_lacks(nuts, tmp_path, lost):
    maps, methods = SavedMaps(tmp_path / "maps"), [Brightness(8), DifferenceOfGaussians(8)]
    given = {} if lost == "all" else {"save_maps": maps}
    first = evaluate(nuts, methods, out=tmp_path / "out", resamples=10, **given)
    if lost != "all":
        (tmp_path / "maps/dog" / lost).unlink()
    assert not has(maps, nuts, "nut", "dog")
    again = evaluate(nuts, methods, out=tmp_path / "out", resamples=10, save_maps=maps)
    assert has(maps, nuts, "nut", "dog") and has(maps, nuts, "nut", "brightness")
    assert first.equals(again)


def test_a_run_that_is_stopped_while_it_saves_ends_with_all_maps(nuts, tmp_path, monkeypatch):
    maps, out = SavedMaps(tmp_path / "maps"), tmp_path / "out"
    own, calls = np.save, []

    def stopped(file, arr):
        calls.append(file)
        if len(calls) == 2:
            raise KeyboardInterrupt
        own(file, arr)

    monkeypatch.setattr(np, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate(nuts, [Brightness(8)], out=out, resamples=10, save_maps=maps)
    assert not (out / "results.csv").exists() and not has(maps, nuts, "nut", "brightness")
    monkeypatch.undo()
    evaluate(nuts, [Brightness(8)], out=out, resamples=10, save_maps=maps)
    assert has(maps, nuts, "nut", "brightness")
    assert not list((tmp_path / "maps").rglob("*.tmp*"))


def test_processes_save_maps_too(nuts, tmp_path):
    maps = SavedMaps(tmp_path / "maps")
    evaluate(nuts, [Brightness(8)], out=tmp_path / "out", resamples=10, save_maps=maps, jobs=2)
    assert has(maps, nuts, "nut", "brightness")


@pytest.mark.parametrize("where", ["below", "linked"])
def test_maps_never_replace_the_pictures_or_lie_among_them(tmp_path, where):
    home = tmp_path / ("out/maps/brightness" if where == "below" else "data")
    for name in ("good/0.png", "spot/0.png"):
        path = home / "nut/test" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(10, dtype=np.uint8)).save(path)
    if where == "linked":
        (tmp_path / "out/maps").mkdir(parents=True)
        (tmp_path / "out/maps/brightness").symlink_to(home)
    before = {path: path.read_bytes() for path in home.rglob("*.png")}
    data, maps = load_dataset("folder", root=home), SavedMaps(tmp_path / "out/maps")
    with pytest.raises(ValueError, match=r"images are read from .*good, and results would lie"):
        evaluate(data, [Brightness(8)], out=tmp_path / "out", resamples=10, save_maps=maps)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "out/run.json").exists()
    evaluate(data, [Brightness(8)], out=tmp_path / "out", resamples=10)


def test_maps_that_are_of_no_run_are_not_replaced(nuts, tmp_path):
    kept = tmp_path / "out/maps/brightness/nut/test/good/0.png"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    given = {"out": tmp_path / "out", "resamples": 10}
    with pytest.raises(ValueError, match=r"0\.png exists and is not of a run: choose another"):
        evaluate(nuts, [Brightness(8)], save_maps=SavedMaps(tmp_path / "out/maps"), **given)
    assert kept.read_text() == "mine"
    evaluate(nuts, [Brightness(8)], **given)
    assert kept.read_text() == "mine"


def test_what_cannot_be_read_has_no_map(nuts, tmp_path):
    (tmp_path / "data/nut/test/spot/0.png").write_bytes(b"no picture")
    out, saved = tmp_path / "out", SavedMaps(tmp_path / "out/maps")
    given = {"out": out, "resamples": 10, "save_maps": saved, "skip_unreadable": True}
    with pytest.warns(UnreadWarning, match="1 image"):
        evaluate(nuts, [Brightness(8)], **given)
    found = {path.stem for path in out.rglob("*.npy")}
    assert len(found) >= 2 and len(list(out.rglob("*.npy"))) == 3
