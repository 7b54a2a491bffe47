"""A verdict follows from numbers alone, and pairs of methods share their resampled images."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from anovl.claims import VERDICTS, Claim, compare_methods, ledger, verdict
from anovl.controls import Centre, DifferenceOfGaussians, PatchOutlier
from anovl.datasets import load_dataset
from anovl.evaluate import HEADLINES, evaluate
from anovl.published import NO_SOURCE

NAN = math.nan


@pytest.mark.parametrize(
    ("numbers", "claimed", "said"),
    [
        ((0.1, 0.01, 0.2), "above", "reproduced"),
        ((0.1, 0.0, 0.2), "above", "within noise"),
        ((0.1, -0.1, 0.3), "above", "within noise"),
        ((-0.1, -0.2, 0.0), "above", "within noise"),
        ((-0.1, -0.2, -0.01), "above", "differs"),
        ((0.01, -0.02, 0.04), "equal", "reproduced"),
        ((0.0, 0.0, 0.0), "equal", "reproduced"),
        ((0.1, 0.01, 0.2), "equal", "differs"),
        ((-0.1, -0.2, -0.01), "equal", "differs"),
        ((NAN, 0.1, 0.2), "above", "not run here"),
        ((0.1, NAN, NAN), "equal", "not run here"),
    ],
)
def test_verdicts(numbers, claimed, said):
    assert verdict(*numbers, claimed=claimed) == said
    assert said in VERDICTS


def test_a_verdict_on_the_reverse_claim_is_the_mirror():
    for low, high in ((0.1, 0.3), (-0.3, -0.1), (-0.1, 0.2)):
        mirror = {"reproduced": "differs", "differs": "reproduced", "within noise": "within noise"}
        middle = (low + high) / 2
        assert verdict(-middle, -high, -low) == mirror[verdict(middle, low, high)]


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="low <= high"):
        verdict(0.0, 0.2, 0.1)
    with pytest.raises(ValueError, match="'above' or 'equal'; found 'below'"):
        verdict(0.0, 0.1, 0.2, claimed="below")


def test_a_claim_is_frozen_and_unmeasured_until_measured():
    claim = Claim("adaptation helps", "aupro")
    assert math.isnan(claim.difference) and claim.verdict == "not run here"
    assert claim.source == NO_SOURCE
    with pytest.raises(FrozenInstanceError):
        claim.ours = 1.0


def test_the_ledger_has_a_row_a_claim():
    table = ledger([Claim("a", "aupro", 0.6, 0.5, low=0.05, high=0.15), Claim("b", "auroc_sp")])
    assert table["claim"].tolist() == ["a", "b"]
    assert table["verdict"].tolist() == ["reproduced", "not run here"]
    assert table["difference"][0] == pytest.approx(0.1)
    assert ledger([]).columns.tolist() == table.columns.tolist()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    data = load_dataset("pocket", categories=["wood", "screw"], per_category=4, image_size=48)
    methods = [Centre(48), DifferenceOfGaussians(48), PatchOutlier(48)]
    return out, evaluate(data, methods, out=out, resamples=60, progress=False)


@pytest.mark.parametrize("metric", HEADLINES)
def test_compared_means_are_those_of_the_table(run, metric):
    out, table = run
    means = table[table.category == "mean"].set_index("method")[metric]
    found = compare_methods(out, metric, "dog", "outlier")
    assert found["ours"] == pytest.approx(means["dog"])
    assert found["other"] == pytest.approx(means["outlier"])
    assert found["low"] <= found["high"]


def test_the_interval_is_that_of_the_difference(run):
    out, _ = run
    ab, ba = (
        compare_methods(out, "aupro", *pair) for pair in (("dog", "centre"), ("centre", "dog"))
    )
    assert (ab["low"], ab["high"]) == pytest.approx((-ba["high"], -ba["low"]))
    same = compare_methods(out, "aupro", "dog", "dog")
    assert (same["low"], same["high"]) == (0, 0)


def test_what_was_not_resampled_is_unknown_and_what_was_not_run_is_said(run):
    out, _ = run
    assert np.isnan(list(compare_methods(out, "f1_px", "dog", "centre").values())).all()
    with pytest.raises(ValueError, match="anovl not in the run; it has"):
        compare_methods(out, "aupro", "anovl", "dog")
