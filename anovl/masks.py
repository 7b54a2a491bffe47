"""From a file to a mask: which pixels are defect, what speaks against it, and at another size."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from anovl.stored import BIT_DEPTHS, Stored, decode

_MOST_CLASSES = 15  # grey levels up to here are numbers of classes, not brightness
_NOISE = 3  # so far a lossy compression moves most levels
_NOISE_OF_COLOURS = 16  # so near to a colour it leaves others
_MOST_COLOURS = 16  # more colours than these are noise or a photograph, not a palette

DARK = "dark"
MaskValues: TypeAlias = "Sequence[int] | str"
"""Which numbers of a mask are defect; or DARK, where masks are inverted."""


class MaskWarning(UserWarning):
    """Something speaks against a mask as it was read: its file, and what."""

    def __init__(self, path: str | Path, doubt: str) -> None:
        super().__init__(path, doubt)
        self.path, self.doubt = Path(path), doubt

    def __str__(self) -> str:
        return f"{self.path}: {self.doubt}"


def read_mask(
    path: str | Path,
    *,
    values: MaskValues | None = None,
    is_lossy: bool = False,
    shape: tuple[int, int] | None = None,
    image_path: str | Path | None = None,
) -> np.ndarray:
    """Read a defect mask as a bool array (H, W), True where the defect is.

    The rule, whatever the mode and the depth:

    - With a list of `values`, exactly those numbers are the defect: of a grey mask its levels, of a
      palette mask its indices. Nothing else is decided.
    - Up to 16 colours, in a palette, or in RGB where no two are within 16 of 255 in every channel:
      black, or what is within 3 of it, is background, all others are defect.
    - Grey of one or two levels, one of them 0: non-zero is defect.
    - Grey of numbers up to 15: non-zero is defect, for these are numbers of classes (VisA: 1...9).
    - Other grey levels: those from half of full scale on are defect. So the noise of a lossy
      compression, also of a JPEG, makes no defect. RGB with many colours, or with such that are
      one colour with noise, counts by its brightest channel.
    - With `values="dark"`, for inverted masks, defect and background of this rule swap: a lossy
      mask is cut at half of full scale, and what is below is the defect.

    Transparency is ignored. What speaks against the result is a `MaskWarning`: more than two grey
    levels (not with `is_lossy`, which says that they are expected), levels that are nearly one of
    the numbers in `values` and do not count, or a defect that covers more than half of the image,
    as in a mask that is inverted.

    With `shape` (H, W) the mask must have its image's size; `image_path` names the image in the
    message. Raises as `read_image` does, and ValueError where the region cannot be known: a palette
    without black, grey levels of which none reaches half of full scale, or class numbers in a JPEG;
    then `values` (`--mask-values`) can say it for grey and palette masks; colours need another
    file. ValueError for `values` that are no whole numbers from 0 to 65535, and for other words
    than "dark".
    """
    check_values(values)
    is_inverted = isinstance(values, str)
    stored = decode(Path(path))
    if values is None or is_inverted:
        mask, doubts = _by_rule(stored, is_inverted=is_inverted, is_lossy=is_lossy)
    else:
        mask, doubts = _by_numbers(_indices(stored), values)
    if shape is not None and mask.shape != tuple(shape):
        turned = "; one of them may be turned by its EXIF orientation" * (mask.shape == shape[::-1])
        raise ValueError(
            f"the mask {path} is {_size(mask.shape)} but {image_path or 'its image'} is "
            f"{_size(shape)} (width x height); a mask must have the size of its image{turned}"
        )
    if (share := mask.mean()) > 0.5:
        part = "all" if share == 1 else "more than half"
        doubts.append(f"{part} of the image is defect{_what_to_do(values, stored.image)}")
    for doubt in doubts:
        warnings.warn(MaskWarning(path, doubt), stacklevel=2)
    return mask


def check_values(values: MaskValues | None) -> None:
    """Raise ValueError for what cannot be `values` of `read_mask`."""
    if values is None or (isinstance(values, str) and values == DARK):
        return
    is_list = isinstance(values, (Sequence, np.ndarray)) and len(values)
    if not is_list or not all(isinstance(value, (int, np.integer)) for value in values):
        raise ValueError(
            f"mask values must be a list of whole numbers, or {DARK!r} for inverted masks; "
            f"found {values!r}"
        )
    if beyond := [value for value in values if not 0 <= value < 2**16]:
        raise ValueError(f"mask values are from 0 to 65535; found {beyond[0]}")


def mask_at(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a bool mask (H, W) bilinearly and cut it at > 0.5, as the published code does.

    A defect much smaller than a pixel of the new size vanishes; `lost_regions` counts those.

    >>> mask_at(np.array([[True, True, False, False]]), (1, 2))
    array([[ True, False]])

    Raises ValueError for anything but a bool mask (H, W) of at least one pixel.
    """
    if mask.dtype != bool or mask.ndim != 2 or not mask.size:
        raise ValueError(
            f"expected a mask (H, W) of booleans; found {mask.shape} of {mask.dtype}: read files "
            "with read_mask, or give mask > 0"
        )
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


def _what_to_do(values: MaskValues | None, image: Image.Image) -> str:
    """Say what helps against masks of which most is defect."""
    if image.mode in ("LA", "RGBA") and np.ptp(image.getchannel("A").getextrema()):
        return (
            ", and its transparency, which is ignored, varies: if that is the defect, save it as "
            "a grey mask"
        )
    if values is None:
        typed = f'--mask-values {DARK}, in Python mask_values="{DARK}"'
        return f"; for masks whose defect is dark, type {typed}"
    if isinstance(values, str):
        return f"; for masks whose defect is bright, leave --mask-values {DARK} out"
    return ", by the numbers of --mask-values"


def _by_numbers(levels: np.ndarray, values: Sequence[int]) -> tuple[np.ndarray, list[str]]:
    mask, found = np.isin(levels, values), np.unique(levels).astype(int)
    beside = np.abs(found[:, None] - np.array(values)).min(axis=1)
    is_noise = (beside > 0) & (beside <= _NOISE)
    if not _MOST_CLASSES < found[-1] < 256 or not is_noise.any():
        return mask, []
    named = " or ".join(map(str, values))
    return mask, [
        f"grey levels near {named}, as lossy compression makes them, are background: only exactly "
        f"{named} is defect; for all that is dark, type --mask-values {DARK}, for all that is "
        "bright, leave --mask-values out"
    ]


def _by_rule(stored: Stored, *, is_inverted: bool, is_lossy: bool) -> tuple[np.ndarray, list[str]]:
    mask, has_more_levels = _bright(stored, _grey_levels(stored))
    if is_lossy or not has_more_levels:
        return mask != is_inverted, []
    those = "below half of full scale" if is_inverted else "from half of full scale on"
    others = ", --mask-values can name others" * _has_numbers(stored)
    return mask != is_inverted, [
        f"more than two grey levels; those {those} are taken for the defect{others}"
    ]


def _bright(stored: Stored, levels: np.ndarray) -> tuple[np.ndarray, bool]:
    """Tell which pixels are no background, and whether half of full scale had to decide it."""
    found = np.unique(levels)
    if found[-1] <= _MOST_CLASSES and found[-1] and stored.image.format == "JPEG":
        raise _unknown(stored, f"is a JPEG with grey levels up to {found[-1]}, class or noise")
    if found[-1] <= _MOST_CLASSES or len(found) == 1 or (len(found) == 2 and not found[0]):
        return levels != 0, False
    half = next(2**bits for bits in BIT_DEPTHS if found[-1] < 2**bits) / 2
    if found[-1] < half:
        raise _unknown(
            stored,
            f"has grey levels from {found[0]} to {found[-1]}, none of which reaches half of full "
            "scale",
        )
    return levels >= half, True


def _grey_levels(stored: Stored) -> np.ndarray:
    """Return one number a pixel (H, W): its level, or 0 and 255 for black and other colours."""
    colours = _pixels(stored)
    if colours.ndim == 2:
        return colours
    brightest = reduce(np.maximum, np.moveaxis(colours, 2, 0))  # max(axis=2) takes 10 times as long
    is_palette = stored.image.mode in ("P", "PA")
    if (used := _few_colours(colours, is_palette=is_palette)) is not None:
        if (black := used.max(axis=1).min()) > _NOISE:
            raise _unknown(stored, "has colours but no black for its background")
        return np.where(brightest > black, 255, 0)
    if is_palette and brightest.min() > _MOST_CLASSES:
        raise _unknown(stored, "has a palette but no black for its background")
    return brightest


def _few_colours(pixels: np.ndarray, *, is_palette: bool) -> np.ndarray | None:
    """Return the colours (n, 3) that are used, None if they are none of a palette.

    That is grey, more colours than a palette has, or such that differ by noise alone.
    """
    if _is_grey(pixels):
        return None
    red, green, blue = np.moveaxis(pixels.astype(np.uint64), 2, 0)
    used = np.unique(red << 32 | green << 16 | blue)
    if len(used) > _MOST_COLOURS:
        return None
    used = np.stack([used >> 32, used >> 16 & 0xFFFF, used & 0xFFFF], axis=1).astype(int)
    apart = np.abs(used[:, None] - used).max(axis=2)
    noise = _NOISE_OF_COLOURS * max(1, used.max() // 255)
    is_noisy = not is_palette and ((apart > 0) & (apart <= noise)).any()
    return None if is_noisy else used


def _indices(stored: Stored) -> np.ndarray:
    """Return the stored number of each pixel (H, W), to be compared with `values`."""
    if stored.image.mode in ("P", "PA"):
        pixels = np.asarray(stored.image)
        return pixels if pixels.ndim == 2 else pixels[..., 0]
    pixels = _pixels(stored)
    if not _is_grey(pixels):
        raise _unknown(stored, "has colours")
    return np.atleast_3d(pixels)[..., 0]


def _pixels(stored: Stored) -> np.ndarray:
    """Return grey levels (H, W), or colours (H, W, 3)."""
    if stored.image.mode in ("1", "L"):
        return np.asarray(stored.image.convert("L"))
    if not stored.is_deep:
        return np.asarray(_without_alpha(stored.image).convert("RGB"))
    values = stored.values()
    if stored.is_halved:
        return values
    if not np.issubdtype(values.dtype, np.integer):
        values = np.rint(values * 255) if values.max() <= 1 else np.rint(values)
    values = values.astype(np.int64)
    if values.min() < 0 or values.max() >= 2**16:
        raise ValueError(
            f"the mask {stored.name} has values from {values.min()} to {values.max()}; expected 0 "
            "to 65535: save it as an 8-bit or 16-bit grey picture"
        )
    if stored.zero_is_white:
        top = next(2**bits for bits in BIT_DEPTHS if values.max() < 2**bits) - 1
        values = top - values
    return values


def _without_alpha(image: Image.Image) -> Image.Image:
    return image.convert("RGBA") if image.mode in ("PA", "LA", "RGBA") else image


def _unknown(stored: Stored, why: str) -> ValueError:
    remedy = "say which numbers are defect with --mask-values (mask_values=, values=)"
    if not _has_numbers(stored):
        remedy = "save it as a grey or a palette mask, black where there is no defect"
    return ValueError(f"the mask {stored.name} {why}, so its defect cannot be known: {remedy}")


def _has_numbers(stored: Stored) -> bool:
    """Tell whether `values` can name the pixels of a mask."""
    return stored.image.mode in ("P", "PA") or _is_grey(_pixels(stored))


def _is_grey(pixels: np.ndarray) -> bool:
    return pixels.ndim == 2 or bool((pixels == pixels[..., :1]).all())


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"
