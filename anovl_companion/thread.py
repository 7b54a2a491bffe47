"""The pictures that go through the notebooks, chosen by rank and not by hand.

Anomalous pictures are sorted by the AUROC of the v-v map within the picture, best first. Rank 0 is
the best, 0.5 the median and 1 the worst. The median picture is the one of the thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from pandas import DataFrame
from PIL import Image

from anovl.data.dataset import Dataset, Sample
from anovl.data.synthetic import DrawnEntry
from anovl.detector import Detector
from anovl.evaluation.metrics import auroc, mask_at
from anovl_companion.charts import MapRow, scale_of

HERO = (0.05, 0.2, 0.35, 0.5, 0.8, 1.0)
SIDE = 112  # of the maps that are drawn
NORMAL = 4  # pictures a category that set the colour scale of a method


@dataclass(frozen=True, eq=False)
class Pair:
    """An anomalous picture and its normal counterpart.

    `is_twin` says whether `normal` is the same scene without the defect, or just the first normal
    picture of the category.
    """

    sample: Sample
    normal: Image.Image
    is_twin: bool


def ranked(images: DataFrame, ranks: Sequence[float]) -> list[tuple[str, int]]:
    """Return (category, place in it) of pictures by rank, from a table `images()` of a run.

    Equal values keep their order in the table. Empty where no picture has a mask.

    >>> table = DataFrame({"category": "nut", "method": "anovl", "auroc_px": [None, 0.6, 0.9]})
    >>> ranked(table, [0, 1])
    [('nut', 2), ('nut', 1)]
    """
    own = images[images["method"] == "anovl"]
    own = own.assign(number=own.groupby("category").cumcount())
    known = own[own["auroc_px"].notna()].sort_values("auroc_px", ascending=False, kind="stable")
    places = [round(rank * (len(known) - 1)) for rank in ranks] if len(known) else []
    return [(known["category"].iat[place], int(known["number"].iat[place])) for place in places]


def pair(data: Dataset, category: str, number: int) -> Pair:
    """Return the picture with this number in its category, and its normal counterpart.

    Where nothing is labelled, the counterpart is the next picture of the category. Raises
    ValueError where a labelled category has no normal picture.
    """
    entry = data.entries(category)[number]
    if isinstance(entry, DrawnEntry):
        return Pair(entry.sample(category), replace(entry, kind="good").load()[0], is_twin=True)
    normal = [one for one in data.entries(category) if one.label == 0]
    normal += data.normal_entries(category)
    if not normal and entry.label is None:
        normal = [data.entries(category)[(number + 1) % len(data.entries(category))]]
    if not normal:
        raise ValueError(f"{category!r} has no normal picture to stand beside an anomalous one")
    return Pair(entry.sample(category), normal[0].load()[0], is_twin=False)


def first_ones(data: Dataset, count: int) -> list[tuple[str, int]]:
    """Return (category, place in it) of anomalous pictures, or of any, category by category."""
    of_category = []
    for category in data.categories:
        labels = data.labels(category)
        anomalous = [place for place, label in enumerate(labels) if label]
        of_category.append([(category, place) for place in anomalous or range(len(labels))])
    turns = (own[turn] for turn in range(count) for own in of_category if turn < len(own))
    return list(islice(turns, count))


def map_row(label: str, detector: Detector, pairs: Sequence[Pair], data: Dataset) -> MapRow:
    """Return a method's maps of pairs of pictures, on the scale of the categories' normal ones."""

    def maps_of(pictures: list[Image.Image], category: str) -> np.ndarray:
        found = detector.localize(pictures, data.prompts(category), size=SIDE)
        return np.stack([one.map for one in found])

    both = [maps_of([one.sample.image, one.normal], one.sample.category) for one in pairs]
    normal = []
    for category in {one.sample.category: None for one in pairs}:
        entries = [entry for entry in data.entries(category) if entry.label == 0][:NORMAL]
        pictures = [entry.load()[0] for entry in entries]
        normal.append(maps_of(pictures or [pairs[0].normal], category))
    truths = [
        None if one.sample.mask is None else mask_at(one.sample.mask, (SIDE, SIDE)) for one in pairs
    ]
    numbers = [
        "" if truth is None or not truth.any() else f"{auroc(own[0], truth):.2f}"
        for own, truth in zip(both, truths, strict=True)
    ]
    maps, twins = np.stack(both, axis=1)
    return MapRow(label, maps, twins, *scale_of(np.concatenate(normal)), numbers)
