"""What a data set is: named categories of samples, decoded one at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from anovl._shared.files import hash_file
from anovl._shared.messages import unknown
from anovl.data.published import Words
from anovl.images import read_image
from anovl.masks import MaskValues, read_mask
from anovl.stored import PixelRange

if TYPE_CHECKING:
    from anovl.prompts import PromptEnsemble

UNREADABLE = "unreadable"  # instead of a hash of it
Loaded: TypeAlias = tuple[Image.Image, np.ndarray | None]


@dataclass(frozen=True)
class Entry:
    """One image: its file or name, its kind ("good", a kind of defect, "" for unknown), and two
    functions: one to get the pixels and the mask, one to say what decides them. Both can be
    pickled, so that another process can do the work. `mask` is the file of its mask, if it has one;
    `read_mask` reads that file, as `load` does.
    """

    path: Path
    name: str
    kind: str
    load: Callable[[], Loaded]
    fingerprint: Callable[[], str]
    mask: Path | None = None
    read_mask: Callable[[], np.ndarray] | None = None

    @property
    def label(self) -> int | None:
        """0 for normal, 1 for anomalous, None for unknown."""
        return None if not self.kind else int(self.kind != "good")


Entries: TypeAlias = dict[str, tuple[Entry, ...]]


@dataclass(frozen=True)
class Contents:
    """What a reader found: test images, normal images beside them, and words, by category."""

    test: Entries
    normal: Entries = field(default_factory=dict)
    words: Mapping[str, Words] = field(default_factory=dict)


def file_entry(
    image: Path, mask: Path | None, kind: str, *, name: str = "", is_lossy: bool = False
) -> Entry:
    """Make an entry of an image file; a normal image needs no mask file, its mask is empty.

    `is_lossy` goes to `read_mask`. Loading it raises ValueError when the image and its mask differ
    in size.
    """
    reads = None if mask is None else partial(read_mask, mask, is_lossy=is_lossy)
    load, hashes = partial(_load, image, kind, reads), partial(_hashes, image, mask)
    return Entry(image, name or image.name, kind, load, hashes, mask, reads)


def reading(entry: Entry, pixel_range: PixelRange | None, mask_values: MaskValues | None) -> Entry:
    """Return an entry of a file that is read with these options of `read_image` and `read_mask`."""
    reads = entry.read_mask and partial(entry.read_mask, values=mask_values)
    load = partial(_load, entry.path, entry.kind, reads, pixel_range)
    return replace(entry, read_mask=reads, load=load)


def _load(
    image: Path,
    kind: str,
    reads: Callable[..., np.ndarray] | None,
    pixel_range: PixelRange | None = None,
) -> Loaded:
    picture = read_image(image, pixel_range=pixel_range)
    shape = picture.height, picture.width
    if reads is not None:
        return picture, reads(shape=shape, image_path=image)
    return picture, np.zeros(shape, dtype=bool) if kind == "good" else None


def _hashes(*files: Path | None) -> str:
    return " ".join(_hash(file) for file in files if file is not None)


def _hash(file: Path) -> str:
    try:
        return hash_file(file)
    except OSError:  # it is named when it is read
        return UNREADABLE


def select(wanted: Sequence[str] | None, known: Sequence[str] | Mapping, what: str) -> list[str]:
    """Return the wanted names once each, or all that are known; ValueError for an unknown one."""
    if wanted is None:
        return list(known)
    if isinstance(wanted, str) or not wanted:
        raise ValueError(f"categories must be a list with at least one name, found {wanted!r}")
    for name in wanted:
        if name not in known:
            raise ValueError(unknown(what, name, known))
    return list(dict.fromkeys(wanted))


@dataclass(frozen=True)
class Sample:
    """One image and what is known of it.

    `image` is RGB; `mask` bool (H, W) marks the defect, all False on a normal image and None where
    nobody drew it; `label` is 0 for normal, 1 for anomalous and None for unknown; `kind` is "good",
    the kind of defect, or "" for unknown; `path` is the file, or a name for a generated image.
    """

    image: Image.Image
    mask: np.ndarray | None
    label: int | None
    category: str
    kind: str
    path: Path


@dataclass(frozen=True)
class Dataset:
    """Named categories of test images; images are decoded one at a time, when asked for.

    `parameters` are those that decided the content, worth recording with a result. `groups` are
    sets of categories that deserve means of their own: in the pocket world, those that its model
    was trained on ("seen") and those that it never saw ("unseen"). `words` are what prompts call
    those categories whose names are no words, and `prompt_lists` are states, templates or domains
    for all of them, as `prompt_ensemble` takes them. `root` is the folder it was read from, if any;
    `left_out` are the images of it, and their masks, that a draw of some per category did not take.
    """

    name: str
    parameters: Mapping[str, Any]
    _entries: Mapping[str, tuple[Entry, ...]] = field(repr=False)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _normal: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict, repr=False)
    words: Mapping[str, Words] = field(default_factory=dict)
    root: Path | None = None
    prompt_lists: Mapping[str, Any] = field(default_factory=dict)
    left_out: frozenset[Path] = field(default=frozenset(), repr=False)

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories' names; they go into the prompts, where `words` has no others."""
        return tuple(self._entries)

    def labels(self, category: str) -> tuple[int | None, ...]:
        """Return the labels of a category's samples, in their order, without decoding an image."""
        return tuple(entry.label for entry in self._of(category))

    def entries(self, category: str) -> tuple[Entry, ...]:
        """Return what is known of a category's samples, in their order, without decoding one."""
        return self._of(category)

    def normal_entries(self, category: str) -> tuple[Entry, ...]:
        """Return what is known of its `normal_samples` without decoding one; empty for none."""
        self._of(category)
        return tuple(self._normal.get(category, ()))

    def samples(self, category: str) -> Iterator[Sample]:
        """Yield a category's samples in a fixed order.

        Raises ValueError for an unknown category, and while iterating, for an image or a mask that
        cannot be read or do not fit together.
        """
        return (read() for read in self.reads(category))

    def normal_samples(self, category: str) -> Iterator[Sample]:
        """Yield normal images of a category that are not among its `samples`: for calibration.

        They are those of `train/good`, where a data set has it; generated sets draw them from seeds
        of their own. Raises ValueError for an unknown category, and for one without such images.

        >>> from anovl.data import load_dataset
        >>> next(load_dataset("pocket").normal_samples("wood")).label
        0
        """
        return (read() for read in self.normal_reads(category))

    def normal_reads(self, category: str) -> list[Callable[[], Sample]]:
        """Return one function for each of `normal_samples` that reads it; errors likewise."""
        if not (entries := self.normal_entries(category)):
            raise ValueError(
                f"{self.name} has no normal images of {category!r} beside those of its test: put "
                f"some into {category}/train/good, or name a folder of normal images"
            )
        return [partial(_sample, category, entry) for entry in entries]

    def prompts(self, category: str) -> str | PromptEnsemble:
        """Return what a detector takes for a category: its name, or prompts of its own words."""
        self._of(category)
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

    def reads(self, category: str) -> list[Callable[[], Sample]]:
        """Return one function for each of `samples` that reads it, for threads; errors likewise."""
        return [partial(_sample, category, entry) for entry in self._of(category)]

    def manifest_hash(self, category: str | None = None) -> str:
        """Return a SHA-256 over what the samples, or those of one category, are made of.

        That is the names and the bytes of files; of generated images, their parameters and the
        generator's version. It does not depend on where a folder lies. Where a file cannot be read
        there is none: the result is `UNREADABLE`.
        """
        digest = hashlib.sha256(self.name.encode())
        with ThreadPoolExecutor() as pool:  # a disk answers many at once
            for name in self.categories if category is None else (category,):
                entries = self._of(name)
                found = pool.map(lambda entry: entry.fingerprint(), entries)
                for entry, fingerprint in zip(entries, found, strict=True):
                    if UNREADABLE in fingerprint.split():
                        return UNREADABLE
                    line = f"{name}\t{entry.kind}\t{entry.name}\t{fingerprint}\n"
                    digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def _of(self, category: str) -> tuple[Entry, ...]:
        if category not in self._entries:
            raise ValueError(unknown(f"category of {self.name}", category, self.categories))
        return self._entries[category]


def _sample(category: str, entry: Entry) -> Sample:
    image, mask = entry.load()
    return Sample(image, mask, entry.label, category, entry.kind, entry.path)
