"""`anovl localize`: scores, alarms by name, the promise of a level, refusals with reasons."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import anovl
from anovl.cli import main
from anovl.cli.alarms import about_misses
from anovl.clip import Clip, as_list
from anovl.detector import Detector, Localization
from anovl.evaluation.misses import Catch, catches, share_interval


@pytest.fixture(autouse=True)
def here(offline_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Six new pictures and twenty normal ones."""
    rng = np.random.default_rng(0)
    for name, count in (("new", 6), ("normal", 20)):
        (tmp_path / name).mkdir()
        for i in range(count):
            pixels = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i:02d}.png")
    return tmp_path / "new", tmp_path / "normal"


def localize(*arguments: object) -> int:
    return main(["localize", *map(str, arguments)])


def table(out: str | Path) -> list[dict[str, str]]:
    with (Path(out) / "scores.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_panel_a_map_and_a_score_for_every_picture(folders, capsys):
    new, _ = folders
    assert localize(new, "--object", "metal nut") == 0
    names = sorted(path.stem for path in new.iterdir())
    for name in names:
        values = np.load(f"localized/{name}.npy")
        assert values.shape == (64, 64) and values.dtype == np.float32
        assert 0 < values.min() <= values.max() < 1
        with Image.open(f"localized/{name}.png") as panel:
            assert min(panel.size) > 100
    scores = {Path(row["image"]).stem: float(row["score"]) for row in table("localized")}
    assert sorted(scores) == names and all(0 < score < 1 for score in scores.values())
    assert "scores.csv: localized" in capsys.readouterr().out


def test_test_time_adaptation_changes_the_maps_but_not_the_scores(folders):
    asked = (folders[0] / "00.png", "--object", "nut", "--no-panels", "--out")
    assert localize(*asked, "plain") == localize(*asked, "tta", "--tta") == 0
    assert not np.allclose(np.load("plain/00.npy"), np.load("tta/00.npy"))
    assert table("plain")[0]["score"] == table("tta")[0]["score"]


def test_tiles_are_for_large_pictures(tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 255, (100, 150, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("large.png")
    Image.fromarray(pixels[:40, :50]).save("small.png")
    assert localize("large.png", "small.png", "--object", "nut", "--tiles") == 0
    assert np.load("localized/large.npy").shape == (100, 150)
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 of 2 images" in line and "--tiles" in line and "small.png" in line


def test_one_bad_image_does_not_lose_the_others(folders, capsys):
    new, _ = folders
    (new / "void.png").touch()
    (new / "cut.png").write_bytes((new / "00.png").read_bytes()[:200])
    assert localize(new, "no.png", "--object", "nut", "--out", "out") == 1
    said = capsys.readouterr()
    assert len(list(Path("out").glob("*.npy"))) == 6
    assert all(said.err.count(name) == 1 for name in ("void.png", "cut.png", "no.png"))
    assert "3 of 9 could not be localized" in said.err
    assert "00.png" in said.out and "Traceback" not in said.err


def test_localize_with_words_of_ones_own(folders, capsys, the_error):
    asked = (folders[0] / "00.png", "--object", "cloth", "--no-panels", "--out", "out")
    mine = {"normal": ["{}"], "anomalous": ["{} with a cut"]}
    lists = {"states": mine, "templates": ["a {domain} of {}"], "domains": ["scan"]}
    Path("mine.json").write_text(json.dumps(lists))
    says = {
        (): "a cropped industrial photo of the damaged cloth",
        ("--surface",): "a cropped textural photo of the damaged cloth",
        ("--prompts", "mine.json"): "a scan of cloth with a cut",
    }
    scores = set()
    for options, prompt in says.items():
        assert localize(*asked, *options) == 0
        assert f'one prompt: "{prompt}"' in capsys.readouterr().out
        scores.add(Path("out/scores.csv").read_text())
    assert len(scores) == 3, "the results of other words are replaced"
    words = json.loads(Path("out/localize.json").read_text())["words"]
    assert (words["normal"], words["anomalous"]) == (["a scan of cloth"], [prompt])
    assert "mine.json" in the_error(localize(*asked, "--surface", "--prompts", "mine.json"))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["nowhere.png", "--object", "nut"], "nowhere.png"),
        (["one.png", "empty", "--object", "nut"], "empty"),
        (["one.png", "--object", " "], "--object"),
        (["one.png"], "--object"),
        (["one.png", "--object", "nut", "--scale", "0", "inf"], "scale"),
        (["one.png", "--object", "nut", "--pixel-range", "9", "0"], "pixel"),
        (["one.png", "--object", "nut", "--out", "notes.txt"], "notes.txt"),
        (["one.png", "--object", "nut", "--false-alarms", "0.1"], "--normal"),
        (["one.png", "--object", "nut", "--method", "pca-normal"], "--normal"),
        (["one.png", "--object", "nut", "--alarm-by", "map"], "--normal"),
        (["one.png", "--object", "nut", "--known-anomalous", "new"], "--normal"),
        (["one.png", "--method", "pca-normal", "--normal", "new", "--tta"], "--tta"),
        (["one.png", "--object", "nut", "--prompts", "nowhere.json"], "nowhere.json"),
    ],
)
def test_a_refusal_names_the_cause_and_leaves_nothing_behind(tmp_path, the_error, arguments, name):
    for folder in ("empty", "new"):
        Path(folder).mkdir()
    Path("notes.txt").write_text("no picture")
    for file, side in (("one.png", 4), ("new/a.png", 5)):
        Image.new("L", (side, side)).save(file)
    before = sorted(tmp_path.rglob("*"))
    assert name in the_error(localize(*arguments))
    assert sorted(tmp_path.rglob("*")) == before


# Alarms


@pytest.mark.parametrize("by", ["score", "map", "either"])
def test_what_is_printed_is_what_calibrate_says(tiny_clip, folders, capsys, by):
    new, normal = folders
    options = ("--object", "nut", "--normal", normal, "--alarm-by", by, "--false-alarms", 0.25)
    assert localize(new, *options, "--out", "out") == 0
    printed = capsys.readouterr().out
    calibrated = anovl.calibrate(
        anovl.AnoVL(tiny_clip), sorted(normal.iterdir()), "nut", false_alarms=0.25, alarm_by=by
    )
    alarms = {path.name for path in new.iterdir() if calibrated(path).alarm}
    lines = re.findall(r"(\d\d\.png) +(\d\.\d{4})  (\d\.\d{4})(    alarm)?\n", printed)
    assert {name for name, *_, alarm in lines if alarm} == alarms and len(lines) == 6
    order = [(bool(alarm), peak if by == "map" else score) for _, score, peak, alarm in lines]
    assert order == sorted(order, reverse=True)
    level, limits = calibrated.level, calibrated.thresholds
    assert f"Alarms: {len(alarms)} of 6 images" in printed
    for what, limit in zip(("the image score", "the peak of the map"), limits, strict=True):
        assert (f"{what} is above {limit:.4f}" in printed) == (limit < np.inf)
    assert "at most 25% raise" in printed and "20 normal images" in printed
    if by == "either":
        assert level.rate_95 is None and "how score and map go together" in printed
    else:
        found = calibrated.localize(sorted(new.iterdir()))
        limits = calibrated.score_level.value, calibrated.map_level.value
        both = sum(one.score > limits[0] or one.peak > limits[1] for one in found)
        assert f", {both - len(alarms)} more would" in printed and "--alarm-by either" in printed
        assert f"{level.expected:.1%}" in printed and f"{level.rate_95:.1%}" in printed
    assert "Not promised" in printed and "--known-anomalous" in printed
    assert f"above the level of maps, {calibrated.map_level.value:.4f}" in printed
    assert "scores.csv: out" in printed


def test_what_is_missed_is_measured_by_known_anomalous_images(tiny_clip, folders, capsys):
    new, normal = folders
    for i in range(4):  # brighter ones, as the other tests have none
        (known := new.with_name("known")).mkdir(exist_ok=True)
        Image.new("RGB", (24, 20), (255, 60 * i, 0)).save(known / f"{i}.png")
    asked = ("--object", "nut", "--normal", normal, "--false-alarms", 0.25, "--no-panels")
    assert localize(new, known, *asked, "--known-anomalous", known, "--out", "out") == 0
    said = capsys.readouterr()
    assert len(table("out")) == 6, "known ones are not judged as new"
    assert "4 of 10 images: left out" in said.err
    calibrated = anovl.calibrate(
        anovl.AnoVL(tiny_clip), sorted(normal.iterdir()), "nut", false_alarms=0.25
    )
    record = json.loads(Path("out/localize.json").read_text())["known_anomalous"]
    for one in catches(calibrated, sorted(known.iterdir())):
        assert record[one.alarm_by] == {"missed": one.missed, "of": 4}
        low, high = share_interval(one.missed, 4)
        line = f"{one.alarm_by:6}  {one.missed} ({one.missed / 4:.0%}) [{low:.0%}, {high:.0%}]"
        assert f"--alarm-by {line}; false alarms: {one.false_alarms.sum()} of 20" in said.out
    assert "Not told apart" in said.out, "four images cannot tell"


@pytest.mark.parametrize(
    ("missed", "says"),
    [
        ((18, 2, 5), ["--alarm-by map or either", "  2 (10%)", "  18 (90%)", "twice"]),
        ((9, 8, 7), ["Not told apart: either, map, score"]),
    ],
)
def test_the_better_rule_is_named_with_its_reason(missed, says):
    rules = ("score", "map", "either")
    known = [
        Catch(by, np.arange(20) >= count, np.arange(60) < 3)
        for by, count in zip(rules, missed, strict=True)
    ]
    said = "\n".join(about_misses(known, None))
    assert all(part in said for part in [*says, "3 of 60 normal images"])


def test_images_that_set_the_level_are_not_judged_by_it(folders, capsys, the_error):
    new, normal = folders
    (new / "copy.png").write_bytes((normal / "03.png").read_bytes())
    asked = ("--object", "nut", "--no-panels", "--out", "out", "--normal")
    for _ in range(2):  # a second run replaces the first
        assert "1 of 7 images: left out" in the_error(localize(new, *asked, normal), 0)
    assert len(table("out")) == 6
    assert "20 images set the level" in the_error(localize(normal, *asked, normal))
    said = the_error(localize(new, *asked, normal, "--known-anomalous", new))
    assert "copy.png" in said and "1 of 7" in said


def test_too_few_normal_images_say_what_a_level_needs(folders, capsys, the_error):
    new, normal = folders
    few = sorted(normal.iterdir())[:7]
    assert localize(new, "--object", "nut", "--normal", *few, "--out", "out") == 0
    printed = capsys.readouterr().out
    assert "19 normal images; found 7" in printed and "--false-alarms 0.13" in printed
    assert {row["alarm"] for row in table("out")} == {""}
    code = localize(new, "--object", "nut", "--normal", *few, "--false-alarms", 0.05, "--out", "b")
    assert "19 normal images; found 7" in the_error(code) and not Path("b").exists()


def test_pca_normal_sets_its_level_by_images_that_it_was_not_fitted_to(folders, capsys, the_error):
    new, normal = folders
    pca = (new, "--method", "pca-normal", "--out", "out", "--normal")
    assert localize(*pca, normal, "--false-alarms", 0.25) == 0
    printed = capsys.readouterr().out
    assert "of 20 normal images, 10 for the fit and 10 for the level" in printed
    assert "such sets of 10 normal images" in printed and "one prompt" not in printed
    assert {row["alarm"] for row in table("out")} <= {"0", "1"}
    assert "19 normal images; found 10" in the_error(localize(*pca, normal, "--false-alarms", 0.05))
    assert localize(*pca, *sorted(normal.iterdir())[:2]) == 2


@pytest.mark.parametrize(
    ("options", "known"),
    [(["--object", "nut"], "of pocket"), (["--method", "pca-normal"], "of pca")],
)
def test_what_is_known_of_the_method_stands_beside_it(
    folders, the_error, monkeypatch, options, known
):
    monkeypatch.setattr("anovl.models.pocket.expectation", lambda clip: "of pocket")
    monkeypatch.setattr("anovl.baselines.pca_normal.KNOWN", "of pca")
    new, normal = folders
    code = localize(new, *options, "--normal", normal, "--no-panels")
    assert the_error(code, 0).endswith(f"note: {known}")


@dataclass(frozen=True)
class ByColour(Detector):
    """A map of red, and a score of green."""

    clip: Clip
    name = "colour"

    def localize(self, images, class_name, *, size=None):
        pixels = [np.asarray(image, dtype=np.float32) / 255 for image in as_list(images)]
        return [Localization(one[..., 0], float(one[..., 1].mean())) for one in pixels]


@pytest.fixture
def by_colour(tiny_clip, monkeypatch, capsys):
    """A function: what is printed for pictures {name: (red, green, boxes of more red)}."""
    detector = ByColour(tiny_clip), "nut"
    monkeypatch.setattr("anovl.cli.localize._detector", lambda options: detector)

    def paint(name, red, green, *boxes):
        picture = Image.new("RGB", (32, 32), (red, green, 0))
        for box in boxes:
            picture.paste((200, green, 0), box)
        Path(name).parent.mkdir(exist_ok=True)
        picture.save(f"{name}.png")

    def printed(pictures, *options):
        for i in range(19):
            paint(f"normal/{i:02d}", 100, 100)
        for name, look in pictures.items():
            paint(f"new/{name}", *look)
        asked = ("--object", "nut", "--normal", "normal", "--no-subtract", "--out", "out")
        assert localize(*(f"new/{name}.png" for name in pictures), *asked, *options) == 0
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize(
    ("pictures", "empty"),
    [
        (
            {"both": (200, 200), "score": (50, 200), "equal": (100, 150), "map": (200, 50)},
            {"score", "equal"},
        ),
        (
            {
                "patch": (100, 200, (3, 3, 19, 19)),
                "below": (100, 200, (3, 3, 19, 18)),
                "two": (100, 200, (0, 0, 32, 4), (0, 28, 32, 32)),
                "quiet": (100, 50, (0, 0, 3, 1)),
            },
            set(),
        ),
    ],
)
def test_alarms_without_a_place_are_counted(by_colour, pictures, empty):
    """A patch of the network has 16 x 16 pixels here; two marks of 128 are not one of 256."""
    printed = by_colour(pictures)
    assert "Alarms: 3 of 4 images" in printed and "2 of 3 alarms: nothing in the mask" in printed
    assert f"above the level of maps, {100 / 255:.4f}" in printed
    masks = {path.name.split(".")[0]: Image.open(path) for path in Path("out").glob("*.mask.png")}
    marked = {name for name, mask in masks.items() if mask.getbbox()}
    assert marked == pictures.keys() - empty
    assert "look at the image" in printed


def test_new_pictures_that_were_made_in_another_way_are_mentioned(folders, the_error):
    new, normal = folders
    arguments = ("--object", "nut", "--normal", normal, "--out", "out")
    for name in ("00", "01"):
        Image.new("L", (30, 10)).save(new / f"{name}.png")
    said = the_error(localize(new, *arguments), 0)
    assert "24 x 20, 2 of 6 new ones are 30 x 10" in said
    assert "8-bit colour, 2 of 6 new ones are 8-bit grey" in said


def test_a_bad_normal_image_is_refused(folders, the_error):
    new, normal = folders
    (normal / "05.png").write_bytes(b"no picture")
    code = localize(new, "--object", "nut", "--normal", normal, "--out", "out")
    assert "05.png" in the_error(code) and not Path("out").exists()


def test_files_in_a_folder_that_are_not_read_are_named(folders, capsys):
    new, _ = folders
    (new / "a.HEIC").write_bytes(b"...")
    (new / "b.png").symlink_to("gone.png")
    (new / ".c.heic").write_bytes(b"...")
    (new / "b.pdf").touch()
    (new / "empty").mkdir()
    kinds = (".heic: convert pictures to PNG (a.HEIC)", ".pdf: no pictures (b.pdf)")
    heic, pdf = (f"1 file ending in {kind}" for kind in kinds)
    odd = f"not read in {new}: {heic}; {pdf}; 1 link to nothing (b.png)"
    for out in (new / "results", "other"):  # the second run passes the results of the first over
        assert localize(new, "--object", "nut", "--out", out, "--no-panels") == 0
        assert f"{odd}\n" in capsys.readouterr().err
        assert len(table(out)) == 6
