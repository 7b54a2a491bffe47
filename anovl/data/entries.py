"""One image of a data set: where it lies, what is known of it, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from anovl._shared.files import hash_file
from anovl.data.published import Words
from anovl.images import read_image
from anovl.masks import MaskValues, read_mask
from anovl.stored import PixelRange

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
    return " ".join(hash_file(file) for file in files if file is not None)
