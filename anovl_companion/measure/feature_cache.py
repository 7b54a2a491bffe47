"""Images encoded once, then scored by many words: how an ablation of prompts costs no network.

The numbers are those of `evaluate` for the same words, and their bootstrap draws are the same too,
so that two sets of words are compared on the same resampled images.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from anovl.attention import encode_images
from anovl.clip import Clip
from anovl.data.dataset import Dataset
from anovl.evaluation.bootstrap import bootstrap_auroc
from anovl.evaluation.compare import Scores
from anovl.evaluation.metrics import auroc, mask_at, position_debiased
from anovl.maps import Size, anomaly_maps, as_size, image_scores
from anovl.prompts import TextFeatures

PROMPT_METRICS = ("auroc_sp", "auroc_px_debiased")


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """The encoded images of a category, ready for any words, with labels and masks.

    `cls` (n, D) and `patches` (n, h, w, D) are embeddings; `labels` (n,) are 0 or 1; `truth`
    (n, H, W) bool marks defects at the size of the maps, None where masks are missing.
    """

    cls: Tensor
    patches: Tensor
    labels: np.ndarray
    truth: np.ndarray | None

    @property
    def counts(self) -> dict[str, int]:
        """How many images there are, as in `evaluate`'s table."""
        return {"n_images": len(self.labels), "n_anomalous": int(self.labels.sum())}


def encode_dataset(
    clip: Clip, dataset: Dataset, *, size: Size | None = None, **path: object
) -> dict[str, EncodedImages]:
    """Encode every image of a data set once, by category.

    `size` is that of the maps to come, None for the model's; `path` goes to `encode_images`
    (`attention`, `first_block`, `batch_size`). Raises ValueError for images without labels.
    """
    shape = as_size(clip.image_size if size is None else size)
    encoded = {}
    for category in dataset.categories:
        samples = list(dataset.samples(category))
        if any(sample.label is None for sample in samples):
            raise ValueError(
                f"the images of {category!r} have no labels, so nothing can be measured: "
                "sort them into test/good and test/<kind of defect>"
            )
        features = encode_images(clip, [sample.image for sample in samples], **path)
        masks = [sample.mask for sample in samples]
        known = all(mask is not None for mask in masks)
        truth = np.stack([mask_at(mask, shape) for mask in masks]) if known else None
        labels = np.array([sample.label for sample in samples])
        encoded[category] = EncodedImages(features.cls, features.patches, labels, truth)
    return encoded


def score_prompts(
    encoded: Mapping[str, EncodedImages],
    texts: Mapping[str, TextFeatures],
    *,
    seed: int = 0,
    resamples: int = 300,
) -> Scores:
    """Measure the words of every category on its encoded images.

    Image AUROC of the class tokens and position-debiased pixel AUROC of the maps, as `evaluate`
    has them. `resamples=0` leaves the bootstrap out. Raises ValueError for a category without text.
    """
    if missing := [category for category in encoded if category not in texts]:
        raise ValueError(f"there is no text for {', '.join(missing)}")
    rows, drawn = {}, {metric: [] for metric in PROMPT_METRICS}
    for category, images in encoded.items():
        draws = {"seed": [seed, zlib.crc32(category.encode())], "resamples": resamples}
        rows[category] = images.counts | dict.fromkeys(PROMPT_METRICS, float("nan"))
        for metric, pair_ in _ranked(images, texts[category]).items():
            rows[category][metric] = auroc(*pair_)
            if resamples:
                drawn[metric].append(bootstrap_auroc(*pair_, **draws))
    return Scores.averaged(rows, drawn)


def _ranked(images: EncodedImages, text: TextFeatures) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scores and labels for each metric that these images allow."""
    labels, truth = images.labels, images.truth
    if labels.all() or not labels.any():
        return {}
    ranked = {"auroc_sp": (image_scores(images.cls, text).cpu().numpy(), labels)}
    if truth is not None and truth.any():
        maps = anomaly_maps(images.patches, text, size=truth.shape[1:]).cpu().numpy()
        ranked["auroc_px_debiased"] = (position_debiased(maps, labels), truth)
    return ranked
