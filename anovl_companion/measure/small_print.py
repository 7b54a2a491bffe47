"""Why two papers disagree: how far each choice of small print moves the numbers of one run.

The run stays the same; only what is done with its maps, scores and masks changes. Two choices need
another run: the image scores of 22 views instead of one, and other weights. The second is the
quietest of all. open_clip from version 3 on serves the file of epoch 31 under both tags of the
paper's model, `laion400m_e31` and `laion400m_e32`; the paper asks for epoch 32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from anovl.data.dataset import Dataset
from anovl.detector import Detector
from anovl.evaluation.metrics import aupro, auroc, average_precision, mask_at
from anovl_companion.measure.microscope import sampled_aupro

NOT_MEASURED = {
    "views": "not measured here: give the image scores of 22 views",
    "weights": "not measured here: give a run with each of the two files",
}


@dataclass(frozen=True, eq=False)
class Judged:
    """What a method said of one category, and what is true of its n images.

    `maps` (n, h, w) and image `scores` (n,), higher where anomalous; `masks` are n bool arrays
    (H, W), each of the size of its picture; `labels` (n,) are 0 or 1; `views_22` are the image
    scores (n,) as means over 22 views, or None.
    """

    maps: np.ndarray
    scores: np.ndarray
    masks: Sequence[np.ndarray]
    labels: np.ndarray
    views_22: np.ndarray | None = None


def judge(
    dataset: Dataset, detector: Detector, *, with_views: Detector | None = None
) -> dict[str, Judged]:
    """Run a detector over a data set, by category; `with_views` is the same one with 22 views.

    Raises ValueError for images without labels or masks.
    """
    run = {}
    for category in dataset.categories:
        samples = list(dataset.samples(category))
        if any(sample.mask is None or sample.label is None for sample in samples):
            raise ValueError(f"expected labels and masks of all images of {category!r}")
        images = [sample.image for sample in samples]
        found = detector.localize(images, category)
        views = None if with_views is None else with_views.localize(images, category)
        run[category] = Judged(
            np.stack([one.map for one in found]),
            np.array([one.score for one in found]),
            [sample.mask for sample in samples],
            np.array([sample.label for sample in samples]),
            None if views is None else np.array([one.score for one in views]),
        )
    return run


def small_print(
    run: Mapping[str, Judged],
    *,
    other_weights: Mapping[str, Judged] | None = None,
    fpr_limits: Sequence[float] = (0.05, 0.1, 1.0),
    thresholds: Sequence[int] = (50, 200, 1000),
) -> list[dict[str, Any]]:
    """Change one choice at a time and say how far each metric of a run moves: rows of a table.

    Keys: `choice`; `metric` as in results.csv; `usual`, what this package does, and `other`;
    `value` and `value_other`, fractions 0-1, means over categories; `difference`, other - usual;
    `note` says what was not measured, whose numbers are NaN. `other_weights` is the same method
    with other weights.

    Raises ValueError for an empty run.

    >>> maps, masks = np.array([[[0.9, 0.1]], [[0.2, 0.3]]]), np.array([[[1, 0]], [[0, 0]]]) > 0
    >>> one = Judged(maps, maps.max(axis=(1, 2)), list(masks), labels=np.array([1, 0]))
    >>> rows = small_print({"nut": one}, fpr_limits=(), thresholds=())
    >>> list(dict.fromkeys(row["choice"] for row in rows))
    ['pooling', 'area of AP', 'masks', 'views', 'weights']
    """
    if not run:
        raise ValueError("the run is empty: expected at least one category, as `judge` returns")
    rows = [
        *_pooling(run),
        *_areas(run),
        *_masks(run),
        *_limits(run, fpr_limits, thresholds),
        *_views(run),
        *_weights(run, other_weights),
    ]
    names = ("choice", "metric", "usual", "other", "value", "value_other", "note")
    table = [dict(zip(names, row, strict=True)) for row in rows]
    return [row | {"difference": row["value_other"] - row["value"]} for row in table]


_Row = tuple[str, str, str, str, float, float, str]
_UNKNOWN = float("nan")


def _pooling(run: Mapping[str, Judged]) -> Iterator[_Row]:
    how = ("mean over categories", "all categories pooled")
    masks = [_at_map(one, mask_at) for one in run.values()]
    maps = np.concatenate([one.maps for one in run.values()])
    yield "pooling", "auroc_px", *how, _pixel_auroc(run), auroc(maps, np.concatenate(masks)), ""
    scores = np.concatenate([one.scores for one in run.values()])
    labels = np.concatenate([one.labels for one in run.values()])
    yield "pooling", "auroc_sp", *how, _image_auroc(run), auroc(scores, labels), ""


def _areas(run: Mapping[str, Judged]) -> Iterator[_Row]:
    steps, lines = (
        _mean(run, lambda one, rule=rule: average_precision(one.scores, one.labels, rule=rule))
        for rule in ("step", "trapezoid")
    )
    yield "area of AP", "ap_sp", "steps", "trapezoids (published code)", steps, lines, ""


def _masks(run: Mapping[str, Judged]) -> Iterator[_Row]:
    usual = "bilinear, cut at > 0.5 (published code)"
    for other, resize in (("nearest pixel", _nearest), ("any part of a pixel", _touched)):
        for name, metric in (("auroc_px", _pixel_auroc), ("aupro", _aupro)):
            yield "masks", name, usual, other, metric(run), metric(run, resize), ""


def _limits(
    run: Mapping[str, Judged], fpr_limits: Sequence[float], thresholds: Sequence[int]
) -> Iterator[_Row]:
    value = _aupro(run)
    for limit in fpr_limits:
        other = _mean(run, lambda one, f=limit: aupro(one.maps, _at_map(one, mask_at), fpr_limit=f))
        yield "FPR limit", "aupro", "0.3", f"{limit:g}", value, other, ""
    for count in thresholds:
        how = f"{count} thresholds, stretched" + " (published code)" * (count == 200)
        other = _mean(
            run, lambda one, n=count: sampled_aupro(one.maps, _at_map(one, mask_at), thresholds=n)
        )
        yield "thresholds", "aupro", "every threshold", how, value, other, ""


def _views(run: Mapping[str, Judged]) -> Iterator[_Row]:
    known = all(one.views_22 is not None for one in run.values())
    other = _mean(run, lambda one: auroc(one.views_22, one.labels)) if known else _UNKNOWN
    note = "" if known else NOT_MEASURED["views"]
    yield "views", "auroc_sp", "1 view", "22 views (published code)", _image_auroc(run), other, note


def _weights(
    run: Mapping[str, Judged], other_weights: Mapping[str, Judged] | None
) -> Iterator[_Row]:
    how, note = ("these", "the other file"), "" if other_weights else NOT_MEASURED["weights"]
    for name, metric in (("auroc_sp", _image_auroc), ("auroc_px", _pixel_auroc), ("aupro", _aupro)):
        other = metric(other_weights) if other_weights else _UNKNOWN
        yield "weights", name, *how, metric(run), other, note


def _mean(run: Mapping[str, Judged], metric: Callable[[Judged], float]) -> float:
    return float(np.mean([metric(one) for one in run.values()]))


def _image_auroc(run: Mapping[str, Judged]) -> float:
    return _mean(run, lambda one: auroc(one.scores, one.labels))


def _pixel_auroc(run: Mapping[str, Judged], resize: Callable = mask_at) -> float:
    return _mean(run, lambda one: auroc(one.maps, _at_map(one, resize)))


def _aupro(run: Mapping[str, Judged], resize: Callable = mask_at) -> float:
    return _mean(run, lambda one: aupro(one.maps, _at_map(one, resize)))


def _at_map(one: Judged, resize: Callable[[np.ndarray, tuple[int, int]], np.ndarray]) -> np.ndarray:
    return np.stack([resize(mask, one.maps.shape[1:]) for mask in one.masks])


def _nearest(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize(shape[::-1], Image.Resampling.NEAREST))


def _touched(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """True where any part of a pixel is marked: the mean over its area is above 0."""
    image = Image.fromarray(mask.astype(np.float32))
    return np.asarray(image.resize(shape[::-1], Image.Resampling.BOX)) > 0
