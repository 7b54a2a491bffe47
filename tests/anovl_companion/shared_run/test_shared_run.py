"""The shared run: read back as it was measured, of the model and the code of today, and small."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from anovl import AnoVL, load_clip
from anovl.data import load_dataset
from anovl.evaluation.compare import compare_methods
from anovl.evaluation.metrics import auroc
from anovl.evaluation.results import HEADLINES, read_groups, read_results
from anovl.models.pocket import shipped_here
from anovl_companion.shared_run import make
from anovl_companion.shared_run.make import PER_CATEGORY, check_run
from anovl_companion.shared_run.measure import RESAMPLES, SEED, measure_run
from anovl_companion.shared_run.reader import (
    EVERY_METHOD,
    FOLDER,
    SharedRun,
    find_shared_run,
    read_shared_run,
)

CHEAP = ("anovl", "clip", "centre", "dog", "pca-normal")
MOST = 500_000  # bytes a model: 1 MB for both


@pytest.fixture(scope="module", name="clip")
def pocket_clip():
    return load_clip("pocket")


@pytest.fixture(scope="module", name="data")
def few_pictures():
    return load_dataset("pocket", categories=["wood", "gear"], per_category=10)


@pytest.fixture(scope="module", name="out")
def tiny_run(clip, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    measure_run(clip, data, out, methods=CHEAP, resamples=40)
    return out


@pytest.fixture(name="run")
def compact_run(out):
    return SharedRun(out / "compact")


# A tiny run, written and read back


@pytest.mark.parametrize("metric", HEADLINES)
def test_a_gain_and_its_interval_are_those_of_the_whole_run(out, run, metric):
    for ours, theirs in (("anovl", "clip"), ("dog", "centre")):
        want = compare_methods(out, metric, ours, theirs)
        gain, low, high = run.gain(ours, theirs, metric)
        assert gain == pytest.approx(want["ours"] - want["other"], abs=2e-6)
        assert (low, high) == pytest.approx((want["low"], want["high"]), abs=1e-4)
        wood = compare_methods(out, metric, ours, theirs, categories=["wood"])
        gain, low, high = run.gain(ours, theirs, metric, group="seen")
        assert gain == pytest.approx(wood["ours"] - wood["other"], abs=2e-6)
        assert (low, high) == pytest.approx((wood["low"], wood["high"]), abs=1e-4)


def test_means_and_intervals_are_those_of_its_own_tables(run):
    means = read_results(run.path).query("level == 'mean'").set_index("method")
    groups = read_groups(run.path).set_index(["category", "method"])
    for method in run.methods.values():
        for table, group in ((means.loc[method], None), (groups.loc["seen", method], "seen")):
            found = run.measured(method.split(" (")[0], group=group)
            for metric in HEADLINES:
                assert found.mean(metric) == pytest.approx(table[metric], abs=2e-6)
                ends = table[f"{metric}_lo"], table[f"{metric}_hi"]
                assert found.interval(metric) == pytest.approx(ends, abs=1e-4)


def test_values_of_images_give_the_image_auroc_of_their_category(run, data):
    images = run.images()
    assert len(images) == 40 * len(CHEAP)
    rows = read_results(run.path).query("level == 'category'").set_index(["category", "method"])
    for pair, own in images.groupby(["category", "method"]):
        found = auroc(own["score"].to_numpy(), (own["kind"] != "good").to_numpy())
        assert found == pytest.approx(rows.loc[pair, "auroc_sp"], abs=1e-6)
    normal = images["kind"] == "good"
    assert images.loc[normal, ["area", "auroc_px"]].isna().all(axis=None)
    assert images.loc[~normal, ["area", "auroc_px"]].notna().all(axis=None)
    masks = [sample.mask for sample in data.samples("wood") if sample.label]
    ours = images.query("method == 'anovl' and category == 'wood' and kind != 'good'")
    assert ours["area"].tolist() == pytest.approx([mask.mean() for mask in masks], abs=1e-4)


def test_the_values_of_an_image_are_of_its_own_map(run, clip, data):
    sample = list(data.samples("wood"))[-1]
    row = run.images().query("method == 'anovl' and category == 'wood'").iloc[-1]
    found = AnoVL(clip)(sample.image, "wood")
    assert row["kind"] == sample.kind
    assert row["score"] == pytest.approx(found.score, abs=1e-5)
    assert row["auroc_px"] == pytest.approx(auroc(found.map, sample.mask), abs=2e-4)


def test_a_killed_run_goes_on_and_finished_parts_stay(out, clip, data, run):
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    parts = sorted((out / "parts").iterdir())
    parts[0].unlink()
    times = [part.stat().st_mtime_ns for part in parts[1:]]
    again = measure_run(clip, data, out, methods=CHEAP, resamples=40)
    assert [part.stat().st_mtime_ns for part in parts[1:]] == times
    assert {file.name: file.read_bytes() for file in again.path.iterdir()} == before


def test_it_is_of_one_model_one_data_set_and_one_code(run, clip, data, tmp_path, tiny_clip):
    record = json.loads((run.path / "run.json").read_text())
    assert run.differences(clip, data) == []
    more = load_dataset("pocket", categories=["wood", "gear"], per_category=3)
    other = load_dataset("pocket", categories=["wood", "gear"], per_category=2, seed=1)
    assert "other data" in run.differences(clip, more)
    assert "other data" in run.differences(clip, other)
    assert "other data" in run.differences(clip, load_dataset("pocket", per_category=2))
    assert "other model" in run.differences(tiny_clip, data)
    (tmp_path / "run.json").write_text(json.dumps(record | {"code_sha256": "0"}))
    assert SharedRun(tmp_path).differences(clip, data) == ["other code"]


def test_unknown_names_are_errors(run):
    with pytest.raises(ValueError, match=r"'anovk'.*'anovl'"):
        run.measured("anovk")
    with pytest.raises(ValueError, match=r"'sen'.*'seen'"):
        run.measured("anovl", group="sen")
    with pytest.raises(FileNotFoundError, match="pocket-9"):
        read_shared_run("pocket-9")


def copied(run: SharedRun, folder: Path) -> SharedRun:
    shutil.copytree(run.path, folder)
    return SharedRun(folder)


def test_a_check_finds_numbers_that_are_not_as_committed(run, clip, tmp_path):
    options = {"category": "wood", "methods": ("dog", "clip")}
    few = "pocket: other data"  # the tiny run has two categories only
    assert check_run(run, clip, tmp_path / "new", **options) == [few]
    changed = copied(run, tmp_path / "changed")
    table = read_results(changed.path)
    table.loc[(table["category"] == "wood") & (table["method"] == "dog"), "aupro"] += 0.01
    table.to_csv(changed.path / "results.csv", index=False)
    differs = check_run(changed, clip, tmp_path / "new", **options)
    assert [what.split(" is ")[0] for what in differs] == [few, "wood, dog: aupro"]


# The one that is committed


@pytest.mark.parametrize("model", shipped_here())
def test_every_model_that_ships_has_one_by_its_weights_and_the_code_of_today(model):
    clip, data = load_clip(model), load_dataset("pocket", seed=SEED, per_category=PER_CATEGORY)
    run = find_shared_run(clip, data)
    assert run is not None, (
        f"{read_shared_run(model).differences(clip, data)}: "
        "make reproduce measures a category anew, and where it agrees writes down the code of "
        "today; make run measures all anew"
    )
    assert list(run.methods) == list(EVERY_METHOD)
    assert run.record["resamples"] == RESAMPLES
    assert sum(file.stat().st_size for file in run.path.iterdir()) < MOST
    notes = read_results(run.path).groupby("method")["note"].unique()
    assert {name: said.tolist() for name, said in notes.items() if said.tolist() != [""]} == {
        "shuffled": ["no image scores by this method"]
    }
    images = run.images()
    assert len(images) == 20 * 2 * PER_CATEGORY * len(EVERY_METHOD)


@pytest.mark.parametrize("model", shipped_here())
def test_a_model_that_ships_matches_pictures_with_words_and_localizes_above_controls(model):
    methods = ("clip", "anovl", "centre", "shuffled")
    means = {name: read_shared_run(model).measured(name).mean for name in methods}
    assert means["anovl"]("auroc_sp") >= 0.80
    debiased = "auroc_px_debiased"
    assert means["anovl"](debiased) >= means["clip"](debiased) + 0.10
    for metric in (debiased, "aupro"):
        assert means["anovl"](metric) > max(means[name](metric) for name in methods[2:])


def test_nothing_else_is_beside_them():
    files = {"run.json", "results.csv", "groups.csv", "images.csv", "replicates.csv"}
    folders = [path for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"]
    found = {folder.name: {file.name for file in folder.iterdir()} for folder in folders}
    assert found == dict.fromkeys(shipped_here(), files)


@pytest.mark.parametrize("model", shipped_here())
def test_a_part_measured_now_is_as_committed(model, tmp_path):
    methods = ("clip", "anovl", "outlier")
    run = read_shared_run(model)
    assert check_run(run, load_clip(model), tmp_path, category="gear", methods=methods) == []


def test_a_run_that_agrees_records_the_code_of_today(clip, tmp_path, monkeypatch):
    data = load_dataset("pocket", categories=["wood"], per_category=1)
    run = measure_run(clip, data, tmp_path, methods=["clip"], resamples=5)
    record = json.loads((run.path / "run.json").read_text())
    stale = copied(run, tmp_path / "stale")
    (stale.path / "run.json").write_text(json.dumps(record | {"code_sha256": "0"}))
    monkeypatch.setattr(make, "load_dataset", lambda name, **_: data)
    monkeypatch.setattr(make, "shipped_here", lambda: ["pocket"])
    monkeypatch.setattr(make, "read_shared_run", lambda name: SharedRun(stale.path))
    assert make.check_runs() == []
    assert json.loads((stale.path / "run.json").read_text()) == record
    (stale.path / "run.json").write_text(json.dumps(record | {"device": "cuda"}))
    assert make.check_runs() == ["pocket: other device"]
