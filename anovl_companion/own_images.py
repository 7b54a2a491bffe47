"""Own pictures in notebook A2: its parameters, the test pictures, and normal ones to calibrate on.

`own_answers` puts the results into tables and sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from anovl.data import load_dataset
from anovl.data.dataset import Dataset, Entry
from anovl.data.layout import read_normal
from anovl.data.published import Words
from anovl.data.readers import READERS
from anovl.detector import Detector
from anovl.evaluation.threshold import CalibratedDetector, calibrate, images_needed
from anovl.images import PixelRange
from anovl.prompts import PromptEnsemble
from anovl_companion.notebook import Parameters

SHIPPED_CATEGORY = "button"  # of the pocket world: its model has seen neither it nor its name


@dataclass(frozen=True)
class OwnParameters(Parameters):
    """The parameters of notebook A2: those that all notebooks have, and three of its own.

    >>> OwnParameters("pocket", "", "pocket", "", "", "cpu", 0, True, "", "", 5.0)
    Traceback (most recent call last):
    ValueError: parameter false_alarms is a rate between 0 and 1, such as 0.05; found 5.0
    """

    category: str
    class_name: str
    false_alarms: float

    def __post_init__(self) -> None:
        if type(self.category) is int:  # papermill's -p makes a number of 01
            object.__setattr__(self, "category", self._category_of_number(self.category))
        super().__post_init__()
        if not 0 < self.false_alarms < 1:
            says = "parameter false_alarms is a rate between 0 and 1, such as 0.05"
            raise ValueError(f"{says}; found {self.false_alarms!r}")

    def _category_of_number(self, number: int) -> str:
        known = load_dataset(self.dataset, root=self.data_root or None).categories
        meant = [name for name in known if name.isdecimal() and int(name) == number]
        if len(meant) != 1:
            raise ValueError(
                f"parameter category is the number {number}, which means {len(meant)} categories "
                f"of {', '.join(known)}: papermill's -r category 01 keeps 01 as text, -p does not"
            )
        return meant[0]


def own_dataset(p: OwnParameters) -> Dataset:
    """Load a data set: one category, or all of them; of pocket, the button or another one.

    Of pictures without labels, those in `train/good` are normal and set a level; the others are
    judged. A `class_name` replaces the words that prompts have for a category. Raises ValueError
    where it would be put to several categories, and as `load_dataset` does.
    """
    options = {} if p.dataset in READERS else {"seed": p.seed, "per_category": 6 if p.quick else 40}
    category = p.category or (SHIPPED_CATEGORY if p.dataset == "pocket" else "")
    asked = [category] if category else None
    data = load_dataset(p.dataset, root=p.data_root or None, categories=asked, **options)
    if len(data.categories) == 1 and None in data.labels(data.categories[0]):
        data = _with_normal(data)
    if not p.class_name:
        return data
    if len(data.categories) > 1:
        raise ValueError(
            f"class_name says what one category shows, and {p.dataset} has {len(data.categories)} "
            f"({', '.join(data.categories)}): choose one with -p category NAME"
        )
    return data.with_words({data.categories[0]: Words(p.class_name)})


def _with_normal(data: Dataset) -> Dataset:
    """Take the pictures of `train/good` out of a folder without labels: they are normal.

    Raises ValueError where no picture is left to judge.
    """
    category = data.categories[0]
    known = {entry.path for entry in read_normal(data.root)}
    test = tuple(entry for entry in data.entries(category) if entry.path not in known)
    normal = [replace(one, kind="good") for one in data.entries(category) if one.path in known]
    if not test:
        raise ValueError(f"{data.root} has pictures in train/good alone: add some to judge")
    return replace(data, test={category: test}, normal={category: tuple(normal)})


@dataclass(frozen=True, eq=False)
class OwnPictures:
    """One category: its test pictures, and the normal ones that set the level.

    `files` and `names` are those of `entries`, in their order. `normal` is not among them, and
    `source` says in words where it comes from. `suffix` is for names of figures: "" for a category
    that is alone, else "_" and its name.
    """

    category: str
    words: str | PromptEnsemble
    entries: tuple[Entry, ...]
    files: tuple[Path, ...]
    names: tuple[str, ...]
    normal: tuple[Entry, ...]
    source: str
    suffix: str = ""
    pixel_range: PixelRange | None = None

    @property
    def class_name(self) -> str:
        """The name in the prompts."""
        return self.words if isinstance(self.words, str) else self.words.class_name

    def labelled(self, label: int) -> np.ndarray:
        """Tell which test pictures are known to be normal (0) or anomalous (1), bool (N,)."""
        return np.array([entry.label == label for entry in self.entries], dtype=bool)

    def images(self, label: int) -> list[Image.Image]:
        """Read the test pictures with this label."""
        return [entry.load()[0] for entry in self.entries if entry.label == label]

    def normal_images(self) -> list[Image.Image]:
        """Read the pictures that set the level."""
        return [entry.load()[0] for entry in self.normal]

    def only(self, files: Sequence[Path]) -> OwnPictures:
        """Return those of these files: a file that cannot be read is no picture."""
        known = [i for i, file in enumerate(self.files) if file in set(files)]
        parts = (self.entries, self.files, self.names)
        entries, paths, names = (tuple(part[i] for i in known) for part in parts)
        return replace(self, entries=entries, files=paths, names=names)


def lay_out(data: Dataset, category: str, folder: Path, p: OwnParameters) -> OwnPictures:
    """Divide the pictures of a category into test pictures and those that set the level.

    Files stay where they are, under their own names; generated pictures are written into `folder`
    under theirs. Normal pictures are those that the data set has beside its test; where it has
    none, half of the normal test pictures, drawn by lot, or more where the promise needs more.
    A quick run takes no more of them than the promise needs.
    """
    entries, normal = data.entries(category), data.normal_entries(category)
    source, needed = "beside the test", images_needed(p.false_alarms)
    if normal:
        normal = normal[: max(needed, 2)] if p.quick else normal
    else:
        places = [i for i, entry in enumerate(entries) if entry.label == 0]
        count = needed if len(places) // 2 < needed < len(places) else len(places) // 2
        drawn = set(np.random.default_rng(p.seed).permutation(places)[:count].tolist())
        normal = tuple(entries[i] for i in sorted(drawn))
        entries = tuple(entry for i, entry in enumerate(entries) if i not in drawn)
        source = "drawn by lot from the test, and not judged"
    pixel_range = data.parameters.get("pixel_range")
    root = data.root or Path()
    return OwnPictures(
        category,
        data.prompts(category),
        entries,
        tuple(entry.path if data.root else _write(entry, folder) for entry in entries),
        tuple(entry.path.relative_to(root).as_posix() for entry in entries),
        normal,
        source,
        f"_{category}" if len(data.categories) > 1 else "",
        None if pixel_range is None else tuple(pixel_range),
    )


def _write(entry: Entry, folder: Path) -> Path:
    path = folder / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    entry.load()[0].save(path)
    return path


def calibrated(
    detector: Detector, pictures: OwnPictures, false_alarms: float
) -> Detector | CalibratedDetector:
    """Calibrate on the normal pictures; too few for the promise set no level.

    With fewer than two there is nothing to subtract either: the detector is returned as it is.
    """
    if len(pictures.normal) < 2:
        return detector
    enough = len(pictures.normal) >= images_needed(false_alarms)
    rate = false_alarms if enough else None
    found = calibrate(detector, pictures.normal_images(), pictures.words, false_alarms=rate)
    return found if enough else replace(found, score_level=None, map_level=None)
