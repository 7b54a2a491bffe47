"""Notebook 05: the ledger, its charts, and what is said where nothing was measured."""

from __future__ import annotations

import numpy as np
import pytest
from pandas import DataFrame, read_csv
from sklearn.metrics import roc_auc_score

from anovl_companion.atlas.table import AFTER, after_anovl, numbers
from anovl_companion.claims import CLAIMS, Claim, ledger
from anovl_companion.findings.notebook_05 import apart
from anovl_companion.measure.small_print import Judged, by_pooling
from anovl_companion.published import published_or_beside
from anovl_companion.run_charts import notebook_05 as charts
from anovl_companion.shared_run.reader import shared_runs


@pytest.fixture(scope="module")
def run():
    return shared_runs()[0]


def test_each_claim_is_measured_and_its_verdict_is_that_of_its_interval(run):
    book = ledger([run, run])
    assert len(book) == len(CLAIMS) and (book["verdict"] != "not run here").all()
    assert (book["verdict"] == book["trained again"]).all()
    for row, claim in zip(book.itertuples(), CLAIMS, strict=True):
        gain = run.gain(claim.ours, claim.other, claim.metric, table=claim.table)
        assert (row.difference, row.low, row.high) == pytest.approx(gain)


def test_what_is_not_in_the_run_was_not_run(run):
    unknown = [
        Claim("another table", "domains", "word", "rise", table="nothing"),
        Claim("another method", "anovl", "artichoke", "rise"),
    ]
    assert ledger([run], claims=unknown)["verdict"].tolist() == ["not run here"] * 2
    assert set(ledger([])["verdict"]) == {"not run here"}


def test_a_published_difference_stands_beside_ours_on_its_data_set(run):
    said = ledger([run]).set_index("claim")["published"]
    assert said["AnoVL with adaptation is above WinCLIP"] == pytest.approx(0.778 - 0.646)
    assert np.isnan(said["V-V is above k-k"])
    assert ledger([run], "visa").set_index("claim")["published"].notna().sum() < said.notna().sum()


def test_the_title_counts_the_methods_above_the_floor(run):
    fig = charts.all_methods(run)
    values = {name: run.value(name, "aupro")[0] for name in charts.SHOWN}
    words = [name for name in charts.SHOWN if name not in charts.CONTROLS]
    best = max(values[name] for name in charts.CONTROLS)
    above = sum(values[name] > best for name in words)
    assert fig.axes[0].get_title(loc="left").startswith(f"{above} of {len(words)} ")
    labels = [text.get_text() for text in fig.axes[0].get_yticklabels()]
    assert sum(label.startswith("control: ") for label in labels) == len(charts.CONTROLS)


def test_the_chart_of_categories_counts_maps_below_a_coin(run):
    own = charts.own_maps(run)
    title = charts.by_category(run).axes[0].get_title(loc="left")
    assert title.startswith(f"{(own['auroc_px'] < 0.5).sum()} of {len(own)} ")


def test_pixels_are_pooled_in_four_ways():
    rng = np.random.default_rng(0)
    masks = rng.random((2, 3, 4, 4)) > 0.8
    maps = rng.random(masks.shape) * np.array([1, 2, 3])[:, None, None]
    run = [
        Judged(one, np.zeros(3), np.ones(3), mask, mask)
        for one, mask in zip(maps, masks, strict=True)
    ]
    by_category, pooled, alone, stretched = by_pooling(run).values()
    one = [roc_auc_score(mask.ravel(), m.ravel()) for mask, m in zip(masks, maps, strict=True)]
    assert by_category == pytest.approx(np.mean(one))
    assert pooled == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    flat = zip(masks.reshape(6, 16), maps.reshape(6, 16), strict=True)
    assert alone == pytest.approx(np.mean([roc_auc_score(*pair) for pair in flat if any(pair[0])]))
    low, high = (end(maps, axis=(2, 3), keepdims=True) for end in (np.min, np.max))
    new = (maps - low) / (high - low)
    one = [roc_auc_score(mask.ravel(), m.ravel()) for mask, m in zip(masks, new, strict=True)]
    assert stretched == pytest.approx(np.mean(one))
    assert by_pooling([]) == {}


def test_groups_that_do_not_exist_are_not_apart():
    assert np.isnan(apart(np.ones(3), np.ones(3, bool)).value)
    found = apart(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1], bool))
    assert found.value == pytest.approx(0.7) and found.low < 0.7 < found.high


def test_each_work_after_anovl_has_a_source_and_numbers_of_the_atlas():
    works, shown = read_csv(AFTER, keep_default_na=False), after_anovl()
    assert works["source"].str.fullmatch(r"arXiv \d{4}\.\d{5}").all() and len(shown) == len(works)
    assert {*works["method"]} - {""} <= {*numbers()["method"]}
    musc = shown[shown["what"].str.startswith("MuSc")].iloc[0]
    assert (musc["aupro"], musc["setting"]) == (93.8, "whole unlabelled test set")


def test_without_a_run_the_published_numbers_stand_alone():
    known = published_or_beside(DataFrame(), "mvtec")
    assert {"value", "source"} <= {*known} and "ours" not in known
