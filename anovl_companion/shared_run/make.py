"""Make the shared run (`make run`), or check it.

Every method and part is measured on 16 normal and 16 anomalous pictures of each category of the
pocket world, with each pocket model that is here. The check measures one category anew and compares
it with the committed run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from pandas import DataFrame

from anovl.clip import Clip
from anovl.data import load_dataset
from anovl.models.load import load_clip
from anovl.models.pocket import shipped_here
from anovl_companion.reproduce import TOLERANCE
from anovl_companion.shared_run.measure import SEED, measure_run, write_run_record
from anovl_companion.shared_run.parts import PARTS
from anovl_companion.shared_run.reader import FOLDER, SharedRun, code_of_today, read_shared_run
from anovl_companion.shared_run.table import METHODS_TABLE

DATA, PER_CATEGORY = "pocket", 16
OF_A_PICTURE = 3 * TOLERANCE  # few pixels decide it, and a fit of the probe ends a little elsewhere
CHECKED = "wood"
"""The category that `check_runs` measures anew."""


def check_run(
    run: SharedRun,
    clip: Clip,
    out: str | Path,
    *,
    category: str = CHECKED,
    methods: Iterable[str] | None = None,
    parts: Iterable[str] | None = None,
) -> list[str]:
    """Measure one category anew, by some or all methods and parts; return what differs.

    Numbers of the category agree within `anovl_companion.reproduce.TOLERANCE`, those of each image
    within `OF_A_PICTURE`.
    Another model, other weights or other data are a difference; other code is none if it finds the
    same.
    """
    record, given = run.record, {"name": run.record["dataset"], **run.record["data"]}
    other = run.differences(clip, load_dataset(**given))
    differs = [f"{clip.name}: {what}" for what in other if what != "other code"]
    draws = {"seed": record["seed"], "resamples": record["resamples"], "part_resamples": 1}
    data = load_dataset(**given, categories=[category])
    names = {"methods": methods or run.methods, "parts": record.get("parts", ())}
    if parts is not None:
        names["parts"] = parts
    new = measure_run(clip, data, out, **names, **draws)
    for name in new.tables:
        rows = (one.table(name).rows for one in (run, new))
        differs += compare_values(*rows, keys=("category", "variant"))
        # the place of the highest value may jump between two that are nearly equal
        images = (one.images(name).drop(columns="distance", errors="ignore") for one in (run, new))
        of = "method" if name == METHODS_TABLE else "variant"
        keys = ("category", "image", "kind", of)
        differs += compare_values(*images, keys=keys, tolerance=OF_A_PICTURE)
    return differs


def compare_values(
    old: DataFrame, new: DataFrame, *, keys: Sequence[str], tolerance: float = TOLERANCE
) -> list[str]:
    """Compare the numbers of all rows of a new table with those of the same keys in an old one.

    >>> from pandas import DataFrame
    >>> old, new = (DataFrame({"method": ["x"], "aupro": [v]}) for v in (0.5, 0.6))
    >>> compare_values(old, new, keys=["method"])
    ['x: aupro is 0.6, was 0.5']
    """
    new = new.set_index(list(keys)).select_dtypes("number")
    old = old.set_index(list(keys)).reindex(new.index)[list(new)]
    gaps = (new - old).abs() / old.abs().clip(lower=1)
    gaps = gaps.mask(new.isna() & old.isna(), 0).fillna(np.inf)
    return [
        f"{', '.join(np.atleast_1d(new.index[row]))}: {new.columns[column]} is "
        f"{new.iat[row, column]:.6g}, was {old.iat[row, column]:.6g}"
        for row, column in np.argwhere(gaps.to_numpy() > tolerance)
    ]


def check_runs() -> list[str]:
    """Check the shared run of each pocket model that is here, and return what differs.

    A run that agrees records the code of today, which has found the same.
    """
    differs = []
    for name in shipped_here():
        run, clip = read_shared_run(name), load_clip(name)
        with tempfile.TemporaryDirectory() as out:
            found = check_run(run, clip, out)
        if not found:
            today = code_of_today(run.methods, run.record.get("parts", ()), clip)
            write_run_record(run.path, run.record | today)
        differs += found
    return differs


def make_run(
    name: str,
    out: Path,
    *,
    weights: Path | None = None,
    target: Path | None = None,
    jobs: int = 1,
) -> SharedRun:
    """Measure the shared run of a pocket model; a killed one in `out` goes on.

    `weights` is the folder of its training, None for the model that ships; `target` is where the
    compact run is written, None for the folder that notebooks read. `jobs` processes share the
    categories.
    """
    data = load_dataset(DATA, seed=SEED, per_category=PER_CATEGORY)
    clip, target = load_clip(name, weights=weights), target or FOLDER / name
    options = {"parts": PARTS, "jobs": jobs, "progress": True}
    return measure_run(clip, data, out / name, target=target, **options)
