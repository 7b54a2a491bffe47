"""What half precision in the towers changes in the metrics of one model on the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from anovl.baselines import make_detector
from anovl.clip import Clip
from anovl.data import load_dataset
from anovl.evaluation.harness import evaluate
from anovl.evaluation.results import IMAGE, PIXEL

if TYPE_CHECKING:
    from pandas import DataFrame


def precision_differences(
    clips: Sequence[Clip],
    *,
    precision: str = "bfloat16",
    methods: Sequence[str] = ("anovl", "anovl-tta"),
    quick: bool = False,
) -> DataFrame:
    """Measure methods in float32 and in another precision: means of metrics, and how far off.

    One row for each model, method and metric, in 0-1, on pictures of the pocket world (two
    categories of 16, `quick`: one of 4); `difference` is the other precision less float32. A random
    model shows what rounding does to the order of its scores, and nothing else.
    """
    from pandas import DataFrame, concat

    categories, each = (["wood"], 2) if quick else (["wood", "tile"], 8)
    dataset = load_dataset("pocket", categories=categories, per_category=each)
    tables: list[DataFrame] = []
    for clip in clips:
        means = {}
        for name in ("float32", precision):
            own = replace(clip, precision=name)
            detectors = [make_detector(method, own) for method in methods]
            with TemporaryDirectory() as out:
                table = evaluate(dataset, detectors, out=out, resamples=1, progress=False)
            table = table[table["level"] == "mean"]
            melted = table.melt("method", [*PIXEL, *IMAGE], "metric")
            means[name] = melted.set_index(["method", "metric"])["value"]
        both = DataFrame(means).reset_index().assign(model=clip.name)
        tables.append(both.assign(difference=both[precision] - both["float32"]))
    columns = ["model", "method", "metric", "float32", precision, "difference"]
    return concat(tables, ignore_index=True)[columns]
