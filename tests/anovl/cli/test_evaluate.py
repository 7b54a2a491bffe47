"""`anovl evaluate`: its table and notes, its words, and refusals with reasons."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anovl.baselines import make_detector
from anovl.cli import main
from anovl.cli.options import with_options


@pytest.fixture(autouse=True)
def tiny(offline_model):
    """The tiny random model."""


def evaluate(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


def of_folder(root: Path, out: Path, *arguments: object, methods: str = "dog") -> int:
    data = ("--dataset", "folder", "--data-root", root, "--out", out)
    return evaluate(*data, "--methods", methods, *arguments)


def record(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())


@pytest.mark.parametrize("options", [[], ["--jobs", "2"]])
def test_a_second_run_encodes_no_prompt(
    tiny_clip, own_cache, tmp_path, monkeypatch, the_error, capsys, options
):
    monkeypatch.setattr("anovl.models.load.load_clip", lambda *names, **given: replace(tiny_clip))
    command = ["--dataset", "photos", "--methods", "clip,shuffled"]
    command += ["--categories", "brick", "--per-category", "2", "--out"]
    assert evaluate(*command, tmp_path / "first", *options) == 0
    assert len(list(own_cache.iterdir())) == 1

    def fail(*arguments):
        raise ValueError("a prompt is encoded")

    monkeypatch.setattr("anovl.prompts.encode_text", fail)
    assert evaluate(*command, tmp_path / "second") == 0
    first, second = (pd.read_csv(tmp_path / name / "results.csv") for name in ("first", "second"))
    pd.testing.assert_frame_equal(first, second)
    capsys.readouterr()
    assert "a prompt is encoded" in the_error(evaluate(*command, tmp_path / "third", "--no-cache"))


def test_each_category_is_printed_with_notes(cells, tmp_path, capsys, monkeypatch, the_error):
    methods, out = "clip,anovl,shuffled,brightness", tmp_path / "out"
    assert of_folder(cells, out, "--save-maps", methods=methods) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(out / "results.csv")
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
                assert not mark or f'"{mark}": ' in printed
        assert block[-1].startswith("brightness  100.0 [16, 100] coin  "), "cracks are dark"
    assert (
        "(too few images to tell from brightness)" in printed
        and "above" not in printed.split('"above"')[0]
    )
    assert "-: defects without masks: 01, 02" in printed
    facts = ("Protocol: plain", f"In {out}: results.csv")
    assert all(fact in printed for fact in facts) and '"reversed"' not in printed
    for method in methods.split(","):
        assert len(list((out / "maps" / method).rglob("*.npy"))) == 8
    monkeypatch.setattr("anovl.cli.answers.MOST_CATEGORIES", 1)
    assert of_folder(cells, out, "--save-maps", methods=methods) == 0
    assert "\n01\n" not in capsys.readouterr().out
    assert "seed was 0, now 5" in the_error(of_folder(cells, out, "--seed", 5, methods=methods))


def test_it_begins_with_what_it_understood_and_says_each_doubt_once(nuts, tmp_path, capsys):
    for path in nuts.rglob("test/*/*.png"):
        Image.fromarray(np.full((32, 32), 900, dtype=np.uint16)).save(path)
    for path in nuts.rglob("*_mask.png"):
        mask = np.array([[0, 0, 0], [1, 0, 2]], dtype=np.uint8)
        Image.fromarray(mask.repeat(16, 0)).resize((32, 32), Image.Resampling.NEAREST).save(path)
    reading = ("--size", 32, "--pixel-range", 0, 4000, "--mask-values", "0,2", "--jobs", 2)
    assert of_folder(nuts.parent, tmp_path / "out", *reading) == 0
    read = {"pixel_range": [0, 4000], "mask_values": [0, 2]}
    assert record(tmp_path / "out")["data"] == read
    said = capsys.readouterr()
    assert said.out.startswith(f"folder in {nuts.parent}: 1 category\n  nut: 4 normal, 3 anomalous")
    assert "one prompt" not in said.out
    assert (said.out + said.err).count("is defect") == 1


@pytest.mark.parametrize("protocol", ["published", "plain"])
def test_the_published_protocol_of_visa_is_kept(miniature, tmp_path, capsys, protocol):
    command = ["--dataset", "visa", "--data-root", miniature("visa"), "--out", tmp_path / "out"]
    methods = ["--methods", "anovl-tta,dog", "--protocol", protocol]
    assert evaluate(*command, "--categories", "candle", *methods) == 0
    methods = record(tmp_path / "out")["methods"]
    assert methods["anovl-tta"]["tiles"] == (protocol == "published")
    adapter = {"published": "linear", "plain": "text"}[protocol]
    assert methods["anovl-tta"]["tta"]["adapter"] == adapter and "tiles" not in methods["dog"]
    assert f"Protocol: {protocol}" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out/results.csv")
    assert (table["n_images"] == 4).all() and (table["n_anomalous"] == 2).all()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--dataset", "poket"], "'pocket'"),
        (["--dataset", "mvtec", "--data-root", "."], "mvtec"),
        (["--dataset", "folder", "--data-root", "nowhere"], "nowhere"),
        (["--dataset", "photos", "--categories", "brik"], "'brick'"),
        (["--dataset", "photos", "--methods", "anvl"], "'anovl'"),
        (["--dataset", "photos", "--per-category", "0"], "per_category"),
        (["--dataset", "photos", "--jobs", "2", "--dask", "tcp://x:1"], "jobs"),
    ],
)
def test_a_refusal_names_the_cause(tmp_path, monkeypatch, capsys, arguments, name):
    monkeypatch.chdir(tmp_path)
    assert evaluate("--out", "out", *arguments) == 2
    assert name in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.glob("out/parts/*"))


@pytest.mark.parametrize("out", ["cells", "cells/01/../../cells", "cells/01/test/crack", "link"])
def test_results_never_lie_among_the_images(cells, tmp_path, the_error, out):
    (tmp_path / "link").symlink_to(cells)
    assert "images are read from" in the_error(of_folder(cells, tmp_path / out))
    assert not list(tmp_path.rglob("run.json"))


def test_options_reach_every_method_that_has_them(tiny_clip):
    for name in ("clip", "shuffled", "winclip", "pca-normal"):
        detector = with_options(make_detector(name, tiny_clip), batch_size=3, level="word")
        assert getattr(detector, "detector", detector).batch_size == 3
    assert with_options(make_detector("dog", tiny_clip), batch_size=3).name == "dog"


def test_a_run_without_unreadable_images_is_partial(nuts, tmp_path, capsys):
    (nuts / "test/good/0.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    assert of_folder(nuts.parent, out) == 2 and not (out / "run.json").exists()
    assert of_folder(nuts.parent, out, "--skip-unreadable") == 1
    assert capsys.readouterr().err.count("good/0.png") == 2


# Words


def test_words_of_folders_and_words_that_are_given(cells, tmp_path, capsys):
    assert of_folder(cells, tmp_path / "own", methods="clip") == 0
    printed = capsys.readouterr().out
    assert "used as words: 01, 02" in printed and "--names 01=" in printed
    assert 'one prompt: "a cropped industrial photo of the damaged 01"' in printed

    mine = {"states": {"normal": ["whole {}"], "anomalous": ["cut {}"]}}
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    words = ["--names", "02=poly cell, 01 = solar cell", "--prompts", tmp_path / "mine.json"]
    assert of_folder(cells, tmp_path / "given", *words, methods="clip") == 0
    printed = capsys.readouterr().out
    assert 'one prompt: "a cropped industrial photo of the cut solar cell"' in printed
    assert "used as words" not in printed
    data = record(tmp_path / "given")["data"]
    assert data["words"] == {"01": ["solar cell", None], "02": ["poly cell", None]}
    assert data["prompts"] == {"states": [["whole {}"], ["cut {}"]]}

    one = ["--categories", "02", "--surface", "--object", "cell"]
    assert of_folder(cells, tmp_path / "one", *one, methods="dog,clip") == 0
    assert record(tmp_path / "one")["data"]["words"] == {"02": ["cell", "texture"]}
    assert "textural photo of the damaged cell" in capsys.readouterr().out


def test_jobs_of_an_array_may_all_be_given_all_names(cells, tmp_path):
    for category in ("01", "02"):
        options = ["--names", "01=solar cell,02=poly cell", "--categories", category]
        assert of_folder(cells, tmp_path / "out", *options, methods="clip") == 0
    data = record(tmp_path / "out")["data"]
    assert data["words"] == {"01": ["solar cell", None], "02": ["poly cell", None]}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--object", "cell"], "--names 01="),
        (["--object", "cell", "--names", "01=a"], "--names"),
        (["--object", " ", "--categories", "01"], "class name"),
        (["--names", "03=cell"], "'03'"),
        (["--names", "03=cell", "--categories", "01"], "'03'"),
        (["--prompts", "nowhere.json"], "nowhere.json"),
    ],
)
def test_words_that_cannot_be(cells, tmp_path, the_error, words, name):
    assert name in the_error(of_folder(cells, tmp_path / "out", *words, methods="dog,clip"))
