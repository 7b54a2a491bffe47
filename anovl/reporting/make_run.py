"""Make the shared run: `python -m anovl.reporting.make_run --out DIR`, or `make run`.

Every method looks at 16 normal and 16 anomalous pictures of each category of the pocket world, by
each pocket model that is here. That took twenty minutes for one model, on one core of a busy
machine. Its runs are kept under DIR, and a killed one goes on. `--check` only measures one category
anew, and says whether the committed run agrees.
"""

from __future__ import annotations

import argparse
import sys
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
from anovl.reporting.measure_run import SEED, dumped, measure_run
from anovl.reporting.reproduce import TOLERANCE, Comparison
from anovl.reporting.shared_run import FOLDER, SharedRun, code_of, read_shared_run

if TYPE_CHECKING:
    from pandas import DataFrame

DATA, PER_CATEGORY = "pocket", 16
CHECKED = "wood"
"""The category that `--check` measures anew."""


def check_run(
    run: SharedRun,
    clip: Clip,
    out: str | Path,
    *,
    category: str = CHECKED,
    methods: Iterable[str] | None = None,
) -> Comparison:
    """Measure one category anew, by some or all methods, and compare it and each of its images.

    Numbers agree within `anovl.reporting.reproduce.TOLERANCE`. Another model, other weights or
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


def main(argv: Sequence[str] | None = None) -> None:
    """Make the shared run of each pocket model that is here, or check it."""
    from anovl.models.load import load_clip

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--out", type=Path, help="folder for the runs; a killed one goes on")
    how.add_argument("--check", action="store_true", help="measure a category anew, and compare it")
    asked = parser.parse_args(argv)
    clips = {name: load_clip(name) for name in shipped_here()}
    if asked.check:
        checks = (check_and_stamp(read_shared_run(name), clip) for name, clip in clips.items())
        found = sum(checks, Comparison())
        print(f"The shared run, {CHECKED} measured anew: {found}")
        sys.exit(bool(found.differs))
    data = load_dataset(DATA, seed=SEED, per_category=PER_CATEGORY)
    for name, clip in clips.items():
        run = measure_run(clip, data, asked.out / name, target=FOLDER / name, progress=True)
        print(f"{name}: {', '.join(file.name for file in sorted(run.path.iterdir()))}")


if __name__ == "__main__":
    main()
