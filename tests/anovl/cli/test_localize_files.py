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


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def rows(out):
    with (out / "scores.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("batch_size", [2, 16])
def test_alarms_masks_and_maps_are_those_of_the_calibrated_detector(
    detector, folder, tmp_path, batch_size
):
    images = sorted(folder.iterdir())
    calibrated = calibrate(detector, images[:4], "nut", false_alarms=0.2, alarm_by="map")
    done, problems = run(calibrated, [folder], out=tmp_path / "out", batch_size=batch_size)
    assert problems == [] and len(done) == len(rows(tmp_path / "out")) == 5
    for item, row, image in zip(done, rows(tmp_path / "out"), images, strict=True):
        expected = calibrated(image)
        assert item.alarm is expected.alarm is bool(int(row["alarm"]))
        np.testing.assert_allclose(np.load(item.map_file), expected.map, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(Image.open(item.mask_file)), expected.mask)
        assert float(row["score"]) == pytest.approx(expected.score, abs=1e-6)
        assert float(row["map_peak"]) == pytest.approx(expected.peak, abs=1e-6)
        assert (tmp_path / "out" / row["mask"]).is_file() and item.panel.is_file()
    record = json.loads((tmp_path / "out/localize.json").read_text())
    levels = {"score": calibrated.score_level.value, "map": calibrated.map_level.value}
    assert {by: level["value"] for by, level in record["levels"].items()} == levels
    assert record["levels"]["map"]["n"] == 4 and record["alarm_by"] == "map"


def test_panels_without_normal_images_share_the_range_of_all_maps(
    detector, folder, tmp_path, monkeypatch
):
    seen = []

    def watched(image, values, scale, **more):
        seen.append((image.size, scale))
        return draw_panel(image, values, scale, **more)

    monkeypatch.setattr(localize_files, "draw_panel", watched)
    run(detector, [folder], "nut", out=tmp_path / "all", batch_size=2)
    maps = np.stack([np.load(path) for path in (tmp_path / "all").glob("*.npy")])
    assert {(scale.low, scale.high) for _, scale in seen} == {(maps.min(), maps.max())}
    assert all(size == (420, 336) for size, _ in seen), "images wait at the size of their panel"
    assert "these 5 pictures" in seen[0][1].says and seen[0][1].level is None
    assert {row["alarm"] for row in rows(tmp_path / "all")} == {""}
    run(detector, [folder], "nut", out=tmp_path / "all", scale=(0.4, 0.6))
    assert [(scale.low, scale.high) for _, scale in seen[5:]] == [(0.4, 0.6)] * 5
    done, _ = run(detector, [folder], "nut", out=tmp_path / "none", panels=False)
    assert {item.panel for item in done} == {None} and not list((tmp_path / "none").glob("*.png"))


def test_a_file_is_opened_twice_and_no_result_is_read_back(detector, folder, tmp_path, monkeypatch):
    """Once for its header, since the pixel range is that of all files, and once for its pixels."""
    opened, real = [], Path.open

    def spy(path, *arguments, **options):
        opened.append(path.name)
        return real(path, *arguments, **options)

    calibrated = calibrate(detector, sorted(folder.iterdir())[:4], "nut", false_alarms=0.2)
    monkeypatch.setattr(Path, "open", spy)
    run(calibrated, [folder], out=tmp_path / "out")
    assert [name for name in opened if name == "a.png"] == ["a.png", "a.png"]
    assert not [name for name in opened if name.endswith((".npy", ".mask.png"))]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("spelling", ["same", "dots", "link"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_written_among_the_pictures(
    detector, folder, tmp_path, spelling, suffix, overwrite
):
    for path in folder.iterdir():
        path.rename(path.with_suffix(suffix))
    out = {"same": folder, "dots": folder / ".." / folder.name, "link": tmp_path / "link"}[spelling]
    if spelling == "link":
        out.symlink_to(folder)
    before = contents(folder)
    for sources in ([folder], [folder / f"a{suffix}"]):
        with pytest.raises(ValueError, match="--out"):
            run(detector, sources, "nut", out=out, panels=False, overwrite=overwrite)
    (other := tmp_path / "other.png").write_bytes(before[f"a{suffix}"])
    with pytest.raises(ValueError, match="--out"):
        run(detector, [other], "nut", out=out, normal=[folder / f"b{suffix}"], overwrite=overwrite)
    assert contents(folder) == before


def test_a_picture_that_a_link_points_to_is_never_replaced(detector, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").symlink_to(folder / "a.png")
    with pytest.raises(ValueError, match=r"a\.png would replace .*a\.png"):
        run(detector, [folder / "a.png"], "nut", out=out, overwrite=True)
    done, _ = run(detector, [folder / "b.png"], "nut", out=out, overwrite=True)
    assert len(done) == 1 and (out / "a.png").is_symlink()


def test_a_run_on_the_same_images_leaves_nothing_of_the_one_before(detector, folder, tmp_path):
    out = tmp_path / "out"
    calibrated = calibrate(detector, sorted(folder.iterdir()), "nut", false_alarms=0.2)
    run(calibrated, [folder], out=out)
    (out / "notes.txt").write_text("mine")
    assert len(contents(out)) == 5 * 3 + 3
    (folder / "c.png").write_bytes(b"no picture")
    done, problems = run(detector, [folder], "wood", out=out, panels=False)
    maps = {item.map_file.name for item in done}
    assert contents(out).keys() == maps | {"scores.csv", "localize.json", "notes.txt"}
    assert maps == {"a.npy", "b.npy", "d.npy", "e.npy"}
    assert len(problems) == 1 and "c.png" in problems[0]
    assert (out / "notes.txt").read_text() == "mine"


def test_a_folder_of_other_results_is_refused_or_overwritten(detector, folder, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    run(detector, [folder / "a.png"], "nut", out=out)
    before = contents(out)
    with pytest.raises(ValueError, match=r"out holds .*--out.*--overwrite"):
        run(detector, [folder / "b.png"], "nut", out=out)
    assert contents(out) == before
    run(detector, [folder / "b.png"], "nut", out=out, overwrite=True)
    assert not (out / "a.npy").exists() and (out / "b.npy").is_file()
    other.mkdir()
    (other / ".hidden").touch()
    run(detector, [folder / "b.png"], "nut", out=other)
    (out / "localize.json").unlink()
    with pytest.raises(ValueError, match=r"out holds .*--out.*--overwrite"):
        run(detector, [folder / "b.png"], "nut", out=out)


def test_names_that_differ_in_case_or_end_alike_get_results_of_their_own():
    paths = [Path("x/a.png"), Path("y/A.png"), Path("y/a.mask.png")]
    files = [f"{name}{end}".casefold() for name in output_names(paths).values() for end in ENDS]
    assert len(set(files)) == len(files) == 9


def test_patterns_are_expanded_where_the_shell_did_not(detector, folder, tmp_path):
    done, problems = run(detector, [folder / "[ab].png"], "nut", out=tmp_path / "o", panels=False)
    assert [item.image.name for item in done] == ["a.png", "b.png"] and not problems
    _, problems = run(detector, [folder / "z*.png"], "nut", out=tmp_path / "none")
    assert "z*.png" in problems[0] and not (tmp_path / "none").exists()
    (folder / "[1].png").write_bytes((folder / "a.png").read_bytes())
    assert image_files.image_paths([folder / "[1].png"]) == ([folder / "[1].png"], [])


def test_the_range_of_pixel_values_is_that_of_all_images_and_recorded(detector, folder, tmp_path):
    """New pictures of 8 bits beside normal ones of 12 have no range of their own."""
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((24, 30), 3000, dtype=np.uint16)).save(deep)
    for number, (given, high) in enumerate([(None, 4095), ((0, 3000), 3000)]):
        out = tmp_path / f"out{number}"
        run(detector, [folder], "nut", out=out, normal=[deep], pixel_range=given, panels=False)
        assert json.loads((out / "localize.json").read_text())["pixel_range"] == [0, high]
    calibrated = calibrate(detector, [deep, deep], "nut")
    with pytest.warns(UserWarning, match="16-bit grey, 5 of 5 new ones are 8-bit colour"):
        run(calibrated, [folder], out=tmp_path / "out", panels=False)
    assert json.loads((tmp_path / "out/localize.json").read_text())["pixel_range"] == [0, 4095]


@pytest.mark.parametrize("name", ["link", "copy"])
def test_images_among_the_normal_ones_and_copies_are_mentioned(
    detector, folder, tmp_path, recwarn, name
):
    normal = tmp_path / f"{name}.png"
    if name == "link":
        normal.symlink_to(folder / "b.png")
    else:
        normal.write_bytes((folder / "b.png").read_bytes())
    run(detector, [folder], "nut", out=tmp_path / "out", normal=[normal], panels=False)
    [warning] = recwarn
    assert "1 of 5 images" in str(warning.message) and "b.png" in str(warning.message)
    recwarn.clear()
    spare = [tmp_path / f"spare{i}.png" for i in range(3)]
    for path in spare:
        path.write_bytes((folder / "c.png").read_bytes() + b"\0")
    run(detector, [folder], "nut", out=tmp_path / "out", normal=spare, panels=False)
    [warning] = recwarn
    assert "2 of 3 normal images" in str(warning.message)
    assert "spare1.png" in str(warning.message)


def test_pictures_far_from_square_are_mentioned(detector, tmp_path, recwarn):
    Image.new("L", (500, 20)).save(tmp_path / "scan.png")
    run(detector, [tmp_path / "scan.png"], "belt", out=tmp_path / "out", panels=False)
    [warning] = recwarn
    assert "1 of 1 image: far from square" in str(warning.message)
    assert "scan.png" in str(warning.message)


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        ("a.npy", "maps of 0 of 5 images are"),
        ("c.npy", "maps of 2 of 5 images are"),
        ("c.png", "maps of 5 of 5 images and panels of 2 are"),
        ("scores.csv", "maps of 5 of 5 images and panels of 5 are"),
    ],
)
def test_a_full_disk_says_how_many_images_are_done_and_the_next_run_begins_anew(
    detector, folder, tmp_path, monkeypatch, last, kept
):
    real, out = localize_files.write_atomically, tmp_path / "out"

    def write(path, content):
        if path.name == last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, content)

    with monkeypatch.context() as full:
        full.setattr(localize_files, "write_atomically", write)
        with pytest.raises(OSError, match=kept):
            run(detector, [folder], "nut", out=out)
    assert not (out / "scores.csv").exists()
    for file in out.glob("*.npy"):
        file.write_bytes(b"of the run before")
    done, _ = run(detector, [folder], "nut", out=out)
    assert [np.load(item.map_file).shape for item in done] == [(64, 64)] * 5
