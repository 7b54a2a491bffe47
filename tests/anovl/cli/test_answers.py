"""What stands under the table of `evaluate`."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from anovl.baselines import make_detector
from anovl.cli.answers import caveat, equal_by_definition, legend, made_with, mark_of
from anovl.data import load_dataset
from anovl.evaluation.run_folder import describe_run

NAN = float("nan")


@pytest.mark.parametrize(
    ("method", "low", "high", "mark"),
    [
        ("anovl", 0.43, 0.71, "coin"),
        ("anovl", 0.5, 0.71, "coin"),
        ("centre", 0.5, 0.5, "coin"),
        ("anovl", 0.501, 0.71, ""),
        ("anovl", 0.2, 0.499, "below"),
        ("brightness", 0.2, 0.499, "reversed"),
        ("brightness", 0.2, 0.5, "coin"),
        ("shuffled", NAN, NAN, ""),
        ("anovl", None, None, ""),
    ],
)
def test_a_mark_depends_on_where_the_interval_lies(method, low, high, mark):
    assert mark_of(method, "auroc_sp", low, high) == mark
    assert mark_of(method, "auroc_px_debiased", low, high) == mark
    assert mark_of(method, "aupro", low, high) == "", "the AUPRO of a coin is not 50"


def test_only_marks_that_are_used_are_explained():
    ends = {f"{m}_{end}": [NAN] for m in ("auroc_px_debiased", "aupro") for end in ("lo", "hi")}
    rows = pd.DataFrame({"method": ["dog"], "auroc_sp_lo": [0.1], "auroc_sp_hi": [0.2]} | ends)
    (line,) = legend(rows)
    assert line.startswith('"reversed"')
    assert legend(rows.assign(auroc_sp_lo=0.6, auroc_sp_hi=0.7)) == []


def test_equal_scores_are_said_of_those_in_the_run():
    assert "clip, anovl, anovl-tta" in equal_by_definition(
        ["clip", "winclip", "anovl-tta", "anovl"]
    )
    assert equal_by_definition(["anovl", "dog"]) == ""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "protocol: plain, one view"),
        ({"views": 22}, "protocol: published for MVTec AD"),
        ({"tiles": True}, "protocol: published for VisA"),
    ],
)
@pytest.mark.parametrize("method", ["anovl", "shuffled"])
def test_protocol_weights_and_versions_are_those_of_the_record(tiny_clip, method, options, says):
    data = load_dataset("photos", categories=["brick"], per_category=1, image_size=16)
    record = describe_run(data, [make_detector(method, tiny_clip, **options)])
    protocol, weights, versions = made_with(record)
    assert protocol.startswith(says)
    assert weights == f"weights: {tiny_clip.name}, SHA-256 {tiny_clip.weights_hash[:12]}…"
    assert f"torch {record['versions']['torch']}" in versions
    half = [make_detector(method, replace(tiny_clip, precision="bfloat16"), **options)]
    assert "bfloat16" in made_with(describe_run(data, half))[2]
    without = made_with(describe_run(data, [make_detector("dog", tiny_clip)]))
    assert [line.split(":")[0] for line in without] == ["protocol", "versions"]


def test_a_caveat_is_for_the_pocket_model_and_for_random_weights():
    assert "solar" in caveat({"model": "pocket", "dataset": "solar"})
    assert caveat({"model": "ViT-B-16", "dataset": "pocket"}) == ""
    assert caveat({"model": "ViT-B-16, random weights"}) != ""
