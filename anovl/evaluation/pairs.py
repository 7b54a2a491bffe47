"""Run pairs of a category and a method: localize, measure, save.

Three things run at once: threads read images ahead, the network localizes, and one thread measures
the pair before. Features that several methods need are encoded once.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, tee
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from joblib import cpu_count

from anovl.baselines.controls import Shuffled
from anovl.baselines.pca_normal import PcaNormal
from anovl.baselines.tiled import Tiled
from anovl.data.dataset import Dataset, Sample
from anovl.detector import AnoVL, ClipDetector, Detector, Localization, Size, Words
from anovl.evaluation.bootstrap import bootstrap_aupro, bootstrap_auroc
from anovl.evaluation.metrics import auroc, auroc_f1_ap, pixel_metrics, position_debiased
from anovl.evaluation.reading import Chunk, chunks_of, form_of, joined, read_ahead
from anovl.evaluation.results import IMAGE, PIXEL, TIME
from anovl.evaluation.run_folder import pair_name
from anovl.protocols import encode_other_views

_LARGE = 2**27  # bytes of maps; above it, two metrics at a time need too much memory


class MapStore(Protocol):
    """A place for maps: `anovl.cli.saved_maps.SavedMaps` writes them to a folder."""

    def files(self, dataset: Dataset, category: str, method: str) -> list[Path]:
        """Return the files of the maps of a pair: if one is missing, the pair is run again."""

    def save(
        self, dataset: Dataset, category: str, method: str, maps: Mapping[int, np.ndarray]
    ) -> None:
        """Save the maps of a pair, by the numbers of their samples."""


@dataclass(frozen=True, eq=False)
class Localized:
    """Maps and scores of a category by a method, masks of the maps' shape, and the time it took."""

    maps: list[np.ndarray]
    scores: list[float]
    masks: list[np.ndarray | None]
    seconds: float


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
                words = dataset.prompts(category)
                copies = tee(islice(coming, len(plan[category])), len(detectors))
                for detector, own in zip(detectors, copies, strict=True):
                    ready = prepare(detector, words, partial(dataset.normal_samples, category))
                    found = localize_category(ready, own, words, size, advance)
                    if measuring:
                        measuring.result()
                    measuring = thread.submit(measure, category, detector.name, found)
                    del found  # else the maps of a third pair stay in memory
            if measuring:
                measuring.result()
    finally:
        pool.shutdown(cancel_futures=True)


def prepare(detector: Detector, words: Words, normal: Callable[[], Iterable[Sample]]) -> Detector:
    """Prepare a detector for a class: encode its prompts, fit it to normal images.

    `normal` returns the normal samples for a method that needs them and was given none.
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
    detector: Detector, chunks: Iterable[Chunk], words: Words, size: Size | None, advance: Callable
) -> Localized:
    """Run a detector on a category, chunk by chunk, and call `advance` after each."""
    inner = detector.detector if isinstance(detector, Shuffled) else detector
    results, masks, seconds = [], [], 0.0
    for chunk in [joined(chunks, form_of(inner))] if inner.whole_category else chunks:
        start = time.perf_counter()
        found = localize_chunk(inner, chunk, words, size)
        seconds += time.perf_counter() - start
        results += found
        masks += [mask(one.map.shape) for mask, one in zip(chunk.masks, found, strict=True)]
        advance(len(found))
    if inner is not detector:
        results = detector.exchange(results)
    return Localized([one.map for one in results], [one.score for one in results], masks, seconds)


def localize_chunk(
    detector: Detector, chunk: Chunk, words: Words, size: Size | None
) -> list[Localization]:
    """Run a detector on a chunk, with the tokens and views that other methods have encoded."""
    images, known = chunk.images[form_of(detector)], chunk.features
    if type(detector) is not AnoVL:
        return detector.localize(images, words, size=size)
    text, results = detector.text(words), []
    for number, batch in enumerate(detector.batches(images)):
        views = number, detector.batch_size, detector.clip
        tokens = (*views, detector.attention, detector.first_block, detector.tiles)
        if tokens not in known:
            known[tokens] = replace(detector, views=1).features(batch)
        features = known[tokens]
        if detector.views > 1:
            if views not in known:
                known[views] = encode_other_views(detector.clip, batch, detector.batch_size)
            features = replace(features, cls=torch.cat([features.cls, known[views]], dim=1))
        results += detector.compare(features, text, size=size)
    return results[: len(images)]


def measure_pair(
    dataset: Dataset, category: str, method: str, found: Localized, *, seed: int, resamples: int
) -> dict[str, Any]:
    """Return a finished pair: its row, its time, its replicates, and the values of each image.

    Raises ValueError for maps of several shapes.
    """
    if len(shapes := {values.shape for values in found.maps}) > 1:
        raise ValueError(f"the maps of {category!r} have the shapes {sorted(shapes)}: give a size")
    labels = np.array(dataset.labels(category))
    values, replicates, notes = all_metrics(
        np.array(found.maps),
        np.array(found.scores),
        labels,
        found.masks,
        seed=[seed, zlib.crc32(category.encode(errors="surrogateescape"))],
        resamples=resamples,
    )
    row = {
        **{"dataset": dataset.name, "level": "category", "category": category, "method": method},
        **{"n_images": len(labels), "n_anomalous": int(labels.sum())},
        **values,
        "note": "; ".join(notes),
    }
    drawn = {metric: values.round(6).tolist() for metric, values in replicates.items()}
    milliseconds = 1000 * found.seconds / len(labels)
    own = [within_image(*one) for one in zip(found.maps, found.masks, strict=True)]
    images = names_of(dataset, category) | {"score": found.scores, "auroc_px": own}
    return {"row": row, "replicates": drawn, TIME: milliseconds, "images": images}


def names_of(dataset: Dataset, category: str) -> dict[str, list[Any]]:
    """Return the files of a category's images below the data set's folder, labels and kinds."""
    entries, root = dataset.entries(category), dataset.root or "."
    return {
        "picture": [Path(os.path.relpath(entry.path, root)).as_posix() for entry in entries],
        "label": [entry.label for entry in entries],
        "kind": [entry.kind for entry in entries],
    }


def within_image(values: np.ndarray, mask: np.ndarray | None) -> float:
    """Return the AUROC of an image's own pixels; NaN without a mask, or pixels of one kind only."""
    if mask is None or not mask.any() or mask.all():
        return float("nan")
    return round(auroc(values, mask), 6)


def all_metrics(
    maps: np.ndarray, scores: np.ndarray, labels: np.ndarray, masks: Sequence, **draws: Any
) -> tuple[dict[str, float], dict[str, np.ndarray], list[str]]:
    """Return all metrics, NaN where one cannot be measured; replicates of headlines; and notes.

    `masks` hold None where a defect has no mask; `draws` are `seed` and `resamples`.
    """
    values, replicates, notes = dict.fromkeys((*PIXEL, *IMAGE), np.nan), {}, []
    if np.isnan(scores).all():
        notes.append("no image scores by this method")
    elif labels.any() and not labels.all():
        values.update(zip(IMAGE, auroc_f1_ap(scores, labels), strict=True))
        replicates["auroc_sp"] = bootstrap_auroc(scores, labels, **draws)
    else:
        notes.append(f"no {'normal' if labels.any() else 'anomalous'} images")
    if any(mask is None for mask in masks):
        notes.append("defects without masks")
    elif not (truth := np.stack(masks)).any():
        notes.append("no defect pixels at the maps' size" if labels.any() else "no defect pixels")
    else:
        of_pixels, drawn = _of_pixels(maps, truth, labels, **draws)
        values |= of_pixels
        replicates |= drawn
    if 1 in (counts := np.bincount(labels, minlength=2)):
        notes.append(f"one {'normal' if counts[0] == 1 else 'anomalous'} image")
        replicates.clear()  # the same image in each draw: no spread
    return values, replicates, notes


def _of_pixels(
    maps: np.ndarray, truth: np.ndarray, labels: np.ndarray, **draws: object
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return metrics of pixels and replicates, in two threads, which mostly sort."""
    with ThreadPoolExecutor(max_workers=2 if maps.nbytes < _LARGE else 1) as pool:
        debiased = None if labels.all() else pool.submit(_debiased, maps, truth, labels, **draws)
        drawn = pool.submit(bootstrap_aupro, maps, truth, **draws)
        names = ("auroc_px", "f1_px", "ap_px", "aupro")
        values = dict(zip(names, pool.submit(pixel_metrics, maps, truth).result(), strict=True))
        replicates = {"aupro": drawn.result()}
        if debiased:
            values["auroc_px_debiased"], replicates["auroc_px_debiased"] = debiased.result()
    return values, replicates


def _debiased(
    maps: np.ndarray, truth: np.ndarray, labels: np.ndarray, **draws: object
) -> tuple[float, np.ndarray]:
    debiased = position_debiased(maps, labels)
    return auroc(debiased, truth), bootstrap_auroc(debiased, truth, **draws)
