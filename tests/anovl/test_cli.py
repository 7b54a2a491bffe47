"""The command line: what it writes and prints, and one clean line for whatever is wrong."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anovl.cli import main
from anovl.cli.localize_files import localize_files
from anovl.models.pocket import PocketTokenizer, load_tokenizer, token_ids
from anovl.prompts import prompt_ensemble


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    """A cache for one test, in place of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("anovl.cli.options.CACHE", str(folder))
    return folder


@pytest.fixture
def offline_model(tiny_clip, monkeypatch):
    """The command line, with the tiny random model in place of the shipped one."""
    monkeypatch.setattr("anovl.models.load.load_clip", lambda *names, **options: tiny_clip)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """One picture of every kind that a user may have."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8)
    Image.fromarray(noise[..., :3]).save(folder / "colour.jpg")
    Image.fromarray(noise[..., 0]).save(folder / "grey.png")
    Image.fromarray(noise).save(folder / "clear.png")
    Image.fromarray(noise[..., 0].astype(np.uint16) * 256).save(folder / "deep.png")
    Image.fromarray(noise[:1, :1, 0]).save(folder / "one.png")
    frames = [Image.fromarray(noise[..., i]) for i in range(2)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    return folder


def localize(*arguments: object) -> int:
    return main(["localize", *map(str, arguments)])


def the_error(capsys, code: int, expected: int = 2) -> str:
    """The one line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert code == expected
    assert len(lines) == 1, lines
    return lines[0]


# localize


def test_localize_writes_a_panel_a_map_and_a_score_for_every_kind_of_picture(
    offline_model, pictures, tmp_path, capsys
):
    assert localize(pictures, "--object", "metal nut", "--out", tmp_path / "out") == 0
    names = sorted(path.stem for path in pictures.iterdir())
    for name in names:
        values = np.load(tmp_path / "out" / f"{name}.npy")
        assert values.shape == (64, 64) and values.dtype == np.float32
        assert 0 < values.min() <= values.max() < 1
        with Image.open(tmp_path / "out" / f"{name}.png") as panel:
            assert min(panel.size) > 100
    with (tmp_path / "out/scores.csv").open() as file:
        scores = {Path(row["image"]).stem: float(row["score"]) for row in csv.DictReader(file)}
    assert sorted(scores) == names and all(0 < score < 1 for score in scores.values())
    printed = capsys.readouterr().out
    assert all(f"{score:.4f}" in printed for score in scores.values())


def test_test_time_adaptation_changes_the_maps_but_not_the_scores(
    offline_model, pictures, tmp_path
):
    image = pictures / "colour.jpg"
    localize(image, "--object", "nut", "--out", tmp_path / "plain")
    localize(image, "--object", "nut", "--out", tmp_path / "tta", "--tta")
    plain, tta = (np.load(tmp_path / name / "colour.npy") for name in ("plain", "tta"))
    assert not np.allclose(plain, tta)
    tables = [(tmp_path / name / "scores.csv").open().readlines()[1:] for name in ("plain", "tta")]
    assert tables[0][0].split(",")[1] == tables[1][0].split(",")[1]


def test_one_bad_image_does_not_lose_the_others(offline_model, pictures, tmp_path, capsys):
    (pictures / "void.png").touch()
    (pictures / "cut.png").write_bytes((pictures / "grey.png").read_bytes()[:200])
    code = localize(pictures, tmp_path / "no.png", "--object", "nut", "--out", tmp_path / "out")
    said = capsys.readouterr()
    assert code == 1
    assert len(list((tmp_path / "out").glob("*.npy"))) == 6
    assert "void.png" in said.err and "cut.png" in said.err
    assert "no file" in said.err and "3 of 9 could not be localized" in said.err
    assert "colour.jpg" in said.out and "Traceback" not in said.err


def test_pictures_of_one_name_do_not_overwrite_each_other(offline_model, tmp_path):
    for folder in ("good", "crack"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8), "red" if folder == "good" else "blue").save(
            tmp_path / folder / "000.png"
        )
    Image.new("RGB", (8, 8)).save(tmp_path / "good/000.jpg")
    code = localize(
        *(tmp_path / "good", tmp_path / "crack"), "--object", "nut", "--out", tmp_path / "out"
    )
    assert code == 0
    names = {path.name for path in (tmp_path / "out").glob("*.npy")}
    assert names == {"good-000.npy", "good-000-2.npy", "crack-000.npy"}


def test_all_panels_share_one_scale(offline_model, pictures, tmp_path, monkeypatch):
    from anovl.cli import localized_files as module

    scales, draw = set(), module.draw_panel

    def watched(image, values, scale, **options):
        scales.add((float(scale.low), float(scale.high)))
        return draw(image, values, scale, **options)

    monkeypatch.setattr(module, "draw_panel", watched)
    two = (pictures / "grey.png", pictures / "one.png")
    localize(*two, "--object", "nut", "--out", tmp_path / "out")
    maps = np.stack([np.load(path) for path in (tmp_path / "out").glob("*.npy")])
    assert scales == {(float(maps.min()), float(maps.max()))}
    scales.clear()
    localize(*two, "--object", "nut", "--out", tmp_path / "out", "--scale", "0.4", "0.6")
    assert scales == {(0.4, 0.6)}


def test_localize_in_small_batches_is_the_same(tiny_clip, pictures, tmp_path):
    from anovl.detector import AnoVL

    detector = AnoVL(tiny_clip, level="word")
    two = [pictures / "grey.png", pictures / "one.png"]
    for n in (1, 16):
        localize_files(detector, two, "nut", out=tmp_path / str(n), batch_size=n)
    for path in (tmp_path / "1").glob("*.npy"):
        np.testing.assert_allclose(np.load(path), np.load(tmp_path / "16" / path.name), atol=1e-6)


def test_words_that_the_pocket_model_never_saw_are_mentioned_once(
    tiny_clip, pictures, tmp_path, capsys, monkeypatch
):
    known = [*prompt_ensemble("nut").normal, *prompt_ensemble("nut").anomalous]
    pocket = replace(tiny_clip, tokenizer=PocketTokenizer(token_ids(known)), name="pocket")
    monkeypatch.setattr("anovl.models.load.load_clip", lambda *names, **options: pocket)
    image = pictures / "grey.png"
    for name in ("zebra nut", "zebra stripe", "nut"):
        localize(image, "--object", name, "--out", tmp_path / name)
    said = [line for line in capsys.readouterr().err.splitlines() if "know" in line]
    assert [line.split(" the word ")[1].split(":")[0] for line in said] == ["'zebra'", "'stripe'"]
    assert said[0].startswith("anovl: warning: the pocket model does not know the word 'zebra'")


def test_localize_with_words_of_ones_own(offline_model, pictures, tmp_path, capsys):
    image, out = pictures / "grey.png", tmp_path / "out"
    mine = tmp_path / "mine.json"
    mine.write_text(
        '{"states": {"normal": ["{}"], "anomalous": ["{} with a cut"]},'
        ' "templates": ["a {domain} of {}"], "domains": ["scan"]}'
    )
    says = {
        (): "a cropped industrial photo of the damaged cloth",
        ("--prompts", mine): "a scan of cloth with a cut",
    }
    scores = []
    for options, prompt in says.items():
        assert localize(image, "--object", "cloth", "--out", out, *options) == 0
        assert f'one prompt: "{prompt}"' in capsys.readouterr().out
        scores.append((out / "scores.csv").read_text())
    assert scores[0] != scores[1]
    words = json.loads((out / "localize.json").read_text())["words"]
    assert words["normal"] == ["a scan of cloth"]
    assert words["anomalous"] == ["a scan of cloth with a cut"]
    both = ["--surface", "--prompts", mine]
    code = localize(image, "--object", "cloth", "--out", out, *both)
    assert "has its own: leave one of them out" in the_error(capsys, code)


def test_a_surface_has_words_for_surfaces(offline_model, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    assert localize(pictures / "grey.png", "--object", "cloth", "--surface", "--out", out) == 0
    assert 'one prompt: "a cropped textural photo of the damaged cloth"' in capsys.readouterr().out
    words = json.loads((out / "localize.json").read_text())["words"]
    expected = prompt_ensemble("cloth", surface="texture")
    assert words["anomalous"] == list(expected.anomalous)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png", "--object", "nut"], "there is no file nowhere.png; check the path"),
        (["empty", "--object", "nut"], "no images in empty"),
        (["notes.txt", "--object", "nut"], "notes.txt is not a picture that Pillow can read"),
        (["one.png", "--object", " "], "--object must name what the images show"),
        (["one.png"], "--object must name what the images show"),
        (
            ["new/*.pgn", "--object", "nut"],
            "'new/*.pgn' matches nothing; new holds .jpg (2), .txt (1)",
        ),
        (["old/*.png", "--object", "nut"], "'old/*.png' matches nothing: there is no folder old"),
        (["empty/*", "--object", "nut"], "'empty/*' matches nothing; empty holds no files"),
        (["one.png", "--object", "nut", "--scale", "1", "0"], "the scale must rise"),
        (["one.png", "--object", "nut", "--scale", "0", "inf"], "the scale must rise"),
        (
            ["one.png", "--object", "nut", "--out", "notes.txt"],
            "notes.txt is a file; give a folder",
        ),
    ],
)
def test_localize_says_what_is_wrong(
    offline_model, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "new").mkdir()
    for name in ("notes.txt", "new/notes.txt", "new/a.jpg", "new/b.jpg"):
        (tmp_path / name).write_text("no picture")
    Image.new("L", (4, 4)).save("one.png")
    assert message in the_error(capsys, localize(*arguments))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["data", "check", ""], "DIR"),
        (["evaluate", "--dataset", "folder", "--data-root", "", "--out", "out"], "--data-root"),
        (["evaluate", "--dataset", "folder", "--data-root", "gone", "--out="], "--out"),
        (["localize", "a.png", "", "--object", "nut"], "IMAGE"),
        (["localize", "a.png", "--object", "nut", "--normal", ""], "--normal"),
        (["localize", "a.png", "--object", "nut", "--weights", ""], "--weights"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch, capsys, arguments, name):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (4, 4)).save("a.png")
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert f"argument {name}: expected a file or a folder; found nothing" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "ViT-B-16-plus-241"], "ViT-B-16-plus-240"),
        (["--model", "ViT-B-16-plus-240"], "needs weights"),
        (["--model", "ViT-B-16-plus-240", "--weights", "nowhere.pt"], "nowhere.pt"),
        (["--model", "ViT-B-16-plus-240", "--weights", "cut.pt"], "cut.pt"),
        (["--device", "abacus"], "abacus"),
        (["--weights", "cut.pt"], "cut.pt"),
        (["--model", "hf:cut.pt"], "cut.pt"),
    ],
)
def test_models_that_cannot_be_loaded(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (4, 4)).save("one.png")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 not weights")
    code = localize("one.png", "--object", "nut", *arguments)
    assert message in the_error(capsys, code)


def test_localize_has_one_range_of_pixel_values(offline_model, tmp_path, monkeypatch, capsys):
    from anovl.detector import AnoVL

    seen: list[list[int]] = []
    own = AnoVL.localize

    def spy(self, images, *arguments, **options):
        seen.append([image.getpixel((0, 0))[0] for image in images])
        return own(self, images, *arguments, **options)

    monkeypatch.setattr(AnoVL, "localize", spy)
    for name, value in (("dim", 100), ("bright", 4000)):
        Image.fromarray(np.full((32, 32), value, np.uint16)).save(tmp_path / f"{name}.png")
    images = [tmp_path / "dim.png", tmp_path / "bright.png", "--object", "nut"]
    assert localize(*images, "--out", tmp_path / "out") == 0
    assert localize(*images, "--out", tmp_path / "given", "--pixel-range", 0, 8000) == 0
    assert seen == [[6, 249], [3, 128]]
    assert capsys.readouterr().err == ""
    code = localize(*images, "--pixel-range", 4000, 0)
    assert "must rise, low before high" in the_error(capsys, code)


def test_localize_mentions_pictures_far_from_square(offline_model, tmp_path, capsys):
    Image.new("L", (500, 20)).save(tmp_path / "scan.png")
    assert localize(tmp_path / "scan.png", "--object", "belt", "--out", tmp_path / "out") == 0
    said = the_error(capsys, 0, expected=0)
    assert (
        "1 of 1 image: far from square, and squeezed to a square;" in said
        and "tiles" in said
        and "scan.png" in said
    )


# evaluate


def test_evaluate_prints_a_table_and_says_where_it_is(offline_model, tmp_path, capsys):
    command = ["evaluate", "--dataset", "photos", "--methods", "centre,outlier", "--out"]
    command += [str(tmp_path / "out"), "--categories", "brick,coins", "--per-category", "2"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out/results.csv")
    for method in ("centre", "outlier"):
        mean = table[(table["method"] == method) & (table["level"] == "mean")].iloc[0]
        line = next(line for line in printed.splitlines() if line.startswith(method))
        assert f"{100 * mean['auroc_px']:.1f}" in line
        assert f"{100 * mean['aupro']:.1f} [{100 * mean['aupro_lo']:.0f}, " in line
    assert "position-debiased" in printed and str(tmp_path / "out/results.csv") in printed
    assert set(table["category"]) == {"brick", "coins", "mean"}

    assert "seed was 0, now 5" in the_error(capsys, main([*command, "--seed", "5"]))
    assert main(command) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("options", [[], ["--jobs", "2"]])
def test_a_second_run_encodes_no_prompt(
    tiny_clip, own_cache, tmp_path, monkeypatch, capsys, options
):
    monkeypatch.setattr("anovl.models.load.load_clip", lambda *names, **given: replace(tiny_clip))
    command = ["evaluate", "--dataset", "photos", "--methods", "clip,shuffled"]
    command += ["--categories", "brick", "--per-category", "2", "--out"]
    assert main([*command, str(tmp_path / "first"), *options]) == 0
    assert len(list(own_cache.iterdir())) == 1

    def fail(*arguments):
        raise ValueError("a prompt is encoded")

    monkeypatch.setattr("anovl.prompts.encode_text", fail)
    assert main([*command, str(tmp_path / "second")]) == 0
    first, second = (pd.read_csv(tmp_path / name / "results.csv") for name in ("first", "second"))
    pd.testing.assert_frame_equal(first, second)
    record = json.loads((tmp_path / "first/run.json").read_text())
    assert "cache" not in record["methods"]["clip"]
    capsys.readouterr()
    code = main([*command, str(tmp_path / "third"), "--no-cache"])
    assert "a prompt is encoded" in the_error(capsys, code)


@pytest.fixture
def cells(tmp_path) -> Path:
    """A folder with two categories, whose names are no words; cracked cells are dark."""
    rng = np.random.default_rng(0)
    for name in ("01", "02"):
        for i, kind in enumerate(("good", "good", "crack", "crack")):
            path = tmp_path / f"cells/{name}/test/{kind}/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            dark = 90 * (kind == "crack")
            Image.fromarray(rng.integers(100 - dark, 120 - dark, (32, 32), np.uint8)).save(path)
    return tmp_path / "cells"


def evaluate(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


def test_evaluate_says_what_its_words_are(offline_model, cells, tmp_path, capsys):
    command = ["--dataset", "folder", "--data-root", cells, "--methods", "clip", "--out"]
    assert evaluate(*command, tmp_path / "own") == 0
    printed = capsys.readouterr().out
    assert "Prompts use the folder's name as words: 01, 02. Others: --names 01=" in printed
    assert 'one prompt: "a cropped industrial photo of the damaged 01"' in printed

    mine = {"states": {"normal": ["whole {}"], "anomalous": ["cut {}"]}}
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    words = ["--names", "02=poly cell, 01 = solar cell", "--prompts", tmp_path / "mine.json"]
    assert evaluate(*command, tmp_path / "given", *words) == 0
    printed = capsys.readouterr().out
    assert '  01: 2 normal, 2 anomalous (crack 2); none with masks; prompts say "solar cell"' in (
        printed.splitlines()
    )
    assert 'one prompt: "a cropped industrial photo of the cut solar cell"' in printed
    assert "folder's name" not in printed
    data = json.loads((tmp_path / "given/run.json").read_text())["data"]
    assert data["words"] == {"01": ["solar cell", None], "02": ["poly cell", None]}
    assert data["prompts"] == {"states": [["whole {}"], ["cut {}"]]}

    one = [*command, tmp_path / "one", "--categories", "02", "--surface", "--object", "cell"]
    assert evaluate(*one) == 0
    record = json.loads((tmp_path / "one/run.json").read_text())
    assert record["data"]["words"] == {"02": ["cell", "texture"]}


def test_jobs_of_an_array_may_all_be_given_all_names(offline_model, cells, tmp_path, capsys):
    command = ["--dataset", "folder", "--data-root", cells, "--methods", "clip"]
    names = ["--names", "01=solar cell,02=poly cell", "--out", tmp_path / "out"]
    for category in ("01", "02"):
        assert evaluate(*command, *names, "--categories", category) == 0
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["data"]["words"] == {"01": ["solar cell", None], "02": ["poly cell", None]}
    wrong = ["--names", "03=cell", "--categories", "01", "--out", tmp_path / "no"]
    said = the_error(capsys, evaluate(*command, *wrong))
    assert "unknown category of folder in --names: '03'. Known are: 01, 02" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--object", "cell"], 'there are 2: use --names 01="cell",…, or choose one'),
        (["--object", "cell", "--names", "01=a"], "say the same thing: leave one of them out"),
        (["--object", " ", "--categories", "01"], "--object must name what the images show"),
        (["--names", "03=cell"], "unknown category of folder in --names: '03'. Known are: 01, 02"),
        (["--prompts", "nowhere.json"], "there is no file nowhere.json with prompts"),
    ],
)
def test_words_that_cannot_be(offline_model, cells, tmp_path, capsys, words, message):
    command = ["--dataset", "folder", "--data-root", cells, "--methods", "dog,clip"]
    assert message in the_error(capsys, evaluate(*command, "--out", tmp_path / "out", *words))


def test_names_with_commas_stand_in_quotes():
    from anovl.cli.options import name_list
    from anovl.cli.words import class_names

    assert name_list('01, "a,b",02') == ["01", "a,b", "02"]
    assert class_names('"a,b=steel plate",02=x') == {"a,b": "steel plate", "02": "x"}


@pytest.mark.parametrize("names", ["01", "01=", "=cell", "01=a,01=b"])
def test_names_are_pairs(cells, tmp_path, capsys, names):
    with pytest.raises(SystemExit, match="2"):
        evaluate("--dataset", "folder", "--data-root", cells, "--out", tmp_path, "--names", names)
    assert "argument --names: " in capsys.readouterr().err


def test_evaluate_prints_each_category_and_what_to_know(offline_model, cells, tmp_path, capsys):
    command = ["--dataset", "folder", "--data-root", cells, "--out", tmp_path / "out"]
    methods = "clip,anovl,shuffled,brightness"
    assert evaluate(*command, "--methods", methods, "--no-cache", "--save-maps") == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out/results.csv")
    for category in ("01", "02"):
        block = printed.split(f"\n{category}\n")[1].split("\n\n")[0].splitlines()
        assert len(block) == 5
        for line in block[1:]:
            row = table[(table["method"] == line.split()[0]) & (table["category"] == category)]
            value, low, high = row[["auroc_sp", "auroc_sp_lo", "auroc_sp_hi"]].iloc[0] * 100
            if np.isnan(value):
                assert line.split()[:2] == ["shuffled", "-"]
            else:
                mark = "coin" if low <= 50 <= high else "below" if high < 50 else ""
                shown = f"{value:.1f} [{low:.0f}, {high:.0f}] {mark}".strip()
                assert line.split(maxsplit=1)[1].startswith(f"{shown}  ")
        assert block[-1].startswith("brightness  100.0 [100, 100]  "), "cracks are dark"
    assert "Image scores of clip and anovl are equal by definition" in printed
    record = json.loads((tmp_path / "out/run.json").read_text())
    (sha,) = record["models"].values()
    assert "Protocol: plain, one view" in printed and f"SHA-256 {sha[:12]}" in printed
    assert f"torch {record['versions']['torch']}" in printed
    for method in methods.split(","):
        assert len(list((tmp_path / "out/maps" / method).rglob("*.npy"))) == 8


def test_a_control_that_is_wrong_throughout_is_informative_reversed(
    offline_model, cells, tmp_path, capsys
):
    for category in ("01", "02"):
        test = cells / category / "test"
        for before, after in (("good", "other"), ("crack", "good")):
            (test / before).rename(test / after)
    command = ["--dataset", "folder", "--data-root", cells, "--out", tmp_path / "out"]
    assert evaluate(*command, "--methods", "brightness") == 0
    printed = capsys.readouterr().out
    assert "brightness  0.0 [0, 0] reversed" in printed
    assert '"reversed": informative reversed' in printed and "equal by definition" not in printed


def test_many_categories_are_in_the_file_alone(offline_model, cells, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("anovl.cli.remarks.MOST_CATEGORIES", 1)
    command = ["--dataset", "folder", "--data-root", cells, "--out", tmp_path / "out"]
    assert evaluate(*command, "--methods", "dog") == 0
    assert "\n01\n" not in capsys.readouterr().out


def test_evaluate_a_folder(offline_model, shared_path, tmp_path, capsys):
    root = shared_path("data", "magnetic_tile_sample")
    command = ["evaluate", "--dataset", "folder", "--data-root", str(root), "--methods", "dog"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out/results.csv")
    assert (table["n_images"] == 32).all() and (table["n_anomalous"] == 20).all()
    assert table["aupro"].between(0, 1).all()


def test_evaluate_begins_with_what_it_understood_and_ends_with_doubts(
    offline_model, tmp_path, capsys
):
    root = tmp_path / "mine/nut"
    for name, value in (("good/000.png", 900), ("good/001.png", 1000), ("crack/000.png", 200)):
        path = root / "test" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 32), value, dtype=np.uint16)).save(path)
    (root / "ground_truth/crack").mkdir(parents=True)
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[4:12, 4:12] = 2
    mask[20:, 20:] = 1
    Image.fromarray(mask).save(root / "ground_truth/crack/000_mask.png")
    (root / "notes.txt").write_text("mine")
    command = ["evaluate", "--dataset", "folder", "--data-root", str(root.parent)]
    command += ["--methods", "dog", "--size", "32", "--out"]
    assert main([*command, str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"folder in {root.parent}: 1 category\n  nut: 2 normal, 1 anom")
    assert "1 file without a picture (nut/notes.txt)" in captured.out
    assert "please check" not in captured.err
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["data"] == {"pixel_range": [0, 1023]}

    reading = ["--pixel-range", "0", "4000", "--mask-values", "0,2"]
    assert main([*command, str(tmp_path / "given"), *reading]) == 0
    record = json.loads((tmp_path / "given/run.json").read_text())
    assert record["data"] == {"pixel_range": [0, 4000], "mask_values": [0, 2]}
    captured = capsys.readouterr()
    assert "defect in masks: exactly 0, 2\n" in captured.out
    doubt = "1 mask: more than half of the image is defect"
    assert captured.err.count(doubt) == 1, "said once at the end, not for every method and mask"
    assert f"please check: {doubt}" in captured.err and doubt in captured.out
    refused = main([*command, str(tmp_path / "out"), "--pixel-range", "0", "4000"])
    assert "data.pixel_range was [0.0, 1023.0], now [0.0, 4000.0]" in the_error(capsys, refused)


@pytest.mark.parametrize("protocol", ["published", "plain"])
def test_evaluate_keeps_the_published_protocol_of_visa(
    offline_model, miniature, tmp_path, capsys, protocol
):
    command = ["evaluate", "--dataset", "visa", "--data-root", str(miniature("visa"))]
    command += ["--categories", "candle", "--methods", "anovl-tta,dog", "--protocol", protocol]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    methods = json.loads((tmp_path / "out/run.json").read_text())["methods"]
    assert methods["anovl-tta"]["tiles"] == (protocol == "published")
    adapter = {"published": "linear", "plain": "text"}[protocol]
    assert methods["anovl-tta"]["tta"]["adapter"] == adapter
    assert "tiles" not in methods["dog"]
    table = pd.read_csv(tmp_path / "out/results.csv")
    assert (table["n_images"] == 4).all() and (table["n_anomalous"] == 2).all()


@pytest.mark.filterwarnings("ignore:.*has not the test images of")
def test_maps_of_images_of_many_shapes_have_the_size_that_is_asked_for(
    offline_model, miniature, tmp_path
):
    root = str(miniature("magnetic-tile"))
    command = ["evaluate", "--dataset", "magnetic-tile", "--data-root", root, "--size", "32"]
    assert main([*command, "--methods", "dog", "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out/run.json").read_text())["size"] == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "poket"], "Did you mean 'pocket'?"),
        (["--dataset", "visa"], "'visa' needs its root"),
        (["--dataset", "mvtec", "--data-root", "."], "python -m anovl download mvtec"),
        (["--dataset", "folder"], "needs its root"),
        (["--dataset", "folder", "--data-root", "nowhere"], "no folder nowhere"),
        (["--dataset", "photos", "--categories", "brik"], "Did you mean 'brick'?"),
        (["--dataset", "photos", "--methods", "anvl"], "Did you mean 'anovl'?"),
        (["--dataset", "photos", "--methods", ","], "expected detectors"),
        (["--dataset", "photos", "--methods", "dog,dog"], "different names"),
        (["--dataset", "photos", "--per-category", "0"], "per_category must be"),
        (["--dataset", "pocket", "--seed", "-1"], "seed must be"),
    ],
)
def test_evaluate_says_what_is_wrong(
    offline_model, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert message in the_error(capsys, main(["evaluate", "--out", "out", *arguments]))


# The others


def test_train_pocket_passes_its_options_on(monkeypatch, tmp_path, capsys):
    from anovl_companion.training import train
    from anovl_companion.training.recipe import named_recipe

    calls, threads = [], []
    monkeypatch.setattr(
        train, "train_pocket", lambda out, **options: calls.append((out, options)) or Path(out)
    )
    monkeypatch.setattr(train, "keep_memory", lambda: None)  # it lasts as long as the process
    monkeypatch.setattr("torch.set_num_threads", threads.append)  # so does this
    arguments = "--seed 3 --fresh --recipe gpu --device cuda --workers 15 --threads 4"
    command = ["train-pocket", "--out", str(tmp_path), *arguments.split()]
    assert main([*command, "--snapshot-every", "30"]) == 0
    ((out, options),) = calls
    assert out == str(tmp_path) and threads == [4]
    recipe = named_recipe("gpu", seed=3)
    given = {"recipe": recipe, "resume": False, "device": "cuda", "workers": 15}
    assert options == {**given, "snapshot_every": 30.0}
    assert str(tmp_path) in capsys.readouterr().out


def test_train_pocket_says_what_cannot_be(tmp_path, capsys):
    command = ["train-pocket", "--out", str(tmp_path)]
    assert "Known are: laptop, gpu" in the_error(capsys, main([*command, "--recipe", "huge"]))
    assert "'cpu' or 'cuda'" in the_error(capsys, main([*command, "--device", "mps"]))


def test_verify_reports_what_does_not_hold(tmp_path, capsys):
    from anovl_companion.saving import save_table

    save_table(pd.DataFrame({"method": ["anovl"], "aupro": [0.5]}), tmp_path / "t", provenance={})
    assert main(["verify", str(tmp_path)]) == 0
    (tmp_path / "t.csv").write_text("changed")
    assert main(["verify", str(tmp_path)]) == 1
    assert "t.csv has changed" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "nowhere")]) == 2


def test_being_stopped_is_no_crash(monkeypatch, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("anovl_companion.records.verify", stop)
    assert "the same command again to begin anew" in the_error(capsys, main(["verify", "."]), 130)
    monkeypatch.setattr("anovl.data.load_dataset", stop)
    assert "the same command again to go on" in the_error(
        capsys, main(["evaluate", "--out", "."]), 130
    )


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM to catch")
def test_sigterm_is_a_stop_like_ctrl_c(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(
        "anovl_companion.records.verify", lambda folder: os.kill(os.getpid(), signal.SIGTERM)
    )
    assert "stopped; run the same command" in the_error(capsys, main(["verify", "."]), 130)
    assert signal.getsignal(signal.SIGTERM) is before


def test_warnings_are_one_clean_line(monkeypatch, capsys):
    def warn(folder):
        warnings.warn("mind this", stacklevel=2)
        return []

    monkeypatch.setattr("anovl_companion.records.verify", warn)
    assert main(["verify", "."]) == 0
    assert capsys.readouterr().err == "anovl: warning: mind this\n"


@pytest.mark.parametrize(("command", "proposed"), [([], 2), (["localize"], 4), (["evaluate"], 6)])
def test_words_that_help_proposes_are_known_to_the_pocket_model(command, proposed, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    words = re.findall(r'--object ("[a-z ]+"|[a-z]+)|\d\d=("[a-z ]+"|[a-z]+)|\["([^"]+)"\]', text)
    assert len(words) == proposed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for found in words:
            load_tokenizer()([re.sub(r'"|\{\w*\}', "", "".join(found))])


@pytest.mark.parametrize("arguments", [["--help"], ["localize", "--help"], ["--version"]])
def test_help_and_version(arguments, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    assert "anovl" in capsys.readouterr().out


def test_as_a_program_it_leaves_no_traceback(tmp_path):
    command = [sys.executable, "-m", "anovl", "verify", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("anovl: error: ") and len(done.stderr.splitlines()) == 1


def test_a_misspelt_option_is_named_by_its_own_command(capsys):
    for command in (["localize", "x.png", "--objct", "nut"], ["localize", "x.png", "--objct=nut"]):
        with pytest.raises(SystemExit) as stopped:
            main(command)
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and said.startswith("usage: python -m anovl localize")
        assert said.rstrip().endswith("; did you mean --object?")
