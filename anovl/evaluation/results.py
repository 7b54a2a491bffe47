"""The tables of results: columns, and means with intervals.

The column `level` is "category", "group" (of categories) or "mean" (of all), because a category may
be called "mean", or "nan".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame, concat, read_csv

from anovl.evaluation.bootstrap import are_enough, bootstrap_interval, cautious_interval

PIXEL = ("auroc_px", "auroc_px_debiased", "f1_px", "ap_px", "aupro")
IMAGE = ("auroc_sp", "f1_sp", "ap_sp")
TIME = "ms_per_image"  # in timing.csv, because it differs from machine to machine
HEADLINES = ("auroc_sp", "auroc_px_debiased", "aupro")
COLUMNS = (
    *("dataset", "level", "category", "method", "n_images", "n_anomalous"),
    *(*PIXEL, *IMAGE),
    *(f"{metric}_{end}" for metric in HEADLINES for end in ("lo", "hi")),
    "note",
)
_TEXTS = ("dataset", "level", "category", "method", "note")
_NUMBERS = (*(name for name in COLUMNS if name not in _TEXTS), TIME)


def read_results(out: str | Path) -> DataFrame:
    """Return results.csv of a finished run; names such as "nan" and "" stay texts.

    Raises FileNotFoundError for a run that is not finished.
    """
    return _read(Path(out) / "results.csv", "the run is unfinished; start it again")


def read_groups(out: str | Path) -> DataFrame:
    """Return groups.csv of a finished run: means of each method over groups of categories.

    The column `category` names the group, such as "seen" and "unseen" of the pocket world; all
    others are those of results.csv. Raises FileNotFoundError for a run without groups.
    """
    return _read(Path(out) / "groups.csv", "the run is unfinished, or has no groups")


def _read(path: Path, why_not: str) -> DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: {why_not}")
    empty = {name: [""] for name in _NUMBERS}
    types = dict.fromkeys(_TEXTS, str)
    odd = {"encoding_errors": "surrogateescape"}  # names of files may not be UTF-8
    return read_csv(path, dtype=types, keep_default_na=False, na_values=empty, **odd)


def results_table(parts: Sequence[dict[str, Any]]) -> DataFrame:
    """Make a row with intervals of each finished pair, and a row of means of each method."""
    rows = [part["row"] | _intervals([part]) for part in parts]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [part for part in parts if part["row"]["method"] == method]
        rows.append(_mean_row(own))
    return DataFrame(rows, columns=list(COLUMNS))


def read_timing(out: str | Path) -> DataFrame:
    """Return timing.csv of a finished run: `ms_per_image` of each category and method, and means.

    Raises FileNotFoundError for a run that is not finished.
    """
    return _read(Path(out) / "timing.csv", "the run is unfinished; start it again")


def timing_table(parts: Sequence[dict[str, Any]]) -> DataFrame:
    """Make a row with the milliseconds an image of each pair, and a row of means of each method."""
    keys = ["dataset", "level", "category", "method"]
    rows = [{key: part["row"][key] for key in keys} | {TIME: part[TIME]} for part in parts]
    table = DataFrame(rows)
    means = table.groupby(["dataset", "method"], sort=False, as_index=False)[TIME].mean()
    means = means.assign(level="mean", category="mean")
    return concat([table, means], ignore_index=True)[[*keys, TIME]]


def group_table(parts: Sequence[dict[str, Any]], groups: Mapping[str, Sequence[str]]) -> DataFrame:
    """Average each method over each group of categories."""
    rows = []
    for method in dict.fromkeys(part["row"]["method"] for part in parts):
        own = {p["row"]["category"]: p for p in parts if p["row"]["method"] == method}
        for group, members in groups.items():
            if found := [own[category] for category in members if category in own]:
                rows.append(_mean_row(found) | {"level": "group", "category": group})
    return DataFrame(rows, columns=list(COLUMNS))


def images_table(parts: Sequence[dict[str, Any]]) -> DataFrame:
    """Make a row of each image: what it is, its score by each method and the AUROC of its map.

    Columns: `category`, `picture`, `label`, `kind` and, for each method, `score METHOD` and
    `auroc_px METHOD`, which is that of the image's own pixels, empty where they are of one kind.
    """
    tables: dict[str, dict[str, Any]] = {}
    for part in parts:
        category, method, images = part["row"]["category"], part["row"]["method"], part["images"]
        facts = {"category": category} | {key: images[key] for key in ("picture", "label", "kind")}
        own = {f"{key} {method}": images[key] for key in ("score", "auroc_px")}
        tables.setdefault(category, facts).update(own)
    return concat(map(DataFrame, tables.values()), ignore_index=True)


def as_csv(table: DataFrame, *, exact: bool = False) -> str:
    rounded = None if exact else "%.6f"  # rounded scores could be equal, and their AUROC another
    return table.to_csv(index=False, float_format=rounded, lineterminator="\n")


def _mean_row(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average one method's categories; replicates are averaged draw by draw."""
    table = DataFrame([part["row"] for part in parts])
    row = table.iloc[0][["dataset", "method"]].to_dict() | {"level": "mean", "category": "mean"}
    row |= {name: int(table[name].sum()) for name in ("n_images", "n_anomalous")}
    row |= table[[*PIXEL, *IMAGE]].mean().to_dict()
    complete = sum(not note for note in table["note"])
    note = f"{complete} of {len(table)} categories complete"
    if table["note"].nunique() == 1:
        note = table["note"].iloc[0]
    return row | _intervals(parts) | {"note": note}


def _intervals(parts: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Bound the headlines of a category, or their means over several."""
    bounds = {}
    for metric in HEADLINES:
        known = [part for part in parts if not isnan(part["row"][metric])]
        if not known or not all(metric in part["replicates"] for part in known):
            continue
        rows = [part["row"] for part in known]
        value, enough = rows[0][metric], are_enough(rows)
        if metric == "auroc_sp" and len(rows) == 1 and (not enough or value in (0, 1)):
            anomalous = rows[0]["n_anomalous"]
            interval = cautious_interval(value, min(anomalous, rows[0]["n_images"] - anomalous))
        elif enough:
            drawn = [part["replicates"][metric] for part in known]
            interval = bootstrap_interval(np.mean(drawn, axis=0))
        else:
            continue
        bounds |= {f"{metric}_lo": interval[0], f"{metric}_hi": interval[1]}
    return bounds


HEADS = {
    "auroc_sp": "image AUROC",
    "auroc_px": "pixel AUROC",
    "auroc_px_debiased": "position-debiased",
    "aupro": "AUPRO",
    "f1_px": "pixel F1",
    "ap_px": "pixel AP",
    TIME: "ms/image",
}


def missing_numbers(table: DataFrame) -> list[str]:
    """Say why cells of `evaluate`'s table are empty, and in which categories.

    >>> rows = {"level": ["category"] * 2, "category": ["nut", "bolt"]}
    >>> missing_numbers(DataFrame(rows | {"note": ["no anomalous images; no defect pixels", ""]}))
    ['no anomalous images: nut', 'no defect pixels: nut']
    """
    reasons: dict[str, dict[str, None]] = {}
    for row in table[table["level"] == "category"].to_dict("records"):
        for reason in filter(None, row["note"].split("; ")):
            reasons.setdefault(reason, {})[row["category"]] = None
    return [f"{reason}: {', '.join(named)}" for reason, named in reasons.items()]
