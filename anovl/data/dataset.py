"""A data set: named categories of images, each read when it is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from anovl._shared.files import hash_file
from anovl._shared.messages import unknown
from anovl.data.published import Words
from anovl.images import PixelRange, read_image
from anovl.masks import MaskValues, read_mask

if TYPE_CHECKING:
    from anovl.prompts import PromptEnsemble


@dataclass(frozen=True)
class Sample:
    """One image, its mask and its label.

    `image` is RGB; `mask` is bool (H, W), True on the defect, all False on a normal image and None
    where there is no mask; `label` is 0 for normal, 1 for anomalous and None for unknown; `kind` is
    "good", the kind of defect, or "" for unknown; `path` is the file, or a name for a generated
    image.
    """

    image: Image.Image
    mask: np.ndarray | None
    label: int | None
    category: str
    kind: str
    path: Path


@dataclass(frozen=True)
class Entry:
    """An image file of a data set before it is read, with the options for reading it.

    `name` and `kind` go into the manifest hash; `kind` is as in `Sample`. `mask` is the file of the
    mask, if there is one; the mask of a normal image needs no file, it is empty. The options are
    those of `read_image` and `read_mask`.
    """

    path: Path
    name: str
    kind: str
    mask: Path | None = None
    is_lossy: bool = False
    pixel_range: PixelRange | None = None
    mask_values: MaskValues | None = None

    @property
    def label(self) -> int | None:
        """0 for normal, 1 for anomalous, None for unknown."""
        return None if not self.kind else int(self.kind != "good")

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the image and of its mask."""
        return (self.path,) if self.mask is None else (self.path, self.mask)

    def load(self) -> tuple[Image.Image, np.ndarray | None]:
        """Read the image and its mask; ValueError where their sizes differ."""
        image = read_image(self.path, pixel_range=self.pixel_range)
        shape = image.height, image.width
        if self.mask is not None:
            return image, self.read_mask(shape=shape, image_path=self.path)
        return image, np.zeros(shape, dtype=bool) if self.kind == "good" else None

    def read_mask(self, **options: Any) -> np.ndarray:
        """Read the file of the mask, which must be there."""
        return read_mask(self.mask, values=self.mask_values, is_lossy=self.is_lossy, **options)

    def fingerprint(self) -> str:
        """Return what decides the content: the hashes of the files."""
        return " ".join(map(hash_file, self.files))

    def sample(self, category: str) -> Sample:
        """Read it as a sample of a category."""
        image, mask = self.load()
        return Sample(image, mask, self.label, category, self.kind, self.path)


@dataclass(frozen=True)
class Dataset:
    """Named categories of test images, and normal images beside them; each is read when asked for.

    It is a map-style data set: `len`, index and iteration go over the test images of all
    categories.

    `test` and `normal` hold the images by category. `parameters` decided the content and are
    recorded with a result. `words` are the words of prompts for categories whose names are no
    words; `prompt_lists` are states, templates or domains for all categories, as `prompt_ensemble`
    takes them. `groups` are sets of categories with means of their own, such as the categories that
    the model of the pocket world has seen ("seen") or not ("unseen"). `root` is the folder of the
    files, if any; `left_out` are files of test images, and of their masks, that `per_category` left
    out.

    >>> from anovl.data import load_dataset
    >>> data = load_dataset("pocket", categories=["wood", "gear"], per_category=2)
    >>> len(data), data[-1].category, [sample.label for sample in data]
    (8, 'gear', [0, 0, 1, 1, 0, 0, 1, 1])
    """

    name: str
    test: Mapping[str, tuple[Entry, ...]] = field(repr=False)
    normal: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict, repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    words: Mapping[str, Words] = field(default_factory=dict)
    prompt_lists: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    root: Path | None = None
    left_out: frozenset[Path] = field(default=frozenset(), repr=False)

    def __len__(self) -> int:
        return sum(map(len, self.test.values()))

    def __getitem__(self, index: int) -> Sample:
        reads = [read for category in self.categories for read in self.reads(category)]
        return reads[index]()

    def __iter__(self) -> Iterator[Sample]:
        for category in self.categories:
            yield from self.samples(category)

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of the categories; prompts say them, unless `words` has others."""
        return tuple(self.test)

    def entries(self, category: str) -> tuple[Entry, ...]:
        """Return the test images of a category, not read; ValueError for an unknown category."""
        if category not in self.test:
            raise ValueError(unknown(f"category of {self.name}", category, self.categories))
        return self.test[category]

    def normal_entries(self, category: str) -> tuple[Entry, ...]:
        """Return the images of `normal_samples`, not read; empty where there are none."""
        self.entries(category)
        return self.normal.get(category, ())

    def labels(self, category: str) -> tuple[int | None, ...]:
        """Return the labels of a category's samples, in their order, without reading an image."""
        return tuple(entry.label for entry in self.entries(category))

    def samples(self, category: str) -> Iterator[Sample]:
        """Yield a category's samples in a fixed order.

        Raises ValueError for an unknown category, and while iterating, for an image or a mask that
        cannot be read or do not fit together.
        """
        return (read() for read in self.reads(category))

    def reads(self, category: str) -> list[Callable[[], Sample]]:
        """Return one function for each of `samples` that reads it, for threads; errors likewise."""
        return [partial(entry.sample, category) for entry in self.entries(category)]

    def normal_samples(self, category: str) -> Iterator[Sample]:
        """Yield normal images of a category that are not among its `samples`: for calibration.

        They are the images of `train/good`, where a data set has it; generated sets draw them from
        seeds of their own. Raises ValueError for an unknown category, and for one without such
        images.

        >>> from anovl.data import load_dataset
        >>> next(load_dataset("pocket").normal_samples("wood")).label
        0
        """
        if not (entries := self.normal_entries(category)):
            raise ValueError(
                f"{self.name} has no normal images of {category!r} beside those of its test: put "
                f"some into {category}/train/good, or name a folder of normal images"
            )
        return (entry.sample(category) for entry in entries)

    def prompts(self, category: str) -> str | PromptEnsemble:
        """Return what a detector takes for a category: its name, or prompts of its own words."""
        self.entries(category)
        if category not in self.words and not self.prompt_lists:
            return category
        from anovl.prompts import prompt_ensemble

        class_name, surface = self.words.get(category, Words(category))
        return prompt_ensemble(class_name, surface=surface, **self.prompt_lists)

    def with_words(
        self, words: Mapping[str, Words], lists: Mapping[str, Any] | None = None
    ) -> Dataset:
        """Return this data set with other words by category, and `prompt_lists`; both are recorded.

        >>> from anovl.data import load_dataset
        >>> wood = load_dataset("pocket", categories=["wood"])
        >>> wood.with_words({"wood": Words("pine board", "texture")}).prompts("wood").anomalous[0]
        'a cropped industrial photo of the damaged pine board'

        Raises ValueError for an unknown category, and as `prompt_ensemble` does.
        """
        lists, parameters = dict(lists or {}), dict(self.parameters)
        both = {**self.words, **words}
        if both:
            parameters["words"] = {name: list(own) for name, own in both.items()}
        if lists:
            parameters["prompts"] = lists
        changed = replace(self, parameters=parameters, words=both, prompt_lists=lists)
        for category in words:
            changed.prompts(category)
        return changed

    def without(self, files: Collection[Path]) -> Dataset:
        """Return this data set without the images of these files.

        Raises ValueError for a category of which no image is left.
        """
        test, normal = (
            {name: tuple(e for e in own if e.path not in files) for name, own in entries.items()}
            for entries in (self.test, self.normal)
        )
        if empty := [name for name, own in test.items() if not own]:
            raise ValueError(f"no image of {empty[0]!r} can be read: leave the category out")
        return replace(self, test=test, normal=normal)

    def manifest_hash(self, category: str | None = None) -> str:
        """Return a SHA-256 over the content of the samples, or of those of one category.

        That is the names and the bytes of files; for generated images, their parameters and the
        version of their generator. The images of `normal_samples` belong to it, because methods may
        learn from them. It does not depend on the place of a folder. Raises OSError for a file that
        cannot be read.
        """
        digest = hashlib.sha256(self.name.encode())
        with ThreadPoolExecutor() as pool:  # a disk answers many at once
            for name in self.categories if category is None else (category,):
                parts = {"": self.entries(name), "\tnormal": self.normal_entries(name)}
                for part, entries in parts.items():
                    fingerprints = pool.map(lambda entry: entry.fingerprint(), entries)
                    for entry, fingerprint in zip(entries, fingerprints, strict=True):
                        line = f"{name}{part}\t{entry.kind}\t{entry.name}\t{fingerprint}\n"
                        digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()


def select(
    chosen: Sequence[str] | None, known: Sequence[str] | Mapping[str, Any], what: str
) -> list[str]:
    """Return the chosen names once each, None for all known; ValueError for an unknown one."""
    if chosen is None:
        return list(known)
    if isinstance(chosen, str) or not chosen:
        raise ValueError(f"categories must be a list with at least one name, found {chosen!r}")
    for name in chosen:
        if name not in known:
            raise ValueError(unknown(what, name, known))
    return list(dict.fromkeys(chosen))


def only_name(categories: Sequence[str] | None, default: str) -> str:
    """Return the one name for a data set that is a single category; ValueError for more names."""
    if isinstance(categories, str) or (categories is not None and len(categories) != 1):
        raise ValueError(
            f"the data set is a single category: give categories one name, found {categories!r}"
        )
    return default if categories is None else categories[0]
