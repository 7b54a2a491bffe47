"""The benchmark: all its rows, in their units. How fast things are is not tested."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import anovl
from anovl.baselines import METHODS
from anovl.evaluation.metrics import aupro
from anovl_companion.benchmark import bench as module
from anovl_companion.benchmark import materials, workloads
from anovl_companion.benchmark.bench import (
    COLUMNS,
    GROWTH_COLUMNS,
    bench,
    growth,
    growth_figure,
    limits,
)
from anovl_companion.records import verify


def test_every_target_has_a_row(tiny_clip):
    table = bench([tiny_clip], quick=True)
    assert tuple(table.columns) == COLUMNS
    shown = table.set_index("what")
    targets = shown["target"].dropna()
    assert list(targets) == [1.10, 1.0, 4.0, 1.5, 1.1, 1.15, 1.2, 20.0, 2.0, 6.0, 16 / 300]
    assert set(shown.loc[targets.index, "met"]) <= {"yes", "no"}
    assert set(shown.drop(targets.index)["met"]) == {"-"}
    assert (table[["measured", "ms", "peak_mb"]] > 0).all(axis=None)
    timed = table[table["unit"] != "s"]
    ratio = timed["ms"] / timed["beside_ms"]
    ratio = ratio.where(timed["unit"] == "x as long", 1 / ratio)
    np.testing.assert_allclose(timed["measured"], ratio)  # they are medians, and their ratio
    alone = table[table["unit"] == "s"]
    np.testing.assert_allclose(alone["measured"], alone["ms"] / 1000)
    assert list(table["model"]) == (len(table) - 5) * [tiny_clip.name] + 5 * ["-"]


def test_operations_are_counted_beside_the_time(tiny_clip):
    arithmetic = bench([tiny_clip], quick=True).set_index("what")["arithmetic"]
    visual, n, w = tiny_clip.model.visual, 17, tiny_clip.model.visual.conv1.out_channels
    blocks = len(visual.transformer.resblocks)
    m = visual.transformer.resblocks[0].mlp.c_fc.out_features
    block, added = 4 * n * w**2 + 2 * n**2 * w + 2 * n * w * m, n * w**2 + 2 * n**2 * w
    last = 3 * n * w**2 + w**2 + 2 * n * w + 2 * w * m  # of its class token alone
    patches, out = (n - 1) * visual.conv1.weight.numel(), w * visual.proj.shape[1]
    both = patches + (blocks - 1) * block + last + blocks * added + n * out
    plain = patches + blocks * block + n * out
    encoder = arithmetic["both paths / encode_image"]
    assert encoder == pytest.approx(both / plain, rel=0.02)
    assert arithmetic["22 views at once / one by one"] == pytest.approx(1)
    assert np.isnan(arithmetic["data set pass / detector alone"])


def test_of_a_missed_target_it_is_said_what_kept_it_out_of_reach():
    pass_, without = workloads.PASS, workloads.PASS_WITHOUT_NETWORK
    rows = [
        ("m", "by far", "x as long", 1.5, 9.0, "no", 4.0),
        ("m", "by the program", "x as long", 1.5, 9.0, "no", 1.2),
        ("m", "not at all", "x as long", 1.5, 1.0, "yes", 4.0),
        ("m", "a slow start", "x faster", 4.0, 2.0, "no", 3.0),
        ("m", pass_, "x as long", 1.1, 2.6, "no", np.nan),
        ("m", without, "x as long", np.nan, 1.2, "-", np.nan),
        ("big", pass_, "x as long", 1.1, 1.3, "no", np.nan),
        ("big", without, "x as long", np.nan, 0.05, "-", np.nan),
        ("mid", pass_, "x as long", 1.1, 1.3, "no", np.nan),
        ("mid", without, "x as long", np.nan, 0.5, "-", np.nan),
        ("-", "by no model", "s", 16 / 15, 2.0, "no", np.nan),
    ]
    table = pd.DataFrame([(*row, 1.0, 1.0, 1.0) for row in rows], columns=list(COLUMNS))
    far, program, start, reading, big, middle, alone = limits(table)
    assert (
        far
        == "m, by far: 9.00 x as long, and the target is at most 1.5: its counted operations alone "
        "make 4.00 x as long at equal speed, so it takes fewer or faster operations to meet it."
    )
    assert "nothing that is counted explains it; run it again on an idle machine" in program
    assert "nothing that is counted" in big
    assert "2.00 x faster, and the target is at least 4: its counted operations alone" in start
    assert "reading and measuring alone take 1.20 x as long as the network" in reading
    assert "0.50 x as long as the network, and cost no time only where cores are idle" in middle
    assert alone.startswith("by no model: 2.00 s, and the target is at most 1.07: nothing")


def test_growth_has_four_axes_and_a_figure(tiny_clip):
    table = growth(tiny_clip, quick=True)
    assert tuple(table.columns) == GROWTH_COLUMNS
    assert list(dict.fromkeys(table["axis"])) == ["image side (px)", "prompts", "images", "method"]
    assert list(table[table["axis"] == "image side (px)"]["value"]) == [64, 128]
    assert set(table[table["axis"] == "method"]["value"]) == set(METHODS)
    assert (table["ms"] > 0).all()
    assert len(growth_figure(table).axes) == 8


def test_the_usual_aupro_is_near_the_exact_one():
    maps, masks = materials.random_maps(4, 48)
    usual = materials.aupro_by_thresholds(maps, masks)
    assert usual == pytest.approx(aupro(maps, masks), abs=0.03)


def test_a_model_with_more_patches_sees_what_it_saw(tiny_clip):
    same = materials.with_grid(tiny_clip, tiny_clip.grid[0])
    pixels = materials.pixels(tiny_clip, 1)
    torch.testing.assert_close(
        same.model.encode_image(pixels), tiny_clip.model.encode_image(pixels)
    )


def test_memory_that_is_used_is_seen():
    _, arrays = module._counted(lambda: np.ones(50 * 2**20, dtype=np.uint8), None)
    _, tensors = module._counted(lambda: torch.ones(50 * 2**20, dtype=torch.uint8), None)
    assert arrays == pytest.approx(50, abs=0.5) and tensors == pytest.approx(50, abs=0.5)


def test_the_command_prints_and_saves_all(tiny_clip, tmp_path, monkeypatch, capsys):
    from anovl.cli import main

    monkeypatch.setattr("anovl.models.load.load_clip", lambda *names, **options: tiny_clip)
    out = tmp_path / "bench"
    assert main(["bench", "--model", "pocket", "--quick", "--out", str(out)]) == 0
    said = capsys.readouterr()
    printed = said.out
    assert "both paths / encode_image" in printed and "AUPRO" in printed
    assert "does not know the word" not in said.err
    assert f"| {tiny_clip.name} " in printed and " – " in printed and "nan" not in printed
    assert "Target missed" not in printed and "this shows that it runs" in printed
    assert tuple(pd.read_csv(out / "cost.csv").columns) == COLUMNS
    assert tuple(pd.read_csv(out / "growth_table.csv").columns) == GROWTH_COLUMNS
    assert set(pd.read_csv(out / "precision.csv")["method"]) == {"anovl", "anovl-tta"}
    assert (out / "growth.png").is_file()
    assert verify(out) == []


def test_the_command_says_which_targets_are_missed_unless_it_is_quick(
    tiny_clip, tmp_path, monkeypatch, capsys
):
    from anovl.cli import main

    row = ("-", "drawing", "s", 1.0, 2.0, "no", *4 * [np.nan])
    made = {
        "bench": pd.DataFrame([row], columns=list(COLUMNS)),
        "growth": pd.DataFrame([("m", "images", 1, 2.0, 3.0)], columns=list(GROWTH_COLUMNS)),
    }
    monkeypatch.setattr("anovl.models.load.load_clip", lambda *names, **options: tiny_clip)
    for name, table in made.items():
        monkeypatch.setattr(module, name, lambda *clips, quick, table=table: table)
    monkeypatch.setattr(
        "anovl_companion.benchmark.precision.precision_differences",
        lambda *clips, quick: made["growth"],
    )
    for options, missed in (([], True), (["--quick"], False)):
        assert main(["bench", "--model", "pocket", *options]) == 0
        assert ("Target missed: drawing: 2.00 s" in capsys.readouterr().out) == missed


def test_the_pocket_model_knows_the_words_of_the_benchmark(tmp_path):
    clip = anovl.load_clip("pocket")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one in (*workloads.of_pass(clip, tmp_path, True), workloads.of_drawing(True)):
            one.task()
