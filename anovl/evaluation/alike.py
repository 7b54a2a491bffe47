"""Compare size and pixels of new pictures with the normal ones: no level holds for others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from anovl.clip import Images, as_list
from anovl.images import Header, read_header


class Made(NamedTuple):
    """The size of an upright picture, and its kind, such as "8-bit grey" or "8-bit grey JPEG".

    `values` is "" for a picture in memory, whose values may have been changed.
    """

    width: int
    height: int
    values: str = ""


def how_made(images: Images | Sequence[Header]) -> tuple[Made, ...]:
    """Describe pictures by their headers; files that cannot be read are left out; () for a tensor.

    Headers that are given are not read again.

    >>> from PIL import Image
    >>> how_made([Image.new("L", (30, 20))])
    (Made(width=30, height=20, values=''),)
    """
    made = []
    for image in () if isinstance(images, Tensor) else as_list(images):
        try:
            header = image if isinstance(image, Header) else read_header(image)
        except (ValueError, OSError):  # an error names it when it is read
            continue
        is_file = isinstance(header.source, (str, Path))
        made.append(Made(*header.size, _values(header) if is_file else ""))
    return tuple(made)


def _values(header: Header) -> str:
    bits = header.depth or (16 if header.is_deep else 8)
    is_grey = header.mode in ("1", "L", "LA") or header.mode.startswith("I")
    is_jpeg = Path(header.source).suffix.lower() in (".jpg", ".jpeg")  # its blocks leave traces
    return f"{bits}-bit {'grey' if is_grey else 'colour'}{' JPEG' * is_jpeg}"


def unlike(normal: Sequence[Made], new: Sequence[Made], what: str = "new ones") -> str:
    """Say, with numbers, how new pictures differ from the normal ones; "" if they do not.

    A size is alike where width, height and their ratio lie between the smallest and the largest of
    the normal pictures.

    >>> unlike([Made(300, 300)] * 9, [Made(300, 300)] * 28 + [Made(1024, 768)] * 12)
    'the normal pictures are 300 x 300, 12 of 40 new ones are 1024 x 768'
    """
    known = {one.values for one in normal} - {""}
    sizes = [one for one in new if normal and not _fits(one, normal)]
    values = [one for one in new if known and one.values not in known | {""}]
    return "; ".join(
        f"the normal pictures are {said(normal)}, {len(odd)} of {len(new)} {what} "
        f"{'is' if len(odd) == 1 else 'are'} {said(odd)}"
        for odd, said in ((sizes, _sizes), (values, _kinds))
        if odd
    )


def _fits(new: Made, normal: Sequence[Made]) -> bool:
    rows = [(one.width, one.height, one.width / one.height) for one in (new, *normal)]
    return all(min(others) <= value <= max(others) for value, *others in zip(*rows, strict=True))


def _sizes(pictures: Iterable[Made]) -> str:
    sizes = sorted({(one.width, one.height) for one in pictures})
    return " to ".join(f"{width} x {height}" for width, height in {sizes[0]: 0, sizes[-1]: 0})


def _kinds(pictures: Iterable[Made]) -> str:
    return " or ".join(sorted({one.values for one in pictures} - {""}))
