"""The model card: its numbers are measured, whole, and of the weights that are shipped."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from anovl import load_clip
from anovl.data import load_dataset
from anovl.models.pocket import FOLDER, build_model, load_pocket, save_pocket
from anovl.training import card
from anovl.training.card import Bar, bars_markdown, bars_table, measure_bars, write_card


def test_a_bar_is_met_by_its_value():
    assert Bar("x", "seen", 0.92, 0.8, 0.95, 0.92).met
    assert not Bar("x", "seen", 0.919, 0.9, 0.95, 0.92).met
    assert not Bar("x", "seen", math.nan, math.nan, math.nan, 0.0).met


def test_a_card_keeps_its_prose_and_gets_its_table_anew(tmp_path):
    (tmp_path / "README.md").write_text(f"before\n{card.START}\nold\n{card.END}\nafter\n")
    bars = [Bar("x", "seen", 0.5, 0.4, 0.6, 0.4), Bar("y", "seen", 0.1, 0, 0.2, 0.4)]
    table = bars_table(bars, again=[replace(bar, value=bar.value + 0.2) for bar in bars])
    write_card(table, "Made with love", tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| x | seen | 0.500 | 0.400 to 0.600 | 0.4 | yes | 0.700 |" in text
    assert "| no | 0.300 |" in text
    assert list(pd.read_csv(tmp_path / "bars.csv")["met"]) == [True, False]
    (tmp_path / "README.md").write_text("no marks")
    with pytest.raises(ValueError, match="no place for the bars"):
        write_card(table, "", tmp_path)


def test_the_shipped_card_shows_the_shipped_bars_of_the_shipped_weights():
    text, table = (FOLDER / "README.md").read_text(), pd.read_csv(FOLDER / "bars.csv")
    made_with = f"Weights `{load_clip('pocket').weights_hash[:12]}`"
    block = text[text.index(card.START) : text.index(card.END)]
    assert made_with in block
    shown = bars_markdown(table, made_with).splitlines()
    assert block.splitlines()[: len(table) + 3] == shown[: len(table) + 3]


def test_every_bar_is_measured_on_every_group(tmp_path, monkeypatch):
    few = {"pocket": ["wood", "gear"], "photos": ["brick"]}
    monkeypatch.setattr(
        card,
        "load_dataset",
        lambda name, **given: load_dataset(name, categories=few[name], **given),
    )
    bars = measure_bars(load_clip("pocket"), tmp_path, seed=3, per_category=2)
    by = {(bar.says, bar.on): bar for bar in bars}
    assert len(by) == len(bars)
    assert {bar.on for bar in bars} == {"seen", "unseen", "all", "photos"}
    results = pd.read_csv(tmp_path / "pocket" / "results.csv").set_index(["category", "method"])
    gain = results.aupro["wood", "anovl"] - results.aupro["wood", "dog"]
    assert by["v-v - dog, AUPRO", "seen"].value == pytest.approx(gain, abs=1e-5)
    image = results.auroc_sp["gear", "anovl"]
    assert by["whole pictures, image AUROC", "unseen"].value == pytest.approx(image, abs=1e-5)
    assert all(math.isnan(bar.low) or bar.low <= bar.high for bar in bars)


def test_the_command_measures_the_shipped_model_and_another_training(tmp_path, monkeypatch, capsys):
    (tmp_path / "README.md").write_text(f"{card.START}\n{card.END}\n")
    values = iter([0.5, 0.75])
    monkeypatch.setattr(
        card, "measure_bars", lambda *_, **__: [Bar("x", "seen", next(values), 0.4, 0.8, 0.4)]
    )
    monkeypatch.setattr(card.write_card, "__defaults__", (tmp_path,))
    argv = ["card", "--out", str(tmp_path / "runs"), "--again"]
    monkeypatch.setattr("sys.argv", [*argv, str(FOLDER)])
    with pytest.raises(SystemExit):
        card.main()
    assert "not another training" in capsys.readouterr().err
    _, tokenizer, _ = load_pocket(FOLDER)
    save_pocket(build_model(tokenizer.vocab_size), tokenizer, tmp_path / "other")
    monkeypatch.setattr("sys.argv", [*argv, str(tmp_path / "other")])
    card.main()
    text = (tmp_path / "README.md").read_text()
    assert "| 0.500 | 0.400 to 0.800 | 0.4 | yes | 0.750 |" in text
    assert "move by 0.250 on average" in text and text.strip() in capsys.readouterr().out
