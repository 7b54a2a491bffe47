"""What the shipped pocket model must reach, on pictures that were used for no choice."""

from __future__ import annotations

import pytest

from anovl import load_clip
from anovl.baselines import make_detector
from anovl.data import load_dataset
from anovl.evaluation.harness import evaluate


@pytest.fixture(scope="module")
def means(tmp_path_factory):
    clip = load_clip("pocket")
    detectors = [make_detector(name, clip) for name in ("clip", "anovl", "centre", "shuffled")]
    data = load_dataset("pocket", seed=1, per_category=12)
    out = tmp_path_factory.mktemp("bars")
    table = evaluate(data, detectors, out=out, resamples=2, progress=False)
    return table[table.level == "mean"].set_index("method")


def test_whole_pictures_are_matched_with_words(means):
    assert means.auroc_sp["anovl"] >= 0.80


def test_vv_is_well_above_plain_clip_where_position_does_not_help(means):
    assert means.auroc_px_debiased["anovl"] >= means.auroc_px_debiased["clip"] + 0.10


@pytest.mark.parametrize("control", ["centre", "shuffled"])
@pytest.mark.parametrize("metric", ["auroc_px_debiased", "aupro"])
def test_vv_is_above_what_knows_no_picture(means, control, metric):
    assert means[metric]["anovl"] > means[metric][control]
