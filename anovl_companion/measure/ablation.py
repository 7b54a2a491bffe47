"""Adapt images that were encoded once, in many ways, and compare the maps on the same resamples.

`adapt_encoded` goes between `encode_dataset` and a measure: it takes encoded images and returns
them with adapted patches, so that an ablation of test-time adaptation runs no network.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from anovl.adapt import AdaptTrace, adapt
from anovl.evaluation.bootstrap import bootstrap_aupro, bootstrap_auroc
from anovl.evaluation.compare import Scores
from anovl.evaluation.metrics import aupro, auroc, average_precision, position_debiased
from anovl.maps import anomaly_maps
from anovl.prompts import TextFeatures
from anovl_companion.measure.feature_cache import EncodedImages

Encoded: TypeAlias = Mapping[str, EncodedImages]
Texts: TypeAlias = Mapping[str, TextFeatures]
RESOLUTION = 0.001  # of a bootstrapped AUROC: smaller gains are not told from none
MAP_METRICS = ("auroc_px_debiased", "auroc_px", "aupro", "ap_px")


def adapt_encoded(encoded: Encoded, texts: Texts, **options: Any) -> Encoded:
    """The same images with adapted patches; options and errors as for `in_batches`."""
    adapted = {}
    for category, images in encoded.items():
        patches = torch.cat(list(in_batches(images, texts[category], **options)))
        adapted[category] = replace(images, patches=patches)
    return adapted


def trace_encoded(encoded: Encoded, texts: Texts, **options: Any) -> dict[str, AdaptTrace]:
    """Trace the adaptation of every category; options and errors as for `in_batches`.

    The tokens of all steps stay in memory: about 0.4 MB an image and step for the pocket model.
    """
    traces = {}
    for category, images in encoded.items():
        batches = in_batches(images, texts[category], return_trace=True, **options)
        parts = zip(*(vars(trace).values() for _, trace in batches), strict=True)
        traces[category] = AdaptTrace(*map(torch.cat, parts))
    return traces


def in_batches(
    images: EncodedImages,
    text: TextFeatures,
    *,
    start: Literal["random", "zero"] = "random",
    batch_size: int = 8,
    **options: Any,
) -> Iterator[Any]:
    """Yield what `adapt` returns with these options, batch after batch of a category's images.

    `start="zero"` begins with an adapter that answers nothing, so that the first map is that
    without adaptation; "random" is published. With `reset_optimizer=False`, the whole category is
    one sequence. Raises ValueError for another start, and as `adapt` does.
    """
    if start not in ("random", "zero"):
        raise ValueError(f"start must be 'random' or 'zero'; found {start!r}")
    reset = options.get("reset_optimizer", True)
    for patches in images.patches.split(batch_size if reset else len(images.patches)):
        if start == "zero":
            options["init"] = silent(patches, text, adapter=options.get("adapter", "text"))
        yield adapt(patches, text, **options)


def silent(patches: Tensor, text: TextFeatures, *, adapter: str = "text") -> tuple[Tensor, Tensor]:
    """Weights (B, P, D) and biases (B, P) of zero: an adapter that halves x and turns nothing.

    >>> text = TextFeatures([[1, 0], [0, 1]], [[1, 0], [0, 1]], [False, True])
    >>> x = torch.tensor([[[[3.0, 4.0]]]])
    >>> adapt(x, text, steps=0, init=silent(x, text))
    tensor([[[[1.5000, 2.0000]]]])
    """
    count, width = len(patches), patches.shape[-1]
    outputs = len(text.prompts) if adapter == "text" else width
    return patches.new_zeros(count, outputs, width), patches.new_zeros(count, outputs)


def at_step(encoded: Encoded, traces: Mapping[str, AdaptTrace], step: int) -> Encoded:
    """The images with their patches as they were after `step` updates; -1 for the last."""
    return {
        category: replace(images, patches=traces[category].tokens[:, step])
        for category, images in encoded.items()
    }


def maps_of(images: EncodedImages, text: TextFeatures) -> np.ndarray:
    """Anomaly maps (n, H, W) at the size of the truth.

    Raises ValueError for images without masks.
    """
    if images.truth is None:
        raise ValueError("images without masks: nothing can be measured on their maps")
    return anomaly_maps(images.patches, text, size=images.truth.shape[1:]).cpu().numpy()


def score_maps(encoded: Encoded, texts: Texts, *, seed: int = 0, resamples: int = 300) -> Scores:
    """Measure the maps of every category, with the bootstrap draws of `score_prompts`.

    `MAP_METRICS` as `evaluate` has them; the average precision has no replicates. A category
    without normal images, or without pixels of defects, is left out of the mean. `resamples=0`
    leaves the bootstrap out.
    """
    rows, drawn = {}, {metric: [] for metric in MAP_METRICS if metric != "ap_px"}
    for category, images in encoded.items():
        rows[category] = images.counts | dict.fromkeys(MAP_METRICS, float("nan"))
        truth, labels = images.truth, images.labels
        if truth is None or not truth.any() or labels.all():
            continue
        maps = maps_of(images, texts[category])
        debiased = position_debiased(maps, labels)
        rows[category] |= {
            "auroc_px_debiased": auroc(debiased, truth),
            "auroc_px": auroc(maps, truth),
            "aupro": aupro(maps, truth),
            "ap_px": average_precision(maps, truth),
        }
        if resamples:
            draws = {"seed": [seed, zlib.crc32(category.encode())], "resamples": resamples}
            drawn["auroc_px_debiased"].append(bootstrap_auroc(debiased, truth, **draws))
            drawn["auroc_px"].append(bootstrap_auroc(maps, truth, **draws))
            drawn["aupro"].append(bootstrap_aupro(maps, truth, **draws))
    return Scores.averaged(rows, drawn)


def each_image(encoded: Encoded, texts: Texts) -> list[dict[str, Any]]:
    """Pixel AUROC and average precision of every image that has both kinds of pixels, one row each.

    `index` counts the images of its category.
    """
    rows = []
    for category, images in encoded.items():
        maps = maps_of(images, texts[category])
        for index in range(len(maps)):
            one, truth = maps[index], images.truth[index]
            if truth.any() and not truth.all():
                values = {"auroc_px": auroc(one, truth), "ap_px": average_precision(one, truth)}
                rows.append({"category": category, "index": index, **values})
    return rows


def few(images: EncodedImages, each: int) -> np.ndarray:
    """Indices of up to `each` normal and `each` anomalous images, spread over the category."""
    chosen = []
    for kind in (0, 1):
        own = np.flatnonzero(images.labels == kind)
        chosen.append(own[:: max(1, len(own) // each)][:each])
    return np.concatenate(chosen)


def take(images: EncodedImages, index: np.ndarray) -> EncodedImages:
    """The images at these indices, in this order."""
    truth = None if images.truth is None else images.truth[index]
    return EncodedImages(images.cls[index], images.patches[index], images.labels[index], truth)
