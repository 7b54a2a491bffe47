"""Every option acts, or is refused with the reason."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from anovl.baselines import make_detector
from anovl.cli import main
from anovl.cli.options import with_options
from anovl.data import load_dataset
from anovl.data.check import summarise


@pytest.fixture(autouse=True)
def offline_model(tiny_clip, monkeypatch, tmp_path_factory):
    """The command line, with the tiny random model and a cache of its own."""
    monkeypatch.setattr("anovl.models.load.load_clip", lambda *names, **options: tiny_clip)
    monkeypatch.setattr("anovl.cli.options.CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path):
    """A category of 8 normal and 5 anomalous images, each of another grey."""
    grey = iter(range(0, 250, 10))
    for kind, n in (("good", 8), ("spot", 5)):
        (tmp_path / "data/nut/test" / kind).mkdir(parents=True)
        for number in range(n):
            pixels = np.full((16, 16), next(grey), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"data/nut/test/{kind}/{number}.png")
    return tmp_path / "data"


PHOTOS = ("evaluate", "--dataset", "photos", "--per-category", "1", "--out", "out")
WORDLESS = (*PHOTOS, "--methods", "dog,pca-normal")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ((*PHOTOS, "--data-root", "."), "is generated and has no root"),
        ((*PHOTOS, "--protocol", "published"), "--protocol has no effect with photos"),
        ((*PHOTOS, "--pixel-range", "0", "9"), "pixel_range is for data sets of files"),
        ((*PHOTOS, "--mask-values", "1"), "mask_values is for data sets of files"),
        ((*PHOTOS, "--allow-download"), "--allow-download has no effect on weights that are here"),
        (
            (*PHOTOS, "--methods", "dog", "--precision", "bfloat16"),
            "--precision has no effect on d",
        ),
        (
            (*PHOTOS, "--methods", "dog", "--batch-size", "2"),
            "--batch-size has no effect on dog, w",
        ),
        ((*PHOTOS, "--methods", "dog", "--device", "cpu"), "--device has no effect on dog, which"),
        (
            (*PHOTOS, "--methods", "dog", "--no-cache"),
            "--no-cache has no effect on dog, which use no words: leave it out",
        ),
        (
            (*WORDLESS, "--surface"),
            "--surface has no effect on dog, pca-normal, which use no words",
        ),
        ((*WORDLESS, "--prompts", "a.json"), "--prompts has no effect on dog, pca-normal, which"),
        ((*WORDLESS, "--names", "brick=wall"), "--names has no effect on dog, pca-normal, which"),
        (
            (*WORDLESS, "--categories", "brick", "--object", "wall"),
            "--object has no effect on dog, pca-normal, which use no words",
        ),
        (
            (*PHOTOS, "--jobs", "2", "--dask", "tcp://x:1"),
            "give either jobs, for processes here, or",
        ),
        (("bench", "--images", "3"), "--images has no effect without --rehearsal: leave it out"),
        (("bench", "--side", "64"), "--side has no effect without --rehearsal"),
        (("bench", "--precision", "float16"), "--precision has no effect without --rehearsal"),
        (("bench", "--rehearsal", "--quick"), "--quick has no effect on a rehearsal"),
        (("download", "visa", "--to", ".", "--model", "paper"), "--model has no effect on a data"),
    ],
)
def test_options_that_do_not_apply_are_refused(tmp_path, monkeypatch, capsys, command, message):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert message in line
    assert not list(tmp_path.glob("out/parts/*"))


def test_the_batch_size_acts_on_every_method_with_a_network(tiny_clip):
    for name in ("clip", "shuffled", "winclip", "pca-normal"):
        detector = with_options(make_detector(name, tiny_clip), batch_size=3, surface="texture")
        assert getattr(detector, "detector", detector).batch_size == 3
    assert with_options(make_detector("dog", tiny_clip), batch_size=3).name == "dog"


def test_words_are_for_any_method_that_uses_them(folder, tmp_path, capsys):
    command = ["evaluate", "--dataset", "folder", "--data-root", str(folder)]
    command += ["--object", "cloth", "--surface", "--out", str(tmp_path / "out")]
    assert main([*command, "--methods", "dog,clip"]) == 0
    assert 'one prompt: "a cropped textural photo of the damaged cloth"' in capsys.readouterr().out
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["methods"]["clip"]["surface"] == "texture" and "surface" not in run["methods"]["dog"]
    assert run["data"]["words"] == {"nut": ["cloth", "texture"]}


def test_no_prompt_is_shown_where_no_method_uses_words(folder, tmp_path, capsys):
    command = ["evaluate", "--dataset", "folder", "--data-root", str(folder), "--methods", "dog"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "one prompt" not in printed and "as words" not in printed


@pytest.mark.parametrize("out", ["data", "data/nut/../../data", "data/nut/test/spot", "link"])
def test_results_never_lie_among_the_images(folder, tmp_path, capsys, out):
    (tmp_path / "link").symlink_to(folder)
    command = ["evaluate", "--dataset", "folder", "--data-root", str(folder), "--methods", "dog"]
    assert main([*command, "--out", str(tmp_path / out)]) == 2
    assert "images are read from" in capsys.readouterr().err
    assert not list(tmp_path.rglob("run.json"))


def test_per_category_draws_from_any_data_set(folder, tmp_path, capsys):
    command = ["evaluate", "--dataset", "folder", "--data-root", str(folder), "--methods", "dog"]
    command += ["--per-category", "3", "--seed", "7", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert "at most 3 normal and 3 anomalous, drawn with seed 7" in capsys.readouterr().out
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["data"] == {"per_category": 3, "seed": 7}
    row = (tmp_path / "out/results.csv").read_text().splitlines()[1].split(",")
    assert row[:6] == ["folder", "category", "nut", "dog", "6", "3"]
    assert main([*command, "--categories", "nut", "--per-category", "2"]) == 2  # another run


def drawn(folder, **options) -> set[int]:
    samples = load_dataset("folder", folder, **options).samples("nut")
    return {sample.image.getpixel((0, 0))[0] for sample in samples}


def test_draws_are_decided_by_the_seed_alone_and_nested(folder):
    three, four = (drawn(folder, per_category=n, seed=1) for n in (3, 4))
    assert len(three) == 6 and len(four) == 8 and three < four
    assert len({value for value in three if value >= 80}) == 3, "as many anomalous as normal"
    assert three == drawn(folder, per_category=3, seed=1)
    assert len({frozenset(drawn(folder, per_category=3, seed=seed)) for seed in range(9)}) > 4
    assert drawn(folder, per_category=99) == drawn(folder) and len(drawn(folder)) == 13


def test_what_a_draw_leaves_out_is_no_doubt(folder):
    truth = folder / "nut/ground_truth/spot"
    truth.mkdir(parents=True)
    for number in range(5):
        mask = Image.fromarray(np.full((16, 16), 0, dtype=np.uint8))
        mask.save(truth / f"{number}_mask.png")
    mask.save(truth / "9_mask.png")
    summary = summarise(load_dataset("folder", folder, per_category=2))
    assert [finding.files for finding in summary.unused] == [("nut/ground_truth/spot/9_mask.png",)]
    (doubt,) = summary.doubts
    assert doubt.what.startswith("masks without a defect") and len(doubt.files) == 2


def test_draws_need_labels_and_whole_numbers(folder):
    plain = folder / "nut/test/good"
    with pytest.raises(ValueError, match="have no labels: leave --per-category"):
        load_dataset("folder", plain, per_category=2)
    for options, name in (({"per_category": 0}, "per_category"), ({"seed": -1}, "seed")):
        with pytest.raises(ValueError, match=f"{name} must be a whole number"):
            load_dataset("folder", folder, **{"per_category": 2} | options)
    with pytest.raises(ValueError, match="image_size is for generated data sets; 'folder' has"):
        load_dataset("folder", folder, image_size=64)
