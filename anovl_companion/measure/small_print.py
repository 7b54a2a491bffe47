"""Small print: how far does one choice in a metric move the number, on the very same maps?

The usual rule is that of `anovl.evaluation.metrics`: every threshold, regions of 8 neighbours,
average precision by steps, pixels pooled over a category, masks resized bilinearly and cut at 0.5.
The other rule is one that other public code follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np
from pandas import DataFrame
from PIL import Image
from scipy.special import expit, logit
from skimage.measure import label
from sklearn.metrics import roc_curve

from anovl import aupro, auroc, average_precision, f1_max
from anovl.baselines import make_detector
from anovl.clip import Clip
from anovl.data.dataset import Dataset
from anovl.detector import Detector
from anovl.evaluation.metrics import area_under, mask_at
from anovl_companion.measure.microscope import sampled_aupro

SCALE = 100.0  # by so much CLIP multiplies cosines before a softmax; AnoVL does not


@dataclass(frozen=True, eq=False)
class Judged:
    """What a method says of n images of a category, and what is true of them.

    `maps` (n, h, w) and image `scores` (n,), higher where anomalous; `labels` (n,), 0 or 1; `masks`
    (n, h, w) bool, resized as this package does it, and `nearest`, by the nearest pixel.
    """

    maps: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    nearest: np.ndarray


Rule: TypeAlias = Callable[[Judged], float]


def measure(clip: Clip, dataset: Dataset) -> DataFrame:
    """Measure each effect on smooth and on spiky maps of the same images.

    `maps`: "anovl" (smooth); "anovl x 100", the same with cosines times `SCALE`: pixels keep their
    order, but few are far above the rest; and "transmm". Other columns: those of `compare_rules`.
    """
    smooth = judge(dataset, make_detector("anovl", clip))
    spiky = [replace(one, maps=expit(SCALE * logit(one.maps.astype(float)))) for one in smooth]
    attention = judge(dataset, make_detector("transmm", clip))
    kinds = {"anovl": smooth, "anovl x 100": spiky, "transmm": attention}
    return DataFrame(
        {"maps": kind, **row} for kind, run in kinds.items() for row in compare_rules(run)
    )


def judge(
    dataset: Dataset, detector: Detector, *, categories: Sequence[str] | None = None
) -> list[Judged]:
    """Run a detector over categories, None for all; all images need labels and masks."""
    run = []
    for category in categories or dataset.categories:
        samples = list(dataset.samples(category))
        pictures = [sample.image for sample in samples]
        found = detector.localize(pictures, dataset.prompts(category))
        maps = np.stack([one.map for one in found])
        scores, labels = [one.score for one in found], [sample.label for sample in samples]
        masks = [mask_at(sample.mask, maps.shape[1:]) for sample in samples]
        others = [nearest(sample.mask, maps.shape[1:]) for sample in samples]
        run.append(Judged(maps, *map(np.array, (scores, labels, masks, others))))
    return run


def compare_rules(run: Sequence[Judged]) -> Iterator[dict[str, str | float]]:
    """Judge the same maps by the usual rule and by another one, for each effect and metric.

    Keys: `effect`, the other rule, as `reasons.csv` of the atlas names it; `metric` as in
    results.csv; `percent`, by the usual rule, the mean over categories; `percent_other`; `points`,
    how far the other is above the usual. Nothing for an empty run.
    """
    for effect, metric, usual, other in _rules() if run else ():
        judged = [_pooled(run)] if effect == "pooled pixels" else run
        percent = 100 * np.mean([usual(one) for one in run])
        percent_other = 100 * np.mean([other(one) for one in judged])
        row = {"effect": effect, "metric": metric, "percent": percent}
        yield row | {"percent_other": percent_other, "points": percent_other - percent}


def by_pooling(run: Sequence[Judged]) -> dict[str, float]:
    """Pixel AUROC of the same maps by four ways of pooling their pixels; empty for no maps."""
    if not run:
        return {}
    stretched = [replace(one, maps=min_max(one.maps)) for one in run]
    alone = [
        auroc(one_map, mask)
        for one in run
        for one_map, mask in zip(one.maps, one.masks, strict=True)
        if mask.any() and not mask.all()
    ]
    return {
        "pooled over a category, then the mean": _mean_auroc(run),
        "pooled over all categories": _mean_auroc([_pooled(run)]),
        "each picture alone, then the mean": float(np.mean(alone)),
        "pooled over a category, each map stretched to 0-1": _mean_auroc(stretched),
    }


def min_max(maps: np.ndarray) -> np.ndarray:
    """Stretch each of the maps (n, H, W) to 0-1, as many galleries do.

    >>> min_max(np.array([[[1.0, 3.0]], [[0.1, 0.2]]])).tolist()
    [[[0.0, 1.0]], [[0.0, 1.0]]]
    """
    low, high = (end(maps, axis=(1, 2), keepdims=True) for end in (np.min, np.max))
    return (maps - low) / (high - low)


def _mean_auroc(run: Sequence[Judged]) -> float:
    return float(np.mean([auroc(one.maps, one.masks) for one in run]))


def _rules() -> Iterator[tuple[str, str, Rule, Rule]]:
    """Yield the name of an effect, a metric, its usual rule and the other one."""
    lines = partial(average_precision, rule="trapezoid")
    metrics = {"auroc_px": auroc, "f1_px": f1_max, "ap_px": average_precision, "aupro": aupro}
    yield "200 thresholds", "aupro", _on(aupro), _on(sampled_aupro)
    yield "4 neighbours", "aupro", _on(aupro), _on(aupro_by_neighbours)
    yield "trapezoids", "ap_px", _on(average_precision), _on(lines)
    images = {"scores": "scores", "labels": "labels"}
    yield "trapezoids", "ap_sp", _on(average_precision, **images), _on(lines, **images)
    for name, metric in metrics.items():
        if name != "aupro":  # its regions count alike in both
            yield "pooled pixels", name, _on(metric), _on(metric)
        yield "nearest masks", name, _on(metric), _on(metric, labels="nearest")


def _on(metric: Callable[..., float], *, scores: str = "maps", labels: str = "masks") -> Rule:
    return lambda one: metric(getattr(one, scores), getattr(one, labels))


def _pooled(run: Sequence[Judged]) -> Judged:
    names = vars(run[0])
    return Judged(*(np.concatenate([getattr(one, name) for one in run]) for name in names))


def nearest(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a bool mask (H, W) to the nearest pixel.

    >>> nearest(np.array([[True, True, True, False]]), (1, 2))
    array([[ True, False]])
    """
    return np.asarray(Image.fromarray(mask).resize(shape[::-1], Image.Resampling.NEAREST))


def aupro_by_neighbours(
    maps: np.ndarray, masks: np.ndarray, *, neighbours: int = 4, fpr_limit: float = 0.3
) -> float:
    """Return the exact AUPRO with regions joined by 4 or by 8 `neighbours`; `aupro` takes 8.

    `maps` and bool `masks` (n, H, W). AUPRO is the area under the ROC curve of the pixels up to
    `fpr_limit`, if each region has the same weight.

    >>> masks = np.eye(3, dtype=bool)[None]  # three pixels that touch at corners
    >>> masks[0, 0, 1] = True
    >>> maps = np.where(masks, np.arange(9).reshape(1, 3, 3), 3.5)
    >>> [round(aupro_by_neighbours(maps, masks, neighbours=n), 3) for n in (4, 8)]
    [0.667, 0.5]
    """
    weights = np.ones(maps.shape)
    for mask, of_image in zip(masks, weights, strict=True):
        region = label(mask, connectivity=neighbours // 4)[mask]
        of_image[mask] = 1 / np.bincount(region)[region]
    alarms, overlap, _ = roc_curve(masks.ravel(), maps.ravel(), sample_weight=weights.ravel())
    return float(area_under(overlap, alarms, limit=fpr_limit) / fpr_limit)
