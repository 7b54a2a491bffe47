"""A picture as its file has it: decoded and upright, with what the file says of its numbers.

After decoding Pillow forgets part of that, so it is noted here, when a file is opened.
"""

from __future__ import annotations

import re
import struct
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 10**9
BIT_DEPTHS = (8, 10, 12, 14, 16)

PixelRange: TypeAlias = tuple[float, float]
"""The stored values that become black and white: (0, 4095) for a camera of 12 bits."""

_PHOTOMETRIC, _BITS, _CHANNELS, _PLANAR, _SAMPLE_FORMAT = 262, 258, 277, 284, 339  # tags of TIFF
_HALVED = re.compile(r"(RGB[AXa]?|LA);16([BLN])")  # how Pillow calls the bytes of 16-bit colour
_pillow_guard = threading.Lock()


@dataclass(frozen=True)
class Stored:
    """A picture as its file has it, upright, and what the file says of its numbers.

    `zero_is_white`: the numbers are still to be reversed. `clear`: the grey value that means
    transparent, or the three of a colour. `said`: the range of values that the file names.
    `is_halved`: 16-bit colour, of which Pillow reads the upper half of each number; `low` has the
    lower half, where it can be read. `pages`: how many pictures the file has.
    """

    image: Image.Image
    name: str
    zero_is_white: bool
    clear: int | tuple[int, ...] | None
    said: PixelRange | None
    is_halved: bool
    is_unsigned: bool
    pages: int
    low: Image.Image | None = None

    @property
    def is_deep(self) -> bool:
        """Whether these are values of more than 8 bits, of grey or of colour."""
        return self.is_halved or _is_deep_grey(self.image)

    def values(self) -> np.ndarray:
        """The stored values, grey (H, W) or colour (H, W, 3) without its alpha.

        Raises ValueError for NaN or infinity.
        """
        values = np.asarray(self.image)
        if self.is_halved:
            high = values[..., :3].astype(np.uint16)
            return high << 8 | (high if self.low is None else np.asarray(self.low)[..., :3])
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
                stored = _stored(image, image, name=str(source), tile=image.tile)
                if pixels:
                    ImageOps.exif_transpose(image, in_place=True)
                    if stored.is_halved:
                        stored = replace(stored, low=_lower_half(file))
                return stored
    except Image.UnidentifiedImageError:
        raise ValueError(
            f"{path} is not a picture that Pillow can read; convert it to PNG or JPEG"
        ) from None
    except _UnreadableError:
        raise
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


def _stored(
    opened: Image.Image, upright: Image.Image, *, name: str, tile: Sequence[Any] = ()
) -> Stored:
    """Note what only the opened file knows: after decoding or turning, Pillow forgets it."""
    tags = getattr(opened, "tag_v2", {})
    is_grey, is_halved = _is_deep_grey(opened), _rawmode(tile) is not None
    is_deep = is_grey or is_halved
    clear = opened.info.get("transparency") if is_deep else None
    bits = tags.get(_BITS, (0,))[0]
    if tags.get(_PLANAR) == 2 and tags.get(_CHANNELS, 1) > 1 and bits > 8:
        raise _UnreadableError(
            f"{name} has its colours one after the other (planar), {bits} bits each, which Pillow "
            "reads wrong: save it with interleaved (contiguous) colours"
        )
    return Stored(
        image=upright,
        name=name,
        zero_is_white=is_grey and tags.get(_PHOTOMETRIC) == 0,
        clear=clear if isinstance(clear, (int, tuple)) else None,
        said=_said_range(opened, bits) if is_deep else None,
        is_halved=is_halved,
        is_unsigned=opened.mode == "I" and bits == 32 and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1,
        pages=getattr(opened, "n_frames", 1),
    )


class _UnreadableError(ValueError):
    """Pillow would read this file wrong."""


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I")


def _rawmode(tile: Sequence[Any]) -> re.Match[str] | None:
    """Find how the bytes of 16-bit colour lie; None for other pictures."""
    arguments = tile[0][3] if tile else None
    rawmode = arguments[0] if isinstance(arguments, tuple) else arguments
    return _HALVED.fullmatch(rawmode) if isinstance(rawmode, str) else None


def _lower_half(file: IO[bytes]) -> Image.Image | None:
    """Read the lower bytes of 16-bit colour: the upper ones of the other byte order.

    None where alpha was multiplied in, which Pillow undoes.
    """
    file.seek(0)
    with _open_of_any_size(file) as image:
        channels, order = _rawmode(image.tile).groups()
        if channels == "RGBa":
            return None
        is_big = sys.byteorder == "big" if order == "N" else order == "B"
        other = "RGBA" if channels == "LA" else f"{channels};16{'L' if is_big else 'B'}"
        image.tile = [
            one._replace(args=(other, *one.args[1:]) if isinstance(one.args, tuple) else other)
            for one in image.tile
        ]
        ImageOps.exif_transpose(image, in_place=True)
        if channels == "LA":  # as four bytes: both of the grey value, both of the alpha
            return Image.merge("RGB", [image.getchannel("G")] * 3)
        return image


def _said_range(opened: Image.Image, tiff_bits: int) -> PixelRange | None:
    """Return the range of values that a file names, None where it is silent."""
    bits = tiff_bits if 8 < tiff_bits < 16 else None
    if opened.format == "PNG" and getattr(opened, "fp", None):
        bits = _png_significant_bits(opened.fp)
    if opened.format == "PPM":  # Pillow has scaled it from its own maximum already
        bits = 16
    return None if bits is None else (0.0, 2.0**bits - 1)


def _png_significant_bits(file: IO[bytes]) -> int | None:
    """Return the bits that a PNG's chunk sBIT names, of the first channel."""
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
