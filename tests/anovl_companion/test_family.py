"""The family's table and chart: what stands where, with which interval, beside which control."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anovl.baselines import make_detector
from anovl.baselines.attention_variants import FAMILY, STAIRCASE
from anovl.data import load_dataset
from anovl.evaluation.harness import evaluate
from anovl_companion.family import (
    LABELS,
    METRICS,
    best_control,
    family_chart,
    family_choices,
    family_table,
    printed_family,
    read_family,
)

OTHERS = ("sclip", "gem", "clearclip")


def means(methods=(*STAIRCASE, *OTHERS, "winclip", "dog", "centre"), groups=("seen", "unseen")):
    """Means; each method is a little better than the one before, and seen than unseen."""
    rows = []
    for i, method in enumerate(methods):
        for j, group in enumerate(groups):
            value = 0.5 + 0.03 * i - 0.1 * j
            row = {"dataset": "pocket", "category": group, "method": method}
            for metric in METRICS:
                row |= {metric: value, f"{metric}_lo": value - 0.02, f"{metric}_hi": value + 0.05}
            rows.append(row | {"ms_per_image": 10.0 + i})
    return pd.DataFrame(rows)


def test_choices_are_those_that_make_the_members():
    table = family_choices().set_index("method")
    assert list(table.index) == list(FAMILY) == list(LABELS)
    for name, repair in FAMILY.items():
        assert table.loc[name, "looks"] == repair.looks
        assert table.loc[name, ["blocks", "remains"]].tolist() == [repair.blocks, repair.remains]
    assert table["label"].is_unique and (table["source"] != "").all()


def test_the_staircase_comes_first_then_the_best_by_aupro():
    table = family_table(means())
    names = list(dict.fromkeys(table["method"]))
    assert names == [*STAIRCASE, "clearclip", "gem", "sclip"]
    assert table["group"].tolist() == ["seen", "unseen"] * len(names)
    anovl = table[table["method"] == "anovl"].iloc[1]
    assert anovl["aupro"] == pytest.approx(0.5 + 0.06 - 0.1)
    assert (anovl["aupro_lo"], anovl["aupro_hi"]) == pytest.approx((0.44, 0.51))
    assert anovl["looks"] == "v-v" and anovl["blocks"] == "all"


def test_cost_is_relative_to_plain_clip():
    assert family_table(means()).groupby("method")["cost"].first()["anovl"] == pytest.approx(1.2)
    timed = family_table(means(), cost={"clip": 20.0, "anovl": 50.0}).set_index("method")["cost"]
    assert timed["anovl"].tolist() == [2.5, 2.5] and np.isnan(timed["gem"]).all()
    assert family_table(means().drop(columns="ms_per_image"))["cost"].isna().all()
    assert family_table(means(("anovl", "gem")))["cost"].isna().all()  # nothing to compare with


def test_controls_are_no_members_and_set_the_floor():
    assert not {"winclip", "dog", "centre"} & set(family_table(means())["method"])
    best = best_control(means())
    assert best[("seen", "aupro")] == pytest.approx(0.5 + 0.03 * 9)
    assert best[("unseen", "auroc_px_debiased")] == pytest.approx(0.4 + 0.03 * 9)
    with pytest.raises(ValueError, match=r"expected means of some of clip, .*; found none"):
        family_table(means(("winclip", "dog")))


def test_the_printed_table_has_one_row_a_member():
    printed = printed_family(family_table(means()))
    assert len(printed) == 7
    assert printed["label"][2] == "AnoVL: second stream, v-v"
    assert printed["AUPRO, seen (%)"][2] == "56.0 [54.0, 61.0]"
    assert printed["pixel AUROC, position-debiased, unseen (%)"][0] == "40.0 [38.0, 45.0]"
    bare = means().assign(aupro_lo=np.nan, aupro_hi=np.nan)
    assert printed_family(family_table(bare))["AUPRO, seen (%)"][0] == "50.0"


def dots(ax):
    """Where each dot is: {(x, y): filled}."""
    found = {}
    for container in ax.containers:
        line = container.lines[0]
        place = (round(float(line.get_xdata()[0]), 6), round(float(line.get_ydata()[0]), 6))
        found[place] = line.get_markerfacecolor() != "white"
    return found


def test_the_chart_draws_every_value_with_its_interval():
    table = family_table(means())
    fig = family_chart(table, title="v-v leads", controls=best_control(means()))
    left, right = fig.axes
    for ax, metric in ((left, "auroc_px_debiased"), (right, "aupro")):
        expected = {
            (round(100 * row[metric], 6), round(y // 2 + (0.11 if y % 2 else -0.11), 6)): not y % 2
            for y, row in enumerate(table.to_dict("records"))
        }
        assert dots(ax) == expected
        (segment,) = ax.containers[0].lines[2][0].get_segments()
        assert segment[:, 0].tolist() == pytest.approx([48, 55])  # clip, seen
        floors = [line.get_xdata()[0] for line in ax.lines if "best" in str(line.get_label())]
        assert floors == pytest.approx([77, 67])
    assert [text.get_text() for text in left.get_yticklabels()] == [
        LABELS[name] for name in dict.fromkeys(table["method"])
    ]
    assert "1.2 ×" in [text.get_text() for text in right.texts]
    assert fig._suptitle.get_text() == "v-v leads"


def test_a_chart_of_one_group_without_intervals_or_cost():
    bare = means(groups=("all categories",)).drop(columns="ms_per_image")
    for metric in METRICS:
        bare[[f"{metric}_lo", f"{metric}_hi"]] = np.nan
    fig = family_chart(family_table(bare))
    assert [y for _, y in dots(fig.axes[0])] == list(range(7))
    assert not any(text.get_text() for text in fig.axes[1].texts)
    fig.canvas.draw()


@pytest.mark.parametrize("categories", [("wood", "gear"), ("wood",)])
def test_a_run_is_read_with_its_groups_or_as_a_whole(tiny_clip, tmp_path, categories):
    data = load_dataset("pocket", categories=categories, per_category=2, seed=0)
    detectors = [make_detector(name, tiny_clip, level="word") for name in ("anovl", "qkv", "clip")]
    results = evaluate(data, detectors, out=tmp_path, resamples=20, progress=False)
    if len(categories) == 1:
        (tmp_path / "groups.csv").unlink()
    table = family_table(read_family(tmp_path))
    assert list(dict.fromkeys(table["method"])) == ["clip", "anovl", "qkv"]
    whole = len(categories) == 1
    assert set(table["group"]) == ({"all categories"} if whole else {"seen", "unseen"})
    wood = results[(results["category"] == "wood") & (results["method"] == "qkv")].iloc[0]
    group = "all categories" if whole else "seen"
    found = table[(table["method"] == "qkv") & (table["group"] == group)].iloc[0]
    assert found["aupro"] == pytest.approx(wood["aupro"], abs=1e-5)
    assert found["aupro_hi"] == pytest.approx(wood["aupro_hi"], abs=1e-5)


def test_an_unfinished_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"results.csv: the run is unfinished"):
        read_family(tmp_path)
