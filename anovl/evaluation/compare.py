"""Compare methods: means, paired gains and their intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from anovl.evaluation.bootstrap import are_enough, bootstrap_interval
from anovl.evaluation.run_folder import RunFolder, pair_name


@dataclass(frozen=True, eq=False)
class Scores:
    """Metrics of a method: means over categories, with bootstrap replicates.

    `by_category` has the metrics of each category, NaN where one cannot be measured, with its
    `n_images` and `n_anomalous`; `replicates` (resamples,) are bootstrap means over categories,
    empty without resampling, or with few images.
    """

    by_category: Mapping[str, Mapping[str, float]]
    replicates: Mapping[str, np.ndarray]

    @classmethod
    def averaged(
        cls,
        by_category: Mapping[str, Mapping[str, float]],
        drawn: Mapping[str, Sequence[np.ndarray]],
    ) -> Scores:
        """Average each metric's replicates, given category by category, draw by draw.

        Where images are too few for an interval, there are no replicates; see `are_enough`.
        """
        means = {}
        for name, own in drawn.items():
            rows = [row for row in by_category.values() if not isnan(row[name])]
            means[name] = np.mean(own, axis=0) if own and are_enough(rows) else np.empty(0)
        return cls(by_category, means)

    def mean(self, metric: str) -> float:
        """Average a metric over the categories in which it can be measured; NaN if none."""
        values = np.array([row[metric] for row in self.by_category.values()])
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else float("nan")

    def interval(self, metric: str) -> tuple[float, float]:
        """The 95 % bootstrap interval of the mean over images, (low, high)."""
        return _interval(self.replicates[metric])

    def gain(self, other: Scores, metric: str) -> tuple[float, float, float]:
        """The difference to another method on the same images: difference, low, high.

        The interval is that of the difference, image by image. It is far narrower than the two
        intervals of the means suggest, because hard images are hard for both.
        """
        difference = self.mean(metric) - other.mean(metric)
        return difference, *_interval(self.replicates[metric] - other.replicates[metric])


def _interval(replicates: np.ndarray) -> tuple[float, float]:
    return bootstrap_interval(replicates) if len(replicates) else (float("nan"), float("nan"))


def gains(
    variants: Mapping[str, Scores], metric: str, *, over: Scores
) -> list[dict[str, str | float]]:
    """Compare variants by a metric: one row each, with the gain over one way and its interval.

    Keys: `variant`, the metric, `gain`, `low` and `high` (95 %, on the same redrawn images).
    """
    names = ("gain", "low", "high")
    return [
        {"variant": name, metric: one.mean(metric)}
        | dict(zip(names, one.gain(over, metric), strict=True))
        for name, one in variants.items()
    ]


def compare_methods(
    run: str | Path,
    metric: str,
    method: str,
    other: str,
    *,
    categories: Sequence[str] | None = None,
) -> dict[str, float]:
    """Compare two methods of a finished run of `evaluate`: ours, other, low and high of a `Claim`.

    Values are means over the `categories` (None = all) in which both could be measured; the 95 %
    interval is that of their difference on the same resampled images. All are NaN when there is no
    such category, or when `metric` is not resampled (not in `anovl.evaluation.results.HEADLINES`).

    Raises ValueError when a method is not in the run.
    """
    folder, record = RunFolder(Path(run)), run_record(run)
    if missing := [name for name in (method, other) if name not in record["methods"]]:
        raise ValueError(f"{', '.join(missing)} not in the run; it has {list(record['methods'])}")
    pairs = [
        [folder.read(pair_name(category, name)) for name in (method, other)]
        for category in (record["categories"] if categories is None else categories)
    ]
    known = [pair for pair in pairs if all(metric in part["replicates"] for part in pair)]
    ours, theirs = (
        Scores.averaged(
            {pair[i]["row"]["category"]: pair[i]["row"] for pair in known},
            {metric: [pair[i]["replicates"][metric] for pair in known]},
        )
        for i in (0, 1)
    )
    _, low, high = ours.gain(theirs, metric)
    return {"ours": ours.mean(metric), "other": theirs.mean(metric), "low": low, "high": high}


def read_scores(runs: Sequence[Path], method: str, categories: Sequence[str]) -> Scores:
    """Read the scores of one method from several runs of `evaluate`, each with its own images.

    Metrics that cannot be measured everywhere have no replicates.
    """
    parts = {
        f"{run.name} {category}": RunFolder(run).read(pair_name(category, method))
        for run in runs
        for category in categories
    }
    drawn = [part["replicates"] for part in parts.values()]
    metrics = set.intersection(*map(set, drawn))
    return Scores.averaged(
        {name: part["row"] for name, part in parts.items()},
        {metric: [one[metric] for one in drawn] for metric in metrics},
    )


def run_record(run: str | Path) -> dict[str, Any]:
    """Return the content of run.json of a run of `evaluate`."""
    return json.loads((Path(run) / "run.json").read_text(encoding="utf-8"))
