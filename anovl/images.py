"""Read pictures as 8-bit sRGB, and the facts in their headers. Masks: see `masks`.

A picture has a format to which Pillow gives the media type of an image, such as image/png. So PDF,
video, PostScript and scientific data (FITS, HDF5), of which Pillow drops the scale, are none.

A picture that could be read in two ways is refused, and the message says how to convert it.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from mimetypes import MimeTypes
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from PIL import Image, ImageCms, ImageOps

PixelRange: TypeAlias = tuple[float, float]
"""The stored values that become black and white: (0, 4095) for a camera of 12 bits."""
Source: TypeAlias = "str | Path | Image.Image"

MAX_PIXELS = 10**9
FAR_FROM_SQUARE = 3  # longer side to shorter side: beyond this, a squeezed picture loses much
SEVERAL_PAGES = "several pages or frames, of which the first is read"
BIT_DEPTHS = (8, 10, 12, 14, 16)
_FULL_RANGE = (0, 2**16 - 1)
_MANY_BEYOND = 0.01  # a share of pixels; below it may be reflections
_OTHER_DEPTH = 4  # two bits: values of one set that differ by more are of two depths, or very dark
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV")  # Pillow converts
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "RGB")
_DEEP_BYTES = (";16B", ";16L", ";16N")  # how Pillow calls the bytes of 16-bit values
_ORIENTATION = 274  # in EXIF
_PHOTOMETRIC, _BITS, _CHANNELS, _PLANAR = 262, 258, 277, 284  # tags of TIFF
_COLOUR_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # of profiles, as Pillow's modes
_SAME_COLOUR = 2  # levels of 255 by which profiles of sRGB differ from each other
_pillow_guard = threading.Lock()


class ImageWarning(UserWarning):
    """A doubt about a picture as it was read: its file, and the doubt in words."""

    def __init__(self, path: Source, doubt: str) -> None:
        super().__init__(path, doubt)
        self.path, self.doubt = Path(str(path)), doubt

    def __str__(self) -> str:
        return f"{self.path}: {self.doubt}"


@dataclass(frozen=True)
class Header:
    """The facts in a picture's header.

    `size` is (width, height), upright; `mode` is Pillow's; `is_deep` marks values of more than 8
    bits, of grey or of colour; `depth` is the number of significant bits of grey that the file
    names, None where it names none; `pages` counts pages or frames.
    """

    source: Source
    size: tuple[int, int]
    mode: str
    is_deep: bool
    depth: int | None
    pages: int


def read_header(source: Source) -> Header:
    """Read the header of a picture: one open, and no pixel is decoded.

    Raises as `read_image` does, but not for damaged pixels, nor for values out of range.

    >>> read_header(Image.new("L", (3, 2))).size
    (3, 2)
    """
    return decode(source, pixels=False)[0]


def read_headers(sources: Iterable[Source | Header]) -> Iterator[Header]:
    """Read the headers of pictures that are not read yet; those that cannot be are passed over.

    `read_image` refuses them and says why.
    """
    for source in sources:
        with suppress(ValueError, OSError):
            yield source if isinstance(source, Header) else read_header(source)


def read_image(source: Source, *, pixel_range: PixelRange | None = None) -> Image.Image:
    """Read a picture as an 8-bit sRGB PIL image, whatever its mode on disk: one open, one decoding.

    The EXIF orientation is applied; a palette is looked up; CMYK is converted; transparency lies on
    white, unless every pixel is transparent (a camera that never set its alpha). Of several pages
    the first is read, with an `ImageWarning`. Colours are sRGB, or are converted from the embedded
    colour profile; a profile that cannot be used is ignored, with an `ImageWarning`.

    Grey of more than 8 bits is scaled from `pixel_range` (low, high) to 0...255, and values beyond
    it are cut; an `ImageWarning` says where these are more than 1% of the pixels. Without a range
    the picture is a set of one: see `pixel_range_of`, which finds one range for many; a guess below
    16 bits is a warning. Colour of 16 bits a channel needs the range (0, 65535).

    Raises FileNotFoundError for a missing file; ValueError for a range that does not rise, for a
    file that is empty, damaged, no picture or above 1 gigapixel, and for a picture that could be
    read in two ways: planar TIFF; 16-bit colour without its range; more than 8 bits with
    transparency, as CMYK, with zero as white, as floats, or outside 0...65535.

    >>> read_image(Image.new("L", (3, 2), color=7)).getpixel((0, 0))
    (7, 7, 7)
    >>> read_image(Image.new("RGBA", (2, 1), color=(255, 0, 0, 0))).getpixel((0, 0))
    (255, 0, 0)
    >>> twelve_bits = Image.fromarray(np.array([[0, 2048, 4095]], dtype=np.uint16))
    >>> np.asarray(read_image(twelve_bits, pixel_range=(0, 4095)))[0, :, 0]
    array([  0, 128, 255], dtype=uint8)
    """
    check_pixel_range(pixel_range)
    header, image = decode(source)
    profile = image.info.get("icc_profile")
    if header.pages > 1:
        warnings.warn(ImageWarning(source, SEVERAL_PAGES), stacklevel=2)
    if header.is_deep and (image.mode != "RGB" or tuple(pixel_range or ()) != _FULL_RANGE):
        image = _to_8_bits(header, image, pixel_range)
    return _to_srgb(source, image, profile)


def read_images(
    sources: Sequence[Source], *, pixel_range: PixelRange | None = None
) -> list[Image.Image]:
    """Read pictures as `read_image` does, all with one range of pixel values.

    >>> dim, bright = (Image.fromarray(np.full((1, 1), v, dtype=np.uint16)) for v in (1000, 4000))
    >>> [picture.getpixel((0, 0))[0] for picture in read_images([dim, bright])]
    [62, 249]
    """
    if pixel_range is None:
        pixel_range = pixel_range_of(sources)
    return [read_image(source, pixel_range=pixel_range) for source in sources]


def pixel_range_of(sources: Iterable[Source | Header]) -> PixelRange | None:
    """Return the one range of pixel values for a set of pictures; None if all have 8 bits.

    The depth of grey pixels is a property of a set, not of a picture. It is the depth that the
    files name (the significant bits of a PNG, the bits of a TIFF), the largest if they differ;
    without one, the smallest of 8, 10, 12, 14 and 16 bits that holds the largest value of all.
    Values above the named depth have 16 bits: the standard of PNG asks for significant bits at the
    upper end. An `ImageWarning` counts pictures whose values differ much from those of the others:
    with one range they would be almost black.

    Of each file the header is read, unless it is given; only grey of more than 8 bits is decoded.
    Pictures that cannot be read are passed over: `read_image` refuses them and says why.

    >>> pixel_range_of([Image.fromarray(np.array([[0, 3000]], dtype=np.uint16))])
    (0.0, 4095.0)
    """
    whites: list[float] = []
    brightest: list[tuple[Source, float]] = []
    for header in (header for header in read_headers(sources) if header.is_deep):
        with suppress(ValueError, OSError):
            values = grey_values(*decode(header.source))
            whites.append(_highest(header, values))
            value = whites[-1] if header.depth else float(values.max())
            brightest.append((header.source, value))
    if not whites:
        return None
    _warn_of_depths(brightest)
    return 0.0, max(whites)


def _warn_of_depths(brightest: Sequence[tuple[Source, float]]) -> None:
    """Warn of the smaller part of pictures, where the brightest values of the two differ much."""
    limit = max(value for _, value in brightest) / _OTHER_DEPTH
    dim = [one for one in brightest if one[1] < limit]
    bright = [one for one in brightest if one[1] >= limit]
    odd, others = sorted([dim, bright], key=len)
    if odd:
        highest, usual = (max(value for _, value in part) for part in (odd, others))
        doubt = (
            f"{len(odd)} of {len(brightest)} pictures of more than 8 bits, this one among them, "
            f"have values up to {highest:.0f}, the others up to {usual:.0f}: if they have another "
            "bit depth, convert them, or give --pixel-range (pixel_range=), which holds for all"
        )
        warnings.warn(ImageWarning(odd[0][0], doubt), stacklevel=3)


def check_pixel_range(pixel_range: PixelRange | None) -> None:
    """Raise ValueError for a range (low, high) that does not rise."""
    if pixel_range is not None and not -np.inf < pixel_range[0] < pixel_range[1] < np.inf:
        raise ValueError(
            f"--pixel-range (pixel_range=) must rise, low before high; found {pixel_range}"
        )


def list_images(folder: str | Path) -> list[Path]:
    """Return the picture files of a folder, sorted by name; sub-folders are not searched.

    Raises FileNotFoundError when the folder is missing, ValueError when it holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; check the path")
    if found := sorted(path for path in folder.iterdir() if is_image_file(path)):
        return found
    below = sorted(path.name for path in folder.iterdir() if path.is_dir())
    hint = f"; it has sub-folders, name one of them: {', '.join(below[:8])}" if below else ""
    raise ValueError(f"no images in {folder} that Pillow can read{hint}")


def is_image_file(path: Path) -> bool:
    """Tell by the name whether a file is a picture; hidden files are not."""
    return _has_image_suffix(path) and not path.name.startswith(".") and path.is_file()


def _is_image_format(kind: str) -> bool:
    return Image.MIME.get(kind, "").startswith("image/")


def _has_image_suffix(path: Path) -> bool:
    return _is_image_format(Image.registered_extensions().get(path.suffix.lower(), ""))


def why_no_image(path: Path) -> str:
    """Say of files with such a name what they are, if not pictures; "" for pictures.

    >>> why_no_image(Path("a.pdf")), why_no_image(Path("a.png"))
    ('files ending in .pdf: no pictures', '')
    """
    if _has_image_suffix(path):
        return ""
    end = path.suffix.lower()
    media = MimeTypes().guess_type(f"a{end}")[0] or "image/"
    what = "convert pictures to PNG" if media.startswith("image/") else "no pictures"
    return f"files ending in {end}: {what}" if end else "files without an ending"


def is_far_from_square(size: tuple[int, int]) -> bool:
    """Tell whether a picture loses much when it is squeezed to a square, as every picture is.

    >>> is_far_from_square((5000, 200)), is_far_from_square((1500, 1000))
    (True, False)
    """
    return max(size) > FAR_FROM_SQUARE * min(size)


# From a file to the picture as it is stored


def decode(source: Source, *, pixels: bool = True) -> tuple[Header, Image.Image]:
    """Open a picture and decode it, upright, in the mode of its file; `masks` reads it likewise.

    With `pixels=False` only the header is read. Raises as `read_header` does.
    """
    if isinstance(source, Image.Image):
        header = _header(source, source)
        return header, ImageOps.exif_transpose(source) if pixels else source
    if not Path(source).is_file():
        raise FileNotFoundError(f"there is no file {source}; check the path")
    with Path(source).open("rb") as file:
        try:
            with _open_of_any_size(file) as image:
                header = _header(source, image)
                if pixels:
                    ImageOps.exif_transpose(image, in_place=True)
                return header, image
        except _RefusedError:
            raise
        except Image.UnidentifiedImageError:
            why = "is not a picture that Pillow can read, or is empty"
            raise ValueError(f"{source} {why}: convert it to PNG") from None
        except Exception as error:  # decoders raise almost anything on damaged bytes
            why = "is damaged, cut short, or above the limit of 1 gigapixel"
            raise ValueError(f"{source} {why} ({error}): export it again") from error


def _open_of_any_size(file: IO[bytes]) -> Image.Image:
    """Open with a larger limit than Pillow's own, which is a process-wide setting.

    An open file, not its name: of a name Pillow 13 maps a grey TIFF into memory and turns it wrong.
    """
    with _pillow_guard:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS // 2  # it allows twice
        try:
            Image.init()
            return Image.open(file, formats=list(filter(_is_image_format, Image.OPEN)))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


class _RefusedError(ValueError):
    """A picture that Pillow would read wrong, or that could be read in two ways."""


def _header(source: Source, image: Image.Image) -> Header:
    """Note the facts that Pillow forgets when it decodes; refuse what it would read wrong."""
    decoder, *_, arguments = image.tile[0] if getattr(image, "tile", None) else ("", None)
    rawmode = str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)
    is_deep = image.mode[0] in "IF" or rawmode.endswith(_DEEP_BYTES) or decoder == "SGI16"
    if problem := _problem(image, is_deep=is_deep):
        raise _RefusedError(f"{source} {problem}")
    exif = Image.Exif()
    exif.load(image.info.get("exif", b""))  # of a TIFF, Pillow has turned the size already
    size = image.size[::-1] if exif.get(_ORIENTATION, 1) >= 5 else image.size
    depth = _named_depth(image) if is_deep else None
    return Header(source, size, image.mode, is_deep, depth, pages=getattr(image, "n_frames", 1))


def _problem(image: Image.Image, *, is_deep: bool) -> str:
    """Say why a picture cannot be read right, and how to convert it; "" where it can."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(_PLANAR) == 2 and tags.get(_CHANNELS, 1) > 1:
        return "has its colours one after the other (planar): save them interleaved (contiguous)"
    if is_deep and tags.get(_PHOTOMETRIC) == 0:
        return "has more than 8 bits, and zero is white: save it with zero as black"
    is_clear = is_deep and "transparency" in image.info
    if is_clear or image.mode not in (_DEEP_MODES if is_deep else _MODES):
        what = "more than 8 bits" if is_deep else "the colour mode"
        return f"has {what} as {image.mode}: save it as grey or RGB, without transparency"
    return ""


def _named_depth(image: Image.Image) -> int | None:
    """Return the number of significant bits of grey that a file names."""
    if image.format in ("PPM", "JPEG2000"):  # Pillow has scaled it from its own maximum already
        return 16
    if image.format == "PNG" and image.fp:
        end = image.fp.tell()
        image.fp.seek(0)
        _, is_named, bits = image.fp.read(end).partition(b"\0\0\0\1sBIT")  # 1 byte: 1 channel
        return min(bits[0], 16) if is_named else None
    bits = getattr(image, "tag_v2", {}).get(_BITS, (16,))[0]
    return bits if 8 < bits < 16 else None


# From numbers to 8 bits


def grey_values(header: Header, image: Image.Image) -> np.ndarray:
    """Return the stored values (H, W) of a decoded picture of more than 8 bits.

    Raises ValueError for values outside 0...65535, and for colour: Pillow reads its upper 8 bits.
    """
    if image.mode == "RGB":
        remedy = "give --pixel-range 0 65535 (pixel_range=), or save it with 8 bits a channel"
        raise ValueError(f"{header.source} has colour of 16 bits a channel: {remedy}")
    values = np.asarray(image)
    if values.min() < 0 or values.max() > _FULL_RANGE[1]:
        raise ValueError(f"{header.source} has values beyond 0 to 65535: save it as 16-bit grey")
    return values


def _highest(header: Header, values: np.ndarray) -> float:
    """Return the upper end of the range of one grey picture; its lower end is 0."""
    depths = BIT_DEPTHS if header.depth is None else (header.depth, 16)
    return next(2.0**bits - 1 for bits in depths if values.max() < 2**bits)


def _to_8_bits(header: Header, image: Image.Image, pixel_range: PixelRange | None) -> Image.Image:
    values, doubts = grey_values(header, image), []
    if pixel_range is None:
        pixel_range = 0.0, _highest(header, values)
        if header.depth is None and pixel_range != _FULL_RANGE:
            doubts = [f"white is taken for {pixel_range[1]:.0f}; a set needs one pixel_range="]
    low, high = pixel_range
    if ((values < low) | (values > high)).mean() > _MANY_BEYOND:
        doubts = [f"more than {_MANY_BEYOND:.0%} of its pixels are not from {low:g} to {high:g}"]
    for doubt in doubts:
        warnings.warn(ImageWarning(header.source, doubt), stacklevel=3)
    scaled = np.rint((values.astype(np.float64) - low).clip(0, high - low) * 255 / (high - low))
    return Image.fromarray(scaled.astype(np.uint8))


def _to_srgb(source: Source, image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to RGB, and from the colour profile of the file to sRGB, which is left as it is."""
    rgb = _to_rgb(image)
    try:
        if profile:
            mode, transform = _way_to_srgb(profile)
            is_grey = image.mode in ("1", "L", "LA")
            if (image.mode == "CMYK") != (mode == "CMYK") or (mode == "L" and not is_grey):
                raise ValueError(f"the profile is for {mode}, not for {image.mode}")
            if transform:
                given = image if mode == "CMYK" else rgb.convert(mode)
                rgb = ImageCms.applyTransform(given, transform)
    except (ImageCms.PyCMSError, ValueError, OSError, ImportError):
        doubt = "its colour profile cannot be used, so its colours are taken for sRGB"
        warnings.warn(ImageWarning(source, doubt), stacklevel=3)
    rgb.info.pop("icc_profile", None)  # read again, it must not be converted twice
    return rgb


@lru_cache(maxsize=16)
def _way_to_srgb(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return the mode of pixels of a colour profile, and their transform; None for sRGB itself.

    Files of sRGB differ in name and bytes: it is a profile that moves no colour.
    """
    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    mode = _COLOUR_SPACES.get(source.profile.xcolor_space, "")
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    levels = np.indices((18, 18, 18), dtype=np.uint8).reshape(3, 18, -1).transpose(1, 2, 0) * 15
    colours = Image.fromarray(np.ascontiguousarray(levels)).convert(mode)
    moved = np.asarray(ImageCms.applyTransform(colours, transform), dtype=int)
    is_srgb = abs(moved - np.asarray(colours.convert("RGB"))).max() <= _SAME_COLOUR
    return mode, None if is_srgb else transform


def _to_rgb(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    if not image.getchannel("A").getbbox():  # never set
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
