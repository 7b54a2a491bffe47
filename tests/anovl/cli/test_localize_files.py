"""Files in, maps and alarms out: nothing is lost, and nothing is replaced that was read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import anovl
from anovl.cli import localized_files
from anovl.cli.localize_files import localize_files
from anovl.cli.localized_folder import ENDS, output_names
from anovl.evaluation.threshold import calibrate


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


def test_alarms_masks_and_maps_are_those_of_the_calibrated_detector(detector, folder, tmp_path):
    images = sorted(folder.iterdir())
    calibrated = calibrate(detector, images[:4], "nut", false_alarms=0.2, alarm_by="map")
    done, problems = localize_files(calibrated, [folder], out=tmp_path / "out")
    assert problems == [] and len(done) == len(rows(tmp_path / "out")) == 5
    for item, row, image in zip(done, rows(tmp_path / "out"), images, strict=True):
        expected = calibrated(image)
        assert item.alarm is expected.alarm is bool(int(row["alarm"]))
        np.testing.assert_allclose(np.load(item.map_file), expected.map, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(Image.open(item.mask_file)), expected.mask)
        assert float(row["score"]) == pytest.approx(expected.score, abs=1e-6)
        assert float(row["map_peak"]) == pytest.approx(expected.peak, abs=1e-6)
        assert (tmp_path / "out" / row["mask"]).is_file() and item.panel.is_file()


def test_without_normal_images_there_is_no_alarm_and_the_scale_says_so(
    detector, folder, tmp_path, monkeypatch
):
    said = []
    real = localized_files.draw_panel
    monkeypatch.setattr(
        localized_files,
        "draw_panel",
        lambda *given, **o: (said.append(given[2]), real(*given, **o))[1],
    )
    localize_files(detector, [folder / "a.png"], "nut", out=tmp_path / "one")
    localize_files(detector, [folder], "nut", out=tmp_path / "all")
    assert said[0].says == "scale: this picture only; P near ½ is usual"
    assert said[1].says.startswith("scale: these 5 pictures only") and said[1].level is None
    assert {row["alarm"] for row in rows(tmp_path / "all")} == {""}


def test_no_panels(detector, folder, tmp_path):
    done, _ = localize_files(detector, [folder], "nut", out=tmp_path / "out", panels=False)
    assert [item.panel for item in done] == [None] * 5
    assert not list((tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("spelling", ["same", "dots", "link"])
def test_nothing_is_written_among_the_pictures(detector, folder, tmp_path, spelling, suffix):
    for path in folder.iterdir():
        path.rename(path.with_suffix(suffix))
    out = {"same": folder, "dots": folder / ".." / folder.name, "link": tmp_path / "link"}[spelling]
    if spelling == "link":
        out.symlink_to(folder)
    before = contents(folder)
    for sources in ([folder], [folder / f"a{suffix}"]):
        with pytest.raises(ValueError, match=r"images are read from .*: choose another .*--out"):
            localize_files(detector, sources, "nut", out=out, panels=False)
    assert contents(folder) == before


def test_a_picture_that_a_link_points_to_is_never_replaced(detector, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").symlink_to(folder / "a.png")
    with pytest.raises(ValueError, match=r"result a\.png would replace .*a\.png"):
        localize_files(detector, [folder / "a.png"], "nut", out=out)
    done, _ = localize_files(detector, [folder / "a.png"], "nut", out=out, panels=False)
    assert len(done) == 1, "without panels nothing of that name is written"


def test_nor_among_the_normal_pictures(detector, folder, tmp_path):
    normal = tmp_path / "normal"
    normal.mkdir()
    (normal / "z.png").write_bytes((folder / "b.png").read_bytes())
    with pytest.raises(ValueError, match=r"images are read from .*normal"):
        localize_files(detector, [folder], "nut", out=normal, normal=[normal / "z.png"])


def test_the_levels_are_recorded(detector, folder, tmp_path):
    calibrated = calibrate(detector, sorted(folder.iterdir())[:4], "nut", false_alarms=0.2)
    localize_files(calibrated, [folder], out=tmp_path / "out")
    record = json.loads((tmp_path / "out/localize.json").read_text())
    levels = {"score": calibrated.score_level.value, "map": calibrated.map_level.value}
    assert {by: level["value"] for by, level in record["levels"].items()} == levels
    assert record["levels"]["map"]["n"] == 4 and record["alarm_by"] == "score"


def test_a_run_on_other_pictures_is_not_replaced_but_its_own_is_made_anew(
    detector, folder, tmp_path
):
    out = tmp_path / "out"
    localize_files(detector, [folder / "a.png"], "nut", out=out)
    before = contents(out)
    with pytest.raises(ValueError, match="belongs to a run on other images"):
        localize_files(detector, [folder / "b.png"], "nut", out=out)
    assert contents(out) == before
    localize_files(detector, [folder / "a.png"], "bolt", out=out)
    other = tmp_path / "other"
    other.mkdir()
    (other / "scores.csv").write_text("mine")
    with pytest.raises(ValueError, match="is not of a run"):
        localize_files(detector, [folder / "b.png"], "nut", out=other)


def test_names_that_differ_in_case_or_end_alike_get_results_of_their_own(tmp_path):
    paths = [Path("x/a.png"), Path("y/A.png"), Path("y/a.mask.png")]
    names = output_names(paths).values()
    files = [f"{name}{end}".casefold() for name in names for end in ENDS]
    assert len(set(files)) == len(files) == 9


def test_patterns_are_expanded_where_the_shell_did_not(detector, folder, tmp_path):
    done, problems = localize_files(
        detector, [folder / "[ab].png"], "nut", out=tmp_path / "out", panels=False
    )
    assert [item.image.name for item in done] == ["a.png", "b.png"] and not problems
    _, problems = localize_files(detector, [folder / "z*.png"], "nut", out=tmp_path / "none")
    assert "z*.png" in problems[0]


def test_a_run_on_the_same_images_leaves_nothing_of_the_one_before(detector, folder, tmp_path):
    out = tmp_path / "out"
    calibrated = calibrate(detector, sorted(folder.iterdir()), "nut", false_alarms=0.2)
    localize_files(calibrated, [folder], out=out)
    (out / "notes.txt").write_text("mine")
    assert len(contents(out)) == 5 * 3 + 3
    (folder / "c.png").write_bytes(b"no picture")
    done, _ = localize_files(detector, [folder], "wood", out=out, panels=False)
    maps = {item.map_file.name for item in done}
    assert contents(out).keys() == maps | {"scores.csv", "localize.json", "notes.txt"}
    assert maps == {"a.npy", "b.npy", "d.npy", "e.npy"}
    assert (out / "notes.txt").read_text() == "mine"


def test_the_range_of_pixel_values_is_that_of_all_images_and_recorded(detector, folder, tmp_path):
    """New pictures of 8 bits beside normal ones of 12 have no range of their own."""
    deep = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 3000]], dtype=np.uint16)).save(deep)
    for number, given in enumerate([None, (0, 3000)]):
        out = tmp_path / f"out{number}"
        localize_files(detector, [folder], "nut", out=out, normal=[deep], pixel_range=given)
        record = json.loads((out / "localize.json").read_text())
        assert record["pixel_range"] == [0, 3000 if given else 4095]
    calibrated = calibrate(detector, [deep, deep], "nut")
    localize_files(calibrated, [folder], out=tmp_path / "out", panels=False)
    record = json.loads((tmp_path / "out/localize.json").read_text())
    assert record["pixel_range"] == [0, 4095]


def test_images_that_are_normal_ones_as_well_or_have_pages_are_mentioned(
    detector, folder, tmp_path, recwarn
):
    frames = [Image.new("L", (20, 20), grey) for grey in (0, 200)]
    frames[0].save(folder / "f.gif", save_all=True, append_images=frames[1:])
    link = tmp_path / "link.png"
    link.symlink_to(folder / "b.png")
    localize_files(detector, [folder], "nut", out=tmp_path / "out", normal=[link])
    assert {str(warning.message) for warning in recwarn} == {
        "1 of 6 images: among the normal images as well (as they are, or equal byte by byte), and "
        f"compared with themselves; a level says nothing about them ({folder / 'b.png'})",
        f"{folder / 'f.gif'}: several pages or frames, of which the first is read",
    }


def test_a_copy_of_a_normal_image_is_mentioned_under_any_name(detector, folder, tmp_path, recwarn):
    whole = (folder / "b.png").read_bytes()
    (normal := tmp_path / "other.png").write_bytes(whole)
    localize_files(detector, [folder], "nut", out=tmp_path / "out", normal=[normal])
    [warning] = recwarn
    assert str(warning.message).startswith("1 of 5 images: among the normal images as well")
    assert str(warning.message).endswith(f"({folder / 'b.png'})")
    normal.write_bytes(whole + b"\0")
    localize_files(detector, [folder], "nut", out=tmp_path / "out", normal=[normal])
    assert len(recwarn) == 1


def test_normal_images_that_are_copies_of_others_are_counted(detector, folder, tmp_path, recwarn):
    normal = [folder / name for name in ("c.png", "d.png", "e.png", "f.png", "g.png")]
    for copied in normal[3:]:
        copied.write_bytes(normal[0].read_bytes())
    localize_files(detector, [folder / "a.png"], "nut", out=tmp_path / "out", normal=normal)
    [warning] = recwarn
    assert str(warning.message) == (
        "2 of 5 normal images: copies of others, byte by byte; a level set by copies promises too "
        f"much, leave them out ({folder / 'f.png'})"
    )


def test_one_bad_picture_does_not_cost_the_others(detector, folder, tmp_path):
    (folder / "c.png").write_bytes(b"no picture")
    done, problems = localize_files(detector, [folder], "nut", out=tmp_path / "out")
    assert len(done) == 4 and len(problems) == 1 and "c.png" in problems[0]
