"""Figures and tables: their scale, their bytes, their record, and the check of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from anovl.reporting import records as provenance
from anovl.reporting import saving
from anovl.reporting.figures import heatmap_panels, overlay
from anovl.reporting.records import verify
from anovl.reporting.saving import DEMONSTRATION, save_figure, save_table

SAME_BYTES = """
import sys
import numpy as np, pandas as pd
from anovl.reporting.figures import heatmap_panels
from anovl.reporting.saving import save_figure, save_table
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
fig = heatmap_panels(images, {"q-k": rng.random((2, 4, 4)), "v-v": rng.random((2, 4, 4))})
record = {"model": "ViT-B-16-plus-240"}
save_figure(fig, sys.argv[1] + "/panels", provenance=record)
save_table(pd.DataFrame({"auroc": [0.1234567]}), sys.argv[1] + "/table", provenance=record)
"""


@pytest.fixture(name="fig")
def small_figure() -> Figure:
    fig = Figure(figsize=(2, 1))
    fig.subplots().plot([0, 1])
    return fig


@pytest.fixture(name="folder")
def folder_with_a_figure_and_a_table(tmp_path, fig) -> Path:
    record = {"model": "ViT-B-16-plus-240", "weights_sha256": "699c4b84"}
    save_figure(fig, tmp_path / "curve", provenance=record)
    save_table(pd.DataFrame({"a": [1.0]}), tmp_path / "sub" / "table", provenance=record)
    return tmp_path


def shown(fig: Figure) -> list:
    return [ax.images[0] for ax in fig.axes if ax.images]


def test_all_maps_share_one_scale_and_it_is_printed():
    images, low, high = np.zeros((2, 8, 8, 3)), np.full((2, 4, 4), 0.498), np.full((2, 4, 4), 0.512)
    fig = heatmap_panels(images, {"q-k": low, "v-v": high})
    maps = [panel for panel in shown(fig) if panel.get_array().shape == (4, 4)]
    assert len(maps) == 4
    assert {panel.get_clim() for panel in maps} == {(0.498, 0.512)}
    bar = fig.axes[-1]
    assert [tick.get_text() for tick in bar.get_yticklabels()] == ["0.4980", "0.5050", "0.5120"]


def test_panels_stand_in_rows_of_image_mask_and_map():
    images = [Image.new("RGB", (6, 4), "red"), Image.new("L", (6, 4))]
    mask = np.eye(4, 6, dtype=bool)
    maps = torch.rand(2, 3, 3)
    fig = heatmap_panels(
        images, maps, masks=[mask, None], scores=torch.tensor([0.25, 0.5]), titles=["a", "b"]
    )
    first, second = np.array(fig.axes[:6]).reshape(2, 3)
    assert [ax.get_title() for ax in first] == ["image", "mask", "map"]
    assert (first[0].get_ylabel(), second[0].get_ylabel()) == ("a", "b")
    assert (first[2].get_xlabel(), second[2].get_xlabel()) == ("score 0.2500", "score 0.5000")
    np.testing.assert_array_equal(first[1].images[0].get_array(), mask)
    assert not second[1].images[0].get_array().any()
    np.testing.assert_array_equal(second[2].images[0].get_array(), maps[1])
    assert {tuple(panel.get_extent()) for panel in shown(fig)} >= {(0, 6, 4, 0)}


@pytest.mark.parametrize(
    ("maps", "options", "said"),
    [
        (np.zeros((3, 4, 4)), {}, "'map' has 3 entries for 2 images"),
        (np.full((2, 4, 4), np.nan), {}, "NaN or infinite"),
        (np.zeros((2, 4)), {}, r"found shape \(2, 4\)"),
        (np.zeros((2, 4, 4)), {"titles": ["one"]}, "'titles' has 1 entries for 2 images"),
        ({}, {}, "expected images and maps"),
    ],
)
def test_panels_that_do_not_fit_are_refused(maps, options, said):
    with pytest.raises(ValueError, match=said):
        heatmap_panels(np.zeros((2, 8, 8)), maps, **options)


def test_overlay_has_the_given_scale_and_not_the_range_of_the_map():
    image = Image.new("RGB", (8, 8), "gray")

    def laid(value: float) -> np.ndarray:
        return np.asarray(overlay(image, np.full((2, 2), value), vmin=0, vmax=1, opacity=1))

    np.testing.assert_array_equal(laid(0), np.asarray(image))
    np.testing.assert_array_equal(laid(-1), laid(0))
    np.testing.assert_allclose(laid(1)[0, 0], [251, 252, 191], atol=1)  # the bright end of magma
    np.testing.assert_array_equal(laid(2), laid(1))
    assert np.abs(laid(0.01) - laid(0).astype(int)).max() <= 2
    with pytest.raises(ValueError, match="vmin < vmax"):
        overlay(image, np.eye(2), vmin=1, vmax=1)


def test_the_same_figure_and_table_give_the_same_bytes_in_another_process(tmp_path):
    folders = [tmp_path / "1", tmp_path / "2"]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", SAME_BYTES, folder],
            check=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "MPLBACKEND": "agg"},
        )
    first, second = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert len(first) == 7
    assert first == second


def test_a_png_is_kept_small_where_it_can_be(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    fig = heatmap_panels([noise], np.zeros((1, 2, 2)), width=3)
    png = save_figure(fig, tmp_path / "noise", provenance={})
    assert png.stat().st_size <= saving.PNG_BYTES
    assert len(Image.open(png).convert("RGB").getcolors()) <= 256


def test_pocket_figures_and_tables_say_that_they_are_a_demonstration(tmp_path, fig):
    record = {"model": "pocket", "dataset": "pocket"}
    for _ in range(2):  # saving twice does not say it twice
        save_figure(fig, tmp_path / "figure", provenance=record)
    assert [text.get_text() for text in fig.texts] == [DEMONSTRATION]
    markdown = save_table(pd.DataFrame({"a": [1]}), tmp_path / "table", provenance=record)
    assert DEMONSTRATION in markdown
    assert DEMONSTRATION in (tmp_path / "table.tex").read_text()


def test_figures_of_the_papers_model_say_nothing_and_random_weights_warn():
    assert saving.caveat({"model": "ViT-B-16-plus-240", "dataset": "mvtec"}) == ""
    assert "images of mvtec" in saving.caveat({"model": "pocket", "dataset": "mvtec"})
    assert "random weights" in saving.caveat({"model": "ViT-B-16 [random weights]"})


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
        with pytest.raises(ValueError, match=r"no column \['auroc_px'\]"):
            save_table(table, tmp_path / "t", provenance={}, **{units: ["auroc_px"]})


def test_provenance_speaks_of_the_result_and_not_of_the_machine(tiny_clip):
    class Data:
        name = "mvtec"

        def manifest_hash(self):
            return "abc"

    parameters = {"out": "there", "weights": "a/b/w.pt", "data_root": "", "seed": 3}
    record = provenance.provenance(
        clip=tiny_clip, dataset=Data(), parameters=parameters, method="anovl"
    )
    assert record["parameters"] == {"weights": "w.pt", "data_root": "", "seed": 3}
    assert record["weights_sha256"] == tiny_clip.weights_hash
    assert (record["model"], record["device"]) == (tiny_clip.name, "cpu")
    assert record["precision"] == "float32"
    assert (record["dataset"], record["data_sha256"], record["method"]) == ("mvtec", "abc", "anovl")
    assert record["versions"]["numpy"] == np.__version__
    assert json.loads(json.dumps(record)) == record


def test_verify_finds_nothing_wrong_with_what_was_just_saved(folder):
    assert verify(folder) == []


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f / "curve.png").write_bytes(b"other"), "curve.png has changed"),
        (lambda f: (f / "sub" / "table.csv").unlink(), "table.csv is missing"),
        (lambda f: (f / "curve.provenance.json").write_text("{"), "cannot be read as a record"),
        (lambda f: (f / "curve.provenance.json").write_text("[]"), "cannot be read as a record"),
        (lambda f: (f / "curve.provenance.json").unlink(), "curve.pdf has no record"),
        (lambda f: (f / "stray.csv").write_text(""), "stray.csv has no record"),
        (lambda f: (f / "curve.provenance.json").write_text('{"files": {}}'), "must name a PNG"),
    ],
)
def test_verify_finds_what_is_wrong(folder, harm, said):
    harm(folder)
    assert said in "\n".join(verify(folder))


def test_pdf_and_latex_may_be_absent_and_a_record_does_not_vouch_for_them(folder):
    named = json.loads((folder / "curve.provenance.json").read_text())["files"]
    assert named["curve.pdf"] is None
    assert len(named["curve.png"]) == 64
    (folder / "curve.pdf").write_bytes(b"drawn on another machine")
    (folder / "sub" / "table.tex").unlink()
    assert verify(folder) == []
    (folder / "stray.pdf").write_bytes(b"")
    assert verify(folder) == [f"{folder / 'stray.pdf'} has no record"]


def test_the_shipped_weights_are_loaded_once_for_all_records(folder, fig, monkeypatch):
    from anovl.models import load

    loaded, real = [], load.load_clip
    monkeypatch.setattr(load, "load_clip", lambda name: loaded.append(name) or real(name))
    provenance._shipped_weights.cache_clear()
    record = {"model": "pocket", "weights_sha256": "before"}
    for name in "ab":
        save_figure(fig, folder / name, provenance=record)
    assert len(verify(folder)) == 2
    assert loaded == ["pocket"]


def test_verify_compares_pocket_results_with_the_model_that_is_shipped(folder, fig, monkeypatch):
    monkeypatch.setattr(provenance, "_shipped_weights", lambda: "today")
    save_figure(fig, folder / "new", provenance={"model": "pocket", "weights_sha256": "today"})
    assert verify(folder) == []
    save_figure(fig, folder / "old", provenance={"model": "pocket", "weights_sha256": "before"})
    [problem] = verify(folder)
    assert "old.provenance.json was made with other weights" in problem


def test_verify_leaves_the_folder_of_a_run_alone(folder):
    (folder / "run").mkdir()
    (folder / "run" / "results.csv").write_text("dataset\n")
    assert verify(folder) == [f"{folder / 'run' / 'results.csv'} has no record"]
    (folder / "run" / "run.json").write_text("{}")
    assert verify(folder) == []


def test_verify_of_nothing_is_not_a_success(tmp_path):
    assert "nothing to verify" in verify(tmp_path)[0]
    with pytest.raises(FileNotFoundError, match="make reproduce"):
        verify(tmp_path / "absent")
