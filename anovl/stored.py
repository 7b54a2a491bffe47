"""A picture as its file has it: decoded and upright, with what the file says of its numbers.

After decoding Pillow forgets part of that, so it is noted here, when a file is opened.
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 10**9
BIT_DEPTHS = (8, 10, 12, 14, 16)

PixelRange: TypeAlias = tuple[float, float]
"""The stored values that become black and white: (0, 4095) for a camera of 12 bits."""

_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT = 262, 258, 339  # tags of TIFF
_pillow_guard = threading.Lock()


@dataclass(frozen=True)
class Stored:
    """A picture as its file has it, upright, and what the file says of its numbers.

    `zero_is_white`: the numbers are still to be reversed. `clear`: the grey value that means
    transparent. `said`: the range of values that the file names. `is_halved`: 16-bit colour, of
    which Pillow reads the upper half of each number. `pages`: how many pictures the file has.
    """

    image: Image.Image
    name: str
    zero_is_white: bool
    clear: int | None
    said: PixelRange | None
    is_halved: bool
    is_unsigned: bool
    pages: int

    @property
    def is_deep(self) -> bool:
        """Whether these are grey values of more than 8 bits."""
        return self.image.mode == "F" or self.image.mode.startswith("I")

    def values(self) -> np.ndarray:
        """The stored grey values (H, W); raises ValueError for NaN or infinity."""
        values = np.asarray(self.image)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{self.name} holds NaN or infinite values; replace them before reading it"
            )
        return values.view(np.uint32) if self.is_unsigned else values


def decode(source: str | Path | Image.Image, *, pixels: bool = True) -> Stored:
    """Open a picture, upright, in the mode of its file; with `pixels=False` only its header.

    Raises as `read_image` does.
    """
    if isinstance(source, Image.Image):
        upright = ImageOps.exif_transpose(source) if pixels else source
        return _stored(source, upright, name="the given PIL image")
    if not isinstance(source, (str, Path)):
        raise TypeError(
            f"expected a path or a PIL image, found {type(source).__name__}; "
            "wrap an array with PIL.Image.fromarray"
        )
    path = Path(source)
    _check_file(path)
    try:
        with path.open("rb") as file, _open_of_any_size(file) as image:
            if image.width * image.height <= MAX_PIXELS:
                stored = _stored(image, image, name=str(source))
                if pixels:
                    ImageOps.exif_transpose(image, in_place=True)
                return stored
    except Image.UnidentifiedImageError:
        raise ValueError(
            f"{path} is not a picture that Pillow can read; convert it to PNG or JPEG"
        ) from None
    except MemoryError:
        raise ValueError(f"{path} does not fit into memory; make it smaller first") from None
    except Exception as error:  # decoders raise almost anything on damaged bytes
        raise ValueError(
            f"{path} is damaged or cut short ({error}); copy or export it again"
        ) from error
    raise ValueError(
        f"{path} is {image.width} x {image.height} pixels, above the limit of 1 gigapixel; "
        "cut it into tiles or make it smaller first"
    )


def _stored(opened: Image.Image, upright: Image.Image, *, name: str) -> Stored:
    """Note what only the opened file knows: after decoding or turning, Pillow forgets it."""
    tags = getattr(opened, "tag_v2", {})
    is_deep = opened.mode == "F" or opened.mode.startswith("I")
    clear = opened.info.get("transparency") if is_deep else None
    bits = tags.get(_BITS, (0,))[0]
    return Stored(
        image=upright,
        name=name,
        zero_is_white=is_deep and tags.get(_PHOTOMETRIC) == 0,
        clear=clear if isinstance(clear, int) else None,
        said=_said_range(opened, bits) if is_deep else None,
        is_halved=not is_deep and ";16" in str(getattr(opened, "tile", "")),
        is_unsigned=opened.mode == "I" and bits == 32 and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1,
        pages=getattr(opened, "n_frames", 1),
    )


def _said_range(opened: Image.Image, tiff_bits: int) -> PixelRange | None:
    """Return the range of values that a file names, None where it is silent."""
    bits = tiff_bits if 8 < tiff_bits < 16 else None
    if opened.format == "PNG" and getattr(opened, "fp", None):
        bits = _png_significant_bits(opened.fp)
    if opened.format == "PPM":  # Pillow has scaled it from its own maximum already
        bits = 16
    return None if bits is None else (0.0, 2.0**bits - 1)


def _png_significant_bits(file: IO[bytes]) -> int | None:
    """Return the bits that a grey PNG's chunk sBIT names."""
    start = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"sBIT":
                return file.read(1)[0]
            if kind == b"IDAT":
                return None
            file.seek(length + 4, 1)
        return None
    finally:
        file.seek(start)


def _check_file(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; check the path")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected one picture (list_images lists a folder's)")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); copy or export it again")


def _open_of_any_size(file: IO[bytes]) -> Image.Image:
    """Open without Pillow's guard against huge pictures, which is a process-wide setting.

    An open file, not its name: of a name Pillow 13 maps a grey TIFF into memory and turns it wrong.
    """
    with _pillow_guard:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
