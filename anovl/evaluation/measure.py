"""A category and a method -> every metric that can be measured, and why others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from anovl.evaluation.bootstrap import bootstrap_aupro, bootstrap_auroc
from anovl.evaluation.metrics import auroc, auroc_f1_ap, pixel_metrics, position_debiased
from anovl.evaluation.results import IMAGE, PIXEL

_LARGE = 2**27  # bytes of maps: beyond, memory is scarcer than time


def measured(
    maps: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    masks: Sequence[np.ndarray | None],
    *,
    unread: np.ndarray,
    seed: Sequence[int],
    resamples: int,
) -> tuple[dict[str, float], dict[str, np.ndarray], list[str]]:
    """Return every metric that can be measured, replicates of the headlines, and what is amiss."""
    values, replicates, notes = dict.fromkeys((*PIXEL, *IMAGE), np.nan), {}, []
    draws = {"seed": seed, "resamples": resamples}
    if not len(labels):
        return values, replicates, ["no image could be read"]
    if np.isnan(scores).all():
        notes.append("no image scores by this method")
    elif labels.any() and not labels.all():
        values.update(zip(IMAGE, auroc_f1_ap(scores, labels), strict=True))
        replicates["auroc_sp"] = bootstrap_auroc(scores, labels, **draws)
    else:
        lacking = int(not labels.any())
        why = "image could be read" if lacking in unread else "images"
        notes.append(f"no {('normal', 'anomalous')[lacking]} {why}")
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
        replicates.clear()  # drawn again and again it would look certain
    return values, replicates, notes


def _of_pixels(
    maps: np.ndarray, truth: np.ndarray, labels: np.ndarray, **draws: object
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return metrics of pixels and replicates, by two threads: most of it is sorting."""
    together = 2 if maps.nbytes < _LARGE else 1
    with ThreadPoolExecutor(max_workers=together) as pool:
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
