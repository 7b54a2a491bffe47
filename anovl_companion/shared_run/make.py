"""Make the shared run: `python -m anovl_companion run`, or `make run`.

Every method looks at 16 normal and 16 anomalous pictures of each category of the pocket world, by
each pocket model that is here. `check_runs` only measures one category anew, and says whether the
committed run agrees.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anovl._shared.files import write_atomically
from anovl.clip import Clip
from anovl.data import load_dataset
from anovl.evaluation.results import read_results
from anovl.models.pocket import shipped_here
from anovl_companion.reproduce import TOLERANCE, Comparison
from anovl_companion.shared_run.measure import SEED, dumped, measure_run
from anovl_companion.shared_run.reader import FOLDER, SharedRun, code_of, read_shared_run

if TYPE_CHECKING:
    from pandas import DataFrame

DATA, PER_CATEGORY = "pocket", 16
CHECKED = "wood"
"""The category that `check_runs` measures anew."""


def check_run(
    run: SharedRun,
    clip: Clip,
    out: str | Path,
    *,
    category: str = CHECKED,
    methods: Iterable[str] | None = None,
) -> Comparison:
    """Measure one category anew, by some or all methods, and compare it and each of its images.

    Numbers agree within `anovl_companion.reproduce.TOLERANCE`. Another model, other weights or
    other data are a difference; other code is none if it finds the same.
    """
    record, given = run.record, {"name": run.record["dataset"], **run.record["data"]}
    other = run.differences(clip, load_dataset(**given))
    found = Comparison(differs=tuple(what for what in other if what != "other code"))
    draws = {"seed": record["seed"], "resamples": record["resamples"]}
    data = load_dataset(**given, categories=[category])
    new = measure_run(clip, data, out, methods=run.methods if methods is None else methods, **draws)
    values = (read_results(one.path).query("level == 'category'") for one in (run, new))
    found += compare_values(*values, keys=("category", "method"))
    return found + compare_values(
        run.images(), new.images(), keys=("category", "image", "kind", "method")
    )


def check_and_stamp(run: SharedRun, clip: Clip) -> Comparison:
    """Check a run; if it agrees, write down that the code of today has found it."""
    with tempfile.TemporaryDirectory() as out:
        found = check_run(run, clip, out)
    if not found.differs:
        stamped = run.record | {"code_sha256": code_of(run.methods, clip)}
        write_atomically(run.path / "run.json", dumped(stamped))
    return found


def compare_values(old: DataFrame, new: DataFrame, *, keys: Sequence[str]) -> Comparison:
    """Compare the numbers of all rows of a new table with those of the same keys in an old one.

    >>> from pandas import DataFrame
    >>> old, new = (DataFrame({"method": ["x"], "aupro": [v]}) for v in (0.5, 0.6))
    >>> print(compare_values(old, new, keys=["method"]))
    Not as committed:
      x: aupro is 0.6, was 0.5
    """
    new = new.set_index(list(keys)).select_dtypes("number")
    old = old.set_index(list(keys)).reindex(new.index)[list(new)]
    gaps = (new - old).abs() / old.abs().clip(lower=1)
    gaps = gaps.mask(new.isna() & old.isna(), 0).fillna(np.inf)
    differs = [
        f"{', '.join(np.atleast_1d(new.index[row]))}: {new.columns[column]} is "
        f"{new.iat[row, column]:.6g}, was {old.iat[row, column]:.6g}"
        for row, column in np.argwhere(gaps.to_numpy() > TOLERANCE)
    ]
    return Comparison(len(new), float(gaps.to_numpy().max()), tuple(differs))


def check_runs() -> Comparison:
    """Check the shared run of each pocket model that is here: one category, measured anew."""
    from anovl.models.load import load_clip

    checks = (check_and_stamp(read_shared_run(name), load_clip(name)) for name in shipped_here())
    return sum(checks, Comparison())


def make_runs(out: Path) -> None:
    """Measure the shared run of each pocket model that is here; a killed one in `out` goes on."""
    from anovl.models.load import load_clip

    data = load_dataset(DATA, seed=SEED, per_category=PER_CATEGORY)
    for name in shipped_here():
        run = measure_run(load_clip(name), data, out / name, target=FOLDER / name, progress=True)
        print(f"{name}: {', '.join(file.name for file in sorted(run.path.iterdir()))}")
