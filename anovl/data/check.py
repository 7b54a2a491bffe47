"""What was understood of a data set: its images, what is not read and why, what looks wrong."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anovl._shared.messages import counted, one_line, said_range
from anovl.data.dataset import Dataset, Entry
from anovl.data.doubts import doubts_of
from anovl.data.layout import (
    MASK_ENDS,
    MASK_FOLDERS,
    is_leftover,
    is_normal,
    mask_stem,
    sub_folder,
)
from anovl.images import SUFFIXES

if TYPE_CHECKING:
    from anovl.prompts import PromptEnsemble

_SHOWN = 3  # files that a line names
OTHER_PICTURES = (  # ends of their names
    *(".heic", ".heif", ".jp2", ".j2k", ".jxl", ".avif", ".tga", ".exr", ".hdr", ".psd", ".svg"),
    *(".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".ico", ".npy", ".dcm"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that was found, and the files it is true of.

    `what` begins with their noun.

    >>> print(Finding("masks of no image", ("a.png", "b.png", "c.png", "d.png")))
    4 masks of no image (a.png, b.png, c.png, ...)
    >>> print(Finding("masks of no image", ("a.png",)))
    1 mask of no image (a.png)
    """

    what: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        more = ", ..." * (len(self.files) > _SHOWN)
        noun, rest = re.fullmatch(r"(\w+)s\b(.*)", self.what, re.DOTALL).groups()
        return f"{counted(len(self.files), noun)}{rest} ({', '.join(self.files[:_SHOWN])}{more})"


@dataclass(frozen=True)
class Summary:
    """What was understood of a data set, which files are not read, and what looks wrong."""

    lines: tuple[str, ...]
    unused: tuple[Finding, ...]
    doubts: tuple[Finding, ...]

    def __str__(self) -> str:
        parts = [*self.lines]
        for title, findings in (("Not read:", self.unused), ("Please check:", self.doubts)):
            parts += [title, *(f"  {finding}" for finding in findings)] if findings else []
        return "\n".join(map(one_line, parts))


def summarise(
    dataset: Dataset,
    *,
    size: tuple[int, int] | None = None,
    decode_images: bool = False,
    prompts: bool = True,
) -> Summary:
    """Say what a data set holds, and name every file of it that is not used as it seems meant.

    With `prompts` it also shows one.

    Masks are read: those that mark nothing, that contradict their rule (`read_mask`), or whose
    defect vanishes at `size` (H, W) are named. Of images the header is read; with `decode_images`
    all of them, so that damaged ones are named. So are pictures of a category that lie in two
    folders.
    """
    if dataset.root is None:
        return Summary(tuple(_lines(dataset, prompts)), (), ())
    entries = [
        e for c in dataset.categories for e in dataset.entries(c) + dataset.normal_entries(c)
    ]
    return Summary(
        tuple(_lines(dataset, prompts)),
        tuple(_grouped(_unused(dataset, entries), dataset.root)),
        tuple(_grouped(doubts_of(dataset, size, decode_images), dataset.root)),
    )


def _grouped(found: Iterable[tuple[str, Path]], root: Path) -> Iterator[Finding]:
    groups: dict[str, list[str]] = defaultdict(list)
    for what, path in found:
        is_below = path.is_relative_to(root)
        groups[what].append((path.relative_to(root) if is_below else path).as_posix())
    for what, files in groups.items():
        yield Finding(what, tuple(files))


# What was understood


def _lines(dataset: Dataset, prompts: bool) -> Iterator[str]:
    where = f" in {dataset.root}" if dataset.root else ""
    n = len(dataset.categories)
    yield f"{dataset.name}{where}: {counted(n, 'category')}"
    for category in dataset.categories:
        yield f"  {category}: {_content(dataset, category)}"
    if limits := dataset.parameters.get("pixel_range"):
        yield said_range(*limits)
    if dataset.root and (n := dataset.parameters.get("per_category")):
        yield f"at most {n} normal and {n} anomalous, drawn with seed {dataset.parameters['seed']}"
    if values := dataset.parameters.get("mask_values"):
        said = (
            "what is dark" if isinstance(values, str) else f"exactly {', '.join(map(str, values))}"
        )
        yield f"defect in masks: {said}"
    if prompts:
        yield f'one prompt: "{one_prompt(dataset.prompts(dataset.categories[0]))}"'


def _content(dataset: Dataset, category: str) -> str:
    entries = dataset.entries(category)
    labels = Counter(entry.label for entry in entries)
    if None in labels:
        return "; ".join(
            [f"{counted(labels[None], 'image')} without labels", *_called(dataset, category)]
        )
    kinds = Counter(entry.kind for entry in entries if entry.label)
    names = ", ".join(f"{kind} {n}" for kind, n in kinds.items())
    masks = sum(entry.mask is not None for entry in entries)
    parts = [
        f"{labels[0]} normal{_folders(dataset, entries)}, "
        f"{labels[1]} anomalous" + f" ({names})" * bool(kinds)
    ]
    parts += [f"{masks or 'none'} with masks"] if labels[1] and dataset.root else []
    if normal := dataset.normal_entries(category):
        more = f"{len(normal)} more normal{_folders(dataset, normal)}"
        parts.append(f"{more} for a calibration")
    return "; ".join([*parts, *_called(dataset, category)])


def _folders(dataset: Dataset, entries: Iterable[Entry]) -> str:
    """Name the folders that count as normal, with their counts, where it is not just "good"."""
    counts = Counter(_folder(entry) for entry in entries if entry.label == 0)
    if dataset.name != "folder" or set(counts) <= {"good"}:
        return ""
    return f" ({', '.join(f'{folder} {n}' for folder, n in counts.items())})"


def _folder(entry: Entry) -> str:
    """The folder of a normal image below `test` or `train`: part of its name, or just before it."""
    below = Path(entry.name)
    home = entry.path.parents[len(below.parts) - 1]
    return home.name if is_normal(home.name) else below.parts[0]


def _called(dataset: Dataset, category: str) -> Iterator[str]:
    if category in dataset.words and (name := dataset.words[category].class_name) != category:
        yield f'prompts say "{name}"'


def one_prompt(words: str | PromptEnsemble) -> str:
    """Return an anomalous prompt of a class name or an ensemble, as it will be used.

    It is the first one that an object of this name would not have, so that own words and those for
    surfaces show; else the first.

    >>> one_prompt("nut")
    'a cropped industrial photo of the damaged nut'
    >>> one_prompt("leather")
    'a cropped textural photo of the damaged leather'
    """
    from anovl.prompts import prompt_ensemble

    used = prompt_ensemble(words) if isinstance(words, str) else words
    usual = set(prompt_ensemble(used.class_name, surface="object").anomalous)
    return next((prompt for prompt in used.anomalous if prompt not in usual), used.anomalous[0])


# What is not read


def _unused(dataset: Dataset, entries: Iterable[Entry]) -> Iterator[tuple[str, Path]]:
    """Yield the files below a data set that nothing reads, with the reason."""
    files = [file for entry in entries for file in (entry.path, entry.mask) if file]
    files += dataset.left_out
    used, beside = set(files), {file.with_suffix("") for file in files}
    home = dataset.root
    if dataset.name != "folder":  # others may lie beside it
        home = Path(os.path.commonpath([file.parent for file in files]))
    for folder, below, names in os.walk(home):
        here = Path(folder)
        for name in sorted(below):
            if is_leftover(name):
                yield "items left behind by an operating system or a backup", here / name
        below[:] = sorted(name for name in below if not is_leftover(name))
        for name in sorted(names):
            if here / name not in used:
                is_twin = (here / name).with_suffix("") in beside
                yield _why(here / name, home, dataset, is_twin), here / name


def _why(path: Path, home: Path, dataset: Dataset, is_twin: bool) -> str:
    """Say why a file is not read; `is_twin` if one of the same name, but another suffix, is."""
    own, suffix = path.relative_to(home).parts[0], path.suffix.lower()
    parts = [part.lower() for part in path.relative_to(home).parts[:-1]]
    if is_leftover(path.name):
        return "items left behind by an operating system or a backup"
    if not path.exists():
        return "links to nothing"
    if suffix in OTHER_PICTURES:
        return "pictures of a format that is not read: convert to PNG"
    if suffix not in SUFFIXES:
        return "files without a picture"
    if dataset.name == "elpv":
        return "cells of which the labellers were not sure, or of another type"
    if (
        dataset.name == "folder"
        and own not in dataset.categories
        and sub_folder(home / own, "test").is_dir()
    ):
        return "pictures of categories that were not asked for"
    is_mask = any(part in MASK_FOLDERS for part in parts) or mask_stem(path).endswith(MASK_ENDS)
    if is_mask or is_twin:
        return "masks of no image, or of a normal one"
    if any(part.startswith("test") for part in parts[:-1]):
        return "images without a mask, in a kind that has masks"
    if any(part in ("train", "validation", "val") for part in parts):
        return "pictures for training, not for a test"
    return "pictures outside of test/<kind>"
