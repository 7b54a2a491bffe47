"""Tables of `evaluate`, and the notes beside them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from functools import partial
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anovl._shared.messages import counted

if TYPE_CHECKING:
    from pandas import DataFrame

    from anovl.data.dataset import Dataset

MOST_CATEGORIES = 10  # that are printed one by one
SAME_IMAGE_SCORE = ("clip", "anovl", "anovl-tta")
MARKS = {
    "coin": "not better than chance: the interval holds 50",
    "reversed": "the control's low values mark anomalies: turned around, it is better than chance",
    "below": "worse than chance: the whole interval is below 50",
}
"""Marks beside an AUROC in the printed table, and their meaning."""
PROTOCOLS = {
    "mvtec": "published for MVTec AD: AnoVL's image scores are means over 22 views",
    "visa": "published for VisA: AnoVL sees two square tiles of each image",
    "tiles": "large images in overlapping tiles",
}
"""By the data set for the published protocol; the others are plain, one view of the whole image."""


def print_results(table: DataFrame, dataset: Dataset, options: argparse.Namespace) -> None:
    """Print the means, those of groups, categories where they are few, and notes."""
    from anovl.evaluation.results import missing_numbers, read_groups, read_timing, terminal_table

    show = partial(terminal_table, mark=mark_of)
    lines = [show(table[table["level"] == "mean"].merge(read_timing(options.out)))]
    lines += [f"-: {line}" for line in missing_numbers(table)]
    if len(dataset.groups) > 1:
        means = read_groups(options.out)
        for group, categories in dataset.groups.items():
            own = show(means[means["category"] == group])
            lines.append(f"\n{group}: {', '.join(categories)}\n{own}")
    rows = table[table["level"] == "category"]
    if 1 < rows["category"].nunique() <= MOST_CATEGORIES:
        for category, own in rows.groupby("category", sort=False):
            lines.append(f"\n{category}\n{show(own)}")
    tables = "\n".join(lines)
    print(tables, end="\n\n")
    n = counted(len(dataset.categories), "category")
    print(f"{n} of {dataset.name}; percent; [95 % interval]")
    if "position-debiased" in tables:
        print("position-debiased: pixel AUROC without the mean map of the normal images")
    for mark, says in MARKS.items():
        if f"] {mark}" in tables:
            print(f'"{mark}": {says}')
    for note in _notes(dataset, options):
        print(note)
    results = Path(options.out) / "results.csv"
    record = results.with_name("run.json")
    print(f"All categories: {results}; weights, versions and options: {record}")


def _notes(dataset: Dataset, options: argparse.Namespace) -> Iterator[str]:
    same = [method for method in SAME_IMAGE_SCORE if method in options.methods]
    if len(same) > 1:
        says = "are equal by definition: they use the class token alone"
        yield f"Image scores of {', '.join(same)} {says}"
    protocol = dataset.name if options.protocol in (None, "published") else options.protocol
    yield f"Protocol: {PROTOCOLS.get(protocol, 'plain, one view of the whole image')}"
    if options.precision not in (None, "float32"):
        yield f"Precision: {options.precision}; compare within one precision only"
    if about := caveat({"model": options.model, "dataset": dataset.name}):
        yield f"Note: {about}"


def mark_of(method: str, metric: str, low: float | None, high: float | None) -> str:
    """Return the key of `MARKS` for an AUROC with the ends of its interval (0-1), or "".

    >>> mark_of("anovl", "auroc_sp", 0.43, 0.71), mark_of("brightness", "auroc_sp", 0.1, 0.3)
    ('coin', 'reversed')
    """
    from anovl.baselines import CONTROLS

    if not metric.startswith("auroc") or low is None or isnan(low) or low > 0.5:
        return ""
    return "coin" if high >= 0.5 else "reversed" if method in CONTROLS else "below"


def caveat(record: Mapping[str, Any]) -> str:
    """Return the caveat for a figure or table with this provenance; "" if it needs none.

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
    images = {"pocket": "procedural images", "photos": "photographs with drawn defects"}
    says = images.get(dataset, f"images of {dataset}")
    return f"pocket model, {says}: a demonstration, not a result of the paper"
