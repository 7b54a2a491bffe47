"""Were new pictures made in the way of the normal ones? A level promises nothing about others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from anovl.clip import Images, as_list
from anovl.stored import Stored, decode

_ORIENTATION = 274  # in EXIF; of a TIFF, Pillow has turned the size already


class Made(NamedTuple):
    """How a picture was made: its size, upright, and its values, such as "8-bit grey".

    `values` is "" for a picture in memory: whoever read it may have changed them.
    """

    width: int
    height: int
    values: str = ""


def how_made(images: Images | Sequence[Stored]) -> tuple[Made, ...]:
    """Tell it of pictures and files that can be read, by their headers; () for a tensor.

    >>> how_made([Image.new("L", (30, 20))])
    (Made(width=30, height=20, values=''),)
    """
    return () if isinstance(images, Tensor) else tuple(_each(as_list(images)))


def _each(images: Iterable[Image.Image | str | Path | Stored]) -> Iterable[Made]:
    for image in images:
        if isinstance(image, Image.Image):
            yield Made(*image.size)
            continue
        try:
            stored = image if isinstance(image, Stored) else decode(image, pixels=False)
        except (ValueError, OSError):  # it is named when it is read
            continue
        size = stored.image.size
        yield Made(*(size[::-1] if _lies_on_its_side(stored.image) else size), _values(stored))


def _lies_on_its_side(image: Image.Image) -> bool:
    exif = Image.Exif()
    exif.load(image.info.get("exif", b""))
    return exif.get(_ORIENTATION, 1) >= 5


def _values(stored: Stored) -> str:
    if stored.image.mode == "F":
        return "floating-point"
    bits = int(stored.said[1]).bit_length() if stored.said else 16 if stored.is_deep else 8
    grey = stored.image.mode in ("1", "L", "LA") or stored.image.mode.startswith("I")
    return f"{bits}-bit {'grey' if grey else 'colour'}"


def unlike(normal: Sequence[Made], new: Sequence[Made]) -> str:
    """Say, with numbers, how new pictures differ from the normal ones; "" where they do not.

    A size is like those of the normal pictures where width, height and their ratio lie between the
    smallest and the largest of these.

    >>> unlike([Made(300, 300)] * 9, [Made(300, 300)] * 28 + [Made(1024, 768)] * 12)
    'the normal pictures are 300 x 300, 12 of 40 new ones are 1024 x 768'
    """
    if not normal:
        return ""
    known = {one.values for one in normal} | {""}
    sizes = [one for one in new if not _fits(one, normal)]
    values = [one for one in new if known != {""} and one.values not in known]
    return "; ".join(
        f"the normal pictures are {said(normal)}, {len(odd)} of {len(new)} new ones "
        f"{'is' if len(odd) == 1 else 'are'} {said(odd)}"
        for odd, said in ((sizes, _sizes), (values, _kinds))
        if odd
    )


def _fits(new: Made, normal: Sequence[Made]) -> bool:
    def measures(one: Made) -> tuple[float, ...]:
        return one.width, one.height, one.width / one.height

    ranges = zip(*map(measures, normal), strict=True)
    return all(min(r) <= value <= max(r) for value, r in zip(measures(new), ranges, strict=True))


def _sizes(pictures: Iterable[Made]) -> str:
    sizes = sorted({(one.width, one.height) for one in pictures})
    return " to ".join(f"{width} x {height}" for width, height in {sizes[0]: 0, sizes[-1]: 0})


def _kinds(pictures: Iterable[Made]) -> str:
    return " or ".join(sorted({one.values for one in pictures} - {""}))
