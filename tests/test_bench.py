"""The benchmark: all its rows, in their units. How fast things are is not tested."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from anovl import bench as module
from anovl.bench import COLUMNS, GROWTH_COLUMNS, bench, growth, growth_figure
from anovl.metrics import aupro
from anovl.provenance import verify


def test_every_target_has_a_row(tiny_clip):
    table = bench([tiny_clip], quick=True)
    assert tuple(table.columns) == COLUMNS
    assert list(table["unit"]) == [
        *("x as long", "x as long", "x faster", "x as long", "x as long", "x faster", "s")
    ]
    assert list(table["target"]) == [1.15, 1.0, 4.0, 1.5, 1.1, 20.0, 2.0]
    assert set(table["met"]) <= {"yes", "no"}
    assert (table[["measured", "ms"]] > 0).all(axis=None)
    timed = table[table["unit"] != "s"]
    ratio = timed["ms"] / timed["beside_ms"]
    ratio = ratio.where(timed["unit"] == "x as long", 1 / ratio)
    np.testing.assert_allclose(timed["measured"], ratio)
    alone = table[table["unit"] == "s"].iloc[0]
    assert alone["measured"] == pytest.approx(alone["ms"] / 1000)
    assert list(table["model"][:5]) == 5 * [tiny_clip.name]


def test_growth_has_four_axes_and_a_figure(tiny_clip):
    table = growth(tiny_clip, quick=True)
    assert tuple(table.columns) == GROWTH_COLUMNS
    assert list(dict.fromkeys(table["axis"])) == ["image side (px)", "prompts", "images", "method"]
    assert list(table[table["axis"] == "image side (px)"]["value"]) == [64, 128]
    assert set(table[table["axis"] == "method"]["value"]) == set(module.METHODS)
    assert (table["ms"] > 0).all()
    assert len(growth_figure(table).axes) == 8


def test_the_usual_aupro_is_near_the_exact_one():
    maps, masks = module._maps(4, 48)
    usual = module.aupro_by_thresholds(maps, masks)
    assert usual == pytest.approx(aupro(maps, masks), abs=0.03)


def test_a_model_with_more_patches_sees_what_it_saw(tiny_clip):
    same = module._with_grid(tiny_clip, tiny_clip.grid[0])
    pixels = module._pixels(tiny_clip, 1)
    torch.testing.assert_close(
        same.model.encode_image(pixels), tiny_clip.model.encode_image(pixels)
    )


def test_memory_that_is_used_is_seen():
    def use_50_mb():
        block = np.ones(50 * 2**20, dtype=np.uint8)
        module.time.sleep(0.05)
        return block

    _, peak = module._timed(use_50_mb)
    assert np.isnan(peak) or 45 < peak < 200


def test_the_command_prints_and_saves_all(tiny_clip, tmp_path, monkeypatch, capsys):
    from anovl.__main__ import main

    monkeypatch.setattr("anovl.load.load_clip", lambda *names, **options: tiny_clip)
    out = tmp_path / "bench"
    assert main(["bench", "--model", "pocket", "--quick", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "both paths / encode_image" in printed and "AUPRO" in printed
    assert tuple(pd.read_csv(out / "cost.csv").columns) == COLUMNS
    assert tuple(pd.read_csv(out / "growth_table.csv").columns) == GROWTH_COLUMNS
    assert (out / "growth.png").is_file()
    assert verify(out) == []
