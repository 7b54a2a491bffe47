"""The difference that half precision makes, metric by metric."""

from __future__ import annotations

import numpy as np

from anovl.evaluation.results import IMAGE, PIXEL
from anovl_companion.benchmark.precision import precision_differences


def test_each_metric_in_both_precisions(tiny_clip):
    table = precision_differences([tiny_clip], methods=["anovl"], quick=True)
    assert set(table["metric"]) == {*PIXEL, *IMAGE} and set(table["model"]) == {tiny_clip.name}
    assert ((table[["float32", "bfloat16"]] >= 0) & (table[["float32", "bfloat16"]] <= 1)).all(
        axis=None
    )
    np.testing.assert_allclose(table["difference"], table["bfloat16"] - table["float32"])
    assert (table["difference"] != 0).any(), "bfloat16 was not used"
    same = precision_differences([tiny_clip], precision="float32", methods=["anovl"], quick=True)
    assert (same["difference"] == 0).all(axis=None)
