"""Rows of tables: prompts, models, means with intervals, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pandas import DataFrame
from torch import nn

from anovl.maps import image_scores
from anovl.prompts import TextFeatures
from anovl_companion.measure.ablation import each_image
from anovl_companion.measure.feature_cache import EncodedImages


def describe_model(model: nn.Module, name: str, sha256: str) -> dict[str, Any]:
    """Describe an open_clip model in one row: its name, what proves its weights, and its size.

    >>> row = describe_model(toy_clip.model, "toy", "none")
    >>> row["grid"], row["blocks"], row["embedding"]
    ('2×2', 2, 8)
    """
    visual = model.visual
    blocks = visual.transformer.resblocks
    width = visual.conv1.out_channels
    return {
        "model": name,
        "weights (SHA-256)": sha256,
        "image": "×".join(map(str, visual.image_size)),
        "grid": "×".join(map(str, visual.grid_size)),
        "blocks": len(blocks),
        "width": width,
        "heads": blocks[0].attn.num_heads,
        "embedding": width if visual.proj is None else visual.proj.shape[1],
        "million parameters": sum(x.numel() for x in model.parameters()) / 1e6,
    }


def means_of(table: DataFrame, metrics: Sequence[str], *, bounded: Sequence[str] = ()) -> DataFrame:
    """Return the means of `evaluate`'s table, one row a method, for some metrics.

    Those in `bounded` also have their 95 % interval, as text in per cent.
    """
    means = table[table["level"] == "mean"]
    shown = means[["method", *metrics]].reset_index(drop=True)
    for metric in bounded:
        ends = means[[f"{metric}_lo", f"{metric}_hi"]].to_numpy()
        shown[f"{metric}, 95 % interval"] = [
            "–" if np.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f}" for low, high in ends
        ]
    return shown


def worst_localized(
    encoded: Mapping[str, EncodedImages], texts: Mapping[str, TextFeatures]
) -> DataFrame:
    """Measure each anomalous image alone, the worst first.

    Columns: `category`, `index` among its images, `auroc` of its own pixels, and `area`, the share
    of them that is defect. Images without masks are left out.
    """
    known = {name: images for name, images in encoded.items() if images.truth is not None}
    table = DataFrame(each_image(known, texts), columns=["category", "index", "auroc_px"])
    places = zip(table["category"], table["index"], strict=True)
    table["area"] = [known[category].truth[index].mean() for category, index in places]
    table = table.rename(columns={"auroc_px": "auroc"})
    return table.sort_values(["auroc", "category", "index"], ignore_index=True)


def false_alarms(
    encoded: Mapping[str, EncodedImages], texts: Mapping[str, TextFeatures]
) -> DataFrame:
    """Find the normal images that look most anomalous, the worst first.

    Columns: `category`, `index`, the image's `score`, and `above`: the share of the category's
    anomalous images that do not score higher.
    """
    rows = []
    for name, images in encoded.items():
        scores = image_scores(images.cls, texts[name]).cpu().numpy()
        anomalous = scores[images.labels == 1]
        for index in np.flatnonzero(images.labels == 0) if len(anomalous) else ():
            above = float((anomalous <= scores[index]).mean())
            rows.append((name, int(index), float(scores[index]), above))
    table = DataFrame(rows, columns=["category", "index", "score", "above"])
    return table.sort_values(["above", "score"], ascending=False, ignore_index=True)
