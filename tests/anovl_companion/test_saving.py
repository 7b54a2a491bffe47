"""Figures and tables on disk: their bytes, their size, and what stands under them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from anovl_companion import saving
from anovl_companion.saving import save_figure, save_table

SAME_BYTES = """
import sys
import numpy as np, pandas as pd
from anovl_companion.charts import MapRow, map_chart
from anovl_companion.saving import save_figure, save_table
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
maps = rng.random((2, 4, 4))
rows = [MapRow("q-k", maps, maps, 0.0, 1.0)]
words = {"heads": ["a", "b"], "title": "t", "note": "n"}
fig = map_chart(images, images, rows, masks=images[..., 0] > 200, **words)
record = {"model": "ViT-B-16-plus-240"}
save_figure(fig, sys.argv[1] + "/panels", provenance=record)
save_table(pd.DataFrame({"auroc": [0.1234567]}), sys.argv[1] + "/table", provenance=record)
"""


def test_the_same_figure_and_table_give_the_same_bytes_in_another_process(tmp_path, monkeypatch):
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(sys, "argv", ["", str(folders[0])])
    exec(SAME_BYTES, {})
    environment = {**os.environ, "PYTHONHASHSEED": "1", "MPLBACKEND": "agg"}
    command = [sys.executable, "-c", SAME_BYTES, str(folders[1])]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], env=environment)
    first, second = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert len(first) == 7
    assert first == second


def test_a_png_is_kept_small_where_it_can_be(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    fig = Figure(figsize=(3, 3))
    fig.subplots().imshow(noise)
    png = save_figure(fig, tmp_path / "noise", provenance={})
    assert png.stat().st_size <= saving.PNG_BYTES
    assert len(Image.open(png).convert("RGB").getcolors()) <= 256


def test_pocket_figures_and_tables_say_that_they_are_a_demonstration(tmp_path):
    fig, record = Figure(figsize=(2, 1)), {"model": "pocket", "dataset": "pocket"}
    for _ in range(2):  # saving twice does not say it twice
        save_figure(fig, tmp_path / "figure", provenance=record)
    [said] = [text.get_text() for text in fig.texts]
    assert "demonstration" in said
    assert said in save_table(pd.DataFrame({"a": [1]}), tmp_path / "table", provenance=record)
    assert said in (tmp_path / "table.tex").read_text()
    papers = {"model": "ViT-B-16-plus-240", "dataset": "mvtec"}
    markdown = save_table(pd.DataFrame({"a": [1]}), tmp_path / "table", provenance=papers)
    assert markdown.splitlines()[-1].startswith("|")


def test_a_table_is_fractions_in_csv_and_percent_in_print(tmp_path):
    table = pd.DataFrame({"method": ["v-v_1", "q-k"], "auroc": [0.78125, np.nan], "ms": [1.5, 2.0]})
    markdown = save_table(table, tmp_path / "t", provenance={}, percent=["auroc"], digits=2)
    assert (tmp_path / "t.csv").read_text() == "method,auroc,ms\nv-v_1,0.781,1.500\nq-k,,2.000\n"
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in markdown.splitlines()]
    assert rows[0] == ["method", "auroc (%)", "ms"]
    assert rows[2:4] == [["v-v_1", "78.1", "1.50"], ["q-k", "–", "2.00"]]
    latex = (tmp_path / "t.tex").read_text()
    assert r"v-v\_1 & 78.1 & 1.50 \\" in latex
    assert "q-k & -- & 2.00" in latex
    assert r"auroc (\%)" in latex
    assert " auroc (points) |" in save_table(table, tmp_path / "t", provenance={}, points=["auroc"])
    for units in ("percent", "points"):
        with pytest.raises(ValueError, match="auroc_px"):
            save_table(table, tmp_path / "t", provenance={}, **{units: ["auroc_px"]})
