"""Methods x categories -> one table: each pair is run once, and found again after a kill.

How pairs are run, here or in other processes, is in `pairs`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anovl._shared.files import check_results, write_atomically
from anovl._shared.messages import counted
from anovl.data.dataset import Dataset
from anovl.detector import Detector, Size
from anovl.evaluation.pairs import MapStore, run_elsewhere, run_here
from anovl.evaluation.results import _csv, _group_means, _table, _timing
from anovl.evaluation.run_folder import RunFolder, describe_run, pair_name
from anovl.maps import as_size

if TYPE_CHECKING:
    from pandas import DataFrame
    from tqdm import tqdm


_TABLES = ("results.csv", "timing.csv", "groups.csv")


class UnreadWarning(UserWarning):
    """Images that cannot be read are missing from a run."""


def evaluate(
    dataset: Dataset,
    detectors: Sequence[Detector],
    *,
    out: str | Path,
    size: Size | None = None,
    seed: int = 0,
    resamples: int = 1000,
    progress: bool = True,
    jobs: int = 1,
    dask: str | None = None,
    threads: int | None = None,
    save_maps: MapStore | None = None,
) -> DataFrame:
    """Run every detector on every category and return the table, one row for each pair.

    Metrics are fractions 0-1 over the pooled pixels (`_px`, `aupro`) or the images (`_sp`) of a
    category, normal ones included; `_lo` and `_hi` bound the 95 % bootstrap interval over images
    (`resamples`, `seed`), for which a single image of a kind is too few. What cannot be measured is
    empty, and `note` says why. `level` is "category", or "mean" in the row of a method that
    averages its categories. Maps have the `size` (H, W), None for the size at which the method
    looks; masks are resized to it bilinearly and cut at > 0.5 (published code).

    Pictures are read by `threads` (None: one a core), which change no number. What several methods
    compute of them, such as tokens and views, is computed once and stays in memory for one
    category.

    `jobs` processes of this machine, or the workers of the Dask cluster whose scheduler is at
    `dask`, take the categories in turn; torch has cores / jobs threads in each process. The table
    is the same (bit by bit, if torch has as many threads). For clusters and several GPUs see
    SCALING.md.

    With `save_maps`, maps are saved before their pair counts as finished, and a finished pair
    without its maps is run again.

    Writes `out`/results.csv, timing.csv (milliseconds an image, as if each method ran alone),
    groups.csv if the data set has groups of categories (`read_groups`), and run.json with all that
    decided them. Each finished pair is kept in `out`/parts: a killed run goes on when it is called
    again, and ends with the same table. Processes with other categories of the data set may work
    in the same `out` at the same time; the tables hold all that is finished there.

    An image that cannot be read, or whose mask does not fit it, is left out: its category is
    measured without it, its `note` counts it, and an `UnreadWarning` names it at the end. The next
    call in the same `out` tries to read it again.

    Raises ValueError for a data set without labels, for two detectors of one name, for a size, jobs
    or threads below 1, a seed below 0 or jobs with `dask`, when `out` holds a run that was decided
    otherwise, or files of no run by these names, and when a result would lie among the files that
    are read, or replace one; OSError when a process is killed or no scheduler answers.
    """
    _check(dataset, detectors)
    _check_options(size, seed, jobs, dask, threads)
    _check_out(Path(out), dataset, detectors, save_maps)
    options = {"size": size, "seed": seed, "resamples": resamples}
    folder = RunFolder.claim(out, describe_run(dataset, detectors, **options))
    todo = _unfinished(folder, dataset, detectors, save_maps)
    options |= {"threads": threads, "save_maps": save_maps}
    images = sum(len(found) * len(dataset.labels(category)) for category, found in todo.items())
    with _progress_bar(images, shown=progress) as bar:
        if jobs == 1 and dask is None:
            run_here(dataset, todo, keep=folder.keep, advance=bar.update, **options)
        else:
            shared, where = (dataset, list(detectors), options), {"jobs": jobs, "dask": dask}
            for part in run_elsewhere(shared, todo, **where):
                folder.keep(pair_name(**part["row"]), part)
                bar.update(part["row"]["n_images"])
    with folder.locked():
        table = _write_tables(folder, detectors, dataset.groups)
    if unread := folder.unread():
        warnings.warn(
            f"{counted(len(unread), 'image')} left out: {'; '.join(unread[:3])}"
            + f"; and {len(unread) - 3} more" * (len(unread) > 3),
            UnreadWarning,
            stacklevel=2,
        )
    return table


def _unfinished(
    folder: RunFolder,
    dataset: Dataset,
    detectors: Sequence[Detector],
    save_maps: MapStore | None,
) -> dict[str, list[Detector]]:
    """Return the detectors that each category still needs."""

    def is_finished(category: str, method: str) -> bool:
        maps = save_maps.files(dataset, category, method) if save_maps else []
        return all(map(Path.is_file, maps)) and folder.is_complete(pair_name(category, method))

    todo = {
        category: [d for d in detectors if not is_finished(category, d.name)]
        for category in dataset.categories
    }
    return {category: found for category, found in todo.items() if found}


def _write_tables(
    folder: RunFolder, detectors: Sequence[Detector], groups: Mapping[str, Sequence[str]]
) -> DataFrame:
    """Write the tables of all categories that are finished, and return the one of results."""
    names = [[pair_name(category, d.name) for d in detectors] for category in folder.categories]
    finished = [name for own in names if all(map(folder.has, own)) for name in own]
    parts, out = [folder.read(name) for name in finished], folder.path
    table = _table(parts)
    contents = [table, _timing(parts), *([_group_means(parts, groups)] if groups else [])]
    for name, content in zip(_TABLES, contents, strict=False):
        write_atomically(out / name, _csv(content))
    return table


def _check(dataset: Dataset, detectors: Sequence[Detector]) -> None:
    names = [detector.name for detector in detectors]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"expected detectors with different names, found {names}")
    for category in dataset.categories:
        if None in dataset.labels(category):
            raise ValueError(
                f"the images of {category!r} have no labels, so nothing can be measured: sort them "
                "into test/good and test/<kind of defect>, or use localize"
            )


def _check_out(
    out: Path, dataset: Dataset, detectors: Sequence[Detector], save_maps: MapStore | None
) -> None:
    """Raise ValueError for an `out` where the user's files would be lost or joined by results."""
    entries = [
        entry
        for category in dataset.categories
        for entry in dataset.entries(category) + dataset.normal_entries(category)
    ]
    maps = [
        file
        for category in dataset.categories
        for detector in detectors
        for file in (save_maps.files(dataset, category, detector.name) if save_maps else [])
    ]
    is_on_disk = dataset.root is not None  # generated images have names alone
    check_results(
        [*(out / name for name in _TABLES), *maps],
        read=[file for e in entries for file in (e.path, e.mask) if file] if is_on_disk else (),
        folders=[dataset.root] if is_on_disk else (),
        foreign=lambda: "" if (out / "run.json").is_file() else "is not of a run",
    )


def _check_options(
    size: Size | None, seed: int, jobs: int, dask: str | None, threads: int | None
) -> None:
    """Raise ValueError before a run is recorded: its folder would refuse the corrected call."""
    if size is not None:
        as_size(size)
    for name, value, least in (
        ("seed", seed, 0),
        ("jobs", jobs, 1),
        ("threads", 1 if threads is None else threads, 1),
    ):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number from {least} on, found {value!r}")
    if dask is not None and jobs != 1:
        raise ValueError("give either jobs, for processes here, or dask, for those of a cluster")


def _progress_bar(images: int, *, shown: bool) -> tqdm:
    from tqdm import tqdm

    return tqdm(total=images, unit="image", disable=None if shown else True, smoothing=0.1)
