"""Pairs of a category and a method are run: here, or category by category in other processes.

Here three things go on at once: threads read pictures, a network looks at those read before, and
one thread measures the pair before. What methods of a category have in common is computed once.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from anovl._shared.code import code_hash
from anovl.data.dataset import Dataset, Sample
from anovl.detector import Detector, Size
from anovl.evaluation.measure import measured
from anovl.evaluation.parallel import run_with_dask, run_with_joblib
from anovl.evaluation.reading import Pictures, remembering
from anovl.evaluation.run_folder import imports_of, pair_name


class MapStore(Protocol):
    """Where maps are saved: `anovl.cli.saved_maps.SavedMaps` writes them to a folder."""

    def files(self, dataset: Dataset, category: str, method: str) -> list[Path]:
        """Return the files that the maps of a pair make: without one of them it is run again."""

    def save(
        self, dataset: Dataset, category: str, method: str, maps: Mapping[int, np.ndarray]
    ) -> None:
        """Save the maps of a pair by the places of their samples; unread ones have none."""


@dataclass(frozen=True)
class _Seen:
    """What a detector said of a category, the masks at the maps' size, and the seconds it took.

    `places` are the numbers of these images in the category; `unread` says why others are not.
    """

    maps: list[np.ndarray]
    scores: list[float]
    masks: list[np.ndarray | None]
    seconds: float
    places: list[int]
    unread: list[str]


def run_here(
    dataset: Dataset,
    todo: Mapping[str, Sequence[Detector]],
    *,
    keep: Callable[[str, Any], None],
    size: Size | None,
    threads: int | None,
    save_maps: MapStore | None = None,
    advance: Callable[[int], Any] = lambda images: None,
    **draws: int,
) -> None:
    """Run categories one after the other; each pair is measured while the next is localized."""

    def measure(category: str, method: str, seen: _Seen) -> None:
        if save_maps:
            maps = dict(zip(seen.places, seen.maps, strict=True))
            save_maps.save(dataset, category, method, maps)
        keep(pair_name(category, method), _part(dataset, category, method, seen, **draws))

    pool = ThreadPoolExecutor(max_workers=threads or _cores())
    try:
        with ThreadPoolExecutor(max_workers=1) as thread:
            measuring = None
            for category, detectors, pictures in _read_ahead(dataset, todo, pool, size):
                for detector in detectors:
                    seen = _localized(
                        dataset, pictures, category, detector, size=size, advance=advance
                    )
                    if measuring:
                        measuring.result()
                    measuring = thread.submit(measure, category, detector.name, seen)
                    del seen
            if measuring:
                measuring.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read_ahead(
    dataset: Dataset,
    todo: Mapping[str, Sequence[Detector]],
    pool: ThreadPoolExecutor,
    size: Size | None,
) -> Iterator[tuple[str, Sequence[Detector], Pictures]]:
    """Yield each category with its pictures; those of the next are read when its own have been."""
    ahead: list[tuple[str, Sequence[Detector], Pictures]] = []
    for category, detectors in todo.items():
        after = ahead[0][2] if ahead else None
        pictures = Pictures(dataset, category, detectors, pool=pool, size=size, after=after)
        ahead.append((category, detectors, pictures))
        if len(ahead) > 1:
            yield ahead.pop(0)
    yield from ahead


def _cores() -> int:
    from joblib import cpu_count

    return cpu_count()


def run_elsewhere(
    shared: tuple, todo: Mapping[str, Sequence[Detector]], *, jobs: int, dask: str | None
) -> Iterator[dict[str, Any]]:
    """Yield finished pairs, in the order in which other processes finish their categories."""
    _, detectors, _ = shared
    tasks = {
        category: (category, [detectors.index(detector) for detector in found])
        for category, found in todo.items()
    }
    if dask is None:
        running = run_with_joblib(_run_category, shared, tasks, jobs=jobs)
    else:
        code = partial(_own_code, imports_of(detectors))
        running = run_with_dask(_run_category, shared, tasks, address=dask, code=code)
    for _, parts in running:
        yield from parts


@lru_cache(maxsize=1)
def _own_code(script: str) -> str:
    return code_hash(script)


def _run_category(
    shared: tuple[Dataset, list[Detector], dict[str, Any]], category: str, numbers: Sequence[int]
) -> list[dict[str, Any]]:
    """Run a category in another process; `shared` is the same for all categories."""
    dataset, detectors, options = shared
    found: dict[str, dict[str, Any]] = {}
    todo = {category: [detectors[number] for number in numbers]}
    run_here(dataset, todo, keep=found.__setitem__, **options)
    return list(found.values())


def _part(
    dataset: Dataset, category: str, method: str, seen: _Seen, *, seed: int, resamples: int
) -> dict[str, Any]:
    """Return one finished pair: its row, its time, and the replicates for the row of means."""
    labels = (there := np.array(dataset.labels(category)))[seen.places]
    values, replicates, notes = measured(
        np.array(seen.maps),
        np.array(seen.scores),
        labels,
        seen.masks,
        unread=np.delete(there, seen.places),
        seed=[seed, zlib.crc32(category.encode(errors="surrogateescape"))],
        resamples=resamples,
    )
    if seen.unread:
        notes.append(f"{len(seen.unread)} unreadable")
    row = {
        **{"dataset": dataset.name, "level": "category", "category": category, "method": method},
        **{"n_images": len(labels), "n_anomalous": int(labels.sum())},
        **values,
        "note": "; ".join(notes),
    }
    drawn = {metric: values.round(6).tolist() for metric, values in replicates.items()}
    milliseconds = 1000 * seen.seconds / max(1, len(labels))
    return {
        **{"row": row, "replicates": drawn, "ms_per_image": milliseconds},
        **{"scores": seen.scores, "unread": seen.unread},
    }


def _localized(
    dataset: Dataset,
    pictures: Pictures,
    category: str,
    detector: Detector,
    *,
    size: Size | None,
    advance: Callable[[int], Any],
) -> _Seen:
    """Run a detector on a category, chunk by chunk, and call `advance` after each.

    The seconds are those that the detector would take alone, prompts and reading aside.
    """
    places, unread = [], []
    detector = detector.with_normal(lambda: _readable(dataset.normal_reads(category), unread))
    words = dataset.prompts(category)
    detector.prepare(words)
    maps, scores, masks, seconds = [], [], [], 0.0
    chunks = [pictures.whole()] if detector.whole_category else pictures
    for chunk in chunks:
        places += chunk.places
        unread += chunk.unread
        advance(len(chunk.places) + len(chunk.unread))
        if not chunk.places:
            continue
        start, saved = time.perf_counter(), chunk.once.saved
        looking = remembering(detector, chunk.once)
        new = looking.localize(chunk.pictures[detector.looks_at], words, size=size)
        seconds += time.perf_counter() - start + chunk.once.saved - saved
        maps += [result.map for result in new]
        scores += [result.score for result in new]
        masks += [
            chunk.mask_at(number, detector.looks_at, result.map.shape)
            for number, result in enumerate(new)
        ]
    shapes = {values.shape for values in maps}
    if len(shapes) > 1:
        raise ValueError(f"the maps of {category!r} have the shapes {sorted(shapes)}: give a size")
    return _Seen(maps, scores, masks, seconds, places, unread)


def _readable(reads: Sequence[Callable[[], Sample]], unread: list[str]) -> Iterator[Sample]:
    """Yield what can be read, and say in `unread` what cannot."""
    for read in reads:
        try:
            sample = read()
        except (ValueError, OSError) as error:
            unread.append(str(error))
        else:
            yield sample
