"""From a file to pixels: any common picture becomes 8-bit RGB. Masks: see `masks`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from anovl.stored import BIT_DEPTHS, PixelRange, Stored, decode

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm")
_MANY_BEYOND = 0.01  # a share of pixels; below it may be reflections
FAR_FROM_SQUARE = 3  # longer side to shorter side: beyond this, a squeezed picture loses much


def read_image(
    source: str | Path | Image.Image, *, pixel_range: PixelRange | None = None
) -> Image.Image:
    """Read a picture as an 8-bit RGB PIL image, whatever its mode on disk.

    The rule, for 8 and for 16 bits, is what a viewer shows: the EXIF orientation is applied; a
    palette is looked up; CMYK is converted; of an animation or of pages the first is taken; where
    the file says that zero is white, it is white; transparency lies on white, unless every pixel is
    transparent (a camera that never set its alpha): then it is ignored.

    Values of more than 8 bits, of grey or of colour, are scaled from `pixel_range` (low, high) to
    0...255, and values beyond it are cut. Without a range the picture is a set of one: see
    `pixel_range_of`, which finds one range for many; a guess below 16 bits is a warning. A PIL
    image of 16-bit colour has the upper 8 bits alone: give its file. The limit is 1 gigapixel;
    decoding needs about 4 bytes a pixel, 16-bit colour more.

    Raises FileNotFoundError for a missing file, ValueError for a folder, for an empty, damaged or
    oversized file, for one that is not a picture, for planar colour of 16 bits, for values whose
    range cannot be known, and for a range that does not rise.

    >>> read_image(Image.new("L", (3, 2), color=7)).getpixel((0, 0))
    (7, 7, 7)
    >>> read_image(Image.new("RGBA", (2, 1), color=(255, 0, 0, 0))).getpixel((0, 0))
    (255, 0, 0)
    >>> twelve_bits = Image.fromarray(np.array([[0, 2048, 4095]], dtype=np.uint16))
    >>> np.asarray(read_image(twelve_bits, pixel_range=(0, 4095)))[0, :, 0]
    array([  0, 128, 255], dtype=uint8)
    """
    check_pixel_range(pixel_range)
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

    The depth of pixels, grey or colour, is a property of a set, not of a picture. It is what the
    files say (the significant bits of a PNG, the bits of a TIFF, the maximum of a PGM), the largest
    if they differ; if they do not say it, the smallest of 8, 10, 12, 14 and 16 bits that holds the
    largest value of all. Values above what their file says have 16 bits: the standard of PNG asks
    for significant bits at the upper end. Floats go from 0 to 1. Pictures that cannot be read, or
    hold NaN, are passed over here, and named when they are read.

    Raises ValueError for values that these rules do not cover: negative, above 16 bits, floats
    beyond 0...1, or floats beside integers. Then `pixel_range` (`--pixel-range`) must say it.

    >>> pixel_range_of([Image.fromarray(np.array([[0, 3000]], dtype=np.uint16))])
    (0.0, 4095.0)
    """
    highest: dict[str, float] = {}
    for stored in _deep_ones(sources):
        kind = "floats" if stored.image.mode == "F" else "integers"
        highest[kind] = max(highest.get(kind, 0.0), _highest(stored))
        if len(highest) > 1:
            raise ValueError(
                f"{stored.name} has {kind}, other pictures of the set do not, so no range of "
                "values fits all: convert them, or give --pixel-range LOW HIGH (pixel_range=)"
            )
    return (0.0, max(highest.values())) if highest else None


def check_pixel_range(pixel_range: PixelRange | None) -> None:
    """Raise ValueError for what is no range of pixel values."""
    if pixel_range is None:
        return
    try:
        low, high = map(float, pixel_range)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not (low < high and np.isfinite([low, high]).all()):
        raise ValueError(
            "a pixel range must rise, low before high, such as 0 4095; found "
            f"{pixel_range!r}: change --pixel-range LOW HIGH (pixel_range=)"
        )


def one_pixel_range(
    given: PixelRange | None, sources: Sequence[str | Path | Image.Image], *, where: str = ""
) -> PixelRange | None:
    """Return the one range of a set: as given, or what `pixel_range_of` finds.

    Warns of a given range beyond which pictures have more than 1% of their pixels. Raises
    ValueError for one that does not rise or acts on no picture; `where` names the set.
    """
    if given is None:
        return pixel_range_of(sources)
    check_pixel_range(given)
    n, beyond = 0, []
    for stored in _deep_ones(sources):
        n, values = n + 1, stored.values()
        if ((values < given[0]) | (values > given[1])).mean() > _MANY_BEYOND:
            beyond.append(stored.name)
    if not n:
        raise ValueError(
            "a pixel range is for pictures of more than 8 bits, and "
            f"{f'{where} has' if where else 'there are'} none: leave --pixel-range (pixel_range=) "
            "out"
        )
    if beyond:
        warnings.warn(
            f"beyond the pixel range {given[0]:g} {given[1]:g}, so plain black or white, are more "
            f"than {_MANY_BEYOND:.0%} of the pixels in {len(beyond)} of {n} pictures "
            f"({beyond[0]}{', ...' * (len(beyond) > 1)}); leave it out to have it found",
            stacklevel=3,
        )
    return given


def _deep_ones(sources: Iterable[str | Path | Image.Image]) -> Iterator[Stored]:
    """Decode those of some pictures that have more than 8 bits."""
    for source in sources:
        try:
            if decode(source, pixels=False).is_deep:
                stored = decode(source)
                stored.values()
                yield stored
        except (ValueError, OSError):  # it is named when it is read
            continue


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


# From numbers to 8 bits


def _highest(stored: Stored) -> float:
    """Return the upper end of the range of one deep picture; its lower end is 0."""
    values = stored.values()
    low, high = float(values.min()), float(values.max())
    if stored.said is not None:
        return stored.said[1] if high <= stored.said[1] else 2.0**16 - 1
    usual = (1,) if stored.image.mode == "F" else tuple(2**bits - 1 for bits in BIT_DEPTHS)
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
    values = stored.values()
    scaled = np.rint((values.astype(np.float64) - low).clip(0, high - low) * 255 / (high - low))
    if stored.zero_is_white:
        scaled = 255 - scaled
    image = Image.fromarray(scaled.astype(np.uint8))
    if stored.clear is not None:
        is_clear = (np.atleast_3d(values) == stored.clear).all(axis=2)
        image.putalpha(Image.fromarray(np.where(is_clear, 0, 255).astype(np.uint8)))
    elif stored.image.mode == "RGBA":
        alpha = np.asarray(stored.image.getchannel("A")).astype(int)  # the upper 8 bits
        most = max(values.max(), (alpha.max() << 8) + 255)
        opaque = next(2**bits - 1 for bits in BIT_DEPTHS if most < 2**bits) >> 8
        image.putalpha(Image.fromarray((alpha * 255 // max(1, opaque)).astype(np.uint8)))
    return image


def _to_rgb(stored: Stored, pixel_range: PixelRange | None) -> Image.Image:
    image = stored.image
    if stored.is_deep:
        image = _to_8_bits(stored, pixel_range)
    try:
        if not image.has_transparency_data:
            return image if image.mode == "RGB" else image.convert("RGB")
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
