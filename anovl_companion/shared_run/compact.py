"""The small format of the shared run: values of each category, of each picture, and of each draw.

A table NAME has three files. NAME.csv has a row for each category and variant. NAME.images.csv has
a row for each anomalous picture and a column for each value and variant. NAME.replicates.csv has a
row for each bootstrap draw: means over a group of categories. In the last two, fractions are whole
numbers of `UNIT`, and columns that are equal are written once.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame, array, concat
from pandas.api.extensions import ExtensionArray

from anovl._shared.files import write_atomically
from anovl.data.dataset import Dataset
from anovl.evaluation.pairs import all_metrics
from anovl.evaluation.results import HEADLINES
from anovl_companion.measure.category import Category, Variant
from anovl_companion.measure.single_pictures import within_picture

UNIT = 1e-4
"""Fractions in tables of pictures and draws are whole numbers of it."""
METRICS = ("auroc_px", "auroc_px_debiased", "ap_px", "aupro", "auroc_sp")
"""The columns of NAME.csv, before the facts of its variants."""
Found = Mapping[str, Sequence[Mapping[str, Any]]]
"""What was measured, by category: `measured` of each variant."""


def measured(
    category: Category, variants: Iterable[Variant], *, seed: int, resamples: int
) -> list[dict[str, Any]]:
    """Measure the variants of a category: metrics, replicates of headlines, values of pictures.

    Metrics and draws are those of `evaluate`.
    """
    found, anomalous = [], np.flatnonzero(category.labels)
    draws = {"seed": [seed, zlib.crc32(category.name.encode())], "resamples": resamples}
    for one in variants:
        scores = np.full(len(one.maps), np.nan) if one.scores is None else one.scores
        truth = list(category.truth)
        row, drawn, _ = all_metrics(one.maps, scores, category.labels, truth, **draws)
        each = within_picture(one.maps[anomalous], category.truth[anomalous])
        each |= {name: values.tolist() for name, values in one.each.items()}
        row = {metric: row[metric] for metric in METRICS} | dict(one.facts)
        drawn = {metric: values.round(6).tolist() for metric, values in drawn.items()}
        found.append({"variant": one.name, "row": row, "replicates": drawn, "each": each})
    return found


def write_table(
    folder: Path, name: str, found: Found, data: Dataset, groups: Mapping[str, Sequence[str]]
) -> None:
    """Write the three files of a table."""
    rows = [
        {"category": category, "variant": one["variant"], **one["row"]}
        for category, variants in found.items()
        for one in variants
    ]
    table = DataFrame(rows).dropna(axis="columns", how="all")
    text = table.to_csv(index=False, float_format="%.6f", lineterminator="\n")
    write_atomically(folder / f"{name}.csv", text)
    write_atomically(folder / f"{name}.images.csv", images_csv(found, data))
    write_atomically(folder / f"{name}.replicates.csv", replicates_csv(found, groups))


def images_csv(found: Found, data: Dataset) -> str:
    """The values of the pictures that variants have values of: all, or the anomalous ones."""
    parts = []
    for category, variants in found.items():
        columns = {
            f"{value} {one['variant']}": in_column(value, values)
            for one in variants
            for value, values in one["each"].items()
        }
        entries = data.entries(category)
        if len(next(iter(columns.values()))) < len(entries):
            entries = [entry for entry in entries if entry.kind != "good"]
        facts = {
            "category": [category] * len(entries),
            "image": [Path(entry.name).stem for entry in entries],
            "kind": [entry.kind for entry in entries],
        }
        if "area" in variants[0]:
            facts["area"] = in_units(variants[0]["area"])
        parts.append(DataFrame(facts | columns))
    return as_csv(concat(parts, ignore_index=True))


def replicates_csv(found: Found, groups: Mapping[str, Sequence[str]]) -> str:
    """One row a draw: each headline of each variant, as the mean over a group of categories."""
    columns = {}
    for group, members in groups.items():
        for variants in zip(*(found[category] for category in members), strict=True):
            for metric in HEADLINES:
                drawn = [one["replicates"].get(metric) for one in variants]
                if all(drawn):
                    mean = in_units(np.mean(drawn, axis=0))
                    columns[f"{metric} {group} {variants[0]['variant']}"] = mean
    return as_csv(DataFrame(columns or {"nothing": []}))


def in_column(value: str, values: Sequence[float]) -> Any:
    """Values as they are written: six digits of a score, a tenth of a pixel, else `in_units`."""
    if value == "score":
        return [float(f"{one:.6g}") for one in values]
    return np.round(values, 1) if value == "distance" else in_units(values)


def in_units(fractions: Sequence[float]) -> ExtensionArray:
    """Fractions as whole numbers of `UNIT`, NaN as a missing value.

    >>> in_units([0.81234, np.nan]).tolist()
    [8123, <NA>]
    """
    return array(np.round(np.asarray(fractions) / UNIT), dtype="Int64")


def as_csv(table: DataFrame) -> str:
    """Write columns that are equal once, under all their names, joined by |."""
    names: dict[str, list[str]] = {}
    for name in table:
        names.setdefault(table[name].to_csv(header=False, index=False), []).append(name)
    first = table[[equal[0] for equal in names.values()]]
    first = first.set_axis(map("|".join, names.values()), axis=1)
    return first.to_csv(index=False, lineterminator="\n")
