"""Published data sets with a layout of their own -> their contents by category."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from anovl.data.dataset import select
from anovl.data.entries import Contents, Entry, file_entry
from anovl.data.home import check_present, find_home, only_name, warn_of_other_counts
from anovl.data.layout import mask_of, masks_below
from anovl.data.published import KOLEKTOR_SDD, MAGNETIC_TILE, Words
from anovl.images import list_images
from anovl.masks import read_mask

_ELPV = {"mono": "monocrystalline solar cell", "poly": "polycrystalline solar cell"}
_TILE_KINDS = {
    **{"MT_Free": "good", "MT_Blowhole": "blowhole", "MT_Break": "break"},
    **{"MT_Crack": "crack", "MT_Fray": "fray", "MT_Uneven": "uneven"},
}
_VISA_COLUMNS = ("object", "split", "label", "image", "mask")


def read_visa(root: Path, categories: Sequence[str] | None) -> Contents:
    """Read VisA by its own list, `split_csv/1cls.csv`; non-zero mask is defect.

    Raises FileNotFoundError for a missing list, category, image or mask; ValueError for a list that
    is not as published.
    """
    home = find_home(
        *(root, "visa"),
        lambda path: (path / "split_csv").is_dir() or any(path.glob("*/Data/Images")),
        such_as="split_csv/1cls.csv",
    )
    rows = _visa_rows(home / "split_csv" / "1cls.csv")
    known = dict.fromkeys(row["object"] for row in rows["test"])
    chosen = select(categories, known, "category of VisA")
    check_present(home, chosen, known, "VisA")
    test = {
        name: tuple(_visa_entry(home, row) for row in rows["test"] if row["object"] == name)
        for name in chosen
    }
    normal = {
        name: tuple(
            file_entry(home / row["image"], None, "good")
            for row in rows["train"]
            if row["object"] == name and (home / row["image"]).is_file()
        )
        for name in chosen
    }
    return Contents(test, normal)


def read_magnetic_tile(root: Path, categories: Sequence[str] | None) -> Contents:
    """Read Magnetic Tile Defects: `MT_<Kind>/Imgs/*.jpg`, a mask of the same name (.png) beside.

    It is one category, called "magnetic tile" in prompts unless `categories` has another name.
    Its masks are lossy, see `read_mask`. Raises FileNotFoundError for a missing kind, ValueError
    for images and masks that do not pair. Warns when the number of images is not the published one.
    """
    home = find_home(
        *(root, "magnetic-tile"),
        lambda path: any(path.glob("MT_*/Imgs")),
        such_as="MT_Free/Imgs",
    )
    name = only_name(categories, "magnetic tile", home)
    check_present(home, _TILE_KINDS, _TILE_KINDS, "Magnetic Tile Defects", partly=False)
    entries = [entry for folder in _TILE_KINDS for entry in _tile_entries(home / folder / "Imgs")]
    found = {name: tuple(entries)}
    warn_of_other_counts("Magnetic Tile Defects", home, found, {name: MAGNETIC_TILE})
    return Contents(found, words={name: Words(name, "texture")})


def read_kolektor_sdd(root: Path, categories: Sequence[str] | None) -> Contents:
    """Read KolektorSDD: `kosNN/PartN.jpg` with `PartN_label.bmp`, black where it is normal.

    It is one category, called "electrical commutator" in prompts unless `categories` has another
    name. Raises FileNotFoundError for an image without its label. Warns when the number of images
    is not the published one.
    """
    home = find_home(
        *(root, "kolektor-sdd"),
        lambda path: any(path.glob("kos*/Part*_label.bmp")),
        such_as="kos01/Part0_label.bmp",
    )
    name = only_name(categories, "electrical commutator", home)
    images = sorted(home.glob("kos*/Part*.jpg"))
    found = {name: tuple(_kolektor_entry(home, image) for image in images)}
    warn_of_other_counts("KolektorSDD", home, found, {name: KOLEKTOR_SDD})
    return Contents(found, words={name: Words(name, "texture")})


def read_elpv(root: Path, categories: Sequence[str] | None) -> Contents:
    """Read ELPV, solar cells in electroluminescence: `labels.csv` (path, probability, type).

    Cells with a probability of 0 of being defective are normal, those with 1 anomalous; those of
    1/3 and 2/3, of which their labellers were not sure, are left out. There are no masks. `root`
    is, by default, that of the package elpv-dataset.

    Raises FileNotFoundError without that file or an image of it, ValueError for another file.
    """
    home = _elpv_home(root)
    known = dict.fromkeys(_ELPV.values())
    chosen = select(categories, known, "category of elpv")
    found: dict[str, list[Entry]] = {name: [] for name in chosen}
    for path, probability, crystal in _elpv_rows(home / "labels.csv"):
        if _ELPV[crystal] in found and probability in (0, 1):
            kind = "defective" if probability else "good"
            found[_ELPV[crystal]].append(file_entry(home / path, None, kind))
    if not any(found.values()):
        raise ValueError(
            f"{home / 'labels.csv'} has no cell of {' or '.join(chosen)} of which its labellers "
            "were sure (probability 0 or 1)"
        )
    test = {name: tuple(entries) for name, entries in found.items()}
    return Contents(test, words={name: Words(name, "texture") for name in chosen})


def installed_root(name: str) -> Path | None:
    """Return the folder of a data set that is a Python package (elpv), None for all others.

    Raises FileNotFoundError when the package is not installed.
    """
    if name != "elpv":
        return None
    found = find_spec("elpv_dataset")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(
            "the data set elpv is the package elpv-dataset, which is not installed: "
            "in the checkout, pip install -e '.[elpv]', or give the folder of its labels.csv as "
            "the root"
        )
    return Path(found.submodule_search_locations[0]) / "data"


def _visa_rows(split: Path) -> dict[str, list[dict[str, str]]]:
    if not split.is_file():
        raise FileNotFoundError(
            f"there is no {split}, which says which images of VisA are for testing; it is part of "
            "the archive of VisA"
        )
    try:
        with split.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            columns, rows = reader.fieldnames or (), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{split} is no list in UTF-8, it is not VisA's own: {error}") from None
    if missing := [name for name in _VISA_COLUMNS if name not in columns]:
        raise ValueError(f"{split} has no column {', '.join(missing)}: it is not VisA's own")
    for row in rows:
        if row["split"] not in ("train", "test") or not (row["object"] and row["image"]):
            raise ValueError(
                f"{split}: expected an object, train or test, a label and an image in each line; "
                f"found {', '.join(repr(row[name]) for name in _VISA_COLUMNS)}"
            )
    by_split = {name: [row for row in rows if row["split"] == name] for name in ("test", "train")}
    if not by_split["test"]:
        raise ValueError(f"{split} names no image for testing: it is empty or cut short")
    return by_split


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


def _tile_entries(folder: Path) -> list[Entry]:
    images = [path for path in list_images(folder) if path.suffix.lower() == ".jpg"]
    if not images:
        raise ValueError(f"no .jpg images in {folder}: unpack the data set again")
    kind = _TILE_KINDS[folder.parent.name]
    if kind == "good":  # its masks, where there are any, are empty
        return [file_entry(image, None, kind) for image in images]
    masks = {key: path for key, path in masks_below(folder).items() if path not in images}
    pairs = {image: mask_of(image, folder, masks) for image in images}
    if missing := [image for image, mask in pairs.items() if mask is None]:
        raise ValueError(
            f"{folder} has masks but none for {missing[0]}: expected {missing[0].stem}.png"
        )
    if spare := set(masks.values()) - set(pairs.values()):
        raise ValueError(
            f"{min(spare)} is the mask of no image: one of the two is misnamed or lost"
        )
    return [file_entry(image, mask, kind, is_lossy=True) for image, mask in pairs.items()]


def _kolektor_entry(home: Path, image: Path) -> Entry:
    label = image.with_name(f"{image.stem}_label.bmp")
    if not label.is_file():
        raise FileNotFoundError(
            f"there is no {label}, the label of {image.name}: unpack {home} again"
        )
    name = image.relative_to(home).as_posix()
    if read_mask(label).any():
        return file_entry(image, label, "defect", name=name)
    return file_entry(image, None, "good", name=name)


def _elpv_home(root: Path) -> Path:
    """Return the folder of labels.csv, in the root or in a copy of the package there."""
    for home in (root, root / "data", root / "elpv_dataset" / "data"):
        if (home / "labels.csv").is_file():
            return home
    raise FileNotFoundError(
        f"there is no labels.csv of ELPV in {root}: give its folder, or install the package that "
        "has it (in the checkout, pip install -e '.[elpv]') and leave --data-root (root=) out"
    )


def _elpv_rows(labels: Path) -> list[tuple[str, float, str]]:
    try:
        lines = labels.read_text(encoding="utf-8").splitlines()
        rows = [(path, float(p), kind) for path, p, kind in (line.split() for line in lines)]
    except ValueError:
        rows = []
    if not rows or any(kind not in _ELPV or not 0 <= p <= 1 for _, p, kind in rows):
        raise ValueError(
            f"{labels} is not the list of ELPV: expected lines of a path, a probability from 0 to "
            f"1 and {' or '.join(_ELPV)}"
        )
    for path, *_ in rows:
        if not (labels.parent / path).is_file():
            raise FileNotFoundError(f"there is no {labels.parent / path}, which {labels} names")
    return rows
