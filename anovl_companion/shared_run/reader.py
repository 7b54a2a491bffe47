"""The shared run: every method on the same pictures of the pocket world, measured once.

Notebooks read it, so that they agree and need not measure. `make run` makes it. One folder a model
holds run.json, results.csv and groups.csv as `evaluate` writes them, so that `read_results` and
`read_groups` read it too. Beside them are images.csv, the values of each image, and replicates.csv,
bootstrap means of each group of categories. There fractions are whole numbers of 0.0001, and
columns that are equal are one column with all their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame, concat, read_csv

from anovl._shared.code import code_hash
from anovl._shared.messages import unknown
from anovl.baselines import FEW_SHOT, METHODS, VARIANTS, make_detector
from anovl.clip import Clip
from anovl.data.dataset import Dataset
from anovl.evaluation.compare import Scores, run_record
from anovl.evaluation.results import HEADLINES, IMAGE, PIXEL, read_results
from anovl.evaluation.run_folder import imports_of

FOLDER = Path(__file__).parent
EVERY_METHOD = (*METHODS, *VARIANTS, *FEW_SHOT)
UNIT = 1e-4
"""Fractions in images.csv and replicates.csv are whole numbers of it."""


@dataclass(frozen=True)
class SharedRun:
    """A run in a folder as `anovl_companion.shared_run.measure` writes it.

    >>> run = read_shared_run("pocket")
    >>> gain, low, high = run.gain("anovl", "clip", "aupro", group="seen")
    >>> low <= gain <= high
    True
    """

    path: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """What decided the run, as in run.json of `evaluate`; `groups` are sets of categories."""
        return run_record(self.path)

    @cached_property
    def methods(self) -> dict[str, str]:
        """The names in tables by those for `make_detector`: "pca-normal" says what it has seen."""
        return {name.split(" (")[0]: name for name in self.record["methods"]}

    def images(self) -> DataFrame:
        """Return the values of each image by each method, one row an image and method.

        Columns: `category`, `image`, `kind` ("good", or that of the anomaly), `area` of the anomaly
        as a share of the picture, `method`, its `score`, and `auroc_px` of the image's own pixels,
        NaN for a normal image.
        """
        table = read_csv(self.path / "images.csv", dtype={"image": str})
        facts, columns = table[["category", "image", "kind", "area"]], _split(table)
        facts = facts.assign(area=UNIT * facts["area"])
        parts = []
        for name in self.record["methods"]:
            values = {"score": columns[f"score {name}"]}
            values["auroc_px"] = UNIT * columns[f"auroc_px {name}"]
            parts.append(facts.assign(method=name, **values))
        return concat(parts, ignore_index=True)

    def measured(self, method: str, *, group: str | None = None) -> Scores:
        """Return how one method did on a group of categories, such as "seen"; None for all.

        Two of them of one run give a gain with its interval: `ours.gain(theirs, "aupro")`. The
        replicates are means over the group.

        Raises ValueError for a method or a group that is not in the run.
        """
        groups = self.record["groups"]
        if method not in self.methods:
            raise ValueError(unknown("method of this run", method, self.methods))
        if group is not None and group not in groups:
            raise ValueError(unknown("group of this run", group, groups))
        name = self.methods[method]
        chosen = groups if group is None else {group: groups[group]}
        rows = self._rows[self._rows["method"] == name].to_dict("records")
        inside = {category for members in chosen.values() for category in members}
        sizes, replicates = [len(members) for members in chosen.values()], {}
        for metric in HEADLINES:
            parts = [self._replicates[f"{metric} {one} {name}"] for one in chosen]
            replicates[metric] = np.average(parts, axis=0, weights=sizes)
        return Scores({r["category"]: r for r in rows if r["category"] in inside}, replicates)

    def gain(
        self, method: str, over: str, metric: str, *, group: str | None = None
    ) -> tuple[float, float, float]:
        """How much better than another a method is on the same images: difference, low, high."""
        ours, theirs = (self.measured(one, group=group) for one in (method, over))
        return ours.gain(theirs, metric)

    def differences(self, clip: Clip, data: Dataset) -> list[str]:
        """Return what differs from a run of this model, on these data, by the code of today.

        Where nothing does, its numbers are those that would be measured. The data are compared by
        their hashes, so that seed and number of images count too.
        """
        run, hashes = self.record, {name: data.manifest_hash(name) for name in data.categories}
        pairs = {
            "model": (run["models"], {clip.name: clip.weights_hash}),
            "precision": (set(run["precision"].values()), {clip.precision}),
            "device": (run["device"], clip.device.type),
            "data": (run["data_sha256"], hashes),
            "code": (run["code_sha256"], code_of(self.methods, clip)),
        }
        return [f"other {name}" for name, (measured, here) in pairs.items() if measured != here]

    @cached_property
    def _rows(self) -> DataFrame:
        table = read_results(self.path)
        columns = ["category", "method", *PIXEL, *IMAGE]
        return table.loc[table["level"] == "category", columns]

    @cached_property
    def _replicates(self) -> Mapping[str, np.ndarray]:
        columns = _split(read_csv(self.path / "replicates.csv"))
        return {name: UNIT * own.to_numpy(float) for name, own in columns.items()}


def read_shared_run(model: str = "pocket") -> SharedRun:
    """Return the shared run of a pocket model.

    Raises FileNotFoundError where there is none.
    """
    folder = FOLDER / model
    if not (folder / "run.json").is_file():
        raise FileNotFoundError(f"there is no shared run of {model!r} in {FOLDER}: see `make run`")
    return SharedRun(folder)


def find_shared_run(clip: Clip, data: Dataset) -> SharedRun | None:
    """Return the shared run if it is of this model, these data and the code of today, else None.

    `anovl_companion.shared_run.measure` measures another, which is read in the same way.

    >>> from anovl import load_clip
    >>> from anovl.data import load_dataset
    >>> find_shared_run(load_clip("pocket"), load_dataset("pocket", seed=1)) is None
    True
    """
    try:
        run = read_shared_run(clip.name)
    except FileNotFoundError:
        return None
    return None if run.differences(clip, data) else run


def code_of(methods: Iterable[str], clip: Clip) -> str:
    """Hash the code that the results of methods depend on, as `evaluate` does."""
    return code_hash(imports_of([make_detector(method, clip) for method in methods]))


def _split(table: DataFrame) -> dict[str, Any]:
    """Return columns by their names; one column with names joined by | is that of each of them."""
    return {name: table[head] for head in table for name in head.split("|")}
