"""Measure a pair of a category and a method: all metrics that can be, and why others cannot."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from anovl.data.dataset import Dataset
from anovl.evaluation.bootstrap import bootstrap_aupro, bootstrap_auroc
from anovl.evaluation.metrics import auroc, auroc_f1_ap, pixel_metrics, position_debiased
from anovl.evaluation.results import IMAGE, PIXEL, TIME

_LARGE = 2**27  # bytes of maps; above it, two metrics at a time need too much memory


@dataclass(frozen=True, eq=False)
class Localized:
    """Maps and scores of a category by a method, masks of the maps' shape, and the time it took."""

    maps: list[np.ndarray]
    scores: list[float]
    masks: list[np.ndarray | None]
    seconds: float


def measure_pair(
    dataset: Dataset, category: str, method: str, found: Localized, *, seed: int, resamples: int
) -> dict[str, Any]:
    """Return one finished pair: its row, its time, its scores, and replicates for the means.

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
    time = {TIME: 1000 * found.seconds / len(labels)}
    return {"row": row, "replicates": drawn, **time, "scores": found.scores}


def all_metrics(
    maps: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    masks: Sequence[np.ndarray | None],
    *,
    seed: Sequence[int],
    resamples: int,
) -> tuple[dict[str, float], dict[str, np.ndarray], list[str]]:
    """Return all metrics, NaN where one cannot be measured; replicates of headlines; and notes."""
    values, replicates, notes = dict.fromkeys((*PIXEL, *IMAGE), np.nan), {}, []
    draws = {"seed": seed, "resamples": resamples}
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
        replicates.clear()  # the same image in each draw would look certain
    return values, replicates, notes


def _of_pixels(
    maps: np.ndarray, truth: np.ndarray, labels: np.ndarray, **draws: object
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return metrics of pixels and replicates, by two threads: most of it is sorting."""
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
