"""Two methods of a run are compared on the same resampled images."""

from __future__ import annotations

import numpy as np
import pytest

from anovl.baselines.controls import Centre, DifferenceOfGaussians, PatchOutlier
from anovl.data import load_dataset
from anovl.evaluation.compare import compare_methods
from anovl.evaluation.harness import evaluate
from anovl.evaluation.results import HEADLINES


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    data = load_dataset("pocket", categories=["wood", "screw"], per_category=10, image_size=48)
    methods = [Centre(48), DifferenceOfGaussians(48), PatchOutlier(48)]
    return out, evaluate(data, methods, out=out, resamples=60, progress=False)


@pytest.mark.parametrize("metric", HEADLINES)
def test_compared_means_are_those_of_the_table_whole_or_in_parts(run, metric):
    out, table = run
    means = table[table.level == "mean"].set_index("method")[metric]
    found = compare_methods(out, metric, "dog", "outlier")
    parts = [
        compare_methods(out, metric, "dog", "outlier", categories=[name])
        for name in ("wood", "screw")
    ]
    for key, method in (("ours", "dog"), ("other", "outlier")):
        assert found[key] == pytest.approx(means[method])
        assert np.mean([part[key] for part in parts]) == pytest.approx(means[method])
    assert found["low"] <= found["high"]


def test_the_interval_is_that_of_the_difference(run):
    out, _ = run
    pairs = (("dog", "centre"), ("centre", "dog"), ("dog", "dog"))
    ab, ba, same = (compare_methods(out, "aupro", *pair) for pair in pairs)
    assert (ab["low"], ab["high"]) == pytest.approx((-ba["high"], -ba["low"]))
    assert (same["low"], same["high"]) == (0, 0)
    unknown = compare_methods(out, "f1_px", "dog", "centre")  # it is not resampled
    assert np.isnan(list(unknown.values())).all()
    with pytest.raises(ValueError, match=r"anovl .*dog"):
        compare_methods(out, "aupro", "anovl", "dog")
