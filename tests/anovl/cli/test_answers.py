"""Marks, levels and caveats: what stands beside the results."""

from __future__ import annotations

import pytest

from anovl.cli.answers import caveat, mark_of

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


def test_a_caveat_is_for_the_pocket_model_and_for_random_weights():
    assert "solar" in caveat({"model": "pocket", "dataset": "solar"})
    assert caveat({"model": "ViT-B-16", "dataset": "pocket"}) == ""
    assert caveat({"model": "ViT-B-16, random weights"}) != ""
