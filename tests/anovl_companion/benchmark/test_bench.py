"""The benchmark: all its rows, in their units. How fast things are is not tested."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import anovl
from anovl.baselines import METHODS, make_detector
from anovl.evaluation.harness import evaluate
from anovl.evaluation.results import IMAGE, PIXEL
from anovl_companion.__main__ import main
from anovl_companion.benchmark import bench as module
from anovl_companion.benchmark import workloads
from anovl_companion.benchmark.bench import costs, growth, growth_figure, precision_differences
from anovl_companion.records import verify


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Few resamples, and few prompts for 22 views."""

    def make(name, clip, **options):
        few = {"level": "states"} if "views" in options else {}
        return make_detector(name, clip, **few, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workloads, "evaluate", partial(evaluate, resamples=2))
        patch.setattr(workloads, "make_detector", make)
        yield


@pytest.fixture(scope="module")
def table(tiny_clip) -> pd.DataFrame:
    return costs([tiny_clip], quick=True)


def test_every_target_has_a_row(table, tiny_clip):
    shown = table.set_index("what")
    targets = shown["target"].dropna()
    assert list(targets) == [1.10, 1.0, 4.0, 1.5, 1.1, 1.15, 1.2, 20.0, 2.0, 6.0, 16 / 300, 1.2]
    assert set(shown.loc[targets.index, "met"]) <= {"yes", "no"}
    assert set(shown.drop(targets.index)["met"]) == {"-"}
    assert (table[["measured", "ms", "peak_mb"]] > 0).all(axis=None)
    timed = table[table["unit"] != "s"]
    ratio = timed["ms"] / timed["beside_ms"]
    ratio = ratio.where(timed["unit"] == "x as long", 1 / ratio)
    np.testing.assert_allclose(timed["measured"], ratio)  # they are medians, and their ratio
    assert shown["arithmetic"]["22 views at once / one by one"] == pytest.approx(1)
    alone = table[table["unit"] == "s"]
    np.testing.assert_allclose(alone["measured"], alone["ms"] / 1000)
    assert list(table["model"]) == (len(table) - 6) * [tiny_clip.name] + 6 * ["-"]


def test_the_rows_are_those_of_the_committed_table(table):
    """Up to the numbers of prompts, images and pixels, which are smaller here."""
    committed = pd.read_csv(Path(__file__).parents[3] / "figures/bench/cost.csv")
    committed = committed[committed["model"].str.startswith(("ViT", "-"))]

    def names(table: pd.DataFrame) -> list[str]:
        return table["what"].str.replace(r"\b\d+\b", "N", regex=True).tolist()

    assert names(table) == names(committed)
    assert list(table) == list(committed)


def test_growth_has_four_axes_and_a_figure(tiny_clip):
    table = growth(tiny_clip, quick=True)
    assert list(table) == ["model", "axis", "value", "ms", "peak_mb"]
    assert list(dict.fromkeys(table["axis"])) == ["image side (px)", "prompts", "images", "method"]
    assert list(table[table["axis"] == "image side (px)"]["value"]) == [64, 128]
    assert set(table[table["axis"] == "method"]["value"]) == set(METHODS)
    assert (table["ms"] > 0).all()
    assert len(growth_figure(table).axes) == 8


def test_each_metric_is_measured_in_both_precisions(tiny_clip):
    table = precision_differences([tiny_clip], quick=True)
    assert set(table["metric"]) == {*PIXEL, *IMAGE} and set(table["model"]) == {tiny_clip.name}
    values = table[["float32", "bfloat16"]]
    assert ((values >= 0) & (values <= 1)).all(axis=None)
    np.testing.assert_allclose(table["difference"], table["bfloat16"] - table["float32"])
    assert (table["difference"] != 0).any(), "bfloat16 was not used"


def test_memory_that_is_used_is_seen():
    _, arrays = module.count(lambda: np.ones(50 * 2**20, dtype=np.uint8))
    _, tensors = module.count(lambda: torch.ones(50 * 2**20, dtype=torch.uint8))
    assert arrays == pytest.approx(50, abs=0.5) and tensors == pytest.approx(50, abs=0.5)


def test_the_command_prints_and_saves_all(tiny_clip, tmp_path, monkeypatch, capsys):
    for name, small in (("of_network", []), ("of_pass", []), ("growing", [("a", 1, list)])):
        monkeypatch.setattr(workloads, name, lambda *given, small=small: small)
    monkeypatch.setattr(anovl, "load_clip", lambda *names, **options: tiny_clip)
    out = tmp_path / "bench"
    assert main(["bench", "--model", "pocket", "--quick", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "AUPRO" in printed and " – " in printed and "nan" not in printed
    assert pd.read_csv(out / "cost.csv")["model"].tolist() == ["-"] * 6
    assert set(pd.read_csv(out / "precision.csv")["method"]) == {"anovl", "anovl-tta"}
    assert (out / "growth_table.csv").is_file() and (out / "growth.png").is_file()
    assert verify(out) == []


def test_the_pocket_model_knows_the_words_of_the_benchmark(tmp_path):
    clip = anovl.load_clip("pocket")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one in workloads.of_pass(clip, tmp_path, True):
            one.task()
