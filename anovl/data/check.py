"""Count what a data set holds, and name files that are not read or doubtful, each reason once."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from anovl._shared.files import copies
from anovl._shared.messages import counted, one_line, said_range
from anovl.data.dataset import Dataset, Entry
from anovl.data.layout import MASK_ENDS, MASK_FOLDERS, RECORD, is_leftover, is_normal, mask_stem
from anovl.images import ImageWarning, is_far_from_square, read_header, read_image, why_no_image
from anovl.masks import lost_regions


@dataclass(frozen=True)
class Finding:
    """A reason, whose first word is the files' noun, and the files that it is true of.

    >>> print(Finding("masks of no image", ("a.png", "b.png", "c.png", "d.png")))
    4 masks of no image (a.png, ...)
    >>> print(Finding("masks of no image", ("a.png",)))
    1 mask of no image (a.png)
    """

    what: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        noun, rest = re.fullmatch(r"(\w+)s\b(.*)", self.what, re.DOTALL).groups()
        more = ", ..." * (len(self.files) > 1)
        return f"{counted(len(self.files), noun)}{rest} ({self.files[0]}{more})"


@dataclass(frozen=True)
class Summary:
    """The contents of a data set in lines, the files that are not read, and the doubtful ones."""

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
    """Count the images of a data set, and find every file of it that is not used as intended.

    Of images the headers are read; with `decode_images` all of them, so that damaged ones are
    named. Masks are read: doubtful ones (`read_mask`), empty ones and those of which a defect
    vanishes at `size` (H, W) are named. So are images of a category that lie in two folders. With
    `prompts` one prompt is shown. Each file is decoded once at most.
    """
    lines = tuple(_lines(dataset, prompts))
    if dataset.root is None:
        return Summary(lines, (), ())
    parts = (dataset.entries, dataset.normal_entries)
    entries = [entry for name in dataset.categories for part in parts for entry in part(name)]
    limits = dataset.parameters.get("pixel_range")
    read = partial(read_image, pixel_range=limits) if decode_images else read_header
    doubts = [pair for entry in entries for pair in _doubts(entry, read, size)]
    for alike in copies(entry.path for entry in entries):
        if len({path.parent for path in alike}) > 1:
            what = "pictures of which another folder has a copy, byte by byte"
            doubts += [(what, path) for path in alike]
    unused = _unused(dataset, entries)
    return Summary(lines, grouped(unused, dataset.root), grouped(doubts, dataset.root))


def grouped(found: Iterable[tuple[str, Path]], root: Path) -> tuple[Finding, ...]:
    """Group pairs (reason, file) by their reason.

    >>> grouped([("masks: empty", Path("d/a.png")), ("masks: empty", Path("d/b.png"))], Path("d"))
    (Finding(what='masks: empty', files=('a.png', 'b.png')),)
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for what, path in found:
        is_below = path.is_relative_to(root)
        groups[what].append((path.relative_to(root) if is_below else path).as_posix())
    return tuple(Finding(what, tuple(files)) for what, files in groups.items())


# Counts


def _lines(dataset: Dataset, prompts: bool) -> Iterator[str]:
    where = f" in {dataset.root}" if dataset.root else ""
    yield f"{dataset.name}{where}: {counted(len(dataset.categories), 'category')}"
    for category in dataset.categories:
        yield f"  {category}: {'; '.join(_contents(dataset, category))}"
    if limits := dataset.parameters.get("pixel_range"):
        yield said_range(*limits)
    if prompts:
        from anovl.prompts import prompt_ensemble

        words = dataset.prompts(dataset.categories[0])
        ensemble = prompt_ensemble(words) if isinstance(words, str) else words
        yield f'one prompt: "{ensemble.example}"'


def _contents(dataset: Dataset, category: str) -> Iterator[str]:
    entries, normal = dataset.entries(category), dataset.normal_entries(category)
    labels = Counter(entry.label for entry in entries)
    if None in labels:
        yield f"{counted(labels[None], 'image')} without labels"
        yield "labels come from folders <category>/test/<kind>, with good for normal images"
    else:
        kinds = Counter(entry.kind for entry in entries if entry.label)
        names = ", ".join(f"{kind} {n}" for kind, n in kinds.items())
        yield f"{labels[0]} normal, {labels[1]} anomalous" + f" ({names})" * bool(kinds)
    if labels[1] and dataset.root:
        yield f"{sum(entry.mask is not None for entry in entries) or 'none'} with masks"
    if normal:
        yield f"{len(normal)} more normal for a calibration"
    folders = {p.name for e in (*entries, *normal) for p in e.path.parents if is_normal(p.name)}
    if dataset.name == "folder" and folders > {"good"}:
        yield f"normal are the folders {', '.join(sorted(folders))}"
    if category in dataset.words and (name := dataset.words[category].class_name) != category:
        yield f'prompts say "{name}"'


# Files that are not read


def _unused(dataset: Dataset, entries: Iterable[Entry]) -> Iterator[tuple[str, Path]]:
    """Yield the files below a data set that nothing reads, with the reason."""
    files = {file for entry in entries for file in (entry.path, entry.mask) if file}
    files |= dataset.left_out
    common = Path(os.path.commonpath([file.parent for file in files]))
    home = dataset.root if dataset.name == "folder" else common  # others may lie beside it
    return not_read(home, files)


def not_read(home: Path, files: Container[Path]) -> Iterator[tuple[str, Path]]:
    """Yield what lies below a folder and is none of these files, with the reason."""
    for folder, below, names in os.walk(home):
        leftovers = list(filter(is_leftover, below))
        results = {name for name in below if Path(folder, name, RECORD).is_file()}
        below[:] = sorted(set(below) - set(leftovers) - results)
        for path in (Path(folder, name) for name in sorted([*leftovers, *names])):
            if path not in files:
                yield _why(path, path.relative_to(home).parts), path


def _why(path: Path, parts: tuple[str, ...]) -> str:
    """Say why a file, or a folder that is left behind, is not read."""
    if is_leftover(path.name):
        return "items left behind by an operating system or a backup"
    if not path.exists():
        return "links to nothing"
    if what := why_no_image(path):
        return what
    if mask_stem(path).endswith(MASK_ENDS) or {part.lower() for part in parts} & set(MASK_FOLDERS):
        return "masks of no image, or of a normal one"
    return "pictures that are not in the test, or have no mask where others of their kind have one"


# Doubtful files


def _doubts(
    entry: Entry, read: Callable[[Path], Any], size: tuple[int, int] | None
) -> Iterator[tuple[str, Path]]:
    """Yield what speaks against an image and its mask; each is read once."""
    picture, reasons = _tried(partial(read, entry.path), entry.path)
    if picture and is_far_from_square(picture.size):
        reasons.append(" far from square, squeezed to a square: cut such images into tiles")
    yield from ((f"images{reason}", entry.path) for reason in reasons)
    if entry.mask is None:
        return
    shape = picture and picture.size[::-1]
    mask, reasons = _tried(partial(entry.read_mask, shape=shape, image_path=entry.path), entry.mask)
    if mask is not None and not mask.any():
        reasons.append(" without a defect, in a kind that is anomalous")
    elif mask is not None and size is not None and lost_regions(mask, size):
        at = f"{size[1]} x {size[0]} pixels"
        reasons.append(f" with a region that vanishes at {at}: it counts as normal")
    yield from ((f"masks{reason}", entry.mask) for reason in reasons)


def _tried(read: Callable[[], Any], path: Path) -> tuple[Any, list[str]]:
    """Read a file; return the result, None if it cannot be read, and what speaks against it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result, reasons = read(), []
        except (ValueError, OSError) as error:
            why = str(error).replace(str(path), "it")  # so that equal reasons share a line
            result, reasons = None, [f" that cannot be read: {why}"]
    doubts = [one.message.doubt for one in caught if isinstance(one.message, ImageWarning)]
    return result, reasons + [f": {doubt}" for doubt in doubts]
