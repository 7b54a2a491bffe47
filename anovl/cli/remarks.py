"""What `evaluate` says under its table: what marks mean, what is equal, what made the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import isnan
from typing import TYPE_CHECKING, Any

from anovl.baselines import CONTROLS
from anovl.evaluation.results import HEADLINES

if TYPE_CHECKING:
    from pandas import DataFrame

SAME_IMAGE_SCORE = ("clip", "anovl", "anovl-tta")
MOST_CATEGORIES = 10  # that are printed one by one
DEMONSTRATION = "pocket model, procedural images: a demonstration, not a result of the paper"
MARKS = {
    "coin": "not above a coin: the interval holds 50",
    "reversed": "informative reversed: a control whose whole interval is below 50",
    "below": "worse than a coin: the whole interval is below 50",
}
"""What stands beside an AUROC in the table that is printed, and what it means."""


def mark_of(method: str, metric: str, low: float | None, high: float | None) -> str:
    """Return the key of `MARKS` for an AUROC with the ends of its interval (0-1), or "".

    >>> mark_of("anovl", "auroc_sp", 0.43, 0.71), mark_of("brightness", "auroc_sp", 0.1, 0.3)
    ('coin', 'reversed')
    """
    if not metric.startswith("auroc") or low is None or isnan(low) or low > 0.5:
        return ""
    return "coin" if high >= 0.5 else "reversed" if method in CONTROLS else "below"


def legend(table: DataFrame) -> list[str]:
    """Say what the marks mean that stand in the printed rows."""
    used = {
        mark_of(row["method"], metric, row[f"{metric}_lo"], row[f"{metric}_hi"])
        for row in table.to_dict("records")
        for metric in HEADLINES
    }
    return [f'"{mark}": {says}' for mark, says in MARKS.items() if mark in used]


def equal_by_definition(methods: Iterable[str]) -> str:
    """Say which methods of a run have the same image scores, "" if there are not two.

    >>> equal_by_definition(["anovl", "dog", "clip"])
    'image scores of clip and anovl are equal by definition: both ask the class token alone'
    """
    methods = list(methods)
    same = [method for method in SAME_IMAGE_SCORE if method in methods]
    if len(same) < 2:
        return ""
    these = f"{', '.join(same[:-1])} and {same[-1]}"
    both = "both" if len(same) == 2 else "all"
    return f"image scores of {these} are equal by definition: {both} ask the class token alone"


def made_with(record: Mapping[str, Any]) -> list[str]:
    """Say how pictures were looked at, with which weights and libraries: from run.json."""
    weights = [f"{name}, SHA-256 {sha[:12]}…" for name, sha in record["models"].items()]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [f"protocol: {_protocol(record['methods'])}"]
    lines += [f"weights: {'; '.join(weights)}"] if weights else []
    if less := {name for name in record["precision"].values() if name != "float32"}:
        lines.append(f"precision: {', '.join(sorted(less))}; compare within one precision only")
    return [*lines, f"versions: {versions}"]


def _protocol(methods: Mapping[str, Any]) -> str:
    """Say how the methods of a run look at a picture, by their recorded options."""
    options = [inside for own in methods.values() for inside in _nested(own)]
    if any(own.get("views", 1) > 1 for own in options):
        return "published for MVTec AD: AnoVL's image scores are means over 22 views"
    if any(own.get("tiles") for own in options):
        return "published for VisA: AnoVL sees two square tiles of a picture"
    if any("overlap" in own for own in options):
        return "large pictures piece by piece, in overlapping tiles"
    return "plain, one view of the whole picture"


def _nested(options: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the options of a method, and of the one inside it."""
    yield options
    if "detector" in options:
        yield from _nested(options["detector"])


def caveat(record: Mapping[str, Any]) -> str:
    """Return what must stand under a figure or table with this provenance; "" if nothing must.

    >>> caveat({"model": "pocket", "dataset": "pocket"})
    'pocket model, procedural images: a demonstration, not a result of the paper'
    >>> caveat({"model": "pocket", "dataset": "photos"})
    'pocket model, photographs with drawn defects: a demonstration, not a result of the paper'
    """
    model, dataset = str(record.get("model", "")), record.get("dataset", "pocket")
    if "random weights" in model:
        return "random weights: neither the picture nor the numbers mean anything"
    if model != "pocket":
        return ""
    pictures = {"pocket": "procedural images", "photos": "photographs with drawn defects"}
    return DEMONSTRATION.replace(pictures["pocket"], pictures.get(dataset, f"images of {dataset}"))
