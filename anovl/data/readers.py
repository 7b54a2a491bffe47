"""Data sets as they lie on disk -> their contents by category: one's own, and MVTec AD's layout.

A root may be the folder of the data set, or one that holds it under any name: `datasets/MVTecAD`
and `datasets` are both accepted. No generated index (meta.json) is needed.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anovl.data.dataset import Dataset, select
from anovl.data.entries import Contents, Entry, file_entry, reading
from anovl.data.home import check_folder, check_present, find_home, only_name, warn_of_other_counts
from anovl.data.layout import folders, normal_entries, read_kinds, sub_folder
from anovl.data.own_layouts import read_elpv, read_kolektor_sdd, read_magnetic_tile, read_visa
from anovl.data.published import BTAD, MPDD, MVTEC_AD, MVTEC_AD_2
from anovl.images import (
    PixelRange,
    check_pixel_range,
    is_image_file,
    list_images,
    pixel_range_of,
)
from anovl.masks import MaskValues, check_values


def read_folder(root: Path, categories: Sequence[str] | None) -> Contents:
    """Read a folder of one's own, in MVTec AD's layout or without labels; see `load_dataset`.

    `layout.read_kinds` says which folders are normal and how masks are found. Raises
    FileNotFoundError and ValueError as `load_dataset` says.
    """
    check_folder(root)
    below = {path.name: path for path in folders(root) if sub_folder(path, "test").is_dir()}
    if not below or sub_folder(root, "test", "test").is_dir():
        name = only_name(categories, root.resolve().name, root)
        if sub_folder(root, "test").is_dir():
            below = {name: root}
        else:
            return Contents({name: _without_labels(root)})
    else:
        below = {name: below[name] for name in select(categories, below, f"category in {root}")}
    return Contents(
        {
            name: read_kinds(sub_folder(folder, "test"), _truth(folder))
            for name, folder in below.items()
        },
        {name: normal_entries(sub_folder(folder, "train")) for name, folder in below.items()},
    )


def read_mvtec(root: Path, categories: Sequence[str] | None) -> Contents:
    """Read MVTec AD: `<category>/test/<kind>/NNN.png`, `ground_truth/<kind>/NNN_mask.png`.

    Raises FileNotFoundError for a missing category or masks; ValueError for images and masks that
    do not pair. Warns when the number of images is not the published one.
    """
    found = _read_categories(root, "mvtec", "MVTec AD", MVTEC_AD, categories)
    warn_of_other_counts("MVTec AD", root, found.test, MVTEC_AD)
    return found


def read_mpdd(root: Path, categories: Sequence[str] | None) -> Contents:
    """Read MPDD, metal parts, which has MVTec AD's layout; raises as `read_mvtec`."""
    found = _read_categories(root, "mpdd", "MPDD", MPDD, categories)
    return replace(found, words={name: MPDD[name] for name in found.test})


def read_btad(root: Path, categories: Sequence[str] | None) -> Contents:
    """Read BTAD: `{01,02,03}/{train/ok,test/{ok,ko},ground_truth/ko}`, masks .bmp or .png.

    Its products have no names, so prompts say "industrial product". Raises as `read_mvtec`.
    """
    found = _read_categories(root, "btad", "BTAD", BTAD, categories)
    return replace(found, words={name: BTAD[name] for name in found.test})


def read_mvtec_ad_2(root: Path, categories: Sequence[str] | None) -> Contents:
    """Read the public test of MVTec AD 2: `test_public/{good,bad,ground_truth/bad}`.

    The private tests have no masks, and are for MVTec's own server. Raises as `read_mvtec`.
    """
    found = _read_categories(
        *(root, "mvtec-ad-2", "MVTec AD 2", MVTEC_AD_2, categories),
        test="test_public",
        truth=("test_public", "ground_truth"),
    )
    return replace(found, words={name: MVTEC_AD_2[name] for name in found.test})


READERS: dict[str, Callable[[Path, Sequence[str] | None], Contents]] = {
    "folder": read_folder,
    "mvtec": read_mvtec,
    "visa": read_visa,
    "magnetic-tile": read_magnetic_tile,
    "kolektor-sdd": read_kolektor_sdd,
    "btad": read_btad,
    "mpdd": read_mpdd,
    "mvtec-ad-2": read_mvtec_ad_2,
    "elpv": read_elpv,
}


@dataclass(frozen=True)
class Draw:
    """Some images of each category by chance: `per_category` of each class, or all it has.

    A smaller draw of the same seed is a part of a larger one. Raises ValueError for numbers that
    cannot be, and where images have no labels.
    """

    per_category: int
    seed: int

    def __post_init__(self) -> None:
        for name, least in (("per_category", 1), ("seed", 0)):
            if not isinstance(value := getattr(self, name), int) or value < least:
                raise ValueError(f"{name} must be a whole number from {least} on, found {value!r}")

    def __call__(self, category: str, entries: Sequence[Entry]) -> tuple[Entry, ...]:
        if any(entry.label is None for entry in entries):
            raise ValueError(
                f"per_category counts normal and anomalous images, and those of {category!r} have "
                "no labels: leave --per-category (per_category=) out"
            )
        chance = [self.seed, zlib.crc32(category.encode(errors="surrogateescape"))]
        order = np.random.default_rng(chance).permutation(len(entries))
        drawn = {
            place
            for label in (0, 1)
            for place in [i for i in order if entries[i].label == label][: self.per_category]
        }
        return tuple(entry for i, entry in enumerate(entries) if i in drawn)


def read_files(
    name: str,
    root: Path,
    categories: Sequence[str] | None,
    pixel_range: PixelRange | None,
    mask_values: MaskValues | None,
    *,
    draw: Draw | None = None,
) -> Dataset:
    """Make a data set of what a reader finds; every file is read with the same options.

    Raises ValueError for options that act on nothing, and as the reader does.
    """
    check_values(mask_values)
    check_pixel_range(pixel_range)
    found = READERS[name](root, categories)
    _check_names(found.test)
    entries = [e for part in (found.test, found.normal) for own in part.values() for e in own]
    if mask_values is not None and not any(entry.mask for entry in entries):
        raise ValueError(
            f"mask values need masks, and {root} has none: leave --mask-values (mask_values=) out"
        )
    if pixel_range is None:
        pixel_range = pixel_range_of(entry.path for entry in entries)
    options = {"pixel_range": pixel_range and list(pixel_range), "mask_values": mask_values}
    parameters = {option: value for option, value in options.items() if value is not None}
    if found.words:
        parameters["words"] = {name: list(words) for name, words in found.words.items()}
    test, normal = (
        {one: tuple(reading(e, pixel_range, mask_values) for e in own) for one, own in part.items()}
        for part in (found.test, found.normal)
    )
    everything = {"_normal": normal, "words": found.words, "root": root}
    if draw is None:
        return Dataset(name, parameters, test, **everything)
    drawn = {category: draw(category, own) for category, own in test.items()}
    rest = [e for category, own in test.items() for e in own if e not in drawn[category]]
    left_out = frozenset(file for e in rest for file in (e.path, e.mask) if file)
    return Dataset(name, parameters | vars(draw), drawn, **everything, left_out=left_out)


def _check_names(categories: Iterable[str]) -> None:
    """Refuse names that would break the lines of tables and prompts."""
    for name in categories:
        if any(unicodedata.category(sign) in ("Cc", "Zl", "Zp") for sign in name):
            raise ValueError(
                f"the category {name!r} has a line break, a tab or another control character in "
                "its name: rename its folder"
            )


def _read_categories(
    root: Path,
    name: str,
    title: str,
    known: Iterable[str],
    categories: Sequence[str] | None,
    *,
    test: str = "test",
    truth: Sequence[str] = ("ground_truth",),
) -> Contents:
    """Read a published set in MVTec AD's layout, of which nothing may be missing."""
    known = list(known)
    home = find_home(
        *(root, name),
        lambda path: any(sub_folder(path / one, test).is_dir() for one in known),
        such_as=f"{known[0]}/{test}",
    )
    chosen = select(categories, known, f"category of {title}")
    check_present(home, chosen, known, title)
    return Contents(
        {
            one: read_kinds(
                sub_folder(home / one, test), sub_folder(home / one, *truth), is_complete=True
            )
            for one in chosen
        },
        {one: normal_entries(sub_folder(home / one, "train")) for one in chosen},
    )


def _without_labels(root: Path) -> tuple[Entry, ...]:
    """Read a plain folder of images; without any, say which layout labels need."""
    if any(map(is_image_file, root.iterdir())):
        return tuple(file_entry(path, None, "") for path in list_images(root))
    kinds = ", ".join(path.name for path in folders(root)[:8])
    remedy = ""
    if root.resolve().name.casefold() == "test":
        remedy = f": give the folder above it, {root.resolve().parent}"
    elif kinds:
        remedy = f": if its folders ({kinds}) are kinds, move them to {root / 'test'}"
    raise ValueError(
        f"no images in {root}, and no category; expected <category>/test/<kind>/*.png, with the "
        f"kind good for normal images{remedy}"
    )


def _truth(folder: Path) -> Path:
    """Return the folder of a category's masks: beside `test`, or in it."""
    inside = sub_folder(folder, "test", "ground_truth")
    beside = sub_folder(folder, "ground_truth")
    return inside if inside.is_dir() and not beside.is_dir() else beside
