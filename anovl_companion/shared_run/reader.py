"""The shared run: all ways on the same pictures of the pocket world, measured once.

Notebooks read it, so that they agree and need not measure. `make run` makes it. One folder a model
holds run.json, results.csv and groups.csv as `evaluate` writes them, so that `read_results` and
`read_groups` read it too, and the tables of `compact`: "methods" (results.csv, images.csv and
replicates.csv), and those of `PARTS`. Intervals are of a bootstrap over the images of each
category; the training of the model is fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pandas import DataFrame

from anovl._shared.code import code_hash
from anovl._shared.messages import unknown
from anovl.baselines import FEW_SHOT, METHODS, VARIANTS, make_detector
from anovl.clip import Clip
from anovl.data.dataset import Dataset
from anovl.evaluation.compare import Scores, run_record
from anovl.evaluation.run_folder import imports_of
from anovl.models.pocket import SHIPPED
from anovl_companion.shared_run.parts import code_of_part
from anovl_companion.shared_run.table import METHODS_TABLE, Table

FOLDER = Path(__file__).parent
EVERY_METHOD = (*METHODS, *VARIANTS, *FEW_SHOT)
MARGIN, NARROW = 0.002, 0.01
"""What an interval's end must clear zero by, and how near to zero both ends of "equal" are."""
Judged = Literal["above", "below", "equal", "not told apart", "not measured"]
Gain = tuple[float, float, float]


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
    def tables(self) -> dict[str, Table]:
        """The table "methods", and those of `PARTS` that were measured."""
        names = (METHODS_TABLE, *self.record.get("parts", ()))
        return {name: Table(self.path, name, self.record["groups"]) for name in names}

    @property
    def methods(self) -> dict[str, str]:
        """The names in tables by those for `make_detector`: "pca-normal" says what it has seen."""
        return {name.split(" (")[0]: name for name in self.record["methods"]}

    def table(self, name: str = METHODS_TABLE) -> Table:
        """Return a table. Raises KeyError, naming those that are there, for one that is not."""
        if name not in self.tables:
            raise KeyError(f"{unknown('table of this run', name, self.tables)} See `make run`.")
        return self.tables[name]

    def images(self, table: str = METHODS_TABLE) -> DataFrame:
        """Return the values of each image by each variant of a table, one row an image and variant.

        Columns: `category`, `image`, `kind` ("good", or that of the anomaly), `method` (in other
        tables than "methods" `variant`), `auroc_px` of the image's own pixels, `distance` in pixels
        from the highest value of its map to the defect, and further ones of a part. "methods" has
        normal images too, with NaN; the `score` of each image; and the `area` of the anomaly as a
        share of the picture.
        """
        return self.table(table).images()

    def measured(
        self, variant: str, *, group: str | None = None, table: str = METHODS_TABLE
    ) -> Scores:
        """Return how one variant did on a group of categories, such as "seen"; None for all.

        Two of them of one table give a gain with its interval: `ours.gain(theirs, "aupro")`. Beside
        the pooled metrics there are means over single anomalous pictures: `within`, the AUROC of
        its own pixels; `on_defect` and `near_defect`, whether the highest value of its map lies
        there, or within 8 pixels; and what else a part has measured.

        Raises KeyError for a table, variant or group that is not in the run.
        """
        return self.table(table).scores(variant, group)

    def value(
        self, variant: str, metric: str, *, group: str | None = None, table: str = METHODS_TABLE
    ) -> Gain:
        """A mean over categories and its 95 % interval, low to high; NaN without draws.

        Raises KeyError as `measured` does, and for a metric that was not measured.
        """
        found = self._with(metric, variant, group, table)
        interval = found.interval(metric) if metric in found.replicates else (np.nan, np.nan)
        return found.mean(metric), *interval

    def gain(
        self,
        variant: str,
        over: str,
        metric: str,
        *,
        group: str | None = None,
        table: str = METHODS_TABLE,
    ) -> Gain:
        """How much better than another a variant is on the same images: difference, low, high.

        Raises KeyError as `value` does.
        """
        ours, theirs = (self._with(metric, one, group, table) for one in (variant, over))
        if metric in ours.replicates and metric in theirs.replicates:
            return ours.gain(theirs, metric)
        return ours.mean(metric) - theirs.mean(metric), np.nan, np.nan

    def pictures_better(
        self, variant: str, over: str, *, group: str | None = None, table: str = METHODS_TABLE
    ) -> tuple[int, int, int]:
        """On how many anomalous pictures the AUROC of its own pixels is higher, lower; of how many.

        Raises KeyError as `measured` does.
        """
        ours, theirs = (self.table(table).within(one, group) for one in (variant, over))
        return int((ours > theirs).sum()), int((ours < theirs).sum()), len(ours)

    def _with(self, metric: str, variant: str, group: str | None, table: str) -> Scores:
        found = self.measured(variant, group=group, table=table)
        known = list(next(iter(found.by_category.values())))
        if metric not in known:
            raise KeyError(unknown(f"value of {variant!r} in {table!r}", metric, known))
        return found

    def differences(self, clip: Clip, data: Dataset) -> list[str]:
        """Return what differs from a run of this model, on these data, by the code of today.

        Where nothing does, its numbers are those that would be measured. The data are compared by
        their hashes, so that seed and number of images count too.
        """
        run, hashes = self.record, {name: data.manifest_hash(name) for name in data.categories}
        code = {"code_sha256": run["code_sha256"], "parts": run.get("parts", {})}
        pairs = {
            "model": (run["models"], {clip.name: clip.weights_hash}),
            "precision": (set(run["precision"].values()), {clip.precision}),
            "device": (run["device"], clip.device.type),
            "data": (run["data_sha256"], hashes),
            "code": (code, code_of_today(self.methods, code["parts"], clip)),
        }
        return [f"other {name}" for name, (measured, here) in pairs.items() if measured != here]


def judged(gain: float, low: float, high: float) -> Judged:
    """Return the word that a difference and its interval, low to high, allow.

    "above" or "below" when the whole interval clears zero by `MARGIN`; "equal" when it lies within
    `NARROW` of zero; "not told apart" otherwise, and "not measured" for NaN.

    >>> judged(0.1, 0.02, 0.2), judged(0.0, -0.008, 0.009), judged(0.0, -0.02, 0.01)
    ('above', 'equal', 'not told apart')
    """
    if np.isnan([gain, low, high]).any():
        return "not measured"
    if low > MARGIN:
        return "above"
    if high < -MARGIN:
        return "below"
    return "equal" if low >= -NARROW and high <= NARROW else "not told apart"


def holds(
    variant: str,
    over: str,
    metric: str,
    *,
    says: Judged = "above",
    group: str | None = None,
    table: str = METHODS_TABLE,
    runs: Sequence[SharedRun] | None = None,
) -> bool:
    """Tell whether each trained model says the same of two variants; `runs` None: all that ship.

    >>> holds("anovl", "clip", "aupro"), holds("anovl", "clip", "aupro", says="equal")
    (True, False)

    Raises KeyError as `SharedRun.gain` does.
    """
    gains = [
        run.gain(variant, over, metric, group=group, table=table)
        for run in (shared_runs() if runs is None else runs)
    ]
    return bool(gains) and all(judged(*gain) == says for gain in gains)


def shared_runs() -> list[SharedRun]:
    """Return the shared runs of the pocket models, as far as they are here."""
    return [read_shared_run(name) for name in SHIPPED if (FOLDER / name / "run.json").is_file()]


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


def code_of_today(methods: Iterable[str], parts: Iterable[str], clip: Clip) -> dict[str, Any]:
    """What run.json would record of the code today."""
    return {
        "code_sha256": code_of(methods, clip),
        "parts": {part: code_of_part(part) for part in parts},
    }
