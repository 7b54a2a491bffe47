"""What a data set is: named categories of samples, decoded one at a time."""

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

from anovl._shared.messages import unknown
from anovl.data.entries import Entry
from anovl.data.published import Words

if TYPE_CHECKING:
    from anovl.prompts import PromptEnsemble


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

    def without(self, files: Collection[Path]) -> Dataset:
        """Return this data set without the images of these files.

        Raises ValueError for a category of which no image is left.
        """
        test, normal = (
            {name: tuple(e for e in own if e.path not in files) for name, own in entries.items()}
            for entries in (self._entries, self._normal)
        )
        if empty := [name for name, own in test.items() if not own]:
            raise ValueError(f"no image of {empty[0]!r} can be read: leave the category out")
        return replace(self, _entries=test, _normal=normal)

    def manifest_hash(self, category: str | None = None) -> str:
        """Return a SHA-256 over what the samples, or those of one category, are made of.

        That is the names and the bytes of files; of generated images, their parameters and the
        generator's version. It does not depend on where a folder lies. Raises OSError for a file
        that cannot be read.
        """
        digest = hashlib.sha256(self.name.encode())
        with ThreadPoolExecutor() as pool:  # a disk answers many at once
            for name in self.categories if category is None else (category,):
                entries = self._of(name)
                found = pool.map(lambda entry: entry.fingerprint(), entries)
                for entry, fingerprint in zip(entries, found, strict=True):
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
