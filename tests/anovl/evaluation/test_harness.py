"""One table from many runs: right numbers, empty cells with a reason, and no harm from a kill."""

from __future__ import annotations

import importlib
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
from anovl.data import load_dataset
from anovl.data.published import Words
from anovl.detector import AnoVL, Detector, Localization
from anovl.evaluation import reading
from anovl.evaluation.harness import UnreadWarning, evaluate
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
        assert best["aupro_lo"] == pytest.approx(1) and worst["auroc_sp_hi"] == 0
        assert best["note"] == ""


def test_the_row_of_means_averages_categories_not_images(two_categories, tmp_path):
    table = evaluate(two_categories, [DifferenceOfGaussians(8)], out=tmp_path / "out", size=(8, 10))
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
    data = load_dataset("pocket", categories=categories, per_category=2, image_size=32)
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
    with pytest.raises(FileNotFoundError, match="has no groups"):
        read_groups(tmp_path)


def test_a_single_image_of_a_kind_gives_no_interval(tmp_path):
    for count in (1, 2):
        options = {"categories": ["wood", "tile"][:count], "per_category": count}
        data = load_dataset("pocket", **options, image_size=32)
        table = evaluate(data, [DifferenceOfGaussians(32)], out=tmp_path / str(count), resamples=9)
        low = table[[f"{metric}_lo" for metric in HEADLINES]]
        assert table[list(HEADLINES)].notna().all(axis=None)
        assert low.isna().all(axis=None) if count == 1 else low.notna().all(axis=None)
        assert set(table["note"]) == ({"one normal image"} if count == 1 else {""})


def test_a_mean_has_an_interval_where_all_that_it_averages_have_one(two_categories, tmp_path):
    for file in two_categories.root.glob("nut/test/spot/*.png"):
        if file.stem != "1":
            file.unlink()
    data = load_dataset("folder", root=two_categories.root)
    table = evaluate(data, [DifferenceOfGaussians(8)], out=tmp_path / "out")
    bolt, nut, mean = (row_of(table, "dog", name) for name in ("bolt", "nut", "mean"))
    assert nut["n_anomalous"] == 1 and mean["aupro"] == pytest.approx(
        (bolt["aupro"] + nut["aupro"]) / 2
    )
    assert not np.isnan(bolt["aupro_lo"])
    assert np.isnan([nut["aupro_lo"], mean["aupro_lo"]]).all()
    assert missing_numbers(table) == ["no intervals of nut: one anomalous image"]


def test_a_fixed_map_earns_nothing_once_position_is_removed(two_categories, tmp_path):
    row = row_of(evaluate(two_categories, [Centre(8)], out=tmp_path / "out"), "centre", "nut")
    assert row["auroc_px_debiased"] == row["auroc_sp"] == 0.5
    assert row["auroc_px_debiased_lo"] == row["auroc_px_debiased_hi"] == 0.5


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


def test_the_precision_of_a_model_decides_a_run(tiny_clip, two_categories):
    low = replace(tiny_clip, precision="bfloat16")
    own, theirs = (describe_run(two_categories, [AnoVL(clip)]) for clip in (tiny_clip, low))
    assert {key for key in own if own[key] != theirs[key]} == {"precision"}
    assert theirs["precision"] == {"anovl": "bfloat16"}


def test_the_code_of_the_methods_decides_a_run_too(two_categories):
    own, theirs = (describe_run(two_categories, [method]) for method in (Brightness(), Centre(8)))
    assert own["code_sha256"] != theirs["code_sha256"]


def test_results_do_not_depend_on_how_many_images_are_in_memory(
    two_categories, tmp_path, monkeypatch
):
    methods = [DifferenceOfGaussians(8), Shuffled(DifferenceOfGaussians(8))]
    table = evaluate(two_categories, methods, out=tmp_path / "a")
    monkeypatch.setattr(reading, "CHUNK", 2)
    again = evaluate(two_categories, methods, out=tmp_path / "b")
    pd.testing.assert_frame_equal(table, again)


@pytest.mark.filterwarnings("ignore:.*has not the test images of")
def test_prompts_have_the_words_of_a_category_that_has_words(miniature, tmp_path):
    seen = []

    class Listening(Brightness):
        def localize(self, images, category, *, size=None):
            seen.append(category)
            return super().localize(images, category, size=size)

    dataset = load_dataset("btad", miniature("btad"), categories=["02"])
    table = evaluate(dataset, [Listening()], out=tmp_path / "out")
    assert [prompts.anomalous[0] for prompts in seen] == [
        "a cropped industrial photo of the damaged industrial product"
    ]
    assert list(table["category"]) == ["02", "mean"]
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["data"]["words"] == {"02": ["industrial product", "object"]}


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
    with pytest.raises(ValueError, match="holds another run"):
        evaluate(two_categories, [Listening()], out=tmp_path / "out", resamples=10)
    with pytest.raises(ValueError, match="unknown category of folder: 'nutt'"):
        two_categories.with_words({"nutt": Words("nut")})


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
    table = evaluate(dataset, [Brightness()], out=tmp_path / "out")
    odd, mean = (row_of(table, "brightness", name) for name in ("odd", "mean"))
    assert odd["note"] == note
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


def test_defects_too_small_for_the_map(tmp_path):
    write_category(tmp_path / "nut")
    dataset = load_dataset("folder", root=tmp_path / "nut")
    table = evaluate(dataset, [Centre(2)], out=tmp_path / "out")
    assert row_of(table, "centre", "nut")["note"] == "no defect pixels at the maps' size"


def test_maps_of_different_shapes_need_a_size(tmp_path):
    write_category(tmp_path / "nut")
    save(np.zeros((5, 5), dtype=np.uint8), tmp_path / "nut/test/good/9.png")
    dataset = load_dataset("folder", root=tmp_path / "nut")
    with pytest.raises(ValueError, match=r"'nut' have the shapes \[\(5, 5\), \(8, 10\)\]: give"):
        evaluate(dataset, [Brightness()], out=tmp_path / "out")


def test_images_without_labels_are_refused(tmp_path):
    save(np.zeros((5, 5), dtype=np.uint8), tmp_path / "plain/a.png")
    dataset = load_dataset("folder", root=tmp_path / "plain")
    with pytest.raises(ValueError, match=r"'plain' have no labels.* or use localize"):
        evaluate(dataset, [Brightness()], out=tmp_path / "out")


def test_detectors_need_different_names(two_categories, tmp_path):
    for detectors in ([], [Centre(8), Centre(9)]):
        with pytest.raises(ValueError, match="expected detectors with different names"):
            evaluate(two_categories, detectors, out=tmp_path / "out")


# Going on


def test_a_finished_pair_is_not_run_again(two_categories, tmp_path, monkeypatch):
    first = evaluate(two_categories, [Brightness()], out=tmp_path / "out")
    (tmp_path / "out/parts/nut, brightness.json").unlink()
    categories = set()
    localize = Brightness.localize

    def watched(self, images, category, **options):
        categories.add(category)
        return localize(self, images, category, **options)

    monkeypatch.setattr(Brightness, "localize", watched)
    again = evaluate(two_categories, [Brightness()], out=tmp_path / "out")
    assert categories == {"nut"}
    pd.testing.assert_frame_equal(first, again)


@pytest.mark.parametrize("lost", ["read_image", "hash_file"])
def test_a_picture_that_could_not_be_read_is_read_by_the_next_start(
    two_categories, tmp_path, monkeypatch, lost
):
    """As when a network drive fails: while the pictures are read, or from the very beginning on."""
    out, detectors = tmp_path / "out", [Brightness(), Darkness()]
    whole = evaluate(two_categories, detectors, out=tmp_path / "whole")
    for name in {"read_image", lost}:
        fail_for(monkeypatch, f"anovl.data.dataset.{name}", "nut/test/spot/1.png", 2)
    with pytest.warns(UnreadWarning, match="1 image left out: .*spot/1.png"):
        first = evaluate(two_categories, detectors, out=out)
    assert row_of(first, "brightness", "nut")["note"] == "one anomalous image; 1 unreadable"
    parts = {path: path.stat().st_mtime_ns for path in (out / "parts").glob("bolt*")}
    with pytest.warns(UnreadWarning):  # it fails a second time: the same result
        pd.testing.assert_frame_equal(evaluate(two_categories, detectors, out=out), first)
    pd.testing.assert_frame_equal(evaluate(two_categories, detectors, out=out), whole)
    assert all(path.stat().st_mtime_ns == when for path, when in parts.items())
    assert RunFolder(out).unread() == []
    records = [json.loads((path / "run.json").read_text()) for path in (out, tmp_path / "whole")]
    assert records[0] == records[1]


def fail_for(monkeypatch, function: str, file: str, times: int) -> None:
    """Let a function that reads files fail so often for one of them."""
    package, _, name = function.rpartition(".")
    reads, left = getattr(importlib.import_module(package), name), iter(range(times))

    def flaky(path, *arguments, **options):
        if Path(path).as_posix().endswith(file) and next(left, None) is not None:
            raise OSError(f"{path}: the network is down")
        return reads(path, *arguments, **options)

    monkeypatch.setattr(function, flaky)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"size": 4}, "size was null, now 4"),
        ({"detectors": [Brightness()]}, r"methods.centre.* now null"),
        ({"detectors": [Brightness(), Centre(4)]}, "methods.centre.image_size was 8, now 4"),
        ({"dataset": "touched"}, "data_sha256.nut was"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(two_categories, tmp_path, change, message):
    options = {"detectors": [Brightness(), Centre(8)], "out": tmp_path / "out"}
    evaluate(two_categories, **options)
    if change.pop("dataset", None):
        save(np.zeros((8, 10), dtype=np.uint8), tmp_path / "data/nut/test/good/0.png")
    with pytest.raises(ValueError, match=f"holds another run .*{message}.*choose another folder"):
        evaluate(two_categories, **{**options, **change})


def test_a_picture_that_is_mended_costs_its_category_alone(two_categories, tmp_path):
    out, detectors = tmp_path / "out", [Brightness(), Darkness()]
    expected = evaluate(two_categories, detectors, out=tmp_path / "whole")
    file = tmp_path / "data/nut/test/spot/1.png"
    whole = file.read_bytes()
    file.write_bytes(b"no picture")
    with pytest.warns(UnreadWarning, match="1 image left out"):
        evaluate(two_categories, detectors, out=out)
    kept = {path: path.stat().st_mtime_ns for path in (out / "parts").glob("bolt*")}
    file.write_bytes(whole)
    pd.testing.assert_frame_equal(evaluate(two_categories, detectors, out=out), expected)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    records = [json.loads((path / "run.json").read_text()) for path in (out, tmp_path / "whole")]
    assert records[0] == records[1]
    file.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"data_sha256\.nut was"):  # its parts are finished now
        evaluate(two_categories, detectors, out=out)


def test_a_spoilt_part_is_named(two_categories, tmp_path):
    evaluate(two_categories, [Brightness()], out=tmp_path / "out", resamples=5)
    part = tmp_path / "out/parts/nut, brightness.json"
    part.write_text('{"row": {')
    with pytest.raises(ValueError, match=r"nut, brightness.json is spoilt .*: delete it, and run"):
        evaluate(two_categories, [Brightness()], out=tmp_path / "out", resamples=5)


def test_a_run_goes_on_with_another_batch_size(two_categories, tiny_clip, tmp_path):
    """On CUDA it follows the free memory, which may be another at the next start."""
    for size in (16, 2):
        method = make_detector("anovl", tiny_clip, level="word", batch_size=size)
        table = evaluate(two_categories, [method], out=tmp_path / "out", resamples=5)
        if size == 16:
            expected = table
            (tmp_path / "out/parts/nut, anovl.json").unlink()
    pd.testing.assert_frame_equal(table, expected, atol=1e-4)


def test_a_commit_in_between_is_no_other_run(two_categories, tmp_path):
    evaluate(two_categories, [Brightness()], out=tmp_path / "out")
    path = tmp_path / "out/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"git_revision": "another"}))
    evaluate(two_categories, [Brightness()], out=tmp_path / "out")


@pytest.mark.parametrize("name", ["results.csv", "timing.csv", "groups.csv", "run.json"])
def test_files_of_no_run_are_not_replaced(two_categories, tmp_path, name):
    kept = tmp_path / "out" / name
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(ValueError, match=rf"{name} .*is not of a run: choose another folder"):
        evaluate(two_categories, [Brightness()], out=tmp_path / "out")
    assert kept.read_text() == "mine"


def test_half_a_file_is_never_taken_for_a_part(tmp_path, monkeypatch):
    folder = RunFolder.claim(tmp_path / "out", {})

    def out_of_power(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", out_of_power)
    with pytest.raises(KeyboardInterrupt):
        folder.keep("a part", {"row": 1})
    assert not folder.has("a part")
    monkeypatch.undo()
    folder.keep("a part", {"row": 1})
    assert folder.has("a part") and folder.read("a part") == {"row": 1}


def test_names_that_are_no_file_names(tmp_path):
    folder = RunFolder.claim(tmp_path / "out", {})
    folder.keep("a/../b: c?, anovl", 1)
    assert folder.read("a/../b: c?, anovl") == 1
    assert [path.parent for path in folder.path.rglob("*.json")] == [
        *(folder.path, folder.path / "parts")
    ]


def test_a_file_is_no_folder_for_results(two_categories, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="out is a file; give a folder"):
        evaluate(two_categories, [Brightness()], out=tmp_path / "out")


def test_the_time_of_each_pair_is_in_a_file_of_its_own(two_categories, tmp_path):
    evaluate(two_categories, [Brightness(), Centre(8)], out=tmp_path / "out", size=(8, 10))
    assert "ms_per_image" not in (tmp_path / "out/results.csv").read_text()
    timing = read_timing(tmp_path / "out")
    assert list(timing.columns) == ["dataset", "level", "category", "method", "ms_per_image"]
    assert list(timing["category"]) == ["bolt", "bolt", "nut", "nut", "mean", "mean"]
    assert (timing["ms_per_image"] > 0).all()
    own, mean = (timing[timing["method"] == "centre"]["ms_per_image"].iloc[i] for i in ([0, 1], 2))
    assert mean == pytest.approx(own.mean(), abs=1e-5)
    with pytest.raises(FileNotFoundError, match="the run is unfinished"):
        read_timing(tmp_path)


# Together


def test_methods_of_one_model_share_tokens_views_and_prompts(tiny_clip, two_categories, tmp_path):
    names = ("anovl", "anovl-tta", "shuffled", "clip")
    methods = [make_detector(n, tiny_clip, level="word", views=22) for n in names]
    seen = []
    hook = tiny_clip.model.visual.conv1.register_forward_hook(
        lambda module, inputs, output: seen.append(len(output))
    )
    try:
        together = evaluate(two_categories, methods, out=tmp_path / "all", resamples=5)
        assert sum(seen) == 12 * (22 + 1)  # 12 images: both paths and 21 views; then q-k of "clip"
        seen.clear()
        alone = [
            evaluate(two_categories, [method], out=tmp_path / method.name, resamples=5)
            for method in methods
        ]
        assert sum(seen) == 4 * 12 * 22
    finally:
        hook.remove()
    for method, table in zip(methods, alone, strict=True):
        own = together[together["method"] == method.name].reset_index(drop=True)
        pd.testing.assert_frame_equal(own, table, check_exact=True)


def test_tiles_are_shared_too(tiny_clip, two_categories, tmp_path):
    names = ("anovl", "anovl-tta", "shuffled")
    methods = [make_detector(n, tiny_clip, level="word", tiles=True) for n in names]
    seen = []
    hook = tiny_clip.model.visual.conv1.register_forward_hook(
        lambda module, inputs, output: seen.append(len(output))
    )
    try:
        evaluate(two_categories, methods, out=tmp_path / "all", resamples=5)
    finally:
        hook.remove()
    assert sum(seen) == 12 * 2


@pytest.mark.parametrize("threads", [1, 5])
def test_the_number_of_threads_changes_no_byte(tiny_clip, two_categories, tmp_path, threads):
    methods = [make_detector(n, tiny_clip, level="word") for n in ("anovl-tta", "winclip")]
    methods += [make_detector("dog", tiny_clip)]
    evaluate(two_categories, methods, out=tmp_path / "own", resamples=5)
    evaluate(two_categories, methods, out=tmp_path / "other", resamples=5, threads=threads)
    own, other = ((tmp_path / name / "results.csv").read_bytes() for name in ("own", "other"))
    assert own == other


ONE_CATEGORY = """
import sys
from anovl.baselines.controls import Centre, DifferenceOfGaussians
from anovl.data import load_dataset
from anovl.evaluation.harness import evaluate

out, *categories = sys.argv[1:]
data = load_dataset("photos", categories=categories, per_category=2, image_size=48)
evaluate(data, [Centre(32), DifferenceOfGaussians(32)], out=out, resamples=20)
"""


def test_two_processes_with_a_category_each_fill_one_folder(tmp_path):
    one, both = tmp_path / "one", tmp_path / "both"
    command = [sys.executable, "-c", ONE_CATEGORY]
    running = [subprocess.Popen([*command, str(both), name]) for name in ("coins", "brick")]
    subprocess.run([*command, str(one), "brick", "coins"], check=True)
    assert [child.wait(timeout=300) for child in running] == [0, 0]
    assert (both / "results.csv").read_bytes() == (one / "results.csv").read_bytes()
    records = [json.loads((out / "run.json").read_text()) for out in (both, one)]
    assert records[0] == records[1]
    parts = [sorted(path.name for path in (out / "parts").iterdir()) for out in (both, one)]
    assert parts[0] == parts[1] and len(parts[0]) == 4


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

data = load_dataset("photos", categories=["brick", "grass"], per_category=3, image_size=48)
for out in sys.argv[1:]:
    evaluate(data, [Centre(32), Slow(32)], out=out, resamples=20)
"""


def test_killed_with_signal_nine_and_started_again_the_table_is_the_same(tmp_path):
    killed, unharmed = tmp_path / "killed", tmp_path / "unharmed"
    command = [sys.executable, "-c", CHILD, str(killed)]
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
