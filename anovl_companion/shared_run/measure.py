"""Measure methods, and write the run in the small format of the shared run.

A run of `evaluate` holds bootstrap samples of each category, which is much. Here they are averaged
over groups of categories, and columns that are equal are written once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame, Series, array, concat
from pandas.api.extensions import ExtensionArray

from anovl._shared.files import write_atomically
from anovl.baselines import make_detector
from anovl.clip import Clip
from anovl.data.dataset import Dataset
from anovl.evaluation.compare import read_scores, run_record
from anovl.evaluation.harness import evaluate
from anovl.evaluation.results import HEADLINES
from anovl.evaluation.run_folder import RunFolder, pair_name
from anovl_companion.shared_run.reader import EVERY_METHOD, UNIT, SharedRun

SEED, RESAMPLES = 0, 500


def measure_run(
    clip: Clip,
    data: Dataset,
    out: str | Path,
    *,
    target: str | Path | None = None,
    methods: Iterable[str] = EVERY_METHOD,
    seed: int = SEED,
    resamples: int = RESAMPLES,
    progress: bool = False,
) -> SharedRun:
    """Measure methods on a data set, and write a run in the format of the shared run.

    `out` holds the run of `evaluate`: called again, a killed one goes on. The compact run is
    written to `target`, None for a folder `compact` inside `out`. Every image needs a label.
    """
    detectors = [make_detector(method, clip) for method in methods]
    out, draws = Path(out), {"seed": seed, "resamples": resamples}
    evaluate(data, detectors, out=out, progress=progress, **draws)
    run = SharedRun(Path(target or out / "compact"))
    groups = dict(data.groups) or {"all": data.categories}
    record = {key: value for key, value in run_record(out).items() if key != "git_revision"}
    tables = {
        "images.csv": _csv(_images_table(out, data)),
        "replicates.csv": _csv(_replicates_table(out, groups, record["methods"])),
    }
    for name in ("results.csv", "groups.csv"):
        if (out / name).is_file():
            tables[name] = (out / name).read_text(encoding="utf-8")
    for name, text in tables.items():
        write_atomically(run.path / name, text)
    write_run_record(run.path, record | {"groups": groups})
    return run


def write_run_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the run.json of a shared run."""
    write_atomically(folder / "run.json", json.dumps(record, indent=1) + "\n")


def _images_table(out: Path, data: Dataset) -> DataFrame:
    """One row an image: what it is, and two values by each method."""
    methods, parts = run_record(out)["methods"], []
    for category in data.categories:
        entries = data.entries(category)
        masks = [sample.mask if sample.label else None for sample in data.samples(category)]
        facts = {
            "category": [category] * len(entries),
            "image": [Path(entry.name).stem for entry in entries],
            "kind": [entry.kind for entry in entries],
            "area": in_units([np.nan if mask is None else mask.mean() for mask in masks]),
        }
        for method in methods:
            own = RunFolder(out).read(pair_name(category, method))["images"]
            facts |= {f"score {method}": [float(f"{score:.6g}") for score in own["score"]]}
            facts |= {f"auroc_px {method}": in_units(own["auroc_px"])}
        parts.append(DataFrame(facts))
    return _merged(concat(parts, ignore_index=True))


def _replicates_table(
    out: Path, groups: Mapping[str, Sequence[str]], methods: Sequence[str]
) -> DataFrame:
    """One row a draw: each headline of each method, as the mean over a group of categories."""
    columns = {}
    for group, members in groups.items():
        for method in methods:
            replicates = read_scores([out], method, members).replicates
            for metric in HEADLINES:
                values = replicates.get(metric, [np.nan])
                columns[f"{metric} {group} {method}"] = in_units(values)
    return _merged(DataFrame({name: Series(values) for name, values in columns.items()}))


def in_units(fractions: Sequence[float]) -> ExtensionArray:
    """Fractions as whole numbers of `UNIT`, NaN as a missing value.

    >>> in_units([0.81234, np.nan]).tolist()
    [8123, <NA>]
    """
    return array(np.round(np.asarray(fractions) / UNIT), dtype="Int64")


def _merged(table: DataFrame) -> DataFrame:
    """Write columns that are equal once, under all their names, joined by |."""
    names: dict[str, list[str]] = {}
    for name in table:
        names.setdefault(table[name].to_csv(header=False, index=False), []).append(name)
    first = table[[equal[0] for equal in names.values()]]
    return first.set_axis(map("|".join, names.values()), axis=1)


def _csv(table: DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")
