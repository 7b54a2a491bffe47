"""What looks wrong in a data set: (what, file), for `check` to group."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from anovl._shared.files import copies
from anovl.data.dataset import Dataset, Entry
from anovl.images import is_far_from_square
from anovl.masks import MaskWarning, lost_regions, mask_at
from anovl.stored import decode


def doubts_of(
    dataset: Dataset, size: tuple[int, int] | None, decode_images: bool
) -> Iterator[tuple[str, Path]]:
    """Yield what looks wrong in the pictures and the masks; see `check.summarise`."""
    tests = [entry for category in dataset.categories for entry in dataset.entries(category)]
    normals = [e for category in dataset.categories for e in dataset.normal_entries(category)]
    yield from _about_images(tests + normals, decode_images)
    yield from _about_masks(tests, size)
    for category in dataset.categories:
        yield from _copies([*dataset.entries(category), *dataset.normal_entries(category)])


def _about_images(entries: Iterable[Entry], decode_images: bool) -> Iterator[tuple[str, Path]]:
    for entry in entries:
        try:
            stored = decode(entry.path, pixels=False)
            if decode_images:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", MaskWarning)  # `_about_masks` names them
                    entry.load()
        except (ValueError, OSError) as error:
            if not _is_of_mask(error, entry):  # `_about_masks` names those
                yield f"images that cannot be read: {_reason(error, entry)}", entry.path
            continue
        if is_far_from_square(stored.image.size):
            what = "images far from square, squeezed to a square: cut such images into tiles"
            yield what, entry.path
        if stored.pages > 1:
            yield "images with several pages or frames, of which the first is read", entry.path


def _about_masks(
    entries: Iterable[Entry], size: tuple[int, int] | None
) -> Iterator[tuple[str, Path]]:
    for entry in entries:
        if entry.mask is None:
            continue
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                mask = entry.read_mask()
        except (ValueError, OSError) as error:
            yield f"masks that cannot be read: {_reason(error, entry)}", entry.mask
            continue
        for warning in caught:
            if isinstance(warning.message, MaskWarning):
                yield f"masks: {warning.message.doubt}", entry.mask
        if not mask.any():
            yield "masks without a defect, in a kind that is anomalous", entry.mask
        elif size is not None and lost_regions(mask, size):
            is_gone = not mask_at(mask, size).any()
            lost = "whose defect" if is_gone else "with a small region that"
            at = f"at {size[1]} x {size[0]} pixels: it counts as normal"
            yield f"masks {lost} vanishes {at}", entry.mask


def _copies(entries: Iterable[Entry]) -> Iterator[tuple[str, Path]]:
    """Yield the pictures that lie in more than one folder."""
    for alike in copies(entry.path for entry in entries):
        if len({path.parent for path in alike}) > 1:
            for path in alike:
                yield "pictures of which another folder has a copy, byte by byte", path


def _is_of_mask(error: Exception, entry: Entry) -> bool:
    """Tell whether the mask raises the same error by itself."""
    try:
        if entry.mask is not None:
            entry.read_mask()
    except (ValueError, OSError) as own:
        return str(own) == str(error)
    return False


def _reason(error: Exception, entry: Entry) -> str:
    """Say why without the files' names, so that equal reasons share a line."""
    text = str(error).replace(f"the mask {entry.mask}", "its mask").replace(str(entry.path), "it")
    for reason in ("is empty", "is not a picture", "is damaged", "does not fit", "no file"):
        if reason in text:
            return reason.removeprefix("is ")
    return text
