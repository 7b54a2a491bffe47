"""Folders in the layout of MVTec AD, your own among them -> images with their kinds and masks.

A kind is a folder of images, its sub-folders included. `good`, `ok`, `normal`, `no_defect` and
`defect_free`, also with a number (`good2`), are normal; all other kinds are anomalous. Upper and
lower case of a folder's name are the same: `Test/Good` is `test/good`.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from anovl.data.dataset import Dataset, Entry, only_name, select
from anovl.data.published import TEST_FOLDERS
from anovl.images import is_image_file

MASK_ENDS = ("_mask", "_gt", "_label", "_seg")
MASK_FOLDERS = ("mask", "masks", "ground_truth", "gt")
RECORD = "localize.json"  # in a folder with results of `localize`
_MASK_END = re.compile(rf"[-_. ]({'|'.join(end[1:] for end in MASK_ENDS)})$", re.IGNORECASE)
_NORMAL = re.compile(r"(good|ok|normal|no[-_ ]?defects?|defect[-_ ]?free)[-_ ]?\d*", re.IGNORECASE)
_LEFTOVERS = re.compile(
    r"\..*|__MACOSX|@eaDir|#recycle|\$RECYCLE\.BIN|System Volume Information|lost\+found"
    r"|Thumbs\.db|desktop\.ini|.*(~|\.bak|\.old| - Copy( \(\d+\))?)",
    re.IGNORECASE,
)

Masks = Mapping[tuple[str, str], Path]  # by the sub-folder and the stem of the mask


def is_normal(kind: str) -> bool:
    """Tell by the name of a folder whether its images are normal.

    >>> [is_normal(name) for name in ("good", "good2", "OK", "no_defect", "good_with_scratch")]
    [True, True, True, True, False]
    """
    return _NORMAL.fullmatch(kind) is not None


def is_leftover(name: str) -> bool:
    """Tell by its name whether an operating system, a file manager or a backup made a file.

    >>> [is_leftover(name) for name in ("__MACOSX", ".DS_Store", "bottle.bak", "bottle")]
    [True, True, True, False]
    """
    return _LEFTOVERS.fullmatch(name) is not None


def folders(folder: Path) -> list[Path]:
    """Return the sub-folders of a folder, sorted, without leftovers; none if it is missing.

    A link back to the folder, or to one above it, is left out: its images would count many times.
    """
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.is_dir() and not is_leftover(path.name))
    whole = folder.resolve()
    return sorted(p for p in found if not p.is_symlink() or not whole.is_relative_to(p.resolve()))


def sub_folder(folder: Path, *names: str) -> Path:
    """Return the sub-folder of these names; in another case, where none is spelt exactly so.

    Raises ValueError where the names of several folders differ from it in case alone.
    """
    for name in names:
        if not (folder / name).is_dir():
            alike = [path for path in folders(folder) if path.name.casefold() == name.casefold()]
            _check_case(alike)
            name = alike[0].name if alike else name
        folder = folder / name
    return folder


def find_home(root: Path, name: str, *marks: str) -> Path:
    """Return the root, or the one folder just below it, that has one of these folders or files.

    Raises FileNotFoundError where there is none, ValueError where there are several.
    """

    def is_home(path: Path) -> bool:
        return any(sub_folder(path, *mark.split("/")).exists() for mark in marks)

    found = [root] if is_home(root) else [path for path in folders(root) if is_home(path)]
    if not found:
        raise FileNotFoundError(
            f"neither {root} nor a folder just below it has the layout of {name}, with {marks[0]}; "
            f"try `python -m anovl download {name} --to DIR`, or load another layout as 'folder'"
        )
    if len(found) > 1:
        raise ValueError(f"{name} is there more than once, name one: {', '.join(map(str, found))}")
    return found[0]


def read_folder(root: Path, categories: Sequence[str] | None) -> Dataset:
    """Read a folder of your own: categories, one category, or images without labels.

    See `load_dataset`, and `read_kinds` for normal folders and masks.
    """
    found = {path.name: path for path in folders(root) if sub_folder(path, "test").is_dir()}
    own = sub_folder(root, "test")
    if not own.is_dir() and found:
        chosen = select(categories, found, f"category in {root}")
        found = {name: found[name] for name in chosen}
    else:
        name = only_name(categories, root.resolve().name)
        if not own.is_dir():
            return Dataset("folder", {name: _read_unlabelled(root)})
        if others := [path for path in found.values() if path != own]:
            raise ValueError(
                f"both {root} and {others[0]} have a folder test, and one would hide the other: "
                "move the second one out of the first"
            )
        found = {name: root}
    test = {name: read_kinds(folder) for name, folder in found.items()}
    return Dataset("folder", test, {name: read_normal(folder) for name, folder in found.items()})


def read_kinds(
    category: Path, test: str = "test", *, is_complete: bool = False
) -> tuple[Entry, ...]:
    """Read the kinds of `category/test`, with their masks.

    Masks lie in `category/ground_truth/<kind>`, in `test/ground_truth/<kind>`, or beside the
    images. The mask of `000.png` is called `000`, `000_mask`, `000_gt`, `000_label` or `000_seg`,
    also with the whole name of the image (`000.png.png`), in upper case (`000_MASK`), and with
    another sign before the ending (`000-mask`); beside the images it needs one of the endings, or
    a folder `mask`, `masks`, `ground_truth` or `gt`. A kind without masks has none. In a kind with
    masks an image that has none is left out, with a warning.

    With `is_complete`, for published sets, nothing may be missing: neither normal images nor any
    mask. Raises FileNotFoundError for a missing kind; ValueError for a kind without images, for
    images and masks that do not pair, and for kinds whose names differ in case alone.
    """
    folder = sub_folder(category, test)
    kinds = [kind for kind in folders(folder) if kind.name.lower() not in MASK_FOLDERS]
    if not kinds or (is_complete and not any(is_normal(kind.name) for kind in kinds)):
        raise FileNotFoundError(
            f"there is no {folder / 'good'}: expected it for normal images, and a folder beside it "
            "for each kind of defect"
        )
    _check_case(kinds)
    truth, inside = sub_folder(category, "ground_truth"), sub_folder(folder, "ground_truth")
    if inside.is_dir() and not truth.is_dir():
        truth = inside
    return tuple(
        entry for kind in kinds for entry in _kind(kind, sub_folder(truth, kind.name), is_complete)
    )


def read_normal(category: Path) -> tuple[Entry, ...]:
    """Read the normal kinds of `category/train`; none where it is missing."""
    return tuple(
        Entry(image, image.relative_to(kind).as_posix(), "good")
        for kind in folders(sub_folder(category, "train"))
        if is_normal(kind.name)
        for image in pictures(kind)
    )


def pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder and of its sub-folders, sorted.

    Leftovers and folders with results of `localize` are left out.
    """
    if not folder.is_dir() or (folder / RECORD).is_file():
        return []
    own = sorted(p for p in folder.iterdir() if is_image_file(p) and not is_leftover(p.name))
    return own + [path for below in folders(folder) for path in pictures(below)]


def unlabelled(folder: Path) -> list[Path]:
    """Return the `pictures` of a folder that do not lie in a folder of masks below it.

    Raises ValueError where there are none.
    """

    def is_mask(path: Path) -> bool:
        return any(part.lower() in MASK_FOLDERS for part in path.relative_to(folder).parts)

    if images := [path for path in pictures(folder) if not is_mask(path)]:
        return images
    raise ValueError(
        f"no images in {folder} that Pillow can read, besides masks and results of localize; "
        f"its folders are {[path.name for path in folders(folder)]}"
    )


def pair(
    images: Sequence[Path], masks: Masks, folder: Path, *, is_complete: bool
) -> dict[Path, Path]:
    """Return the masks of images in a folder; images without one are left out, with a warning.

    Warns of images that share a mask. Raises ValueError where no mask fits, and with `is_complete`
    for each image without a mask and each mask without an image.
    """
    found = {image: _mask_of(image, folder, masks) for image in images}
    pairs = {image: mask for image, mask in found.items() if mask is not None}
    without = [image for image in images if image not in pairs]
    if without and (is_complete or not pairs):
        known = f"; there is {min(masks.values())}" if masks else ""
        raise ValueError(f"{without[0]} has no mask, expected {without[0].stem}_mask.png{known}")
    if is_complete and (spare := set(masks.values()) - set(pairs.values())):
        raise ValueError(f"{min(spare)} is the mask of no image: one of them is misnamed or lost")
    if without:
        warnings.warn(
            f"images without a mask in {folder}, where others have one, are left out: "
            f"{len(without)} of {len(found)} ({without[0].name}{', ...' * (len(without) > 1)})",
            stacklevel=2,
        )
    times = Counter(pairs.values())
    if shared := [str(image) for image, mask in pairs.items() if times[mask] > 1]:
        warnings.warn(
            f"images that share a mask: {', '.join(shared[:4])}; give each its own", stacklevel=2
        )
    return pairs


def masks_below(folder: Path) -> dict[tuple[str, str], Path]:
    """Return the pictures of a folder of masks by (sub-folder, stem)."""
    return {
        (path.relative_to(folder).parent.as_posix(), mask_stem(path)): path
        for path in pictures(folder)
    }


def mask_stem(path: Path) -> str:
    """Return the name of a picture without its suffix, the ending of a mask spelt as `MASK_ENDS`.

    >>> mask_stem(Path("000-MASK.png")), mask_stem(Path("000.png"))
    ('000_mask', '000')
    """
    return _MASK_END.sub(lambda found: f"_{found[1].lower()}", path.stem)


def _kind(kind: Path, truth: Path, is_complete: bool) -> Iterator[Entry]:
    """Yield the images of one kind."""
    files = pictures(kind)
    names = {(path.parent, name) for path in files for name in (path.stem, path.name)}
    beside = {path: key for path in files if (key := _key_beside(path, kind, names))}
    images = [path for path in files if path not in beside]
    if not images:
        raise ValueError(f"no images in {kind} that Pillow can read")
    masks = masks_below(truth) | {key: path for path, key in beside.items()}
    name = "good" if is_normal(kind.name) else kind.name
    pairs: Mapping[Path, Path | None] = dict.fromkeys(images)
    if name != "good" and (masks or is_complete):
        pairs = pair(images, masks, kind, is_complete=is_complete)
    prefix = f"{kind.name}/" if name == "good" != kind.name else ""
    for image, mask in pairs.items():
        yield Entry(image, f"{prefix}{image.relative_to(kind).as_posix()}", name, mask)


def _read_unlabelled(root: Path) -> tuple[Entry, ...]:
    for name, test in TEST_FOLDERS.items():
        if any(sub_folder(path, test).is_dir() for path in (root, *folders(root))):
            raise ValueError(
                f"{root} has a folder {test}, as {name} has: give --dataset {name} (name=) and, as "
                "the root, the folder of its categories"
            )
    return tuple(Entry(path, path.relative_to(root).as_posix(), "") for path in unlabelled(root))


def _key_beside(path: Path, kind: Path, names: set[tuple[Path, str]]) -> tuple[str, str] | None:
    """Return the key of a mask among the images of these names; None for an image."""
    parts = path.relative_to(kind).parts[:-1]
    outside = [part for part in parts if part.lower() not in MASK_FOLDERS]
    stem = mask_stem(path)
    images = [stem.removesuffix(end) for end in MASK_ENDS if stem.endswith(end)]
    if len(outside) == len(parts) and not any((path.parent, image) in names for image in images):
        return None
    return Path(*outside).as_posix(), stem


def _mask_of(image: Path, folder: Path, masks: Masks) -> Path | None:
    """Return the mask of an image of `folder`, in its own sub-folder or at the top."""
    below = image.relative_to(folder).parent.as_posix()
    for where in (below, "."):
        for name in (image.stem, image.name):
            for end in (*MASK_ENDS, ""):
                if (where, f"{name}{end}") in masks:
                    return masks[where, f"{name}{end}"]
    return None


def _check_case(paths: Sequence[Path]) -> None:
    """Raise ValueError where the names of two paths differ in case alone."""
    spelt: dict[str, Path] = {}
    for path in paths:
        if (other := spelt.setdefault(path.name.casefold(), path)) != path:
            raise ValueError(
                f"{other} and {path} differ in case alone: merge or rename one of them"
            )
