"""The rule of masks: which pixels of a stored picture are defect."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TypeAlias

import numpy as np
from PIL import Image

from anovl.stored import BIT_DEPTHS, Stored

_MOST_CLASSES = 15  # grey levels up to here are numbers of classes, not brightness
_NOISE = 3  # so far a lossy compression moves most levels
_NOISE_OF_COLOURS = 16  # so near to a colour it leaves others
_MOST_COLOURS = 16  # more colours than these are noise or a photograph, not a palette

DARK = "dark"
MaskValues: TypeAlias = "Sequence[int] | str"
"""Which numbers of a mask are defect; or DARK, where masks are inverted."""


def decide(
    stored: Stored, values: MaskValues | None, *, is_lossy: bool
) -> tuple[np.ndarray, list[str]]:
    """Return the mask (H, W) of a stored picture, and what speaks against it.

    `masks.read_mask` says the rule. Raises ValueError where the defect cannot be known.
    """
    is_inverted = isinstance(values, str)
    if values is None or is_inverted:
        return _by_rule(stored, is_inverted=is_inverted, is_lossy=is_lossy)
    return _by_numbers(_indices(stored), values)


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
