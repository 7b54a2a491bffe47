"""The shared run: read back as it was measured, of the model and the code of today, and small."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from anovl import AnoVL, load_clip
from anovl.data import load_dataset
from anovl.evaluation.compare import compare_methods
from anovl.evaluation.metrics import auroc
from anovl.evaluation.results import HEADLINES, read_groups, read_results
from anovl.models.pocket import shipped_here
from anovl.world.scenes import draw_scene
from anovl_companion.measure.ablation import maps_of
from anovl_companion.measure.category import Category
from anovl_companion.shared_run import make
from anovl_companion.shared_run.make import PER_CATEGORY, check_run
from anovl_companion.shared_run.measure import PART_RESAMPLES, RESAMPLES, SEED, measure_run
from anovl_companion.shared_run.parts import PARTS
from anovl_companion.shared_run.reader import (
    EVERY_METHOD,
    FOLDER,
    SharedRun,
    find_shared_run,
    holds,
    judged,
    read_shared_run,
)

CHEAP = ("anovl", "clip", "centre", "dog", "pca-normal")
OPTIONS = {"methods": CHEAP, "parts": ("attention", "words"), "resamples": 40, "part_resamples": 30}
MOST = 1_400_000  # bytes a model


@pytest.fixture(scope="module", name="clip")
def pocket_clip():
    return load_clip("pocket")


@pytest.fixture(scope="module", name="data")
def few_pictures():
    return load_dataset("pocket", categories=["wood", "gear"], per_category=10)


@pytest.fixture(scope="module", name="out")
def tiny_run(clip, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    measure_run(clip, data, out, **OPTIONS)
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
    y, x = np.unravel_index(found.map.argmax(), found.map.shape)
    distance = min(np.hypot(y - row, x - column) for row, column in np.argwhere(sample.mask))
    assert row["distance"] == pytest.approx(distance, abs=0.051)


# Tables of parts


def test_a_table_has_what_direct_calls_give(run, clip, data):
    category = Category.read(clip, data, "gear")
    maps = {
        "q-k": maps_of(category.encoded("qk"), category.text),
        "v-v from 3": maps_of(category.encoded("vv", 3), category.text),
    }
    rows = run.table("attention").rows.set_index(["category", "variant"])
    for name, own in maps.items():
        pooled = roc_auc_score(category.truth.ravel(), own.ravel())
        assert rows.loc[("gear", name), "auroc_px"] == pytest.approx(pooled, abs=1e-6)
        single = [
            roc_auc_score(truth.ravel(), one.ravel())
            for one, truth in zip(own[10:], category.truth[10:], strict=True)
        ]
        images = run.images("attention").query("category == 'gear' and variant == @name")
        assert images["auroc_px"].tolist() == pytest.approx(single, abs=6e-5)


def test_methods_and_parts_agree_where_they_measure_the_same(run):
    for metric in ("auroc_px", "auroc_px_debiased", "aupro", "within", "near_defect"):
        same = run.value("anovl", metric)[0], run.value("v-v from 1", metric, table="attention")[0]
        assert same[0] == pytest.approx(same[1], abs=1e-5), metric
    word = run.value("domains", "auroc_sp", table="words")[0]
    assert word == pytest.approx(run.value("anovl", "auroc_sp")[0], abs=1e-6)


@pytest.mark.parametrize("group", [None, "seen"])
def test_gains_are_differences_of_means_with_the_interval_of_their_draws(run, group):
    rows = run.table("words").rows
    rows = rows[rows["category"].isin(["wood"] if group else ["wood", "gear"])]
    by = rows.groupby("variant")["aupro"].mean()
    gain, low, high = run.gain("word", "domains", "aupro", table="words", group=group)
    assert gain == pytest.approx(by["word"] - by["domains"], abs=2e-6)
    ours, theirs = (
        run.measured(one, table="words", group=group).replicates["aupro"]
        for one in ("word", "domains")
    )
    assert len(ours) == OPTIONS["part_resamples"]
    assert (low, high) == pytest.approx(np.quantile(ours - theirs, [0.025, 0.975]))


def test_values_of_single_pictures_are_averaged_within_categories(run):
    for table, ours, theirs in (("methods", "anovl", "clip"), ("attention", "v-v from 1", "q-k")):
        images = run.images(table)
        name = "method" if table == "methods" else "variant"
        means = images.groupby([name, "category"])["auroc_px"].mean().groupby(name).mean()
        gain, low, high = run.gain(ours, theirs, "within", table=table)
        assert gain == pytest.approx(means[ours] - means[theirs]) and low <= gain <= high
        near = images[images["auroc_px"].notna()].assign(near=images["distance"] <= 8)
        share = near.groupby([name, "category"])["near"].mean().groupby(name).mean()
        assert run.value(ours, "near_defect", table=table)[0] == pytest.approx(share[ours])
        values = images.pivot(index=["category", "image"], columns=name, values="auroc_px").dropna()
        better, worse, of = run.pictures_better(ours, theirs, table=table)
        assert (better, worse, of) == (
            (values[ours] > values[theirs]).sum(),
            (values[ours] < values[theirs]).sum(),
            20,
        )


@pytest.mark.parametrize("kinds", [("good", "bad"), ("good",)], ids=["no masks", "all normal"])
def test_what_cannot_be_measured_is_nan_and_not_an_error(clip, tmp_path, kinds):
    for kind in kinds:
        (tmp_path / "wood/test" / kind).mkdir(parents=True)
        for seed in (1, 2):
            picture = draw_scene("wood", seed=seed, kind="crack" if kind == "bad" else "good").image
            Image.fromarray(picture).save(tmp_path / f"wood/test/{kind}/{seed}.png")
    data = load_dataset("folder", tmp_path)
    run = measure_run(clip, data, tmp_path / "out", methods=["anovl", "clip"], resamples=20)
    for metric in ("aupro", "within", "near_defect"):
        assert judged(*run.gain("anovl", "clip", metric)) == "not measured"
    found = run.value("anovl", "auroc_sp")
    assert np.isfinite(found).all() if len(kinds) == 2 else np.isnan(found).all()
    assert len(run.images()) == 2 * 2 * len(kinds)


def test_a_fact_of_a_category_has_no_interval(run):
    names = [f"span of 0.02, {one}" for one in ("bfloat16", "float32")]
    few, many = (run.value(name, "levels", table="words") for name in names)
    assert 2 <= few[0] <= 10 < many[0] and np.isnan(few[1:]).all()
    assert np.isnan(run.gain(*names, "levels", table="words")[1:]).all()


@pytest.mark.parametrize(
    ("ask", "named"),
    [
        (lambda run: run.gain("anovl", "clip", "au_pro"), ["au_pro", "aupro", "within"]),
        (lambda run: run.measured("anovk"), ["anovk", "anovl"]),
        (lambda run: run.measured("anovl", group="sen"), ["'sen'", "seen"]),
        (lambda run: run.value("q-k", "levels", table="attention"), ["levels", "own_value"]),
        (lambda run: run.images("attn"), ["attn", "attention", "words"]),
        (lambda run: run.value("word", "aupro", table="tta"), ["tta", "methods"]),
    ],
)
def test_what_is_not_there_is_an_error_that_names_what_is(run, ask, named):
    with pytest.raises(KeyError) as error:
        ask(run)
    assert all(name in str(error.value) for name in named)


# What may be said


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.0021, 0.3, "above"),
        (0.0019, 0.3, "not told apart"),
        (-0.3, -0.0021, "below"),
        (-0.009, 0.01, "equal"),
        (-0.011, 0.01, "not told apart"),
        (0.0019, 0.01, "equal"),
        (float("nan"), 0.1, "not measured"),
    ],
)
def test_a_word_needs_an_interval_that_allows_it(low, high, word):
    assert judged((low + high) / 2, low, high) == word


class Said:
    """A run that gives one gain for all that it is asked."""

    def __init__(self, *gain):
        self.answer = gain

    def gain(self, *names, **where):
        return self.answer


def test_a_finding_holds_only_where_every_model_says_the_same():
    above, doubtful = Said(0.1, 0.05, 0.2), Said(0.1, -0.05, 0.2)
    asked = ("anovl", "clip", "aupro")
    assert holds(*asked, runs=[above, above]) and holds(*asked, runs=[above])
    assert not holds(*asked, runs=[above, doubtful])
    assert not holds(*asked, runs=[above], says="equal") and not holds(*asked, runs=[])
    assert holds(*asked, runs=[doubtful], says="not told apart")


def test_a_killed_run_goes_on_and_finished_parts_stay(out, clip, data, run):
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    parts = sorted((out / "parts").iterdir())
    parts[0].unlink()
    times = [part.stat().st_mtime_ns for part in parts[1:]]
    part = out / "words" / "parts" / "wood, words.json"
    part.unlink()
    again = measure_run(clip, data, out, **OPTIONS)
    assert part.is_file()
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


def test_a_model_without_a_run_is_an_error():
    with pytest.raises(FileNotFoundError, match="pocket-9"):
        read_shared_run("pocket-9")


def copied(run: SharedRun, folder: Path) -> SharedRun:
    shutil.copytree(run.path, folder)
    return SharedRun(folder)


def test_a_check_finds_numbers_that_are_not_as_committed(run, clip, tmp_path):
    options = {"category": "wood", "methods": ("dog", "clip"), "parts": ["attention"]}
    few = "pocket: other data"  # the tiny run has two categories only
    assert check_run(run, clip, tmp_path / "new", **options) == [few]
    changed = copied(run, tmp_path / "changed")
    table = read_results(changed.path)
    table.loc[(table["category"] == "wood") & (table["method"] == "dog"), "aupro"] += 0.01
    table.to_csv(changed.path / "results.csv", index=False)
    file = changed.path / "attention.csv"
    table = pd.read_csv(file)
    table.loc[(table["category"] == "wood") & (table["variant"] == "q-k"), "ap_px"] += 0.01
    table.to_csv(file, index=False)
    differs = check_run(changed, clip, tmp_path / "new", **options)
    found = [what.split(" is ")[0] for what in differs]
    assert found == [few, "wood, dog: aupro", "wood, q-k: ap_px"]


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
    assert list(run.record["parts"]) == list(PARTS)
    assert run.record["resamples"] == RESAMPLES
    assert run.record["part_resamples"] == PART_RESAMPLES
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
    files |= {f"{part}.{end}" for part in PARTS for end in ("csv", "images.csv", "replicates.csv")}
    folders = [path for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"]
    found = {folder.name: {file.name for file in folder.iterdir()} for folder in folders}
    assert found == dict.fromkeys(shipped_here(), files)


@pytest.mark.parametrize("model", shipped_here())
def test_a_part_measured_now_is_as_committed(model, tmp_path):
    methods = ("clip", "anovl", "outlier")
    run = read_shared_run(model)
    given = {"category": "gear", "methods": methods, "parts": ["attention"]}
    assert check_run(run, load_clip(model), tmp_path, **given) == []


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
