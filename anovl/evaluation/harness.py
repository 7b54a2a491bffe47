"""Methods x categories -> one table. Each pair runs once; a killed run goes on where it stopped.

`pairs` runs the pairs, `parallel` runs them in other processes, `run_folder` saves finished ones.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from anovl._shared.files import check_results, write_atomically
from anovl._shared.messages import counted
from anovl.baselines.pca_normal import PcaNormal
from anovl.data.dataset import Dataset, Entry
from anovl.detector import Detector, Size
from anovl.evaluation.pairs import MapStore, run_here
from anovl.evaluation.parallel import run_elsewhere
from anovl.evaluation.results import as_csv, group_table, images_table, results_table, timing_table
from anovl.evaluation.run_folder import RunFolder, describe_run, pair_name
from anovl.images import read_header
from anovl.maps import as_size

if TYPE_CHECKING:
    from pandas import DataFrame

_TABLES = ("results.csv", "timing.csv", "images.csv", "groups.csv")


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
    skip_unreadable: bool = False,
) -> DataFrame:
    """Run every detector on every category and return the table, one row for each pair.

    Metrics are fractions 0-1 over the pooled pixels (`_px`, `aupro`) or the images (`_sp`) of a
    category, normal ones included; `_lo` and `_hi` bound the 95 % bootstrap interval over images
    (`resamples`, `seed`). With few images (`are_enough`) only the image AUROC of one category has
    an interval, `cautious_interval`; a single image of a kind is too few for that, too. A cell is
    empty where nothing can be measured, and `note` says why. `level` is "category", or "mean" in
    the row of a method that averages its categories. Maps have the `size` (H, W), None for that of
    the method's input; masks are resized to it bilinearly and cut at > 0.5 (published code).

    Images are read by `threads` (None: one a core), which change no number. Features that several
    methods need, such as tokens and views, are encoded once and stay in memory for one category.

    `jobs` processes of this machine, or the workers of the Dask cluster whose scheduler is at
    `dask`, take the categories in turn; torch has cores / jobs threads in each process. The table
    is the same (bit by bit, if torch has as many threads). For clusters and several GPUs see
    SCALING.md.

    With `save_maps`, maps are saved before their pair counts as finished, and a finished pair
    without its maps is run again.

    Writes `out`/results.csv, timing.csv (milliseconds an image; shared work is counted once, for
    the method that did it first), images.csv (each image: `images_table`), groups.csv if the data
    set has groups of categories (`read_groups`), and run.json with everything that decided the
    results. Each finished pair is saved in `out`/parts: call a killed run again, and it goes on and
    ends with the same table.
    Processes with other categories of the data set may write to the same `out` at the same time;
    the tables hold all finished pairs there.

    Before the first category, the headers of all files are read; an error names the unreadable
    ones. With `skip_unreadable`, all files are read once more before the run, and images are left
    out that cannot be read, or whose mask cannot; a warning and run.json name them.

    Raises ValueError for a data set without labels, for images that cannot be read, for two
    detectors of one name, for a size, jobs or threads below 1, a seed below 0 or jobs with `dask`,
    when `out` holds another run, or files with these names that are of no run, and when a result
    would replace a file that is read, or lie beside it; OSError when a process is killed or no
    scheduler answers.
    """
    _check(dataset, detectors)
    _check_options(size, seed, jobs, dask, threads)
    _check_out(Path(out), dataset, detectors, save_maps)
    unreadable = _unreadable(dataset, detectors, whole=skip_unreadable)
    said = f"{counted(len(unreadable), 'image')} cannot be read: {'; '.join(unreadable.values())}"
    if unreadable and not skip_unreadable:
        raise ValueError(
            f"{said}. Repair them, or leave them out: --skip-unreadable (skip_unreadable=True)"
        )
    skipped = {"skipped": _by_category(dataset, unreadable)} if unreadable else {}
    dataset = dataset.without(unreadable)
    options = {"size": size, "seed": seed, "resamples": resamples}
    folder = RunFolder.claim(out, describe_run(dataset, detectors, **options, **skipped))
    todo = _unfinished(folder, dataset, detectors, save_maps)
    options |= {"threads": threads, "save_maps": save_maps}
    images = sum(len(own) * len(dataset.labels(category)) for category, own in todo.items())
    with tqdm(total=images, unit="image", disable=None if progress else True, smoothing=0.1) as bar:
        if jobs == 1 and dask is None:
            run_here(dataset, todo, keep=folder.keep, advance=bar.update, **options)
        else:
            shared = dataset, list(detectors), options
            for part in run_elsewhere(shared, todo, jobs=jobs, dask=dask):
                folder.keep(pair_name(**part["row"]), part)
                bar.update(part["row"]["n_images"])
    with folder.locked():
        table = _write_tables(folder, detectors, dataset.groups)
    if unreadable:
        warnings.warn(f"{said}. The numbers are of the others", stacklevel=2)
    return table


def _unfinished(
    folder: RunFolder, dataset: Dataset, detectors: Sequence[Detector], maps: MapStore | None
) -> dict[str, list[Detector]]:
    """Return the detectors that each category still needs."""

    def is_finished(category: str, method: str) -> bool:
        files = maps.files(dataset, category, method) if maps else []
        return all(map(Path.is_file, files)) and folder.has(pair_name(category, method))

    todo = {
        category: [d for d in detectors if not is_finished(category, d.name)]
        for category in dataset.categories
    }
    return {category: found for category, found in todo.items() if found}


def _write_tables(
    folder: RunFolder, detectors: Sequence[Detector], groups: Mapping[str, Sequence[str]]
) -> DataFrame:
    """Write the tables of all finished categories, and return the one of results."""
    names = [[pair_name(category, d.name) for d in detectors] for category in folder.categories]
    finished = [name for own in names if all(map(folder.has, own)) for name in own]
    parts = [folder.read(name) for name in finished]
    table = results_table(parts)
    contents = [table, timing_table(parts), images_table(parts)]
    contents += [group_table(parts, groups)] if groups else []
    for name, content in zip(_TABLES, contents, strict=False):
        write_atomically(folder.path / name, as_csv(content, exact=name == "images.csv"))
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


def _check_options(
    size: Size | None, seed: int, jobs: int, dask: str | None, threads: int | None
) -> None:
    """Check before a run is recorded, because its folder would refuse the corrected call."""
    if size is not None:
        as_size(size)
    numbers = ("seed", seed, 0), ("jobs", jobs, 1), ("threads", threads, 1)
    for name, value, low in numbers[: 2 if threads is None else 3]:
        if not isinstance(value, int) or value < low:
            raise ValueError(f"{name} must be a whole number from {low} on, found {value!r}")
    if dask is not None and jobs != 1:
        raise ValueError("give either jobs, for processes here, or dask, for those of a cluster")


def _check_out(
    out: Path, dataset: Dataset, detectors: Sequence[Detector], save_maps: MapStore | None
) -> None:
    """Raise ValueError for an `out` where results would replace or join the user's files."""
    pairs = product(dataset.categories, detectors) if save_maps else ()
    maps = [file for name, one in pairs for file in save_maps.files(dataset, name, one.name)]
    entries = _entries(dataset, normal=True)
    check_results(
        [*(out / name for name in _TABLES), *maps],
        read=[file for entry in entries for file in entry.files],
        folders=[dataset.root] if dataset.root else (),
        foreign=lambda: "" if (out / "run.json").is_file() else "is not of a run",
    )


def _entries(dataset: Dataset, *, normal: bool) -> list[Entry]:
    """Return the images that are read from disk; generated images have no files."""
    kinds = [dataset.entries, *([dataset.normal_entries] if normal else [])]
    categories = dataset.categories if dataset.root else ()
    return [entry for category in categories for kind in kinds for entry in kind(category)]


def _unreadable(dataset: Dataset, detectors: Sequence[Detector], *, whole: bool) -> dict[Path, str]:
    """Return the unreadable images, and why; read `whole` files, or headers alone."""

    def error(entry: Entry) -> str:
        try:
            if whole:
                entry.load()
            sizes = {read_header(file).size for file in entry.files}
        except (ValueError, OSError) as found:
            return str(found)
        return f"{entry.mask} has another size than its image" if len(sizes) > 1 else ""

    entries = _entries(
        dataset, normal=any(isinstance(d, PcaNormal) and d.normal is None for d in detectors)
    )
    with ThreadPoolExecutor() as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself warns of doubtful masks
        found = zip(entries, pool.map(error, entries), strict=True)
        return {entry.path: why for entry, why in found if why}


def _by_category(dataset: Dataset, files: Collection[Path]) -> dict[str, list[str]]:
    """Return the paths of images below the data set's folder, by category."""
    entries = {c: dataset.entries(c) + dataset.normal_entries(c) for c in dataset.categories}
    paths = {
        category: [os.path.relpath(one.path, dataset.root) for one in own if one.path in files]
        for category, own in entries.items()
    }
    return {category: own for category, own in paths.items() if own}
