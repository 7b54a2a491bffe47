"""One category on disk, as MVTec AD lays it out, -> entries: kinds, masks, normal images.

A kind is a folder of pictures, its sub-folders included. `good`, `ok`, `normal`, `no_defect` and
`defect_free`, also with a number (`good2`), are normal; all other kinds are anomalous. The case of
a folder's name does not count: `Test/Good` and `GROUND_TRUTH` are read as what they mean.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from anovl.data.entries import Entry, file_entry
from anovl.images import SUFFIXES, is_image_file

MASK_ENDS = ("_mask", "_gt", "_label", "_seg")
MASK_FOLDERS = ("mask", "masks", "ground_truth", "gt")
_MASK_END = re.compile(rf"[-_. ]({'|'.join(end[1:] for end in MASK_ENDS)})$", re.IGNORECASE)
_NORMAL = re.compile(r"(good|ok|normal|no[-_ ]?defects?|defect[-_ ]?free)[-_ ]?\d*", re.IGNORECASE)
_LEFTOVERS = re.compile(
    r"\..*|__MACOSX|@eaDir|#recycle|\$RECYCLE\.BIN|System Volume Information|lost\+found"
    r"|Thumbs\.db|desktop\.ini|.*(~|\.bak|\.old| - Copy( \(\d+\))?)",
    re.IGNORECASE,
)

Masks = Mapping[tuple[str, str], Path]  # by the sub-folder and the stem of the mask


def is_normal(kind: str) -> bool:
    """Tell by the name of a folder whether its pictures are normal.

    >>> [is_normal(name) for name in ("good", "good2", "OK", "no_defect", "good_with_scratch")]
    [True, True, True, True, False]
    """
    return _NORMAL.fullmatch(kind) is not None


def is_leftover(name: str) -> bool:
    """Tell by its name what an operating system, a file manager or a backup has left behind.

    >>> [is_leftover(name) for name in ("__MACOSX", ".DS_Store", "bottle.bak", "bottle")]
    [True, True, True, False]
    """
    return _LEFTOVERS.fullmatch(name) is not None


def folders(folder: Path) -> list[Path]:
    """Return the sub-folders of a folder, sorted, without leftovers; none if it is missing.

    A link back to the folder, or to one above it, is none: its pictures would count many times.
    """
    if not folder.is_dir():
        return []
    found = (p for p in folder.iterdir() if p.is_dir() and not is_leftover(p.name))
    whole = folder.resolve()
    return sorted(p for p in found if not p.is_symlink() or not whole.is_relative_to(p.resolve()))


def sub_folder(folder: Path, *names: str) -> Path:
    """Return the sub-folder of these names; in another case, where none is spelt exactly so.

    Raises ValueError where several differ from a name in case alone.
    """
    for name in names:
        if not (folder / name).is_dir():
            alike = [path for path in folders(folder) if path.name.casefold() == name.casefold()]
            if len(alike) > 1:
                raise ValueError(
                    f"{' and '.join(map(str, alike))} differ in case alone; expected one {name}: "
                    "merge them, or give the others another name"
                )
            name = alike[0].name if alike else name
        folder = folder / name
    return folder


def read_kinds(test: Path, truth: Path, *, is_complete: bool = False) -> tuple[Entry, ...]:
    """Read the kinds of a folder `test`, with the masks of `truth/<kind>` or beside the images.

    The mask of `000.png` is called `000`, `000_mask`, `000_gt`, `000_label` or `000_seg`, also with
    the whole name of the image (`000.png.png`), in upper case (`000_MASK`), and with another sign
    before the ending (`000-mask`); beside the images it needs one of the endings, or a folder
    `mask`, `masks`, `ground_truth` or `gt`. A kind without masks has none. In a kind with masks an
    image that has none is left out, with a warning. So are named images that share one mask.

    With `is_complete`, for published sets, nothing may be missing: FileNotFoundError for a kind
    without masks or no normal images, ValueError for images and masks that do not pair. In any
    case ValueError for a kind without images, for masks that fit none of its images, and for two
    kinds that have one folder of masks, because their names differ in case alone.
    """
    kinds = [kind for kind in folders(test) if kind.name.lower() not in MASK_FOLDERS]
    if is_complete and not any(is_normal(kind.name) for kind in kinds):
        raise FileNotFoundError(f"there is no {test / 'good'}: unpack {test.parent} again")
    if not kinds:
        raise ValueError(f"{test} has no sub-folders; expected test/good and test/<kind of defect>")
    truths = {kind: sub_folder(truth, kind.name) for kind in kinds}
    _check_apart({kind: own for kind, own in truths.items() if not is_normal(kind.name)})
    return tuple(e for kind, own in truths.items() for e in _kind(kind, own, is_complete))


def normal_entries(*parents: Path) -> tuple[Entry, ...]:
    """Read the normal kinds of folders such as `train`; none where they are missing."""
    kinds = [kind for parent in parents for kind in folders(parent) if is_normal(kind.name)]
    return tuple(
        file_entry(image, None, "good", name=image.relative_to(kind).as_posix())
        for kind in kinds
        for image in _pictures(kind)
    )


def masks_below(folder: Path) -> dict[tuple[str, str], Path]:
    """Return the pictures of a folder of masks by (sub-folder, stem)."""
    if not folder.is_dir():
        return {}
    return {_key(path, folder): path for path in _pictures(folder)}


def mask_stem(path: Path) -> str:
    """Return the name of a picture without its suffix, the ending of a mask spelt as `MASK_ENDS`.

    >>> mask_stem(Path("000-MASK.png")), mask_stem(Path("000.png"))
    ('000_mask', '000')
    """
    return _MASK_END.sub(lambda found: f"_{found[1].lower()}", path.stem)


def mask_of(image: Path, folder: Path, masks: Masks) -> Path | None:
    """Return the mask of an image of `folder`, in its own sub-folder or at the top."""
    below = image.relative_to(folder).parent.as_posix()
    for where in dict.fromkeys((below, ".")):
        for name in (image.stem, image.name):
            for end in (*MASK_ENDS, ""):
                if (where, f"{name}{end}") in masks:
                    return masks[where, f"{name}{end}"]
    return None


def _kind(kind: Path, truth: Path, is_complete: bool) -> Iterator[Entry]:
    """Yield the entries of one kind."""
    pictures = _pictures(kind)
    beside = {path: key for path in pictures if (key := _mask_beside(path, kind, pictures))}
    images = [path for path in pictures if path not in beside]
    if not images:
        raise ValueError(f"no images in {kind} (looked for {' '.join(SUFFIXES)})")
    name = "good" if is_normal(kind.name) else kind.name
    masks = masks_below(truth) | {key: path for path, key in beside.items()}
    if is_complete and name != "good" and not masks:
        raise FileNotFoundError(f"there are no masks in {truth}: unpack {kind.parents[1]} again")
    own = {image: mask_of(image, kind, masks) for image in images} if name != "good" else {}
    _check_pairs(kind, truth, masks, own, is_complete)
    for image in images:
        if own.get(image) is None and masks and name != "good":
            continue
        label = image.relative_to(kind).as_posix()
        label = f"{kind.name}/{label}" if name == "good" != kind.name else label
        yield file_entry(image, own.get(image), name, name=label)


def _check_apart(truths: Mapping[Path, Path]) -> None:
    taken: dict[Path, Path] = {}
    for kind, truth in truths.items():
        if (other := taken.setdefault(truth, kind)) != kind:
            raise ValueError(
                f"{other} and {kind} would share the masks of {truth}, because their names differ "
                "in case alone: give one of them, and its masks, another name"
            )


def _check_pairs(
    kind: Path, truth: Path, masks: Masks, own: Mapping[Path, Path | None], is_complete: bool
) -> None:
    without = [image for image, mask in own.items() if mask is None]
    if masks and without and (is_complete or len(without) == len(own)):
        raise ValueError(
            f"{truth} has masks but none for {without[0]}: expected {without[0].stem}_mask.png"
        )
    if masks and without:
        warnings.warn(
            f"images without a mask in {kind}, where others have one, are left out: "
            f"{len(without)} of {len(own)} ({without[0].name}{', ...' * (len(without) > 1)})",
            stacklevel=2,
        )
    counts = Counter(mask for mask in own.values() if mask)
    for mask in (mask for mask, n in counts.items() if n > 1):
        images = [image.name for image in own if own[image] == mask]
        warnings.warn(
            f"images that share a mask in {kind}: {', '.join(images)} have {mask.name}; if it is "
            f"of one alone, give each its own ({images[0]}_mask.png)",
            stacklevel=2,
        )
    if is_complete and (spare := set(masks.values()) - set(own.values())):
        raise ValueError(
            f"{min(spare)} is the mask of no image: one of the two is misnamed or lost"
        )


def _pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder and of its sub-folders, sorted, without leftovers."""
    own = sorted(p for p in folder.iterdir() if is_image_file(p) and not is_leftover(p.name))
    return own + [path for below in folders(folder) for path in _pictures(below)]


def _mask_beside(path: Path, kind: Path, pictures: list[Path]) -> tuple[str, str] | None:
    """Return the key of a mask that lies among the images; None for an image."""
    parts = path.relative_to(kind).parts[:-1]
    if any(part.lower() in MASK_FOLDERS for part in parts):
        outside = [part for part in parts if part.lower() not in MASK_FOLDERS]
        return Path(*outside).as_posix(), mask_stem(path)
    stems = {name for p in pictures if p.parent == path.parent for name in (p.stem, p.name)}
    stem = mask_stem(path)
    if any(stem.endswith(end) and stem[: -len(end)] in stems for end in MASK_ENDS):
        return _key(path, kind)
    return None


def _key(path: Path, folder: Path) -> tuple[str, str]:
    return path.relative_to(folder).parent.as_posix(), mask_stem(path)
