"""One table of many pairs: right numbers, reasons for empty cells, and no harm by a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anovl.baselines import make_detector
from anovl.baselines.controls import Centre, DifferenceOfGaussians, Shuffled
from anovl.data import dataset, load_dataset
from anovl.data.published import Words
from anovl.detector import AnoVL, Detector, Localization
from anovl.evaluation import reading
from anovl.evaluation.bootstrap import cautious_interval
from anovl.evaluation.harness import evaluate
from anovl.evaluation.metrics import auroc
from anovl.evaluation.results import (
    COLUMNS,
    HEADLINES,
    IMAGE,
    PIXEL,
    missing_numbers,
    read_groups,
    read_timing,
)
from anovl.evaluation.run_folder import RunFolder, describe_run


@dataclass(frozen=True)
class Brightness(Detector):
    """A stub: the map is the picture's brightness, the score its maximum."""

    name = "brightness"

    def localize(self, images, category, *, size=None):
        maps = [np.asarray(image.convert("L"), dtype=np.float32) / 255 for image in images]
        return [Localization(values, float(values.max())) for values in maps]


@dataclass(frozen=True)
class Darkness(Brightness):
    """Its opposite."""

    name = "darkness"

    def localize(self, images, category, *, size=None):
        bright = super().localize(images, category)
        return [Localization(1 - found.map, 1 - found.score) for found in bright]


def write_category(root: Path, *, good: int = 3, bad: int = 2, masks: bool = True) -> None:
    """Grey pictures (8, 10); a defect is two bright pixels."""
    rng = np.random.default_rng(0)
    for kind, n in (("good", good), ("spot", bad)):
        for i in range(n):
            pixels = rng.integers(0, 100, (8, 10), dtype=np.uint8)
            mask = np.zeros((8, 10), dtype=np.uint8)
            if kind == "spot":
                mask[2, 3 + i : 5 + i] = 255
            pixels[mask > 0] = 200
            save(pixels, root / "test" / kind / f"{i}.png")
            if kind == "spot" and masks:
                save(mask, root / "ground_truth" / kind / f"{i}_mask.png")


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def row_of(table: pd.DataFrame, method: str, category: str) -> pd.Series:
    return table[(table["method"] == method) & (table["category"] == category)].iloc[0]


@pytest.fixture
def two_categories(tmp_path):
    write_category(tmp_path / "data/nut")
    write_category(tmp_path / "data/bolt", good=4, bad=3)
    return load_dataset("folder", root=tmp_path / "data")


# Numbers


def test_the_table_of_two_opposite_methods(two_categories, tmp_path):
    table = evaluate(two_categories, [Brightness(), Darkness()], out=tmp_path / "out")
    assert tuple(table.columns) == COLUMNS
    assert list(zip(table["category"], table["method"], strict=True)) == [
        *(("bolt", "brightness"), ("bolt", "darkness")),
        *(("nut", "brightness"), ("nut", "darkness")),
        *(("mean", "brightness"), ("mean", "darkness")),
    ]
    for category, n, anomalous in (("bolt", 7, 3), ("nut", 5, 2), ("mean", 12, 5)):
        best, worst = (row_of(table, name, category) for name in ("brightness", "darkness"))
        assert (best["n_images"], best["n_anomalous"]) == (n, anomalous)
        for metric in {*PIXEL, *IMAGE} - {"auroc_px_debiased"}:
            assert best[metric] == pytest.approx(1.0)
        assert best["auroc_px_debiased"] > 0.9 > 0.1 > worst["auroc_px_debiased"]
        assert worst["auroc_px"] == worst["aupro"] == worst["auroc_sp"] == 0.0
        assert worst["f1_sp"] > 0  # calling everything abnormal
        low = np.nan if category == "mean" else cautious_interval(1.0, anomalous)[0]
        assert best["auroc_sp_lo"] == pytest.approx(low, nan_ok=True)
        assert worst["auroc_sp_hi"] == pytest.approx(1 - low, nan_ok=True)
        assert np.isnan([best["aupro_lo"], worst["auroc_px_debiased_hi"]]).all()
        assert best["note"] == ""


def test_the_row_of_means_averages_categories_not_images(tmp_path):
    data = load_dataset("pocket", categories=["wood", "gear"], per_category=10, image_size=32)
    table = evaluate(data, [DifferenceOfGaussians(32)], out=tmp_path / "out", resamples=100)
    own = table[table["level"] == "category"]
    mean = row_of(table, "dog", "mean")
    for metric in (*PIXEL, *IMAGE):
        assert mean[metric] == pytest.approx(own[metric].mean())
    for metric in HEADLINES:
        low, high = mean[f"{metric}_lo"], mean[f"{metric}_hi"]
        assert low <= mean[metric] <= high
        assert high - low <= (own[f"{metric}_hi"] - own[f"{metric}_lo"]).max()


def test_groups_of_categories_have_means_of_their_own(tmp_path):
    categories = ["wood", "tile", "gear"]
    data = load_dataset("pocket", categories=categories, per_category=10, image_size=32)
    assert data.groups == {"seen": ("wood", "tile"), "unseen": ("gear",)}
    dog = DifferenceOfGaussians(32)
    table = evaluate(data, [dog], out=tmp_path / "out", resamples=20)
    groups = read_groups(tmp_path / "out")
    assert tuple(groups.columns) == COLUMNS and list(groups["category"]) == ["seen", "unseen"]
    seen, unseen = (row_of(groups, "dog", name) for name in ("seen", "unseen"))
    wood, tile, gear = (row_of(table, "dog", name) for name in categories)
    for metric in (*PIXEL, *IMAGE):
        assert seen[metric] == pytest.approx((wood[metric] + tile[metric]) / 2, abs=1e-6)
        assert unseen[metric] == pytest.approx(gear[metric], abs=1e-6)
    assert unseen["aupro_lo"] == pytest.approx(gear["aupro_lo"], abs=1e-6)
    with pytest.raises(FileNotFoundError, match=r"groups\.csv"):
        read_groups(tmp_path)


def test_a_single_image_of_a_kind_gives_no_interval(two_categories, tmp_path):
    """And so none to the mean."""
    (two_categories.root / "nut/test/spot/0.png").unlink()
    data = load_dataset("folder", root=two_categories.root)
    table = evaluate(data, [DifferenceOfGaussians(8)], out=tmp_path / "out")
    bolt, nut, mean = (row_of(table, "dog", name) for name in ("bolt", "nut", "mean"))
    assert nut["n_anomalous"] == 1
    assert mean["aupro"] == pytest.approx((bolt["aupro"] + nut["aupro"]) / 2)
    assert not np.isnan(bolt["auroc_sp_lo"])
    assert np.isnan([nut["auroc_sp_lo"], mean["auroc_sp_lo"]]).all()
    assert missing_numbers(table) == ["one anomalous image: nut"]


def test_each_image_is_in_a_table_from_which_image_auroc_is_made_again(two_categories, tmp_path):
    """Exactly, and with what tells which images a method got wrong."""
    (two_categories.root / "nut/ground_truth/spot/0_mask.png").unlink()
    data = load_dataset("folder", root=two_categories.root)
    methods = [Brightness(), Shuffled(Darkness()), DifferenceOfGaussians(8)]
    table = evaluate(data, methods, out=tmp_path / "out", size=(8, 10))
    images = pd.read_csv(tmp_path / "out/images.csv")
    assert list(images)[:4] == ["category", "picture", "label", "kind"]
    assert images["picture"].tolist() == [
        e.path.relative_to(data.root).as_posix() for c in data.categories for e in data.entries(c)
    ]
    assert images["kind"].tolist() == [e.kind for c in data.categories for e in data.entries(c)]
    for category, own in images.groupby("category"):
        for name in ("brightness", "dog"):
            made = auroc(own[f"score {name}"].to_numpy(), own["label"].to_numpy())
            assert made == row_of(table, name, category)["auroc_sp"]
    assert images["score shuffled"].isna().all()
    assert images["auroc_px brightness"].isna().tolist() == (images["label"] == 0).tolist()
    assert (images["auroc_px brightness"].dropna() == 1).all()


def test_equal_images_are_ties_in_the_table(tiny_clip, tmp_path):
    """Twenty copies of one picture: image AUROC is 50, whatever their labels and their places."""
    rng = np.random.default_rng(0)
    one, *others = rng.integers(0, 255, (5, 30, 30, 3), dtype=np.uint8)
    for i in range(20):
        save(one, tmp_path / f"data/nut/test/{'good' if i < 10 else 'spot'}/{i}.png")
    for i, other in enumerate(others):
        save(other, tmp_path / f"data/bolt/test/{'good' if i % 2 else 'spot'}/{i}.png")
        save(one, tmp_path / f"data/bolt/test/{'good' if i % 2 else 'spot'}/copy{i}.png")
    data = load_dataset("folder", root=tmp_path / "data")
    methods = [make_detector(name, tiny_clip, level="word") for name in ("anovl", "gem", "winclip")]
    methods += [AnoVL(tiny_clip, tta=True, views=22, level="word")]
    table = evaluate(data, methods, out=tmp_path / "out")
    images = pd.read_csv(tmp_path / "out/images.csv")
    for method in methods:
        assert row_of(table, method.name, "nut")["auroc_sp"] == 0.5
        copies = images[images["picture"].str.contains("copy|nut")].groupby("category")
        assert (copies[f"score {method.name}"].nunique() == 1).all()


def test_files_hold_what_is_returned(two_categories, tmp_path):
    table = evaluate(two_categories, [Brightness(), Centre(8)], out=tmp_path / "out")
    read = pd.read_csv(tmp_path / "out/results.csv", keep_default_na=True)
    numbers = [name for name in COLUMNS if table[name].dtype.kind in "fi"]
    np.testing.assert_allclose(read[numbers], table[numbers], atol=1e-6)
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["categories"] == ["bolt", "nut"] and run["dataset"] == "folder"
    hashes = {name: two_categories.manifest_hash(name) for name in ("bolt", "nut")}
    assert run["data_sha256"] == hashes and hashes["bolt"] != hashes["nut"]
    assert run["methods"]["centre"] == {"image_size": 8}
    assert run["versions"]["torch"]
    assert str(tmp_path) not in json.dumps(run)


def test_precision_and_code_of_the_methods_decide_a_run(two_categories, tiny_clip):
    low = replace(tiny_clip, precision="bfloat16")
    methods = AnoVL(tiny_clip), AnoVL(low), make_detector("winclip", tiny_clip)
    own, theirs, other = (describe_run(two_categories, [method]) for method in methods)
    assert {key for key in own if own[key] != theirs[key]} == {"descriptions", "precision"}
    assert theirs["precision"] == {"anovl": "bfloat16"}
    assert own["code_sha256"] != other["code_sha256"]


def test_models_are_recorded_with_their_hash(tiny_clip, two_categories, tmp_path):
    names = ("anovl", "shuffled", "winclip", "transmm")
    methods = [make_detector(name, tiny_clip, level="word") for name in names]
    table = evaluate(two_categories, methods, out=tmp_path / "out", resamples=10)
    assert not table[list(PIXEL)].isna().any(axis=None)
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["models"] == {tiny_clip.name: tiny_clip.weights_hash}
    assert run["device"] == "cpu" and run["precision"] == dict.fromkeys(names, "float32")
    assert run["methods"]["shuffled"]["detector"]["level"] == "word"
    assert run["methods"]["winclip"]["windows"] == [2, 3]
    pd.testing.assert_frame_equal(
        evaluate(two_categories, methods, out=tmp_path / "out", resamples=10), table
    )


def test_words_that_were_given_decide_a_run_and_are_recorded(two_categories, tmp_path):
    seen = {}

    class Listening(Brightness):
        def localize(self, images, category, *, size=None):
            seen[category.class_name] = category
            return super().localize(images, category, size=size)

    lists = {"states": (["intact {}"], ["bent {}"]), "templates": ["a {domain} of the {}"]}
    data = two_categories.with_words({"nut": Words("metal nut", "texture")}, lists)
    evaluate(data, [Listening()], out=tmp_path / "out", resamples=10)
    assert seen["metal nut"].anomalous == (
        "an industrial photo of the bent metal nut",
        "a textural photo of the bent metal nut",
        "a surface picture of the bent metal nut",
    )
    assert seen["bolt"].normal[0] == "an industrial photo of the intact bolt"
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["data"]["words"] == {"nut": ["metal nut", "texture"]}
    assert record["data"]["prompts"] == {
        "states": [["intact {}"], ["bent {}"]],
        "templates": ["a {domain} of the {}"],
    }
    with pytest.raises(ValueError, match=r"data\.words"):
        evaluate(two_categories, [Listening()], out=tmp_path / "out", resamples=10)


# What cannot be measured


@pytest.mark.parametrize(
    ("category", "missing", "note"),
    [
        ({"masks": False}, PIXEL, "defects without masks"),
        ({"good": 0}, ("auroc_px_debiased", *IMAGE), "no normal images"),
        ({"bad": 0}, (*PIXEL, *IMAGE), "no anomalous images; no defect pixels"),
    ],
)
def test_empty_cells_have_a_reason(tmp_path, category, missing, note):
    write_category(tmp_path / "data/odd", **category)
    write_category(tmp_path / "data/whole")
    dataset = load_dataset("folder", root=tmp_path / "data")
    table = evaluate(dataset, [Brightness(), Centre(2)], out=tmp_path / "out", resamples=5)
    odd, mean = (row_of(table, "brightness", name) for name in ("odd", "mean"))
    assert odd["note"] == note
    small = row_of(table, "centre", "whole")  # a map of 2 x 2 pixels
    assert small["note"] == "no defect pixels at the maps' size"
    for metric in (*PIXEL, *IMAGE):
        assert np.isnan(odd[metric]) == (metric in missing), metric
        assert mean[metric] > 0.9
    assert mean["note"] == "1 of 2 categories complete"


def test_shuffled_has_maps_and_no_image_scores(two_categories, tmp_path):
    methods = [Brightness(), Shuffled(Brightness())]
    table = evaluate(two_categories, methods, out=tmp_path / "out", resamples=10)
    for category in ("nut", "bolt", "mean"):
        row = row_of(table, "shuffled", category)
        assert row[list(IMAGE)].isna().all() and np.isnan(row["auroc_sp_lo"])
        assert row[list(PIXEL)].notna().all()
        assert row["note"] == "no image scores by this method"
        assert row_of(table, "brightness", category)["note"] == ""
    samples = list(two_categories.samples("nut"))
    maps = np.stack([np.asarray(sample.image.convert("L")) for sample in samples]) / 255
    by_hand = auroc(maps[[2, 3, 4, 0, 1]], np.stack([sample.mask for sample in samples]))
    assert row_of(table, "shuffled", "nut")["auroc_px"] == pytest.approx(by_hand)


def test_wrong_data_and_methods_are_refused(two_categories, tmp_path):
    out = tmp_path / "out"
    for detectors in ([], [Centre(8), Centre(9)]):
        with pytest.raises(ValueError, match=r"centre|\[\]"):
            evaluate(two_categories, detectors, out=out)
    save(np.zeros((5, 5), dtype=np.uint8), tmp_path / "plain/a.png")
    with pytest.raises(ValueError, match="'plain'"):  # without labels
        evaluate(load_dataset("folder", root=tmp_path / "plain"), [Brightness()], out=out)
    save(np.zeros((5, 5), dtype=np.uint8), two_categories.root / "nut/test/good/9.png")
    odd = load_dataset("folder", root=two_categories.root)
    with pytest.raises(ValueError, match=r"'nut' .*\(5, 5\), \(8, 10\)"):
        evaluate(odd, [Brightness()], out=out, resamples=5)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="file is a file"):
        evaluate(two_categories, [Brightness()], out=file)


# Going on


def spoil(two_categories) -> list[Path]:
    """A picture that is none, a mask of another size, and a picture cut short behind its header."""
    names = "nut/test/good/0", "bolt/ground_truth/spot/0_mask", "bolt/test/spot/1"
    none, odd, cut = (two_categories.root / f"{name}.png" for name in names)
    none.write_bytes(b"no picture")
    save(np.zeros((3, 3), dtype=np.uint8), odd)
    cut.write_bytes(cut.read_bytes()[:60])
    return [none, odd, cut]


def test_headers_are_read_before_any_work(two_categories, tmp_path):
    none, odd, cut = spoil(two_categories)
    with pytest.raises(ValueError, match="2 images") as error:
        evaluate(two_categories, [Brightness()], out=tmp_path / "out")
    assert str(none) in str(error.value) and str(odd) in str(error.value)
    assert str(cut) not in str(error.value) and not (tmp_path / "out").exists()


def test_a_later_failure_keeps_what_is_finished(two_categories, tmp_path):
    """As when a network drive fails; a file that is repaired costs its category alone."""
    out, detectors = tmp_path / "out", [Brightness(), Darkness()]
    expected = evaluate(two_categories, detectors, out=tmp_path / "whole")
    file = two_categories.root / "nut/test/spot/1.png"
    whole = file.read_bytes()
    save(np.random.default_rng(0).integers(0, 99, (8, 10), dtype=np.uint8), file)
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"spot/1\.png"):
        evaluate(two_categories, detectors, out=out)
    kept = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    assert {path.name for path in kept} == {"bolt, brightness.json", "bolt, darkness.json"}
    file.write_bytes(whole)
    pd.testing.assert_frame_equal(evaluate(two_categories, detectors, out=out), expected)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    records = [json.loads((path / "run.json").read_text()) for path in (out, tmp_path / "whole")]
    assert records[0] == records[1]
    file.write_bytes(whole[:60])
    with pytest.raises(ValueError, match=r"data_sha256\.nut"):  # its parts are finished now
        evaluate(two_categories, detectors, out=out)


@pytest.mark.parametrize("jobs", [1, 2])
def test_images_that_cannot_be_read_are_left_out_if_so_asked(two_categories, tmp_path, jobs):
    bad, given = spoil(two_categories), {"resamples": 10, "skip_unreadable": True, "jobs": jobs}
    detectors = [DifferenceOfGaussians(8), Centre(8)]
    for _ in range(2):  # the second goes on
        with pytest.warns(UserWarning, match="3 images") as said:
            table = evaluate(two_categories, detectors, out=tmp_path / "out", **given)
        assert all(str(file) in str(said[0].message) for file in bad)
    record = json.loads((tmp_path / "out/run.json").read_text())
    odd = ["bolt/test/spot/0.png", "bolt/test/spot/1.png"]
    assert record["skipped"] == {"bolt": odd, "nut": ["nut/test/good/0.png"]}
    for file in [*bad, *two_categories.root.glob("bolt/*/spot/[01]*.png")]:
        file.unlink(missing_ok=True)
    data = load_dataset("folder", root=two_categories.root)
    without = evaluate(data, detectors, out=tmp_path / "b", resamples=10)
    pd.testing.assert_frame_equal(table, without)


def test_categories_of_two_processes_with_images_left_out(two_categories, tmp_path):
    spoil(two_categories)
    for name in ("nut", "bolt"):
        data = load_dataset("folder", root=two_categories.root, categories=[name])
        with pytest.warns(UserWarning, match="cannot be read"):
            evaluate(data, [Centre(8)], out=tmp_path / "out", resamples=5, skip_unreadable=True)
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert set(record["skipped"]) == set(record["categories"]) == {"nut", "bolt"}
    for file in two_categories.root.glob("nut/test/*/*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="'nut'"):
        evaluate(two_categories, [Centre(8)], out=tmp_path / "none", skip_unreadable=True)


def test_each_file_is_decoded_once(tiny_clip, two_categories, tmp_path, monkeypatch):
    read = []
    for name in ("read_image", "read_mask"):
        original = getattr(dataset, name)
        monkeypatch.setattr(
            dataset,
            name,
            lambda path, original=original, **o: read.append(path) or original(path, **o),
        )
    data = load_dataset("folder", root=two_categories.root)
    methods = [make_detector(n, tiny_clip) for n in ("anovl", "shuffled", "dog", "winclip")]
    evaluate(data, methods, out=tmp_path / "out", resamples=5)
    assert len(read) == len(set(read)) == 12 + 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"size": 4}, "size"),
        ({"detectors": [Brightness()]}, "methods.centre"),
        ({"detectors": [Brightness(), Centre(4)]}, "methods.centre.image_size was 8, now 4"),
        ({"dataset": "touched"}, "data_sha256.nut"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(two_categories, tmp_path, change, message):
    options = {"detectors": [Brightness(), Centre(8)], "out": tmp_path / "out"}
    evaluate(two_categories, **options)
    if change.pop("dataset", None):
        save(np.zeros((8, 10), dtype=np.uint8), tmp_path / "data/nut/test/good/0.png")
    with pytest.raises(ValueError, match=message):
        evaluate(two_categories, **{**options, **change})


def test_another_commit_is_the_same_run_and_a_damaged_part_is_named(two_categories, tmp_path):
    given = {"out": tmp_path / "out", "resamples": 5}
    evaluate(two_categories, [Brightness()], **given)
    path = tmp_path / "out/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"git_revision": "another"}))
    evaluate(two_categories, [Brightness()], **given)
    (tmp_path / "out/parts/nut, brightness.json").write_text('{"row": {')
    with pytest.raises(ValueError, match=r"nut, brightness\.json"):
        evaluate(two_categories, [Brightness()], **given)


def test_a_part_is_whole_or_not_there_by_any_name(tmp_path, monkeypatch):
    folder, name = RunFolder.claim(tmp_path / "out", {}), "a/../b: c?, anovl"

    def out_of_power(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", out_of_power)
    with pytest.raises(KeyboardInterrupt):
        folder.keep(name, {"row": 1})
    assert not folder.has(name)
    monkeypatch.undo()
    folder.keep(name, {"row": 1})
    assert folder.has(name) and folder.read(name) == {"row": 1}
    assert folder.part(name).parent == folder.path / "parts"


def test_a_run_goes_on_with_another_batch_size(two_categories, tiny_clip, tmp_path):
    """On CUDA it follows the free memory, which may be another at the next start."""
    for size in (16, 2):
        method = make_detector("anovl", tiny_clip, level="word", batch_size=size)
        table = evaluate(two_categories, [method], out=tmp_path / "out", resamples=5)
        if size == 16:
            expected = table
            (tmp_path / "out/parts/nut, anovl.json").unlink()
    pd.testing.assert_frame_equal(table, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["results.csv", "groups.csv", "run.json"])
def test_files_of_no_run_are_not_replaced(two_categories, tmp_path, name):
    kept = tmp_path / "out" / name
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(ValueError, match=name):
        evaluate(two_categories, [Brightness()], out=tmp_path / "out")
    assert kept.read_text() == "mine"


def test_the_time_of_each_pair_is_in_a_file_of_its_own(two_categories, tmp_path):
    evaluate(two_categories, [Brightness(), Centre(8)], out=tmp_path / "out", size=(8, 10))
    assert "ms_per_image" not in (tmp_path / "out/results.csv").read_text()
    timing = read_timing(tmp_path / "out")
    assert list(timing.columns) == ["dataset", "level", "category", "method", "ms_per_image"]
    assert list(timing["category"]) == ["bolt", "bolt", "nut", "nut", "mean", "mean"]
    assert (timing["ms_per_image"] > 0).all()
    own, mean = (timing[timing["method"] == "centre"]["ms_per_image"].iloc[i] for i in ([0, 1], 2))
    assert mean == pytest.approx(own.mean(), abs=1e-5)
    with pytest.raises(FileNotFoundError, match=r"timing\.csv"):
        read_timing(tmp_path)


# Together


@pytest.mark.parametrize(
    ("options", "together", "alone"),  # passes of one image
    [({"views": 22}, 22 + 1, 22), ({"tiles": True}, 2 + 2, 2), ({}, 1 + 1, 1)],
    ids=str,
)
def test_methods_share_tokens_views_and_tiles(
    tiny_clip, two_categories, tmp_path, monkeypatch, options, together, alone
):
    """`anovl` and `clip` share views, not tokens. Threads and chunks change no bit."""
    names, seen = ("anovl", "anovl-tta", "shuffled", "clip"), []
    methods = [make_detector(n, tiny_clip, level="word", batch_size=3, **options) for n in names]
    conv1 = tiny_clip.model.visual.conv1
    hook = conv1.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    try:
        table = evaluate(two_categories, methods, out=tmp_path / "all", resamples=5, size=20)
        assert sum(seen) == 12 * together
        monkeypatch.setattr(reading, "CHUNK", 3)
        given = {"resamples": 5, "size": 20}
        for threads, method in enumerate(methods, start=1):
            seen.clear()
            out = tmp_path / method.name
            own = evaluate(two_categories, [method], out=out, threads=threads, **given)
            assert sum(seen) == 12 * alone
            found = table[table["method"] == method.name].reset_index(drop=True)
            pd.testing.assert_frame_equal(found, own, check_exact=True)
    finally:
        hook.remove()


CHILD = """
import os, sys, time
from dataclasses import dataclass
from anovl.baselines.controls import Centre, DifferenceOfGaussians
from anovl.data import load_dataset
from anovl.evaluation.harness import evaluate

@dataclass(frozen=True)
class Slow(DifferenceOfGaussians):
    name = "slow"
    def localize(self, images, category, *, size=None):
        if category == "grass" and "HANG" in os.environ:
            time.sleep(600)
        return super().localize(images, category, size=size)

categories, *outs = sys.argv[1:]
data = load_dataset("photos", categories=categories.split(), per_category=3, image_size=48)
for out in outs:
    evaluate(data, [Centre(32), Slow(32)], out=out, resamples=20)
"""


def test_two_processes_with_a_category_each_fill_one_folder(tmp_path):
    one, both = tmp_path / "one", tmp_path / "both"
    command = [sys.executable, "-c", CHILD]
    running = [subprocess.Popen([*command, name, str(both)]) for name in ("coins", "brick")]
    subprocess.run([*command, "brick coins", str(one)], check=True)
    assert [child.wait(timeout=300) for child in running] == [0, 0]
    assert (both / "results.csv").read_bytes() == (one / "results.csv").read_bytes()
    records = [json.loads((out / "run.json").read_text()) for out in (both, one)]
    assert records[0] == records[1]
    parts = [sorted(path.name for path in (out / "parts").iterdir()) for out in (both, one)]
    assert parts[0] == parts[1] and len(parts[0]) == 4


def test_killed_with_signal_nine_and_started_again_the_table_is_the_same(tmp_path):
    killed, unharmed = tmp_path / "killed", tmp_path / "unharmed"
    command = [sys.executable, "-c", CHILD, "brick grass", str(killed)]
    with subprocess.Popen(command, env=os.environ | {"HANG": "1"}) as child:
        deadline = time.monotonic() + 300
        while not (killed / "parts/grass, centre.json").exists():
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    parts = {path.name: path.read_bytes() for path in (killed / "parts").glob("*.json")}
    assert len(parts) == 3 and not (killed / "results.csv").exists()

    subprocess.run([*command, str(unharmed)], check=True)
    for name, content in parts.items():
        assert (killed / "parts" / name).read_bytes() == content, "a finished pair was run again"
    assert (killed / "results.csv").read_bytes() == (unharmed / "results.csv").read_bytes()
