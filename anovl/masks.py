"""Read masks, warn about doubtful ones, and resize them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from anovl.images import BIT_DEPTHS, SEVERAL_PAGES, Header, ImageWarning, decode, grey_values

DARK = "dark"
MaskValues: TypeAlias = "Sequence[int] | str"
"""Which numbers of a mask are defect; or DARK, where masks are inverted."""

_MOST_CLASSES = 15  # grey levels up to here are numbers of classes, not brightness
_NOISE = 3  # lossy compression moves most levels by so much
_MOST_COLOURS = 16  # in a palette, more are noise or a photograph
_SAVE_AS_GREY = "save it as a grey mask, black where there is no defect"
_NAME_NUMBERS = "say which numbers are defect with --mask-values (mask_values=, values=)"


class MaskWarning(ImageWarning):
    """A doubt about a mask as it was read: its file, and the doubt in words."""


def read_mask(
    path: str | Path,
    *,
    values: MaskValues | None = None,
    is_lossy: bool = False,
    shape: tuple[int, int] | None = None,
    image_path: str | Path | None = None,
) -> np.ndarray:
    """Read a defect mask as a bool array (H, W), True where the defect is.

    The rule, at 8 and at 16 bits:

    - With a list of `values`, exactly those numbers are the defect: of a grey mask its levels, of a
      palette mask its indices.
    - Of a palette with up to 16 colours, black is background, all others are defect.
    - Grey of one or two levels, one of them 0, or of numbers up to 15, which are classes (VisA:
      1...9): non-zero is defect.
    - Other grey levels: those from half of full scale on are defect. So the noise of a lossy
      compression, also of a JPEG, makes no defect.
    - With `values="dark"`, for inverted masks, defect and background of this rule swap.

    A `MaskWarning` says what speaks against the result: more than two grey levels (not with
    `is_lossy`, which says that they are expected), levels that are nearly one of the numbers in
    `values` and do not count, a defect that covers more than half of the image, as in an inverted
    mask, or several pages, of which the first is read.

    With `shape` (H, W) the mask must have its image's size; `image_path` names the image in the
    message. Raises as `read_image` does, and ValueError for masks that could mean two things:
    colours that are no palette of up to 16; a palette whose index 0 is not its one black;
    transparency that varies; grey levels of which none reaches half of full scale; class numbers in
    a JPEG. `values` (`--mask-values`) can name the defect of grey and palette masks; others must be
    saved as grey. ValueError also for `values` that are neither whole numbers from 0 to 65535 nor
    "dark".
    """
    check_values(values)
    header, image = decode(path)
    is_list = values is not None and not isinstance(values, str)
    levels = _levels(header, image, as_stored=is_list)
    if is_list:
        mask, doubts = np.isin(levels, values), _near_values(levels, values)
    else:
        mask, doubts = _not_background(header, image, levels)
        mask, doubts = mask != (values == DARK), [] if is_lossy else doubts
    if shape is not None and mask.shape != tuple(shape):
        own, other = (f"{width} x {height}" for height, width in (mask.shape, shape))
        sizes = f"{own} but {image_path or 'its image'} is {other} (width x height, upright)"
        raise ValueError(f"the mask {path} is {sizes}: it must have the size of its image")
    if mask.mean() > 0.5:
        advice = f"for masks whose defect is dark, type --mask-values {DARK} (mask_values=)"
        doubts.append(f"more than half of the image is defect; {advice}")
    if header.pages > 1:
        doubts.append(SEVERAL_PAGES)
    for doubt in doubts:
        warnings.warn(MaskWarning(path, doubt), stacklevel=2)
    return mask


def check_values(values: MaskValues | None) -> None:
    """Raise ValueError for anything but None and `values` of `read_mask`."""
    if values is None or (isinstance(values, str) and values == DARK):
        return
    numbers = values if isinstance(values, (Sequence, np.ndarray)) and len(values) else [None]
    if not all(isinstance(n, (int, np.integer)) and 0 <= n < 2**16 for n in numbers):
        expected = f"a list of whole numbers from 0 to 65535, or {DARK!r} for inverted masks"
        raise ValueError(f"--mask-values (mask_values=) must be {expected}; found {values!r}")


def mask_at(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a bool mask (H, W) bilinearly and cut it at > 0.5, as the published code does.

    A defect much smaller than a pixel of the new size vanishes; `lost_regions` counts those.

    >>> mask_at(np.array([[True, True, False, False]]), (1, 2))
    array([[ True, False]])

    Raises ValueError for anything but a bool mask (H, W) of at least one pixel.
    """
    if mask.dtype != bool or mask.ndim != 2 or not mask.size:
        found = f"{mask.shape} of {mask.dtype}"
        raise ValueError(f"expected a mask (H, W) of booleans, such as mask > 0; found {found}")
    if mask.shape == shape:
        return mask
    if not mask.any():  # most masks: resizing them takes longer than all else
        return np.zeros(shape, dtype=bool)
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.resize(shape[::-1], Image.Resampling.BILINEAR)) > 127.5


def lost_regions(mask: np.ndarray, shape: tuple[int, int]) -> int:
    """Count the 8-connected regions of a mask (H, W) of which `mask_at` leaves no pixel.

    >>> mask = np.zeros((8, 8), dtype=bool)
    >>> mask[0, 0] = mask[4:, 4:] = True
    >>> lost_regions(mask, (2, 2))
    1
    """
    from skimage.measure import label

    regions, n = label(mask, connectivity=2, return_num=True)
    left = Image.fromarray(mask_at(mask, shape)).resize(mask.shape[::-1], Image.Resampling.NEAREST)
    return n - len(np.unique(regions[np.asarray(left) & mask]))


# The rule


def _levels(header: Header, image: Image.Image, *, as_stored: bool) -> np.ndarray:
    """Return one number a pixel (H, W): its grey level, or 0 for black and 255 for other colours.

    With `as_stored` it is the number in the file, to compare with `values`.
    """
    if header.is_deep:
        return grey_values(header, image)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if image.mode == "P" and as_stored:
        return np.asarray(image)
    if image.mode in ("LA", "PA", "RGBA") and np.ptp(image.getchannel("A").getextrema()):
        raise _unclear(header, "has transparency that varies", _SAVE_AS_GREY)
    colours = np.asarray(image.convert("RGB"))
    is_black = ~colours.any(axis=2)
    if image.mode == "P" and (is_black != (np.asarray(image) == 0)).any():
        raise _unclear(header, "has a palette whose index 0 is not its one black", _NAME_NUMBERS)
    if (colours == colours[..., :1]).all():
        return colours[..., 0]
    if image.mode != "P" or image.getcolors(_MOST_COLOURS) is None:
        remedy = _NAME_NUMBERS if image.mode == "P" else _SAVE_AS_GREY
        raise _unclear(header, "has colours", remedy)
    return np.where(is_black, 0, 255)


def _not_background(
    header: Header, image: Image.Image, levels: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Tell which pixels are no background, and what speaks against it."""
    found = np.unique(levels)
    if image.format == "JPEG" and 0 < found[-1] <= _MOST_CLASSES:
        raise _unclear(header, f"is a JPEG with levels up to {found[-1]}, class or noise")
    if found[-1] <= _MOST_CLASSES or len(found) == 1 or (len(found) == 2 and not found[0]):
        return levels != 0, []
    half = next(2**bits for bits in BIT_DEPTHS if found[-1] < 2**bits) // 2
    if found[-1] < half:
        raise _unclear(header, f"has grey levels up to {found[-1]}, below half of full scale")
    return levels >= half, [f"more than two grey levels, which are divided at {half}"]


def _near_values(levels: np.ndarray, values: Sequence[int]) -> list[str]:
    """Warn where lossy compression moved levels away from `values`: these pixels do not count."""
    found = np.unique(levels).astype(int)
    beside = np.abs(found[:, None] - np.array(values)).min(axis=1)
    if not _MOST_CLASSES < found[-1] < 256 or not ((beside > 0) & (beside <= _NOISE)).any():
        return []
    advice = f"for all that is dark, type --mask-values {DARK}; for all that is bright, none"
    return [f"grey levels near {' or '.join(map(str, values))}, as JPEG makes, are none; {advice}"]


def _unclear(header: Header, why: str, remedy: str = _NAME_NUMBERS) -> ValueError:
    return ValueError(f"the mask {header.source} {why}, so its defect is not known: {remedy}")
