"""Measure methods and parts, and write the run in the small format of the shared run.

A run of `evaluate` holds bootstrap samples of each category, which is much. Here they are averaged
over groups of categories (`compact`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anovl._shared.files import write_atomically
from anovl.baselines import make_detector, published_options
from anovl.clip import Clip
from anovl.data.dataset import Dataset
from anovl.evaluation.compare import run_record
from anovl.evaluation.harness import evaluate
from anovl.evaluation.metrics import mask_at
from anovl.evaluation.run_folder import RunFolder, pair_name
from anovl_companion.measure.single_pictures import within_picture
from anovl_companion.shared_run.compact import Found, images_csv, replicates_csv, write_table
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
        truths = (mask_at(mask, shape) for mask in masks)
        values = within_picture((maps[place] for place in range(len(masks))), truths)
        areas = [mask.mean() if mask.any() else np.nan for mask in masks]
        self.folder.keep(pair_name(category, method), values | {"area": areas})

    def masks(self, dataset: Dataset, category: str) -> list[np.ndarray]:
        """Return the masks of a category's images, empty where nothing is known to be anomalous."""
        if category not in self._masks:
            self._masks.clear()
            masks = [sample.mask for sample in dataset.samples(category)]
            self._masks[category] = [np.zeros((1, 1), bool) if m is None else m for m in masks]
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
    run is written to `target`, None for a folder `compact` inside `out`. Every image needs a
    label, and for parts a mask. On MVTec AD and VisA methods keep the published protocol. `jobs`
    processes share the categories.
    """
    out, parts, groups = Path(out), tuple(parts), dict(data.groups) or {"all": data.categories}
    detectors = [
        make_detector(method, clip, **published_options(method, data.name)) for method in methods
    ]
    each, draws = EachImage(RunFolder(out / "images")), {"seed": seed, "resamples": resamples}
    options = {"jobs": jobs, "progress": progress}
    evaluate(data, detectors, out=out, save_maps=each, **options, **draws)
    run = SharedRun(Path(target or out / "compact"))
    found = _of_methods(out, data, each)
    write_atomically(run.path / "images.csv", images_csv(found, data))
    write_atomically(run.path / "replicates.csv", replicates_csv(found, groups))
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


def _of_methods(out: Path, data: Dataset, each: EachImage) -> Found:
    """What `evaluate` found, by category and method, with the areas of anomalies."""
    found: dict[str, list[dict[str, Any]]] = {}
    for category in data.categories:
        found[category] = []
        for method in run_record(out)["methods"]:
            pair = pair_name(category, method)
            part, values = RunFolder(out).read(pair), each.folder.read(pair)
            known = {
                "variant": method,
                "replicates": part["replicates"],
                "area": values.pop("area"),
            }
            found[category].append(known | {"each": {"score": part["images"]["score"]} | values})
    return found
