"""Tables of `evaluate`, and the notes beside them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any

from pandas import DataFrame
from tabulate import tabulate

from anovl._shared.messages import counted
from anovl.baselines import CONTROLS
from anovl.data.dataset import Dataset
from anovl.evaluation import results
from anovl.evaluation.compare import compare_methods

MOST_CATEGORIES = 10  # that are printed one by one
MARKS = {
    "coin": "not better than chance: the interval holds 50",
    "reversed": "the control's low values mark anomalies: turned around, it is better than chance",
    "below": "worse than chance: the whole interval is below 50",
}
"""Marks beside an AUROC in the printed table, and their meaning."""
TOLD = (
    "These are differences of means on the same images, in points, with their 95 % intervals.\n"
    '"above", "below": the whole interval is on one side of 0. "not told from": it holds 0,\n'
    "so that these images do not show which of the two is better. No interval: some category has\n"
    "fewer than 10 normal or 10 anomalous images; then only its own image AUROC has one."
)
"""The meaning of `differences`."""
PROTOCOLS = {
    "mvtec": "published for MVTec AD: AnoVL's image scores are means over 22 views",
    "visa": "published for VisA: AnoVL sees two square tiles of each image",
    "tiles": "large images in overlapping tiles",
}
"""By the data set for the published protocol; the others are plain, one view of the whole image."""


def print_results(table: DataFrame, dataset: Dataset, options: argparse.Namespace) -> None:
    """Print the means, those of groups, categories where they are few, and notes."""
    lines = [
        terminal_table(table[table["level"] == "mean"].merge(results.read_timing(options.out)))
    ]
    lines += [f"-: {line}" for line in results.missing_numbers(table)]
    if len(dataset.groups) > 1:
        means = results.read_groups(options.out)
        for group, categories in dataset.groups.items():
            own = terminal_table(means[means["category"] == group])
            lines.append(f"\n{group}: {', '.join(categories)}\n{own}")
    rows = table[table["level"] == "category"]
    if 1 < rows["category"].nunique() <= MOST_CATEGORIES:
        for category, own in rows.groupby("category", sort=False):
            lines.append(f"\n{category}\n{terminal_table(own)}")
    tables = "\n".join(lines)
    print(tables, end="\n\n")
    n = counted(len(dataset.categories), "category")
    print(f"{n} of {dataset.name}; percent; [95 % interval]")
    if "position-debiased" in tables:
        print("position-debiased: pixel AUROC without the mean map of the normal images")
    for mark, says in MARKS.items():
        if f"] {mark}" in tables:
            print(f'"{mark}": {says}')
    if compared := differences(table, options.out):
        print(f"\n{compared}\n{TOLD}\n")
    protocol = dataset.name if options.protocol in (None, "published") else options.protocol
    print(f"Protocol: {PROTOCOLS.get(protocol, 'plain, one view of the whole image')}")
    if about := caveat({"model": options.model, "dataset": dataset.name}):
        print(f"Note: {about}")
    print(f"In {options.out}: results.csv and images.csv; run.json has versions and options")


def terminal_table(means: DataFrame) -> str:
    """Format rows of means for a terminal, in percent, headlines with their intervals and marks.

    Milliseconds are shown if `means` has them.
    """
    heads = {metric: head for metric, head in results.HEADS.items() if metric in means}
    rows = [
        [row["method"], *(_cell(row, metric) for metric in heads)]
        for row in means.to_dict("records")
    ]
    return tabulate(rows, ["method", *heads.values()], tablefmt="plain", disable_numparse=True)


def _cell(row: dict, metric: str) -> str:
    value, low, high = (row.get(f"{metric}{end}") for end in ("", "_lo", "_hi"))
    if isnan(value):
        return "-"
    if metric == results.TIME:
        return f"{value:.1f}"
    interval = "" if low is None or isnan(low) else f" [{100 * low:.0f}, {100 * high:.0f}]"
    return f"{100 * value:.1f}{interval} {mark_of(row['method'], metric, low, high)}".rstrip()


def differences(table: DataFrame, run: str | Path) -> str:
    """Compare each method of a finished run with the best control, and with the method above it.

    A table in points, with the 95 % intervals of the differences on the same images; "" where there
    is nothing to compare.
    """
    means = table[table["level"] == "mean"].set_index("method")[list(results.HEADLINES)]
    controls = means[means.index.isin(CONTROLS)]
    methods = [method for method in means.index if method not in controls.index]
    best = {name: own.dropna().idxmax() for name, own in controls.items() if own.notna().any()}
    pairs = [("the best control", method) for method in methods if best] + [*pairwise(methods)]
    rows = []
    for other, method in pairs:
        rivals = best if other == "the best control" else dict.fromkeys(results.HEADLINES, other)
        cells = [
            _difference(run, metric, method, rivals.get(metric)) for metric in results.HEADLINES
        ]
        rows.append([method, other, *cells])
    heads = ["method", "against", *(results.HEADS[metric] for metric in results.HEADLINES)]
    return tabulate(rows, heads, tablefmt="plain", disable_numparse=True) if rows else ""


def _difference(run: str | Path, metric: str, method: str, rival: str | None) -> str:
    found = compare_methods(run, metric, method, rival) if rival else {"ours": float("nan")}
    if isnan(found["ours"]):
        return "-"
    gap, low, high = found["ours"] - found["other"], found["low"], found["high"]
    interval = "" if isnan(low) else f" [{100 * low:.0f}, {100 * high:.0f}]"
    return f"{100 * gap:+.1f}{interval} {told(low, high, rival)}"


def told(low: float, high: float, other: str) -> str:
    """Say what the interval of a difference, low to high, tells: above, below, or not told from.

    >>> told(-0.07, 0.21, "a coin (50)"), told(0.01, 0.2, "centre"), told(-2, -1, "dog")
    ('not told from a coin (50)', 'above centre', 'below dog')
    """
    if isnan(low):
        return f"(too few images to tell from {other})"
    word = "above" if low > 0 else "below" if high < 0 else "not told from"
    return f"{word} {other}"


def mark_of(method: str, metric: str, low: float | None, high: float | None) -> str:
    """Return the key of `MARKS` for an AUROC with the ends of its interval (0-1), or "".

    >>> mark_of("anovl", "auroc_sp", 0.43, 0.71), mark_of("brightness", "auroc_sp", 0.1, 0.3)
    ('coin', 'reversed')
    """
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
