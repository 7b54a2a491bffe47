"""Data sets on disk -> `Dataset`: published sets as they are unpacked, and your own folder.

A root may be the folder of the data set, or one that holds it under any name: `datasets/MVTecAD`
and `datasets` are both accepted. No generated index (meta.json) is needed.
"""

from __future__ import annotations

import csv
import re
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from anovl.data.dataset import Dataset, Entry, only_name, select
from anovl.data.layout import find_home, masks_below, pair, read_folder, read_kinds, read_normal
from anovl.data.published import COUNTS, LIKE_MVTEC, TEST_FOLDERS, Words
from anovl.images import PixelRange, check_pixel_range, list_images, pixel_range_of
from anovl.masks import MaskValues, check_values, read_mask

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# A split and a label, and whether there is a mask.
_VISA_LINES = {("train", "normal", False), ("test", "normal", False), ("test", "anomaly", True)}
_ELPV = {"mono": "monocrystalline solar cell", "poly": "polycrystalline solar cell"}
_ELPV_KINDS = {0.0: "good", 0.33: None, 0.67: None, 1.0: "defective"}  # by the probability


def read_files(
    name: str,
    root: str | Path | None,
    categories: Sequence[str] | None,
    *,
    pixel_range: PixelRange | None,
    mask_values: MaskValues | None,
) -> Dataset:
    """Read a data set of files; the options and the errors are those of `load_dataset`."""
    check_values(mask_values)
    check_pixel_range(pixel_range)
    root = _installed_root(name) if root is None else Path(root).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; check the path")
    data = READERS[name](root, categories)
    for category, own in data.test.items():
        if not own:
            raise ValueError(f"{root} has no test images of {category}")
        if _CONTROL.search(category):  # it would break the lines of tables and prompts
            what = "has a line break, a tab or another control character in its name"
            raise ValueError(f"the category {category!r} {what}: rename its folder")
    _warn_of_other_counts(data, root)
    entries = [e for part in (data.test, data.normal) for own in part.values() for e in own]
    for file in (file for entry in entries for file in entry.files):
        if not file.is_file():
            raise FileNotFoundError(f"there is no {file}, which {name} lists: unpack {root} again")
    if mask_values is not None and not any(entry.mask for entry in entries):
        raise ValueError(f"{root} has no masks, so leave --mask-values (mask_values=) out")
    if pixel_range is None:
        pixel_range = pixel_range_of(entry.path for entry in entries)
    parameters = {
        "pixel_range": pixel_range and list(pixel_range),
        "mask_values": mask_values,
        "words": {category: list(words) for category, words in data.words.items()} or None,
    }
    options = partial(replace, pixel_range=pixel_range, mask_values=mask_values)
    return replace(
        data,
        test={category: tuple(map(options, own)) for category, own in data.test.items()},
        normal={category: tuple(map(options, own)) for category, own in data.normal.items()},
        parameters={option: value for option, value in parameters.items() if value is not None},
        root=root,
    )


def draw(data: Dataset, per_category: int, seed: int) -> Dataset:
    """Draw some images of each category: `per_category` of each class, or all it has.

    A smaller draw of the same seed is a part of a larger one. Raises ValueError where images have
    no labels.
    """
    drawn = {}
    for category, entries in data.test.items():
        if any(entry.label is None for entry in entries):
            raise ValueError(
                f"per_category counts normal and anomalous images, and those of {category!r} have "
                "no labels: leave --per-category (per_category=) out"
            )
        chance = [seed, zlib.crc32(category.encode(errors="surrogateescape"))]
        order = np.random.default_rng(chance).permutation(len(entries))
        normal, anomalous = ([i for i in order if entries[i].label == label] for label in (0, 1))
        places = sorted(normal[:per_category] + anomalous[:per_category])
        drawn[category] = tuple(entries[place] for place in places)
    all_files, files = (
        {file for entries in test.values() for entry in entries for file in entry.files}
        for test in (data.test, drawn)
    )
    parameters = {**data.parameters, "per_category": per_category, "seed": seed}
    return replace(data, test=drawn, parameters=parameters, left_out=frozenset(all_files - files))


def _read_like_mvtec(name: str, root: Path, categories: Sequence[str] | None) -> Dataset:
    """Read a published set in the layout of MVTec AD, of which nothing may be missing."""
    known, test = LIKE_MVTEC[name], TEST_FOLDERS.get(name, "test")
    home = find_home(root, name, *(f"{category}/{test}" for category in known))
    chosen = select(categories, known, f"category of {name}")
    if missing := [category for category in chosen if not (home / category).is_dir()]:
        raise FileNotFoundError(
            f"{home} lacks {', '.join(missing)}: unpack {name} again, or choose other categories"
        )
    return Dataset(
        name,
        test={c: read_kinds(home / c, test, is_complete=True) for c in chosen},
        normal={c: read_normal(home / c) for c in chosen},
        words={c: words for c in chosen if (words := known[c])},
    )


def _read_visa(root: Path, categories: Sequence[str] | None) -> Dataset:
    """Read VisA by its own list; training images may be missing."""
    home = find_home(root, "visa", "split_csv/1cls.csv")
    split = home / "split_csv" / "1cls.csv"
    with split.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = list(csv.DictReader(file, restval=""))
    for line in lines or [{}]:
        place = line.get("split"), line.get("label"), bool(line.get("mask"))
        if place not in _VISA_LINES or not line.get("object") or not line.get("image"):
            raise ValueError(
                f"{split} is not VisA's own: expected object, split, label, image, and a mask for "
                f"each anomaly; found {', '.join(map(repr, line.values()))}"
            )
    chosen = select(categories, dict.fromkeys(line["object"] for line in lines), "category of visa")
    test: dict[str, tuple[Entry, ...]] = dict.fromkeys(chosen, ())
    normal = dict(test)
    for line in (line for line in lines if line["object"] in chosen):
        image, mask = home / line["image"], home / line["mask"] if line["mask"] else None
        entry = Entry(image, image.name, "anomaly" if mask else "good", mask)
        if line["split"] == "test":
            test[line["object"]] += (entry,)
        elif image.is_file():
            normal[line["object"]] += (entry,)
    return Dataset("visa", test, normal)


def _read_magnetic_tile(root: Path, categories: Sequence[str] | None) -> Dataset:
    """Read Magnetic Tile Defects: `MT_<Kind>/Imgs/*.jpg`, a mask of the same name (.png) beside."""
    home = find_home(root, "magnetic-tile", "MT_Free/Imgs")
    entries: list[Entry] = []
    for kind in ("Free", "Blowhole", "Break", "Crack", "Fray", "Uneven"):
        folder = home / f"MT_{kind}" / "Imgs"
        images = [path for path in list_images(folder) if path.suffix.lower() == ".jpg"]
        if kind == "Free":  # the masks of normal images are empty
            entries += [Entry(image, image.name, "good") for image in images]
            continue
        masks = {key: path for key, path in masks_below(folder).items() if path not in images}
        pairs = pair(images, masks, folder, is_complete=True)
        entries += [
            Entry(i, i.name, kind.lower(), mask, is_lossy=True) for i, mask in pairs.items()
        ]
    name = only_name(categories, "magnetic tile")
    return Dataset("magnetic-tile", {name: tuple(entries)}, words={name: Words(name, "texture")})


def _read_kolektor_sdd(root: Path, categories: Sequence[str] | None) -> Dataset:
    """Read KolektorSDD: `kosNN/PartN.jpg` with `PartN_label.bmp`, black where it is normal."""
    home = find_home(root, "kolektor-sdd", "kos01/Part0_label.bmp")
    entries = []
    for image in sorted(home.glob("kos*/Part*.jpg")):
        label = image.with_name(f"{image.stem}_label.bmp")
        kind, mask = ("defect", label) if read_mask(label).any() else ("good", None)
        entries.append(Entry(image, image.relative_to(home).as_posix(), kind, mask))
    name = only_name(categories, "electrical commutator")
    return Dataset("kolektor-sdd", {name: tuple(entries)}, words={name: Words(name, "texture")})


def _read_elpv(root: Path, categories: Sequence[str] | None) -> Dataset:
    """Read ELPV by `labels.csv`: a path, the probability of a defect, the type of the cell.

    Cells with a probability of 0 are normal, cells with 1 anomalous; cells in between, of which
    the labellers were not sure, are left out. There are no masks.
    """
    labels = find_home(root, "elpv", "labels.csv") / "labels.csv"
    chosen = select(categories, list(_ELPV.values()), "category of elpv")
    test: dict[str, tuple[Entry, ...]] = dict.fromkeys(chosen, ())
    for line in labels.read_text(encoding="utf-8").splitlines():
        try:
            path, probability, cell = line.split()
            category, kind = _ELPV[cell], _ELPV_KINDS[round(float(probability), 2)]
        except (ValueError, KeyError):
            raise ValueError(
                f"{labels} is not the list of ELPV: expected a path, a probability and "
                f"{' or '.join(_ELPV)}; found {line!r}"
            ) from None
        if category in chosen and kind is not None:
            image = labels.parent / path
            test[category] += (Entry(image, image.name, kind),)
    return Dataset("elpv", test, words={name: Words(name, "texture") for name in chosen})


READERS: dict[str, Callable[[Path, Sequence[str] | None], Dataset]] = {
    "folder": read_folder,
    **{name: partial(_read_like_mvtec, name) for name in LIKE_MVTEC},
    "visa": _read_visa,
    "magnetic-tile": _read_magnetic_tile,
    "kolektor-sdd": _read_kolektor_sdd,
    "elpv": _read_elpv,
}


def _installed_root(name: str) -> Path:
    """Return the folder of the set that is a Python package (elpv); others need their root."""
    if name != "elpv":
        raise ValueError(f"the data set {name!r} needs its root: the folder with the images")
    found = find_spec("elpv_dataset")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(
            "the data set elpv is the package elpv-dataset, which is not installed: in the "
            "checkout, pip install -e '.[elpv]', or give the folder of its labels.csv as the root"
        )
    return Path(found.submodule_search_locations[0]) / "data"


def _warn_of_other_counts(data: Dataset, root: Path) -> None:
    """Warn where the numbers of test images are not those of the publication."""
    published, other = COUNTS.get(data.name, {}), []
    for category in data.categories if published else ():
        labels = data.labels(category)
        found = labels.count(0), labels.count(1)
        expected = published.get(category) or published["one category"]
        if found != expected:
            other.append("{} {} + {} instead of {} + {}".format(category, *found, *expected))
    if other:
        warnings.warn(
            f"{root} has not the test images of {data.name} (normal + anomalous: "
            f"{'; '.join(other)}), so its numbers do not compare with published ones",
            stacklevel=4,
        )
