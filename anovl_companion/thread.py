"""The pictures that go through the notebooks, chosen by rank and not by hand.

Anomalous pictures are sorted by the AUROC of the v-v map within the picture, best first. Rank 0 is
the best, 0.5 the median and 1 the worst. The median picture is the one of the thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pandas import DataFrame
from PIL import Image

from anovl.data.dataset import Dataset, Sample
from anovl.data.synthetic import DrawnEntry

HERO = (0.05, 0.2, 0.35, 0.5, 0.8, 1.0)
MEDIAN = (0.5,)


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

    Raises ValueError where the category has no normal picture.
    """
    entry = data.entries(category)[number]
    if isinstance(entry, DrawnEntry):
        return Pair(entry.sample(category), replace(entry, kind="good").load()[0], is_twin=True)
    normal = [one for one in data.entries(category) if one.label == 0]
    normal += data.normal_entries(category)
    if not normal:
        raise ValueError(f"{category!r} has no normal picture to stand beside an anomalous one")
    return Pair(entry.sample(category), normal[0].load()[0], is_twin=False)
