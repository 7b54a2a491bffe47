"""From a file to pixels: any common picture becomes 8-bit RGB. Masks: see `masks`."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 10**9
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm")
FAR_FROM_SQUARE = 3  # longer side to shorter side: beyond this, a squeezed picture loses much

PixelRange: TypeAlias = tuple[float, float]
"""The stored values that become black and white: (0, 4095) for a camera of 12 bits."""

_BIT_DEPTHS = (8, 10, 12, 14, 16)
_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT = 262, 258, 339  # tags of TIFF
_pillow_guard = threading.Lock()


def read_image(
    source: str | Path | Image.Image, *, pixel_range: PixelRange | None = None
) -> Image.Image:
    """Read a picture as an 8-bit RGB PIL image, whatever its mode on disk.

    The rule, for 8 and for 16 bits, is what a viewer shows: the EXIF orientation is applied; a
    palette is looked up; CMYK is converted; of an animation or of pages the first is taken; where
    the file says that zero is white, it is white; transparency lies on white, unless every pixel is
    transparent (a camera that never set its alpha): then it is ignored.

    Grey values of more than 8 bits are scaled from `pixel_range` (low, high) to 0...255, and values
    beyond it are cut. Without a range the picture is a set of one: see `pixel_range_of`, which
    finds one range for many; a guess below 16 bits is a warning. Of 16-bit colour Pillow reads the
    upper 8 bits. The limit is 1 gigapixel; decoding needs about 4 bytes a pixel.

    Raises FileNotFoundError for a missing file, ValueError for a folder, for an empty, damaged or
    oversized file, for one that is not a picture, and for values whose range cannot be known.

    >>> read_image(Image.new("L", (3, 2), color=7)).getpixel((0, 0))
    (7, 7, 7)
    >>> read_image(Image.new("RGBA", (2, 1), color=(255, 0, 0, 0))).getpixel((0, 0))
    (255, 0, 0)
    >>> twelve_bits = Image.fromarray(np.array([[0, 2048, 4095]], dtype=np.uint16))
    >>> np.asarray(read_image(twelve_bits, pixel_range=(0, 4095)))[0, :, 0]
    array([  0, 128, 255], dtype=uint8)
    """
    stored = decode(source)
    if stored.is_deep and pixel_range is None:
        pixel_range = _range_of_one(stored)
    return _to_rgb(stored, pixel_range)


def read_images(
    sources: Sequence[str | Path | Image.Image], *, pixel_range: PixelRange | None = None
) -> list[Image.Image]:
    """Read pictures as `read_image` does, all with one range of pixel values.

    >>> dim, bright = (Image.fromarray(np.full((1, 1), v, dtype=np.uint16)) for v in (100, 4000))
    >>> [picture.getpixel((0, 0))[0] for picture in read_images([dim, bright])]
    [6, 249]
    """
    if pixel_range is None:
        pixel_range = pixel_range_of(sources)
    return [read_image(source, pixel_range=pixel_range) for source in sources]


def pixel_range_of(sources: Iterable[str | Path | Image.Image]) -> PixelRange | None:
    """Return the one range of pixel values for a set of pictures; None if all have 8 bits.

    The depth of pixels is a property of a set, not of a picture. It is what the files say (the
    significant bits of a PNG, the bits of a TIFF, the maximum of a PGM), the largest if they
    differ; if they do not say it, the smallest of 8, 10, 12, 14 and 16 bits that holds the largest
    value of all. Floats go from 0 to 1. Pictures that cannot be read are passed over here.

    Raises ValueError for values that these rules do not cover: negative, above 16 bits, floats
    beyond 0...1, NaN, or floats beside integers. Then `pixel_range` (`--pixel-range`) must say it.

    >>> pixel_range_of([Image.fromarray(np.array([[0, 3000]], dtype=np.uint16))])
    (0.0, 4095.0)
    """
    highest: dict[str, float] = {}
    for source in sources:
        try:
            stored = decode(source, pixels=False)
            if not stored.is_deep:
                continue
            if stored.said is None:
                stored = decode(source)
        except (ValueError, OSError):  # it is named when it is read
            continue
        kind = "floats" if stored.image.mode == "F" else "integers"
        highest[kind] = max(highest.get(kind, 0.0), _highest(stored))
        if len(highest) > 1:
            raise ValueError(
                f"{stored.name} has {kind}, other pictures of the set do not, so no range of "
                "values fits all: convert them, or give --pixel-range LOW HIGH (pixel_range=)"
            )
    return (0.0, max(highest.values())) if highest else None


def has_deep_pictures(sources: Iterable[str | Path | Image.Image]) -> bool:
    """Tell whether any of these pictures has grey values of more than 8 bits."""
    for source in sources:
        try:
            if decode(source, pixels=False).is_deep:
                return True
        except (ValueError, OSError):  # it is named when it is read
            continue
    return False


def list_images(folder: str | Path) -> list[Path]:
    """Return the picture files of a folder, sorted by name; sub-folders are not searched.

    Raises FileNotFoundError when the folder is missing, ValueError when it holds no picture.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}; check the path")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder of images")
    found = sorted(path for path in folder.iterdir() if is_image_file(path))
    if found:
        return found
    below = sorted(path.name for path in folder.iterdir() if path.is_dir())
    hint = f"; it has sub-folders, name one of them: {', '.join(below[:8])}" if below else ""
    raise ValueError(f"no images in {folder} (looked for {' '.join(SUFFIXES)}){hint}")


def is_image_file(path: Path) -> bool:
    """Tell by the name whether a file is a picture; hidden files are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def is_far_from_square(size: tuple[int, int]) -> bool:
    """Tell whether a picture loses much when it is squeezed to a square, as every picture is.

    >>> is_far_from_square((5000, 200)), is_far_from_square((1500, 1000))
    (True, False)
    """
    return max(size) > FAR_FROM_SQUARE * min(size)


# What a file says of its numbers


@dataclass(frozen=True)
class Stored:
    """A picture as its file has it, upright, and what the file says of its numbers.

    `zero_is_white`: the numbers are still to be reversed. `clear`: the grey value that means
    transparent. `said`: the range of values that the file names. `is_halved`: 16-bit colour, of
    which Pillow reads the upper half of each number.
    """

    image: Image.Image
    name: str
    zero_is_white: bool
    clear: int | None
    said: PixelRange | None
    is_halved: bool
    is_unsigned: bool

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


# From numbers to 8 bits


def _highest(stored: Stored) -> float:
    """Return the upper end of the range of one deep picture; its lower end is 0."""
    if stored.said is not None:
        return stored.said[1]
    values = stored.values()
    low, high = float(values.min()), float(values.max())
    usual = (1,) if stored.image.mode == "F" else tuple(2**bits - 1 for bits in _BIT_DEPTHS)
    fitting = [top for top in usual if low >= 0 and high <= top]
    if not fitting:
        known = "0...1" if stored.image.mode == "F" else "0...65535 (16 bits)"
        raise ValueError(
            f"{stored.name} has values from {low:g} to {high:g}, beyond {known}: say which are "
            "black and white with --pixel-range LOW HIGH (pixel_range=)"
        )
    return float(fitting[0])


def _range_of_one(stored: Stored) -> PixelRange:
    high = _highest(stored)
    if stored.said is None and 1 < high < 2**16 - 1:
        warnings.warn(
            f"{stored.name}: its values are taken for {int(high).bit_length()} bits, by itself; "
            f"pictures of one set need one range: pixel_range=(0, {high:.0f})",
            stacklevel=3,
        )
    return 0.0, high


def _to_8_bits(stored: Stored, pixel_range: PixelRange) -> Image.Image:
    low, high = pixel_range
    if not low < high:
        raise ValueError(f"a pixel range must rise, low before high; found {low:g} and {high:g}")
    values = stored.values()
    grey = np.rint((values.astype(np.float64) - low).clip(0, high - low) * 255 / (high - low))
    if stored.zero_is_white:
        grey = 255 - grey
    image = Image.fromarray(grey.astype(np.uint8))
    if stored.clear is not None:
        image.putalpha(Image.fromarray(np.where(values == stored.clear, 0, 255).astype(np.uint8)))
    return image


def _to_rgb(stored: Stored, pixel_range: PixelRange | None) -> Image.Image:
    image = stored.image
    if stored.is_deep:
        image = _to_8_bits(stored, pixel_range)
    elif stored.is_halved:
        image = _upper_half(stored, pixel_range)
    try:
        if not image.has_transparency_data:
            return image.convert("RGB")
        image = image.convert("RGBA")
        if not image.getchannel("A").getbbox():  # never set
            return image.convert("RGB")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    except ValueError:
        raise ValueError(
            f"{stored.name} has the colour mode {image.mode}, which has no simple way to RGB; "
            "export it as an RGB picture"
        ) from None


def _upper_half(stored: Stored, pixel_range: PixelRange | None) -> Image.Image:
    """Check 16-bit colour, which Pillow cannot read whole."""
    image = stored.image
    brightest = max(high for _, high in [*image.convert("RGB").getextrema()])
    if brightest < 64:
        warnings.warn(
            f"{stored.name} is 16-bit colour that uses at most 14 bits, and is read as nearly "
            "black: convert it to 8 bits, or to 16-bit grey",
            stacklevel=4,
        )
    clear = image.info.get("transparency")
    if isinstance(clear, tuple):
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    return image
