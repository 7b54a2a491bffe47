"""Measure methods and parts, and write the run in the small format of the shared run.

A run of `evaluate` holds bootstrap samples of each category, which is much. Here they are averaged
over groups of categories (`compact`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame, concat

from anovl._shared.files import write_atomically
from anovl.baselines import make_detector
from anovl.clip import Clip
from anovl.data.dataset import Dataset
from anovl.evaluation.compare import run_record
from anovl.evaluation.harness import evaluate
from anovl.evaluation.metrics import mask_at
from anovl.evaluation.results import HEADLINES
from anovl.evaluation.run_folder import RunFolder, pair_name
from anovl_companion.measure.single_pictures import within_picture
from anovl_companion.shared_run.compact import (
    as_csv,
    in_column,
    in_units,
    means_of_draws,
    write_table,
)
from anovl_companion.shared_run.parts import code_of_part, measure_parts
from anovl_companion.shared_run.reader import EVERY_METHOD, SharedRun

SEED, RESAMPLES, PART_RESAMPLES = 0, 500, 300


@dataclass(frozen=True)
class EachImage:
    """Measures each map alone: for `evaluate(..., save_maps=EachImage(...))`.

    Values are those of `within_picture`, NaN for a normal image.
    """

    folder: RunFolder
    _masks: dict[str, list[np.ndarray]] = field(default_factory=dict, repr=False)

    def files(self, dataset: Dataset, category: str, method: str) -> list[Path]:
        return [self.folder.part(pair_name(category, method))]

    def save(
        self, dataset: Dataset, category: str, method: str, maps: Mapping[int, np.ndarray]
    ) -> None:
        masks, shape = self.masks(dataset, category), maps[0].shape
        values = within_picture(
            (maps[place] for place in range(len(masks))), (mask_at(mask, shape) for mask in masks)
        )
        self.folder.keep(pair_name(category, method), values)

    def masks(self, dataset: Dataset, category: str) -> list[np.ndarray]:
        """Return the masks of a category's images; those of normal ones are empty."""
        if category not in self._masks:
            self._masks.clear()
            samples = dataset.samples(category)
            self._masks[category] = [sample.mask for sample in samples]
        return self._masks[category]


def measure_run(
    clip: Clip,
    data: Dataset,
    out: str | Path,
    *,
    target: str | Path | None = None,
    methods: Iterable[str] = EVERY_METHOD,
    parts: Iterable[str] = (),
    seed: int = SEED,
    resamples: int = RESAMPLES,
    part_resamples: int = PART_RESAMPLES,
    jobs: int = 1,
    progress: bool = False,
) -> SharedRun:
    """Measure methods, and `parts` of `PARTS`, and write a run in the format of the shared run.

    `out` holds the run of `evaluate` and the parts: called again, a killed one goes on. The compact
    run is written to `target`, None for a folder `compact` inside `out`. Every image needs a label
    and a mask. `jobs` processes share the categories.
    """
    out, parts, groups = Path(out), tuple(parts), dict(data.groups) or {"all": data.categories}
    detectors = [make_detector(method, clip) for method in methods]
    each, draws = EachImage(RunFolder(out / "images")), {"seed": seed, "resamples": resamples}
    options = {"jobs": jobs, "progress": progress}
    evaluate(data, detectors, out=out, save_maps=each, **options, **draws)
    run = SharedRun(Path(target or out / "compact"))
    write_atomically(run.path / "images.csv", as_csv(_images_table(out, data, each)))
    replicates = as_csv(_replicates_table(out, groups, run_record(out)["methods"]))
    write_atomically(run.path / "replicates.csv", replicates)
    for name in ("results.csv", "groups.csv"):
        if (out / name).is_file():
            write_atomically(run.path / name, (out / name).read_text(encoding="utf-8"))
    given = {"parts": parts, "seed": seed, "resamples": part_resamples}
    for part, found in measure_parts(clip, data, out, **given, **options).items():
        write_table(run.path, part, found, data, groups)
    record = {key: value for key, value in run_record(out).items() if key != "git_revision"}
    record |= {"groups": groups, "parts": {part: code_of_part(part) for part in parts}}
    write_run_record(run.path, record | {"part_resamples": part_resamples})
    return run


def write_run_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the run.json of a shared run."""
    write_atomically(folder / "run.json", json.dumps(record, indent=1) + "\n")


def _images_table(out: Path, data: Dataset, each: EachImage) -> DataFrame:
    """One row an image: what it is, and three values by each method."""
    methods, parts = run_record(out)["methods"], []
    for category in data.categories:
        entries, masks = data.entries(category), each.masks(data, category)
        facts = {
            "category": [category] * len(entries),
            "image": [Path(entry.name).stem for entry in entries],
            "kind": [entry.kind for entry in entries],
            "area": in_units([mask.mean() if mask.any() else np.nan for mask in masks]),
        }
        for method in methods:
            pair = pair_name(category, method)
            scores = [float(f"{score:.6g}") for score in RunFolder(out).read(pair)["scores"]]
            facts |= {f"score {method}": scores}
            for value, values in each.folder.read(pair).items():
                facts |= {f"{value} {method}": in_column(value, values)}
        parts.append(DataFrame(facts))
    return concat(parts, ignore_index=True)


def _replicates_table(
    out: Path, groups: Mapping[str, Sequence[str]], methods: Sequence[str]
) -> DataFrame:
    """One row a draw: each headline of each method, as the mean over a group of categories."""
    read, draws = RunFolder(out).read, {}
    for group, members in groups.items():
        for method in methods:
            own = [read(pair_name(category, method))["replicates"] for category in members]
            for metric in HEADLINES:
                known = all(metric in one for one in own)
                drawn = [one[metric] for one in own] if known else [[np.nan]]
                draws[f"{metric} {group} {method}"] = drawn
    return means_of_draws(draws)
