"""Marks, levels and caveats: what stands beside the results."""

from __future__ import annotations

import pytest

from anovl.baselines import make_detector
from anovl.cli.answers import caveat, differences, mark_of, told
from anovl.data import load_dataset
from anovl.evaluation.compare import compare_methods
from anovl.evaluation.harness import evaluate
from anovl.evaluation.results import HEADLINES

NAN = float("nan")


@pytest.mark.parametrize(
    ("method", "low", "high", "mark"),
    [
        *(
            ("anovl", 0.43, 0.71, "coin"),
            ("anovl", 0.5, 0.71, "coin"),
            ("centre", 0.5, 0.5, "coin"),
        ),
        *(("anovl", 0.501, 0.71, ""), ("shuffled", NAN, NAN, ""), ("anovl", None, None, "")),
        *(("anovl", 0.2, 0.499, "below"), ("brightness", 0.2, 0.499, "reversed")),
    ],
)
def test_a_mark_depends_on_where_the_interval_lies(method, low, high, mark):
    assert mark_of(method, "auroc_sp", low, high) == mark
    assert mark_of(method, "auroc_px_debiased", low, high) == mark
    assert mark_of(method, "aupro", low, high) == "", "the AUPRO of a coin is not 50"


def test_methods_are_compared_with_the_best_control_and_with_the_one_above(tiny_clip, tmp_path):
    data = load_dataset("pocket", categories=["wood"], per_category=10, image_size=48)
    names = ("clip", "centre", "anovl", "dog", "outlier")
    methods = [make_detector(name, tiny_clip) for name in names]
    table = evaluate(data, methods, out=tmp_path, resamples=50, size=48, progress=False)
    lines = differences(table, tmp_path).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        *(["clip", "the"], ["anovl", "the"]),
        ["anovl", "clip"],
    ]
    means = table[table.level == "mean"].set_index("method")
    for metric in HEADLINES:
        best = str(means.loc[["centre", "dog", "outlier"], metric].idxmax())
        for line, method, other in zip(
            lines[1:], ("clip", "anovl", "anovl"), (best, best, "clip"), strict=True
        ):
            found = compare_methods(tmp_path, metric, method, other)
            gap = found["ours"] - found["other"]
            ends = f"[{100 * found['low']:.0f}, {100 * found['high']:.0f}]"
            assert f"{100 * gap:+.1f} {ends} {told(found['low'], found['high'], other)}" in line


def test_nothing_is_told_without_an_interval_and_no_control_is_no_error(tiny_clip, tmp_path):
    data = load_dataset("pocket", categories=["wood"], per_category=4, image_size=48)
    methods = [make_detector(name, tiny_clip) for name in ("clip", "anovl")]
    table = evaluate(data, methods, out=tmp_path, resamples=50, progress=False)
    [_, line] = differences(table, tmp_path).splitlines()
    assert line.split()[:2] == ["anovl", "clip"] and line.count("too few images") == 3
    assert differences(table[table.method == "clip"], tmp_path) == ""


def test_a_caveat_is_for_the_pocket_model_and_for_random_weights():
    assert "solar" in caveat({"model": "pocket", "dataset": "solar"})
    assert caveat({"model": "ViT-B-16", "dataset": "pocket"}) == ""
    assert caveat({"model": "ViT-B-16, random weights"}) != ""
