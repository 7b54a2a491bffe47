"""An image of a data set before it is decoded: what it is called, how to get it, what makes it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from anovl.fetch import hash_file
from anovl.images import read_image, read_mask

Loaded: TypeAlias = tuple[Image.Image, np.ndarray | None]


@dataclass(frozen=True)
class Entry:
    """One image: its file or name, its kind ("good", a kind of defect, "" for unknown), and two
    functions: one to get the pixels and the mask, one to say what decides them. Both can be
    pickled, so that another process can do the work.
    """

    path: Path
    name: str
    kind: str
    load: Callable[[], Loaded]
    fingerprint: Callable[[], str]

    @property
    def label(self) -> int | None:
        """0 for normal, 1 for defective, None for unknown."""
        return None if not self.kind else int(self.kind != "good")


def file_entry(image: Path, mask: Path | None, kind: str) -> Entry:
    """Make an entry of an image file; a good image needs no mask file, its mask is empty.

    Loading it raises ValueError when the image and its mask differ in size.
    """
    return Entry(
        image, image.name, kind, partial(_load, image, mask, kind), partial(_hashes, image, mask)
    )


def _load(image: Path, mask: Path | None, kind: str) -> Loaded:
    picture = read_image(image)
    shape = picture.height, picture.width
    if mask is not None:
        return picture, read_mask(mask, shape=shape, image_path=image)
    return picture, np.zeros(shape, dtype=bool) if kind == "good" else None


def _hashes(*files: Path | None) -> str:
    return " ".join(hash_file(file) for file in files if file is not None)


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


def unknown(what: str, name: str, known: Sequence[str] | Mapping) -> str:
    """Say that a name is unknown, which one might be meant, and which there are.

    >>> unknown("category", "brik", ["brick", "coins"])
    "unknown category: 'brik'. Did you mean 'brick'? Known are: brick, coins."
    """
    near = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what}: {name!r}.{hint} Known are: {', '.join(known)}."
