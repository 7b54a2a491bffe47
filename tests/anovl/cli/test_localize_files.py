"""Files in, maps and alarms out: nothing is lost, and nothing is replaced that was read."""

from __future__ import annotations

import csv
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import anovl
from anovl.cli import image_files, localize_files
from anovl.cli.image_files import ENDS, output_names
from anovl.cli.panels import draw_panel
from anovl.data import load_dataset
from anovl.evaluation.threshold import calibrate

run = localize_files.localize_files


@pytest.fixture
def detector(tiny_clip):
    return anovl.AnoVL(tiny_clip, level="word")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    where = tmp_path / "pictures"
    where.mkdir()
    for name in ("a", "b", "c", "d", "e"):
        pixels = rng.integers(0, 255, (24, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(where / f"{name}.png")
    return where


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def rows(out):
    with (out / "scores.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("batch_size", [2, 16])
def test_alarms_masks_and_maps_are_those_of_the_calibrated_detector(
    detector, folder, out, batch_size
):
    images = sorted(folder.iterdir())
    calibrated = calibrate(detector, images[:4], "nut", false_alarms=0.2, alarm_by="map")
    done, problems = run(calibrated, [folder], out=out, batch_size=batch_size)
    assert problems == [] and len(done) == len(rows(out)) == 5
    for item, row, image in zip(done, rows(out), images, strict=True):
        expected = calibrated(image)
        assert item.alarm is expected.alarm is bool(int(row["alarm"]))
        np.testing.assert_allclose(np.load(item.map_file), expected.map, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(Image.open(item.mask_file)), expected.mask)
        assert float(row["score"]) == pytest.approx(expected.score, abs=1e-6)
        assert float(row["map_peak"]) == pytest.approx(expected.peak, abs=1e-6)
        assert (out / row["mask"]).is_file() and item.panel.is_file()
    record = json.loads((out / "localize.json").read_text())
    levels = {"score": calibrated.score_level.value, "map": calibrated.map_level.value}
    assert {by: level["value"] for by, level in record["levels"].items()} == levels
    assert record["levels"]["map"]["n"] == 4 and record["alarm_by"] == "map"


def test_the_normal_images_are_recorded_by_their_content(detector, folder, out, tmp_path):
    others = [tmp_path / "normal" / path.name for path in sorted(folder.iterdir())[:3]]
    others[0].parent.mkdir()
    records = []
    for value in (1, 2):
        for path in others:
            Image.new("RGB", (20, 20), (value, 0, 0)).save(path)
        run(detector, [folder], "nut", out=out, normal=others)
        records.append(json.loads((out / "localize.json").read_text())["normal"])
    assert list(records[0]) == [str(path.resolve()) for path in others] == list(records[1])
    assert not set(records[0].values()) & set(records[1].values())


def test_panels_without_normal_images_share_the_range_of_all_maps(
    detector, folder, out, monkeypatch
):
    seen = []

    def watched(image, values, scale, **more):
        seen.append((image.size, scale))
        return draw_panel(image, values, scale, **more)

    monkeypatch.setattr(localize_files, "draw_panel", watched)
    run(detector, [folder], "nut", out=out, batch_size=2)
    maps = np.stack([np.load(path) for path in out.glob("*.npy")])
    assert {(scale.low, scale.high) for _, scale in seen} == {(maps.min(), maps.max())}
    assert all(size == (420, 336) for size, _ in seen), "images wait at the size of their panel"
    assert seen[0][1].level is None and {row["alarm"] for row in rows(out)} == {""}
    run(detector, [folder], "nut", out=out, scale=(0.4, 0.6))
    assert [(scale.low, scale.high) for _, scale in seen[5:]] == [(0.4, 0.6)] * 5


def test_a_file_is_opened_twice_and_no_result_is_read_back(detector, folder, out, monkeypatch):
    """Once for its header, since the pixel range is that of all files, and once for its pixels."""
    opened, real = [], Path.open

    def spy(path, *arguments, **options):
        opened.append(path.name)
        return real(path, *arguments, **options)

    calibrated = calibrate(detector, sorted(folder.iterdir())[:4], "nut", false_alarms=0.2)
    monkeypatch.setattr(Path, "open", spy)
    run(calibrated, [folder], out=out)
    assert opened.count("a.png") == 2
    assert not [name for name in opened if name.endswith((".npy", ".mask.png"))]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("spelling", ["pictures", "pictures/../pictures", "link"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_written_among_the_pictures(
    detector, folder, tmp_path, spelling, suffix, overwrite
):
    for path in folder.iterdir():
        path.rename(path.with_suffix(suffix))
    (tmp_path / "link").symlink_to(folder)
    options = {"out": tmp_path / spelling, "panels": False, "overwrite": overwrite}
    before = contents(folder)
    (other := tmp_path / "other.png").write_bytes(before[f"a{suffix}"])
    for sources, normal in (
        ([folder], []),
        ([folder / f"a{suffix}"], []),
        ([other], [folder / f"b{suffix}"]),
    ):
        with pytest.raises(ValueError, match="--out"):
            run(detector, sources, "nut", normal=normal, **options)
    assert contents(folder) == before


def test_a_picture_that_a_link_points_to_is_never_replaced(detector, folder, out):
    out.mkdir()
    (out / "a.png").symlink_to(folder / "a.png")
    before = contents(folder)
    with pytest.raises(ValueError, match="among them"):
        run(detector, [out / "a.png"], "nut", out=folder, overwrite=True)
    run(detector, [folder / "a.png"], "nut", out=out, overwrite=True)
    assert contents(folder) == before and not (out / "a.png").is_symlink()


def test_a_run_on_the_same_images_leaves_nothing_of_the_one_before(detector, folder, out):
    calibrated = calibrate(detector, sorted(folder.iterdir()), "nut", false_alarms=0.2)
    run(calibrated, [folder], out=out)
    (out / "notes.txt").write_text("mine")
    assert len(contents(out)) == 5 * 3 + 3
    (folder / "c.png").write_bytes(b"no picture")
    done, problems = run(detector, [folder], "wood", out=out, panels=False)
    maps = {item.map_file.name for item in done}
    assert contents(out).keys() == maps | {"scores.csv", "localize.json", "notes.txt"}
    assert maps == {"a.npy", "b.npy", "d.npy", "e.npy"} and {item.panel for item in done} == {None}
    assert len(problems) == 1 and "c.png" in problems[0]
    assert (out / "notes.txt").read_text() == "mine"


def test_a_folder_of_other_results_is_refused_or_overwritten(detector, folder, out):
    run(detector, [folder / "a.png"], "nut", out=out)
    (out / ".hidden").touch()
    before = contents(out)
    with pytest.raises(ValueError, match="--overwrite"):
        run(detector, [folder / "b.png"], "nut", out=out)
    assert contents(out) == before
    run(detector, [folder / "b.png"], "nut", out=out, overwrite=True)
    assert not (out / "a.npy").exists() and (out / "b.npy").is_file()
    (out / "localize.json").unlink()
    with pytest.raises(ValueError, match="--overwrite"):
        run(detector, [folder / "b.png"], "nut", out=out)
    other = out.with_name("other")
    other.mkdir()
    (other / ".hidden").touch()
    run(detector, [folder / "b.png"], "nut", out=other)


def test_names_that_differ_in_case_or_end_alike_get_results_of_their_own():
    names = ("x/a.png", "y/A.png", "y/a.mask.png", "y/y-a.png", "x/in/a.png", "y/in/a.png")
    places = {Path(name): Path(name[2:]).with_suffix("") for name in names}
    files = [f"{name}{end}".casefold() for name in output_names(places).values() for end in ENDS]
    assert len(set(files)) == len(files) == 18 and "in/a-2.npy" in files


@pytest.mark.filterwarnings("ignore:not read in")
def test_sub_folders_keep_their_tree(detector, folder, out):
    for name in ("left/a", "left/deep/z", "masks/a", "results/a"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "results/localize.json").touch()
    (folder / "left/deep/notes.txt").touch()
    calibrated = calibrate(detector, sorted(folder.glob("*.png")), "nut", false_alarms=0.2)
    with pytest.warns(UserWarning, match=r"\.txt: no pictures .*1 mask.*masks/a\.png"):
        done, problems = run(calibrated, [folder], out=out)
    assert len(done) == 7 and not problems
    for row in rows(out)[-2:]:
        place = Path(row["image"]).relative_to(folder).with_suffix("")
        for part, end in (("map", ".npy"), ("panel", ".png"), ("mask", ".mask.png")):
            assert row[part] == f"{place.as_posix()}{end}" and (out / row[part]).is_file()
    assert load_dataset("folder", folder).labels("pictures") == (None,) * 7
    with pytest.raises(ValueError, match=r"out .*results of localize"):  # the shell made it of "*"
        run(detector, [folder / "a.png", out], "nut", out=out.with_name("more"))
    run(detector, [folder / "left"], "nut", out=out, overwrite=True, panels=False)
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {"a.npy", "deep/z.npy", "scores.csv", "localize.json"}


def test_a_record_of_another_hand_removes_nothing_outside_of_its_folder(detector, folder, out):
    run(detector, [folder], "nut", out=out)
    (out.parent / "mine.txt").touch()
    record = json.loads((out / "localize.json").read_text())
    record["files"] += ["../mine.txt", str(folder / "a.png")]
    (out / "localize.json").write_text(json.dumps(record))
    run(detector, [folder], "nut", out=out)
    assert (out.parent / "mine.txt").exists() and (folder / "a.png").exists()


def test_pictures_of_another_bit_depth_are_named(detector, folder, out):
    for name, value in (("a", 65000), ("b", 4000)):
        Image.fromarray(np.full((24, 30), value, dtype=np.uint16)).save(folder / f"{name}.png")
    with pytest.warns(UserWarning, match=r"b\.png: 1 of 2 .*--pixel-range"):
        run(detector, [folder], "nut", out=out, panels=False)


def test_patterns_are_expanded_where_the_shell_did_not(folder):
    found = image_files.image_paths([folder / "[ab].png"])
    assert list(found) == [folder / "a.png", folder / "b.png"]
    with pytest.raises(ValueError, match=r"z\*\.png"):
        image_files.image_paths([folder / "a.png", folder / "z*.png"])
    (folder / "[1].png").write_bytes((folder / "a.png").read_bytes())
    assert list(image_files.image_paths([folder / "[1].png"])) == [folder / "[1].png"]


@pytest.mark.filterwarnings("ignore:.*another bit depth")
def test_the_range_of_pixel_values_is_that_of_all_images_and_recorded(
    detector, folder, out, monkeypatch
):
    """New pictures of 8 bits beside normal ones of 12 have no range of their own."""
    seen, real = [], anovl.AnoVL.localize

    def spy(self, images, *arguments, **options):
        seen.append(images[0].getpixel((0, 0))[0])
        return real(self, images, *arguments, **options)

    def recorded(*arguments, **options):
        run(*arguments, out=out, panels=False, overwrite=True, **options)
        return json.loads((out / "localize.json").read_text())["pixel_range"]

    dim, deep = folder.parent / "dim.png", folder.parent / "deep.png"
    for path, value in ((dim, 100), (deep, 4000)):
        Image.fromarray(np.full((24, 30), value, dtype=np.uint16)).save(path)
    with monkeypatch.context() as watched:
        watched.setattr(anovl.AnoVL, "localize", spy)
        for given, high in ((None, 4095), ((0, 8000), 8000)):
            options = {"normal": [deep], "pixel_range": given}
            assert recorded(detector, [dim], "nut", **options) == [0, high]
    assert seen == [6, 3]
    calibrated = calibrate(detector, [deep, deep], "nut")
    with pytest.warns(UserWarning, match="16-bit grey, 5 of 5 new ones are 8-bit colour"):
        assert recorded(calibrated, [folder]) == [0, 4095]


@pytest.mark.parametrize("is_link", [True, False])
def test_doubtful_images_are_counted_and_named(detector, folder, out, recwarn, is_link):
    def warned(*facts, **options):
        run(detector, [folder], "nut", out=out, panels=False, overwrite=True, **options)
        said = str(recwarn.pop().message)
        assert all(fact in said for fact in facts) and not recwarn.list, said

    normal = folder.parent / "normal.png"
    normal.symlink_to(folder / "b.png") if is_link else normal.hardlink_to(folder / "b.png")
    warned("1 of 5 images: left out", "b.png", normal=[normal])
    assert "b" not in {Path(row["image"]).stem for row in rows(out)}
    spare = [folder.parent / f"spare{i}.png" for i in range(3)]
    for path in spare:
        path.write_bytes((folder / "c.png").read_bytes() + b"\0")
    warned("2 of 3 normal images", "spare1.png", normal=spare)
    Image.new("L", (500, 20)).save(folder / "scan.png")
    warned("1 of 6 images", "square", "scan.png")


@pytest.mark.parametrize(
    ("last", "maps"), [("a.npy", 0), ("c.npy", 2), ("c.png", 5), ("scores.csv", 5)]
)
def test_a_full_disk_counts_the_maps_and_the_next_run_begins_anew(
    detector, folder, out, monkeypatch, last, maps
):
    real = localize_files.write_atomically

    def write(path, content):
        if path.name == last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, content)

    with monkeypatch.context() as full, pytest.raises(OSError, match=f"space.*{maps} of 5 maps"):
        full.setattr(localize_files, "write_atomically", write)
        run(detector, [folder], "nut", out=out)
    assert not (out / "scores.csv").exists()
    for file in out.glob("*.npy"):
        file.write_bytes(b"of the run before")
    done, _ = run(detector, [folder], "nut", out=out)
    assert [np.load(item.map_file).shape for item in done] == [(64, 64)] * 5
