"""Methods x categories -> one table: each pair is run once, and found again after a kill."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anovl._shared.code import code_hash
from anovl._shared.files import write_atomically
from anovl.data.dataset import Dataset, Sample
from anovl.detector import Detector, Size
from anovl.evaluation.bootstrap import bootstrap_aupro, bootstrap_auroc
from anovl.evaluation.metrics import auroc, auroc_f1_ap, mask_at, pixel_metrics, position_debiased
from anovl.evaluation.parallel import run_with_dask, run_with_joblib
from anovl.evaluation.results import IMAGE, PIXEL, _csv, _group_means, _table
from anovl.evaluation.run_folder import RunFolder, describe_run, imports_of

if TYPE_CHECKING:
    from pandas import DataFrame
    from tqdm import tqdm

_CHUNK = 16  # how many decoded images are localized together; as many more are being decoded


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
) -> DataFrame:
    """Run every detector on every category and return the table, one row for each pair.

    Metrics are fractions 0-1 over the pooled pixels (`_px`, `aupro`) or the images (`_sp`) of a
    category, normal ones included; `_lo` and `_hi` bound the 95 % bootstrap interval over images
    (`resamples`, `seed`). What cannot be measured is empty, and `note` says why. The row "mean" of
    a method averages its categories. Maps have the `size` (H, W), None for the size at which the
    method looks; masks are resized to it bilinearly and cut at > 0.5 (published code).
    `ms_per_image` is the time in `localize`, with the prompts already encoded, while the next
    images are decoded and the pair before is measured.

    `jobs` processes of this machine, or the workers of the Dask cluster whose scheduler is at
    `dask`, take the pairs in turn; torch has cores / jobs threads in each process. The table is the
    same (bit by bit, if torch has as many threads). For clusters and several GPUs see SCALING.md.

    Writes `out`/results.csv, groups.csv if the data set has groups of categories (`read_groups`),
    and run.json with all that decided them. Each finished pair is kept in
    `out`/parts: a killed run goes on when it is called again, and ends with the same table.

    Raises ValueError for a data set without labels, for two detectors of one name, for jobs below
    1 or with `dask`, and when `out` holds a run that was decided otherwise; OSError when a process
    is killed or no scheduler answers.
    """
    _check(dataset, detectors)
    _check_jobs(jobs, dask)
    options = {"size": size, "seed": seed, "resamples": resamples}
    folder = RunFolder.claim(out, describe_run(dataset, detectors, **options))
    pairs = {
        f"{category}, {detector.name}": (category, detector)
        for category in dataset.categories
        for detector in detectors
    }
    todo = {name: pair for name, pair in pairs.items() if not folder.has(name)}
    images = sum(len(dataset.labels(category)) for category, _ in todo.values())
    with _progress_bar(images, shown=progress) as bar:
        if jobs == 1 and dask is None:
            _run_here(dataset, todo, keep=folder.keep, bar=bar, **options)
        else:
            numbers = {detector.name: i for i, detector in enumerate(detectors)}
            tasks = {name: (category, numbers[d.name]) for name, (category, d) in todo.items()}
            shared, where = (dataset, list(detectors), options), {"jobs": jobs, "dask": dask}
            for name, part in _run_elsewhere(shared, tasks, **where):
                folder.keep(name, part)
                bar.update(part["row"]["n_images"])
    table = _table([folder.read(name) for name in pairs])
    write_atomically(folder.path / "results.csv", _csv(table))
    if dataset.groups:
        parts = [folder.read(name) for name in pairs]
        write_atomically(folder.path / "groups.csv", _csv(_group_means(parts, dataset.groups)))
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


def _check_jobs(jobs: int, dask: str | None) -> None:
    if not isinstance(jobs, int) or jobs < 1:
        raise ValueError(f"jobs must be a whole number from 1 on, found {jobs!r}")
    if dask is not None and jobs != 1:
        raise ValueError("give either jobs, for processes here, or dask, for those of a cluster")


def _progress_bar(images: int, *, shown: bool) -> tqdm:
    from tqdm import tqdm

    return tqdm(total=images, unit="image", disable=None if shown else True, smoothing=0.1)


@dataclass(frozen=True)
class _Seen:
    """What a detector said of a category, the masks at the maps' size, and the seconds it took."""

    maps: list[np.ndarray]
    scores: list[float]
    masks: list[np.ndarray | None]
    seconds: float


def _run_here(
    dataset: Dataset,
    pairs: Mapping[str, tuple[str, Detector]],
    *,
    keep: Callable[[str, Any], None],
    bar: tqdm,
    size: Size | None,
    **draws: int,
) -> None:
    """Run pairs one after the other; each is measured and kept while the next is localized."""

    def measure(name: str, seen: _Seen) -> None:
        keep(name, _part(dataset, *pairs[name], seen, **draws))

    with ThreadPoolExecutor(max_workers=1) as thread:
        measuring = None
        for name, (category, detector) in pairs.items():
            bar.set_description(name)
            seen = _localized(dataset, category, detector, size=size, advance=bar.update)
            if measuring:
                measuring.result()
            measuring = thread.submit(measure, name, seen)
            del seen
        if measuring:
            measuring.result()


def _run_elsewhere(
    shared: tuple, tasks: Mapping[str, tuple[str, int]], *, jobs: int, dask: str | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    if dask is None:
        return run_with_joblib(_run_pair, shared, tasks, jobs=jobs)
    code = partial(_own_code, imports_of(shared[1]))
    return run_with_dask(_run_pair, shared, tasks, address=dask, code=code)


@lru_cache(maxsize=1)
def _own_code(script: str) -> str:
    return code_hash(script)


def _run_pair(
    shared: tuple[Dataset, list[Detector], dict[str, Any]], category: str, index: int
) -> dict[str, Any]:
    """Run one pair in another process; `shared` is the same for all pairs."""
    dataset, detectors, options = shared
    size, draws = options["size"], {name: options[name] for name in ("seed", "resamples")}
    seen = _localized(dataset, category, detectors[index], size=size)
    return _part(dataset, category, detectors[index], seen, **draws)


def _part(
    dataset: Dataset, category: str, detector: Detector, seen: _Seen, *, seed: int, resamples: int
) -> dict[str, Any]:
    """Return one finished pair: its row, and the bootstrap replicates for the row of means."""
    labels = np.array(dataset.labels(category))
    values, replicates, note = _measured(
        np.stack(seen.maps),
        np.array(seen.scores),
        labels,
        seen.masks,
        seed=[seed, zlib.crc32(category.encode())],
        resamples=resamples,
    )
    row = {
        **{"dataset": dataset.name, "category": category, "method": detector.name},
        **{"n_images": len(labels), "n_anomalous": int(labels.sum())},
        **values,
        **{"ms_per_image": 1000 * seen.seconds / len(labels), "note": note},
    }
    return {"row": row, "replicates": {k: v.round(6).tolist() for k, v in replicates.items()}}


def _localized(
    dataset: Dataset,
    category: str,
    detector: Detector,
    *,
    size: Size | None,
    advance: Callable[[int], Any] = lambda images: None,
) -> _Seen:
    """Run a detector on a category, chunk by chunk, and call `advance` after each."""
    detector = detector.with_normal(lambda: dataset.normal_samples(category))
    words = dataset.prompts(category)
    detector.prepare(words)
    n = len(dataset.labels(category))
    maps, scores, masks, seconds = [], [], [], 0.0
    for chunk in _chunks(dataset.samples(category), n if detector.whole_category else _CHUNK):
        start = time.perf_counter()
        new = detector.localize([sample.image for sample in chunk], words, size=size)
        seconds += time.perf_counter() - start
        for sample, result in zip(chunk, new, strict=True):
            maps.append(result.map)
            scores.append(result.score)
            masks.append(None if sample.mask is None else mask_at(sample.mask, result.map.shape))
        advance(len(chunk))
    shapes = {values.shape for values in maps}
    if len(shapes) > 1:
        raise ValueError(f"the maps of {category!r} have the shapes {sorted(shapes)}: give a size")
    return _Seen(maps, scores, masks, seconds)


def _chunks(samples: Iterator[Sample], n: int) -> Iterator[list[Sample]]:
    """Yield n samples at a time; a thread decodes the next ones meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = thread.submit(list, islice(samples, n))
        while chunk := coming.result():
            coming = thread.submit(list, islice(samples, n))
            yield chunk


def _measured(
    maps: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    masks: Sequence[np.ndarray | None],
    *,
    seed: Sequence[int],
    resamples: int,
) -> tuple[dict[str, float], dict[str, np.ndarray], str]:
    """Return every metric that can be measured, replicates of the headlines, and what is amiss."""
    values, replicates, notes = dict.fromkeys((*PIXEL, *IMAGE), np.nan), {}, []
    draws = {"seed": seed, "resamples": resamples}
    if labels.any() and not labels.all():
        values.update(zip(IMAGE, auroc_f1_ap(scores, labels), strict=True))
        replicates["auroc_sp"] = bootstrap_auroc(scores, labels, **draws)
    else:
        notes.append(f"no {'normal' if labels.any() else 'anomalous'} images")
    if any(mask is None for mask in masks):
        notes.append("defects without masks")
    elif not (truth := np.stack(masks)).any():
        notes.append("no defect pixels at the maps' size" if labels.any() else "no defect pixels")
    else:
        names = ("auroc_px", "f1_px", "ap_px", "aupro")
        values.update(zip(names, pixel_metrics(maps, truth), strict=True))
        replicates["aupro"] = bootstrap_aupro(maps, truth, **draws)
        if not labels.all():
            debiased = position_debiased(maps, labels)
            values["auroc_px_debiased"] = auroc(debiased, truth)
            replicates["auroc_px_debiased"] = bootstrap_auroc(debiased, truth, **draws)
    return values, replicates, "; ".join(notes)
