"""The model card: its numbers are measured, whole, and of the weights that are shipped."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anovl import load_clip
from anovl.data import load_dataset
from anovl.evaluation.compare import read_scores
from anovl.evaluation.harness import evaluate
from anovl.models import pocket
from anovl.models.pocket import FOLDER, shipped_here
from anovl_companion.training import card, card_run
from anovl_companion.training.card import (
    Bar,
    bars_markdown,
    bars_table,
    measure_bars,
    write_card,
)

FEW = {"pocket": ["wood", "gear"], "photos": ["brick"]}


def test_a_bar_is_met_by_its_value_or_by_its_whole_interval():
    assert Bar("x", "seen", 0.92, 0.8, 0.95, 0.92).met == "yes"
    assert Bar("x", "seen", 0.919, 0.9, 0.95, 0.92).met == "no"
    assert Bar("x", "seen", math.nan, math.nan, math.nan, 0.0).met == "no"
    assert Bar("x", "seen", 0.1, 0.01, 0.2, 0.0, beyond_doubt=True).met == "yes"
    assert Bar("x", "seen", 0.1, -0.01, 0.2, 0.0, beyond_doubt=True).met == "no"
    assert Bar("x", "seen", 0.1, -0.01, 0.2).met == ""


def test_a_card_keeps_its_prose_and_gets_its_table_anew(tmp_path):
    (tmp_path / "README.md").write_text(f"before\n{card.START}\nold\n{card.END}\nafter\n")
    bars = {
        "pocket": [Bar("x", "seen", 0.5, 0.4, 0.6, 0.4), Bar("y", "seen", 0.1, 0, 0.2)],
        "pocket-2": [Bar("x", "seen", 0.3, 0.2, 0.4, 0.4)],
    }
    write_card(bars_table(bars), "Made with love", tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| pocket | x | seen | 0.500 | 0.400 to 0.600 | 0.40 | yes |" in text
    assert "| pocket | y | seen | 0.100 | 0.000 to 0.200 |  |  |" in text
    assert "| pocket-2 | x | seen | 0.300 | 0.200 to 0.400 | 0.40 | no |" in text
    table = pd.read_csv(tmp_path / "bars.csv")
    assert bars_markdown(table, "Made with love") in text
    run = f"{card_run.START}\nold\n{card_run.END}"
    (tmp_path / "README.md").write_text(f"{text}\n{run}\n")
    new = run.replace("old", "new")
    write_card(bars_table(bars), "Made with love", tmp_path, of_runs=new)
    assert (tmp_path / "README.md").read_text() == f"{text}\n{new}\n"
    (tmp_path / "README.md").write_text("no marks")
    with pytest.raises(ValueError, match=r"README\.md"):
        write_card(table, "", tmp_path)


def test_the_shipped_card_shows_the_shipped_bars_of_the_shipped_weights():
    text, table = (FOLDER / "README.md").read_text(), pd.read_csv(FOLDER / "bars.csv")
    here = shipped_here()
    assert list(table["model"].unique()) == here
    block = text[text.index(card.START) : text.index(card.END)]
    for name in here:
        assert f"{name} `{load_clip(name).weights_hash[:12]}`" in block
    rows = [line for line in bars_markdown(table, "").splitlines() if line.startswith("|")]
    assert [line for line in block.splitlines() if line.startswith("|")] == rows


class OneAnswer:
    """A run that gives the same value and the same gain for all that it is asked."""

    def __init__(self):
        self.record = {"models": {"pocket-2": "abc"}}

    def value(self, variant, metric, **where):
        return 0.815, 0.79, 0.8312

    def gain(self, variant, over, metric, **where):
        return 0.01, -0.02, 0.03


def test_the_table_of_shared_runs_has_every_row_with_its_interval_and_its_word():
    lines = card_run.runs_markdown([OneAnswer(), OneAnswer()]).splitlines()
    assert lines[0] == card_run.START and lines[-1] == card_run.END
    rows = lines[3:-1]
    assert len(rows) == len(card_run.VALUES) + len(card_run.GAINS)
    assert all(row.count("|") == lines[1].count("|") == 6 for row in rows)
    assert rows[0].startswith("| clip: auroc_px_debiased | 81.5 [79.0, 83.1] |")
    assert rows[-1].endswith("| +1.0 [-2.0, +3.0], not told apart |")


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    out = tmp_path_factory.mktemp("bars")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card, "load_dataset", few)
        patch.setattr(card, "evaluate", partial(evaluate, resamples=50, progress=False))
        elpv = few("photos", seed=9, per_category=2)  # any data set with labels will do
        found = measure_bars(load_clip("pocket"), out, seeds=(3, 4), per_category=2, elpv=elpv)
    return out, {(bar.says, bar.on): bar for bar in found}, len(found)


def few(name, **given):
    return load_dataset(name, categories=FEW[name], **given)


def test_every_bar_is_the_mean_over_the_seeds_of_scenes(bars):
    out, by, count = bars
    assert len(by) == count == 12
    assert {on for _, on in by} == {"seen", "unseen", "photos", "ELPV, brick"}
    tables = [
        pd.read_csv(out / f"pocket-{seed}" / "results.csv").set_index(["category", "method"])
        for seed in (3, 4)
    ]
    image = np.mean([table.auroc_sp["gear", "anovl"] for table in tables])
    assert by["image AUROC", "unseen"].value == pytest.approx(image, abs=1e-5)
    gain = [table.aupro["wood", "anovl-tta"] - table.aupro["wood", "anovl"] for table in tables]
    assert by["TTA - none, AUPRO", "seen"].value == pytest.approx(np.mean(gain), abs=1e-5)
    (says,) = (says for says, on in by if "best control" in says and on == "seen")
    mean = {c: np.mean([table.aupro["wood", c] for table in tables]) for c in card.CONTROLS}
    best = max(mean, key=mean.get)
    ours = np.mean([table.aupro["wood", "anovl"] for table in tables])
    assert f"({best})" in says
    assert by[says, "seen"].value == pytest.approx(ours - mean[best], abs=1e-5)


def test_its_bars_are_those_that_were_set_for_the_weights(bars):
    _, by, _ = bars
    for says, least in (
        ("image AUROC", {"seen": 0.92, "unseen": 0.88}),
        ("v-v, pixel AUROC*", {"seen": 0.84, "unseen": 0.88, "photos": 0.8}),
        ("v-v - q-k, pixel AUROC*", {"seen": 0.15, "unseen": 0.20}),
    ):
        assert {group: by[says, group].least for group in least} == least
    assert sum(bar.beyond_doubt for bar in by.values()) == 2
    assert all(bar.low <= bar.high or math.isnan(bar.low) for bar in by.values())


def test_two_runs_are_averaged_draw_by_draw(bars):
    out, metric = bars[0], "auroc_px_debiased"
    runs = [out / f"pocket-{seed}" for seed in (3, 4)]
    both, one, other = (read_scores(some, "anovl", ["wood"]) for some in (runs, runs[:1], runs[1:]))
    assert both.mean(metric) == pytest.approx((one.mean(metric) + other.mean(metric)) / 2)
    halves = (one.replicates[metric] + other.replicates[metric]) / 2
    np.testing.assert_allclose(both.replicates[metric], halves)


def test_the_command_measures_each_model_that_is_here(tmp_path, monkeypatch, capsys):
    (tmp_path / "README.md").write_text(f"{card.START}\n{card.END}\n")
    monkeypatch.setattr(card.write_card, "__defaults__", (tmp_path,))
    monkeypatch.setitem(pocket.SHIPPED, "pocket-2", tmp_path / "none")
    calls = []

    def measure(clip, out, *, elpv, jobs):
        calls.append((clip.name, Path(out), elpv, jobs))
        return [Bar("x", "seen", 0.5, 0.4, 0.8, 0.4)]

    def missing(name):
        raise FileNotFoundError(f"{name} is not here")

    monkeypatch.setattr(card, "measure_bars", measure)
    monkeypatch.setattr(card, "shared_runs", list)
    monkeypatch.setattr(card, "runs_markdown", lambda runs: "")
    monkeypatch.setattr(card, "load_dataset", missing)
    said = card.make_card(tmp_path / "runs", jobs=2)
    assert calls == [("pocket", tmp_path / "runs" / "pocket", None, 2)]
    assert "elpv is not here" in capsys.readouterr().out
    text = (tmp_path / "README.md").read_text()
    assert "| pocket | x | seen | 0.500 | 0.400 to 0.800 | 0.40 | yes |" in text
    assert "1, 2, 3, 4, 5, each with 20 normal" in text and text.strip() == said
    (tmp_path / "README.md").write_text("as it was")
    said = card.make_card(tmp_path / "runs", name="pocket-2", weights=FOLDER)
    assert (tmp_path / "README.md").read_text() == "as it was"
    assert "| pocket-2 | x | seen | 0.500" in said
