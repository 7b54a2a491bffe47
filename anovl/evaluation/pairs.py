"""Run pairs of a category and a method: here, or category by category in other processes.

Three things go on at once: threads read images, the network works on those read before, and one
thread measures the pair before. Features that methods have in common are encoded once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, islice, tee
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from joblib import cpu_count
from torch import Tensor

from anovl.baselines.controls import Shuffled
from anovl.baselines.pca_normal import PcaNormal
from anovl.baselines.tiled import Tiled
from anovl.data.dataset import Dataset, Sample
from anovl.detector import AnoVL, ClipDetector, CropFeatures, Detector, Localization, Size, Words
from anovl.evaluation.measure import Localized, measure_pair
from anovl.evaluation.parallel import run_with_dask, run_with_joblib
from anovl.evaluation.reading import Chunk, chunks_of, form_of, joined, read_ahead
from anovl.evaluation.run_folder import code_of, imports_of, pair_name
from anovl.protocols import encode_other_views


class MapStore(Protocol):
    """A place for maps: `anovl.cli.saved_maps.SavedMaps` writes them to a folder."""

    def files(self, dataset: Dataset, category: str, method: str) -> list[Path]:
        """Return the files of the maps of a pair: if one is missing, the pair is run again."""

    def save(
        self, dataset: Dataset, category: str, method: str, maps: Mapping[int, np.ndarray]
    ) -> None:
        """Save the maps of a pair, by the numbers of their samples."""


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
    """Run categories one after the other; a pair is measured while the next is localized."""

    def measure(category: str, method: str, found: Localized) -> None:
        part = measure_pair(dataset, category, method, found, **draws)
        if save_maps:
            save_maps.save(dataset, category, method, dict(enumerate(found.maps)))
        keep(pair_name(category, method), part)

    pool, measuring = ThreadPoolExecutor(max_workers=threads or cpu_count()), None
    plan = {name: chunks_of(dataset.reads(name), own, size) for name, own in todo.items()}
    coming = read_ahead(chain.from_iterable(plan.values()), pool)
    try:
        with ThreadPoolExecutor(max_workers=1) as thread:
            for category, detectors in todo.items():
                words, chunks = dataset.prompts(category), islice(coming, len(plan[category]))
                for detector in detectors:
                    is_last = detector is detectors[-1]
                    own, chunks = (chunks, None) if is_last else tee(chunks)  # for the next one
                    ready = prepare(detector, words, partial(dataset.normal_samples, category))
                    found = localize_category(ready, own, words, size=size, advance=advance)
                    if measuring:
                        measuring.result()
                    measuring = thread.submit(measure, category, detector.name, found)
                    del found  # not a third one in memory
            if measuring:
                measuring.result()
    finally:
        pool.shutdown(cancel_futures=True)


def prepare(
    detector: Detector, words: Words, normal: Callable[[], Iterable[Sample]] = tuple
) -> Detector:
    """Do what is done once for a class: encode its prompts, fit to its normal images.

    `normal` gives normal samples to a method that learns from them and has none of its own.
    """
    inner = detector
    while isinstance(inner, (Shuffled, Tiled)):
        inner = inner.detector
    if isinstance(inner, ClipDetector):
        inner.text(words)
    if isinstance(detector, PcaNormal):
        if detector.normal is None:
            some = islice(normal(), detector.pictures)
            detector = replace(detector, normal=[sample.image for sample in some])
        _ = detector.subspace
    return detector


def localize_category(
    detector: Detector,
    chunks: Iterable[Chunk],
    words: Words,
    *,
    size: Size | None,
    advance: Callable,
) -> Localized:
    """Run a detector on a category, chunk by chunk, and call `advance` after each."""
    inner = detector.detector if isinstance(detector, Shuffled) else detector
    results, masks, seconds = [], [], 0.0
    for chunk in [joined(chunks, form_of(inner))] if inner.whole_category else chunks:
        start = time.perf_counter()
        found = localize_chunk(inner, chunk, words, size=size)
        seconds += time.perf_counter() - start
        results += found
        masks += [mask(one.map.shape) for mask, one in zip(chunk.masks, found, strict=True)]
        advance(len(found))
    if inner is not detector:
        results = detector.exchange(results)
    return Localized([one.map for one in results], [one.score for one in results], masks, seconds)


def localize_chunk(
    detector: Detector, chunk: Chunk, words: Words, *, size: Size | None
) -> list[Localization]:
    """Run a detector on a chunk, with the features that other methods have encoded."""
    images = chunk.images[form_of(detector)]
    if type(detector) is not AnoVL:
        return detector.localize(images, words, size=size)
    text, results = detector.text(words), []
    for number, batch in enumerate(detector.batches(images)):
        key = number, detector.batch_size, detector.clip
        features = _features(detector, batch, key, chunk.features)
        results += detector.compare(features, text, size=size)
    return results


def _features(
    detector: AnoVL, batch: list | Tensor, key: tuple, known: dict[Hashable, Any]
) -> CropFeatures:
    """Return `detector.features` of a batch, from parts that are encoded once for all methods."""
    path = (*key, detector.attention, detector.first_block, detector.tiles)
    if path not in known:
        known[path] = replace(detector, views=1).features(batch)
    if detector.views == 1:
        return known[path]
    if key not in known:
        known[key] = encode_other_views(detector.clip, batch, batch_size=detector.batch_size)
    return replace(known[path], cls=torch.cat([known[path].cls, known[key]], dim=1))


def run_elsewhere(
    shared: tuple, todo: Mapping[str, Sequence[Detector]], *, jobs: int, dask: str | None
) -> Iterator[dict[str, Any]]:
    """Yield finished pairs, in the order in which other processes finish their categories."""
    _, detectors, _ = shared
    tasks = {
        category: (category, [detectors.index(detector) for detector in own])
        for category, own in todo.items()
    }
    if dask is None:
        running = run_with_joblib(run_category, shared, tasks, jobs=jobs)
    else:
        code = partial(code_of, imports_of(detectors))
        running = run_with_dask(run_category, shared, tasks, address=dask, code=code)
    for _, parts in running:
        yield from parts


def run_category(
    shared: tuple[Dataset, list[Detector], dict[str, Any]], category: str, numbers: Sequence[int]
) -> list[dict[str, Any]]:
    """Run a category in another process; `shared` is the same for all categories."""
    dataset, detectors, options = shared
    parts: dict[str, dict[str, Any]] = {}
    todo = {category: [detectors[number] for number in numbers]}
    run_here(dataset, todo, keep=parts.__setitem__, **options)
    return list(parts.values())
