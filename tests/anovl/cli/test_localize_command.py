"""`anovl localize --normal`: alarms by name, a level with its promise, refusals with reasons."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import anovl
from anovl.cli import main
from anovl.clip import Clip, as_list
from anovl.detector import Detector, Localization
from anovl.evaluation.threshold import Level


@pytest.fixture(autouse=True)
def offline_model(tiny_clip, tmp_path, monkeypatch):
    monkeypatch.setattr("anovl.cli.options.CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("anovl.models.load.load_clip", lambda *names, **options: tiny_clip)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("new", 6), ("normal", 20)):
        (tmp_path / name).mkdir()
        for i in range(count):
            pixels = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i:02d}.png")
    return tmp_path / "new", tmp_path / "normal"


def localize(*arguments) -> int:
    return main(["localize", *map(str, arguments)])


def table(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("by", ["score", "map"])
def test_what_is_printed_is_what_calibrate_says(tiny_clip, folders, tmp_path, capsys, by):
    new, normal = folders
    code = localize(new, "--object", "nut", "--normal", normal, "--alarm-by", by, "--out", "out",
                    "--false-alarms", 0.25)  # fmt: skip
    printed = capsys.readouterr().out
    assert code == 0
    calibrated = anovl.calibrate(
        anovl.AnoVL(tiny_clip), sorted(normal.iterdir()), "nut", false_alarms=0.25, alarm_by=by
    )
    found = {path.name: calibrated(path) for path in sorted(new.iterdir())}
    alarms = {name for name, result in found.items() if result.alarm}
    assert {Path(row["image"]).name for row in table(tmp_path / "out") if row["alarm"] == "1"} == (
        alarms
    )
    lines = re.findall(r"(\d\d\.png) +(\d\.\d{4})(  alarm)?", printed)
    assert {name for name, _, alarm in lines if alarm} == alarms
    values = [float(value) for _, value, _ in lines]
    assert values == sorted(values, reverse=True) and len(values) == 6
    level = calibrated.level
    assert f"Alarms: {len(alarms)} of 6 images, highest first" in printed
    assert f"above {level.value:.4f}" in printed and "set by 20 normal images" in printed
    assert "at most 0.25" in printed
    assert f"({level.expected:.3f})" in printed and f"above {level.unlucky:.3f}" in printed
    assert "up to twice the rate" in printed
    own, other = ("the peak of the map", "the image score")[:: 1 if by == "map" else -1]
    assert f"promise is for {own} alone. With {other}" in " ".join(printed.split())


def test_numbers_of_a_level_by_hand():
    level = Level(0.5, n=20, false_alarms=0.05)  # k = ceil(21 * 0.95) = 20
    assert level.expected == pytest.approx(1 / 21)
    assert level.unlucky == pytest.approx(1 - 0.05 ** (1 / 20), abs=1e-9)  # Beta(1, 20)


def test_too_few_normal_images_say_what_a_level_needs(folders, tmp_path, capsys):
    new, normal = folders
    few = sorted(normal.iterdir())[:7]
    assert localize(new, "--object", "nut", "--normal", *few, "--out", "out") == 0
    printed = capsys.readouterr().out
    assert "needs 19 normal images; found 7" in printed
    assert {row["alarm"] for row in table(tmp_path / "out")} == {""}
    code = localize(new, "--object", "nut", "--normal", *few, "--false-alarms", 0.05, "--out", "b")
    assert code == 2 and "need at least 19 normal images; found 7" in capsys.readouterr().err


def test_without_a_typed_folder_a_free_one_is_taken(folders, tmp_path):
    new, _ = folders
    for image in ("00.png", "01.png", "00.png"):
        assert localize(new / image, "--object", "nut") == 0
    assert {path.name for path in tmp_path.glob("localized*")} == {"localized", "localized-2"}
    assert table(tmp_path / "localized-2")[0]["image"].endswith("01.png")


PCA = ("--method", "pca-normal", "--normal")


def test_pca_normal_sets_its_level_by_images_that_it_was_not_fitted_to(folders, tmp_path, capsys):
    new, normal = folders
    assert localize(new, *PCA, normal, "--false-alarms", 0.25, "--out", "out") == 0
    printed = capsys.readouterr().out
    assert "of 20 normal images, 10 for the fit and 10 for the level" in printed
    assert "set by 10 normal images" in printed and "one prompt" not in printed
    assert {row["alarm"] for row in table(tmp_path / "out")} <= {"0", "1"}


def test_pca_normal_says_how_many_normal_images_it_needs(folders, capsys):
    new, normal = folders
    assert localize(new, *PCA, normal, "--out", "out") == 0
    needs = "needs 31 normal images, 12 for the fit and 19 for the level; found 20"
    assert needs in capsys.readouterr().out
    assert localize(new, *PCA, normal, "--false-alarms", 0.05, "--out", "out") == 2
    said = capsys.readouterr().err
    assert "at most 0.05 false alarms, needs at least 31 normal images: 12 for the fit" in said
    assert "found 20, 10 for the fit and 10 for the level" in said
    rng = np.random.default_rng(1)
    for i in range(11):
        pixels = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(normal / f"more{i}.png")
    assert localize(new, *PCA, normal, "--false-alarms", 0.05, "--out", "out") == 0
    assert "set by 19 normal images" in capsys.readouterr().out
    pair = sorted(normal.iterdir())[:2]
    assert localize(new, *PCA, *pair, "--out", "out") == 2
    assert "needs at least 3 normal images: 1 for the fit and 2 for" in capsys.readouterr().err


@dataclass(frozen=True)
class ByColour(Detector):
    """A map of red, and a score of green."""

    clip: Clip

    def localize(self, images, class_name, *, size=None):
        pixels = [np.asarray(image, dtype=np.float32) / 255 for image in as_list(images)]
        return [Localization(one[..., 0], float(one[..., 1].mean())) for one in pixels]


def test_alarms_without_a_place_are_counted(tiny_clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("anovl.cli.localize.make_detectors", lambda *_, **__: [ByColour(tiny_clip)])
    for name, red, green in (
        *((f"normal/{i:02d}", 100, 100) for i in range(19)),
        *(("new/both", 200, 200), ("new/score", 50, 200), ("new/equal", 100, 150)),
        *(("new/map", 200, 50), ("new/none", 50, 50)),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), (red, green, 0)).save(tmp_path / f"{name}.png")
    options = ("--object", "nut", "--normal", "normal", "--no-subtract", "--out", "out")
    assert localize("new", *options) == 0
    printed = capsys.readouterr().out
    assert "Alarms: 3 of 5 images" in printed
    assert f"above the map's level, {100 / 255:.4f}" in printed
    assert "2 of 3 alarms have no place above the map's level: their mask is empty" in printed
    assert "tiny" not in printed
    assert "There the map does not say where the anomaly is: look at the panel" in printed
    marked = {path.name.split(".")[0] for path in (tmp_path / "out").glob("*.mask.png")
              if np.asarray(Image.open(path)).any()}  # fmt: skip
    assert marked == {"both", "map"}
    assert localize("new", *options, "--alarm-by", "map") == 0
    assert "have no place" not in capsys.readouterr().out


def test_alarms_with_marks_below_one_patch_are_counted(tiny_clip, tmp_path, monkeypatch, capsys):
    """A patch of the network has 16 x 16 pixels here; two marks of 128 are not one of 256."""
    monkeypatch.setattr("anovl.cli.localize.make_detectors", lambda *_, **__: [ByColour(tiny_clip)])
    assert tiny_clip.image_size == (64, 64) and tiny_clip.grid == (4, 4)
    normal = {f"normal/{i:02d}": (100, []) for i in range(19)}
    new = {
        "new/patch": (200, [(3, 3, 19, 19)]),
        "new/below": (200, [(3, 3, 19, 18)]),
        "new/two": (200, [(0, 0, 32, 4), (0, 28, 32, 32)]),
        "new/frame": (200, [(0, 0, 3, 1)]),
        "new/quiet": (50, [(0, 0, 3, 1)]),
    }
    for name, (green, marks) in (normal | new).items():
        picture = Image.new("RGB", (32, 32), (100, green, 0))
        for box in marks:
            picture.paste((200, green, 0), box)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture.save(tmp_path / f"{name}.png")
    options = ("--object", "nut", "--normal", "normal", "--no-subtract", "--out", "out")
    assert localize("new", *options) == 0
    printed = capsys.readouterr().out
    assert "3 of 4 alarms have tiny marks only, each smaller than one patch" in printed
    assert "There the map does not say where the anomaly is: look at the panel" in printed
    assert "empty" not in printed
    assert localize("new/frame.png", *options[:-1], "one", "--no-panels") == 0
    printed = capsys.readouterr().out
    assert "1 of 1 alarms has tiny marks only" in printed
    assert "There the map does not say where the anomaly is: look at the picture" in printed
    assert localize("new/patch.png", *options[:-1], "two") == 0
    assert "tiny" not in capsys.readouterr().out


def test_new_pictures_that_were_made_in_another_way_are_mentioned(folders, capsys):
    new, normal = folders
    arguments = ("--object", "nut", "--normal", normal, "--out", "out")
    assert localize(new, *arguments) == 0
    assert capsys.readouterr().err == ""
    for name in ("00", "01"):
        Image.new("L", (30, 10)).save(new / f"{name}.png")
    assert localize(new, *arguments) == 0
    (said,) = capsys.readouterr().err.splitlines()
    assert said == (
        "anovl: warning: the normal pictures are 24 x 20, 2 of 6 new ones are 30 x 10; "
        "the normal pictures are 8-bit colour, 2 of 6 new ones are 8-bit grey: "
        "the promise holds for pictures made in the same way"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--false-alarms", 0.1], "--false-alarms needs normal images: add --normal DIR"),
        (["--alarm-by", "map", "--no-subtract"], "--alarm-by, --no-subtract needs normal images"),
        (["--method", "pca-normal"], "--method pca-normal needs normal images"),
        (["--normal", "nowhere"], "nowhere"),
        (["--no-panels", "--scale", 0.4, 0.6], "--scale is for panels"),
        (["--method", "pca-normal", "--normal", "normal"], "--object has no effect on pca-normal"),
    ],
)
def test_options_that_cannot_act_are_refused(folders, capsys, arguments, said):
    assert localize(folders[0], "--object", "nut", *arguments) == 2
    assert said in capsys.readouterr().err


def test_the_normal_images_are_never_replaced(folders, capsys):
    new, normal = folders
    before = {path: path.read_bytes() for path in normal.iterdir()}
    assert localize(new, "--object", "nut", "--normal", normal, "--out", normal) == 2
    assert "images are read from" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in normal.iterdir()} == before


def test_one_bad_normal_image_does_not_cost_the_others(folders, capsys):
    new, normal = folders
    (normal / "05.png").write_bytes(b"no picture")
    assert localize(new, "--object", "nut", "--normal", normal, "--out", "out") == 1
    said = capsys.readouterr()
    assert "set by 19 normal images" in said.out and "05.png" in said.err


def test_the_pocket_model_says_what_to_expect():
    from anovl.models.pocket import FOLDER, expectation

    said = expectation(_pocket())
    with (FOLDER / "bars.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file)
                if row["model"] == "pocket" and row["on"] not in ("seen", "unseen")]  # fmt: skip
    assert "drawn pictures" in said and "\n" not in said
    numbers = [f"{100 * float(row[end]):.0f}" for row in rows for end in ("value", "low", "high")]
    assert re.findall(r"\d+", said) == numbers, "no number, and no claim, but those measured"
    assert len(rows) == 3 and "ELPV (monocrystalline" in said and "magnetic" not in said


def _pocket():
    from anovl.models.pocket import load_pocket

    model, tokenizer, size = load_pocket()
    return anovl.Clip(model, tokenizer, image_size=size, name="pocket")


def test_other_models_have_no_such_note(tiny_clip):
    from anovl.models.pocket import expectation

    assert expectation(tiny_clip) == ""


def test_pictures_in_sub_folders_are_mentioned_unless_they_are_given_or_results(folders, capsys):
    Path("new/more").mkdir()
    Path("new/more/a.png").write_bytes(Path("new/00.png").read_bytes())
    assert localize("new", "--object", "nut", "--out", "out") == 0
    assert "1 picture in sub-folders of new (more), not looked at" in capsys.readouterr().err
    Path("new/more/a.png").unlink()
    assert localize("new", "--object", "nut", "--out", "new/results") == 0
    assert localize("new", "normal", "--object", "nut", "--out", "other") == 0
    assert "sub-folders" not in capsys.readouterr().err


def test_pictures_that_are_passed_over_in_a_folder_are_named(folders, capsys):
    new, _ = folders
    (new / "a.HEIC").write_bytes(b"...")
    (new / "b.png").symlink_to("gone.png")
    (new / ".c.heic").write_bytes(b"...")
    (new / "notes.txt").write_bytes(b"...")
    assert localize(new, "--object", "nut", "--out", "out", "--no-panels") == 0
    said = f"2 pictures in {new} (a.HEIC, b.png), not looked at: of a format that is not read"
    assert said in capsys.readouterr().err


def test_an_unreadable_normal_picture_is_not_counted_with_the_new_ones(folders, capsys):
    Path("normal/broken.png").write_text("no picture")
    assert localize("new", "--object", "nut", "--normal", "normal", "--out", "out") == 1
    said = capsys.readouterr()
    assert "1 file of --normal could not be read, and set no level" in said.err
    assert "could not be localized" not in said.err and "Alarms: " in said.out
