"""Data sets as their publishers lay them out on disk -> entries by category; test images only.

A root may be the folder of the data set, or one that holds it under any name: `datasets/MVTecAD`
and `datasets` are both accepted. No generated index (meta.json) is needed.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from anovl.data.dataset import Entry, file_entry, select
from anovl.images import is_image_file, list_images

Entries: TypeAlias = dict[str, tuple[Entry, ...]]

# How many test images each category has, good and anomalous.
MVTEC_AD = {
    **{"bottle": (20, 63), "cable": (58, 92), "capsule": (23, 109), "carpet": (28, 89)},
    **{"grid": (21, 57), "hazelnut": (40, 70), "leather": (32, 92), "metal_nut": (22, 93)},
    **{"pill": (26, 141), "screw": (41, 119), "tile": (33, 84), "toothbrush": (12, 30)},
    **{"transistor": (60, 40), "wood": (19, 60), "zipper": (32, 119)},
}
MAGNETIC_TILE = (952, 392)
_TILE_KINDS = {
    **{"MT_Free": "good", "MT_Blowhole": "blowhole", "MT_Break": "break"},
    **{"MT_Crack": "crack", "MT_Fray": "fray", "MT_Uneven": "uneven"},
}
_VISA_COLUMNS = ("object", "split", "label", "image", "mask")


def read_folder(root: Path, categories: Sequence[str] | None) -> Entries:
    """Read a folder of one's own, in MVTec AD's layout or without labels; see `load_dataset`.

    Kinds of defect without masks have none, but a kind with masks must have all of them.
    Raises FileNotFoundError and ValueError as `load_dataset` says.
    """
    _check_folder(root)
    below = {path.name: path for path in sorted(root.iterdir()) if (path / "test").is_dir()}
    if below:
        chosen = select(categories, below, f"category in {root}")
        return {name: _test_entries(below[name]) for name in chosen}
    name = _only_name(categories, root.resolve().name, root)
    if (root / "test").is_dir():
        return {name: _test_entries(root)}
    return {name: tuple(file_entry(path, None, "") for path in list_images(root))}


def read_mvtec(root: Path, categories: Sequence[str] | None) -> Entries:
    """Read MVTec AD: `<category>/test/<kind>/NNN.png`, `ground_truth/<kind>/NNN_mask.png`.

    Raises FileNotFoundError for a missing category or masks; ValueError for images and masks that
    do not pair. Warns when the number of images is not the published one.
    """
    home = _home(
        root, "mvtec", lambda path: any((path / name / "test").is_dir() for name in MVTEC_AD)
    )
    chosen = select(categories, MVTEC_AD, "category of MVTec AD")
    _check_present(home, chosen, MVTEC_AD, "MVTec AD")
    found = {name: _complete_entries(home / name) for name in chosen}
    _warn_of_other_counts("MVTec AD", home, found, MVTEC_AD)
    return found


def read_visa(root: Path, categories: Sequence[str] | None) -> Entries:
    """Read VisA by its own list of test images, `split_csv/1cls.csv`; non-zero mask is defect.

    Raises FileNotFoundError for a missing list, category, image or mask; ValueError for a list that
    is not as published.
    """
    home = _home(
        root, "visa", lambda path: (path / "split_csv").is_dir() or any(path.glob("*/Data/Images"))
    )
    rows = _visa_test_rows(home / "split_csv" / "1cls.csv")
    known = dict.fromkeys(row["object"] for row in rows)
    chosen = select(categories, known, "category of VisA")
    _check_present(home, chosen, known, "VisA")
    return {
        name: tuple(_visa_entry(home, row) for row in rows if row["object"] == name)
        for name in chosen
    }


def read_magnetic_tile(root: Path, categories: Sequence[str] | None) -> Entries:
    """Read Magnetic Tile Defects: `MT_<Kind>/Imgs/*.jpg`, a mask of the same name (.png) beside.

    It is one category, called "magnetic tile" in prompts unless `categories` has another name.
    Raises FileNotFoundError for a missing kind, ValueError for images and masks that do not pair.
    Warns when the number of images is not the published one.
    """
    home = _home(root, "magnetic-tile", lambda path: any(path.glob("MT_*/Imgs")))
    name = _only_name(categories, "magnetic tile", home)
    _check_present(home, _TILE_KINDS, _TILE_KINDS, "Magnetic Tile Defects", partly=False)
    entries = [entry for folder in _TILE_KINDS for entry in _tile_entries(home / folder / "Imgs")]
    found = {name: tuple(entries)}
    _warn_of_other_counts("Magnetic Tile Defects", home, found, {name: MAGNETIC_TILE})
    return found


READERS: dict[str, Callable[[Path, Sequence[str] | None], Entries]] = {
    "folder": read_folder,
    "mvtec": read_mvtec,
    "visa": read_visa,
    "magnetic-tile": read_magnetic_tile,
}


# Where a data set is


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; check the path")


def _home(root: Path, name: str, is_home: Callable[[Path], bool]) -> Path:
    """Return the root, or the one folder just below it, that looks like the data set."""
    _check_folder(root)
    below = (path for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] != ".")
    found = [root] if is_home(root) else [path for path in below if is_home(path)]
    if not found:
        raise FileNotFoundError(
            f"neither {root} nor a folder just below it has the layout of {name}; give the folder "
            f"with its categories, fetch it with `python -m anovl download {name} --to {root}`, "
            "or load another layout as 'folder'"
        )
    if len(found) > 1:
        raise ValueError(f"{name} is there more than once, name one: {', '.join(map(str, found))}")
    return found[0]


def _check_present(
    home: Path, wanted: Iterable[str], known: Iterable[str], what: str, *, partly: bool = True
) -> None:
    """Raise FileNotFoundError, with the way out, when folders of a data set are missing."""
    missing = [name for name in wanted if not (home / name).is_dir()]
    if missing:
        here = [name for name in known if (home / name).is_dir()]
        choose = f", or choose categories from those here: {', '.join(here)}" if partly else ""
        raise FileNotFoundError(
            f"{home} lacks {', '.join(missing)} of {what}: copy or unpack it again{choose}"
        )


def _only_name(categories: Sequence[str] | None, default: str, root: Path) -> str:
    if categories is None:
        return default
    if isinstance(categories, str) or len(categories) != 1:
        raise ValueError(
            f"{root} is a single category; name it with one word in categories, "
            f"found {categories if isinstance(categories, str) else ', '.join(categories)}"
        )
    return categories[0]


def _warn_of_other_counts(
    what: str, home: Path, found: Entries, published: Mapping[str, tuple[int, int]]
) -> None:
    labels = {name: [entry.label for entry in entries] for name, entries in found.items()}
    other = [
        f"{name} {of.count(0)} + {of.count(1)} instead of {' + '.join(map(str, published[name]))}"
        for name, of in labels.items()
        if (of.count(0), of.count(1)) != published[name]
    ]
    if other:
        warnings.warn(
            f"{home} has not the test images of {what} (good + anomalous: {'; '.join(other)}), so "
            "its numbers do not compare with published ones",
            stacklevel=4,
        )


# What is in it


def _test_entries(folder: Path) -> tuple[Entry, ...]:
    """Read `test/<kind>` of one category, with masks where a kind has them."""
    entries = []
    for kind in _kinds(folder):
        masks = {} if kind.name == "good" else _by_stem(folder / "ground_truth" / kind.name)
        for image in list_images(kind):
            mask = _mask_of(image, masks, folder / "ground_truth" / kind.name) if masks else None
            entries.append(file_entry(image, mask, kind.name))
    if not entries:
        raise ValueError(
            f"{folder / 'test'} has no sub-folders; expected test/good and test/<kind of defect>"
        )
    return tuple(entries)


def _complete_entries(folder: Path) -> tuple[Entry, ...]:
    """Read one category of which nothing may be missing, and in which all masks are used."""
    if not (folder / "test" / "good").is_dir():
        raise FileNotFoundError(f"there is no {folder / 'test' / 'good'}: unpack {folder} again")
    for kind in _kinds(folder):
        masks = folder / "ground_truth" / kind.name
        if kind.name != "good" and not _by_stem(masks):
            raise FileNotFoundError(f"there are no masks in {masks}: unpack {folder} again")
        _check_all_used(_by_stem(masks), list_images(kind))
    return _test_entries(folder)


def _tile_entries(folder: Path) -> list[Entry]:
    images = [path for path in list_images(folder) if path.suffix.lower() == ".jpg"]
    if not images:
        raise ValueError(f"no .jpg images in {folder}: unpack the data set again")
    kind = _TILE_KINDS[folder.parent.name]
    if kind == "good":  # its masks, where there are any, are empty
        return [file_entry(image, None, kind) for image in images]
    masks = {path.stem: path for path in folder.iterdir() if path.suffix.lower() == ".png"}
    _check_all_used(masks, images)
    return [file_entry(image, _mask_of(image, masks, folder, end=""), kind) for image in images]


def _visa_test_rows(split: Path) -> list[dict[str, str]]:
    if not split.is_file():
        raise FileNotFoundError(
            f"there is no {split}, which says which images of VisA are for testing; it is part of "
            "the archive of VisA"
        )
    with split.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in _VISA_COLUMNS if name not in (reader.fieldnames or ())]:
            raise ValueError(f"{split} has no column {', '.join(missing)}: it is not VisA's own")
        rows = [row for row in reader if row["split"] == "test"]
    if not rows:
        raise ValueError(f"{split} names no image for testing: it is empty or cut short")
    return rows


def _visa_entry(home: Path, row: Mapping[str, str]) -> Entry:
    if row["label"] not in ("normal", "anomaly") or (row["label"] == "anomaly") != bool(
        row["mask"]
    ):
        raise ValueError(
            f"{home / 'split_csv' / '1cls.csv'}: expected a normal image without, or an anomaly "
            f"with a mask; found {row['label']!r} with mask {row['mask']!r} for {row['image']!r}"
        )
    files = [home / row[column] for column in ("image", "mask") if row[column]]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"there is no {file}, which split_csv/1cls.csv names")
    image, mask = files if row["mask"] else (files[0], None)
    return file_entry(image, mask, "good" if mask is None else "anomaly")


def _kinds(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "test").iterdir() if path.is_dir())


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if is_image_file(path)}


def _mask_of(image: Path, masks: Mapping[str, Path], folder: Path, *, end: str = "_mask") -> Path:
    mask = masks.get(f"{image.stem}_mask", masks.get(image.stem))
    if mask is None:
        raise ValueError(f"{folder} has masks but none for {image}: expected {image.stem}{end}.png")
    return mask


def _check_all_used(masks: Mapping[str, Path], images: Iterable[Path]) -> None:
    stems = {image.stem for image in images}
    for stem, mask in masks.items():
        if stem.removesuffix("_mask") not in stems:
            raise ValueError(f"{mask} is the mask of no image: one of the two is misnamed or lost")
