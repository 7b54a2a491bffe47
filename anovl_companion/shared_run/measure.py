"""Measure methods, and write the run as the shared one is written: small, and read in the same way.

What `evaluate` keeps of a run is large: bootstrap samples of each category. Here they are averaged
over groups of categories, and columns that are equal are written once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anovl._shared.files import write_atomically
from anovl.baselines import make_detector
from anovl.clip import Clip
from anovl.data.dataset import Dataset
from anovl.evaluation.compare import measured, run_record
from anovl.evaluation.harness import evaluate
from anovl.evaluation.metrics import auroc, mask_at
from anovl.evaluation.results import HEADLINES
from anovl.evaluation.run_folder import RunFolder
from anovl_companion.shared_run.reader import EVERY_METHOD, UNIT, SharedRun

if TYPE_CHECKING:
    from pandas import DataFrame
    from pandas.api.extensions import ExtensionArray

SEED, RESAMPLES = 0, 500


@dataclass(frozen=True)
class EachImage:
    """Measures each map alone and keeps the values: for `evaluate(..., save_maps=EachImage(...))`.

    A value is the AUROC of an anomalous image's own pixels, NaN where there is none.
    """

    folder: RunFolder
    _masks: dict[str, list[np.ndarray | None]] = field(default_factory=dict, repr=False)

    def files(self, dataset: Dataset, category: str, method: str) -> list[Path]:
        return [self.folder.part(f"{category}, {method}")]

    def save(
        self, dataset: Dataset, category: str, method: str, maps: Mapping[int, np.ndarray]
    ) -> None:
        masks = enumerate(self.masks(dataset, category))
        found = [_own_auroc(maps[place], mask) for place, mask in masks]
        self.folder.keep(f"{category}, {method}", found)

    def masks(self, dataset: Dataset, category: str) -> list[np.ndarray | None]:
        """Return the masks of a category's anomalous images, None for others; drawn once."""
        if category not in self._masks:
            reads = zip(dataset.reads(category), dataset.labels(category), strict=True)
            own = [read().mask if label else None for read, label in reads]
            self._masks.clear()
            self._masks[category] = own
        return self._masks[category]


def _own_auroc(values: np.ndarray, mask: np.ndarray | None) -> float:
    truth = None if mask is None else mask_at(mask, values.shape)
    if truth is None or not truth.any() or truth.all():
        return float("nan")
    return auroc(values, truth)


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
    """Measure methods on a data set, and write a run that is read as the shared one is.

    `out` holds the run of `evaluate`: called again, a killed one goes on. The compact run is
    written to `target`, None for a folder `compact` inside `out`. Every image must have a label,
    and must be readable.
    """
    detectors = [make_detector(method, clip) for method in methods]
    each = EachImage(RunFolder(Path(out) / "images"))
    draws = {"seed": seed, "resamples": resamples}
    evaluate(data, detectors, out=out, save_maps=each, progress=progress, **draws)
    run = SharedRun(Path(target or Path(out) / "compact"))
    for name, text in _compact(Path(out), data, each).items():
        write_atomically(run.path / name, text)
    return run


def _compact(out: Path, data: Dataset, each: EachImage) -> dict[str, str]:
    """Return the files of a shared run, from a finished run of `evaluate`."""
    groups = dict(data.groups) or {"all": data.categories}
    record = {key: value for key, value in run_record(out).items() if key != "git_revision"}
    copied = ("results.csv", "groups.csv")
    files = {name: out / name for name in copied if (out / name).is_file()}
    return {
        "images.csv": _csv(_images_table(out, data, each)),
        "replicates.csv": _csv(_replicates_table(out, groups, record["methods"])),
        **{name: path.read_text(encoding="utf-8") for name, path in files.items()},
        "run.json": dumped(record | {"groups": groups}),
    }


def _images_table(out: Path, data: Dataset, each: EachImage) -> DataFrame:
    """One row an image: what it is, and two values by each method."""
    from pandas import DataFrame, concat

    methods, parts = run_record(out)["methods"], []
    for category in data.categories:
        entries, masks = data.entries(category), each.masks(data, category)
        facts = {
            "category": [category] * len(entries),
            "image": [Path(entry.name).stem for entry in entries],
            "kind": [entry.kind for entry in entries],
            "area": in_units([np.nan if mask is None else mask.mean() for mask in masks]),
        }
        for method in methods:
            pair = f"{category}, {method}"
            scores = [float(f"{score:.6g}") for score in RunFolder(out).read(pair)["scores"]]
            facts |= {f"score {method}": scores}
            facts |= {f"auroc_px {method}": in_units(each.folder.read(pair))}
        parts.append(DataFrame(facts))
    return _merged(concat(parts, ignore_index=True))


def _replicates_table(
    out: Path, groups: Mapping[str, Sequence[str]], methods: Sequence[str]
) -> DataFrame:
    """One row a draw: each headline of each method, as the mean over a group of categories."""
    from pandas import DataFrame, Series

    columns = {}
    for group, members in groups.items():
        for method in methods:
            found = measured([out], method, members).replicates
            for metric in HEADLINES:
                columns[f"{metric} {group} {method}"] = in_units(found.get(metric, [np.nan]))
    return _merged(DataFrame({name: Series(own) for name, own in columns.items()}))


def in_units(fractions: Sequence[float]) -> ExtensionArray:
    """Whole numbers of `UNIT`, and none for NaN: what is written of fractions.

    >>> in_units([0.81234, np.nan]).tolist()
    [8123, <NA>]
    """
    from pandas import array

    return array(np.round(np.asarray(fractions) / UNIT), dtype="Int64")


def _merged(table: DataFrame) -> DataFrame:
    """Leave out columns that equal another one, whose name they then share."""
    names: dict[str, list[str]] = {}
    for name in table:
        names.setdefault(table[name].to_csv(header=False, index=False), []).append(name)
    return table[[own[0] for own in names.values()]].set_axis(map("|".join, names.values()), axis=1)


def _csv(table: DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")


def dumped(record: Mapping[str, Any]) -> str:
    """Write run.json's text."""
    return json.dumps(record, indent=1) + "\n"
