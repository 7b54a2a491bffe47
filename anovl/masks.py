"""From a file to a mask, what speaks against it, and what is left of it at another size."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from anovl.mask_rule import DARK, MaskValues, decide
from anovl.stored import decode


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
    stored = decode(Path(path))
    mask, doubts = decide(stored, values, is_lossy=is_lossy)
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


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"
