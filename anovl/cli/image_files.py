"""Find the images of a run, read their headers, and refuse a folder where results do harm.

Headers are read once, before the first image is decoded.
"""

from __future__ import annotations

import glob
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from anovl._shared.files import also_among, check_results, copies
from anovl._shared.messages import counted
from anovl.baselines.tiled import Tiled
from anovl.evaluation.alike import Made, how_made
from anovl.images import (
    Header,
    PixelRange,
    check_pixel_range,
    is_far_from_square,
    is_image_file,
    list_images,
    pixel_range_of,
    read_header,
)

RECORD = "localize.json"  # in a folder of results: its images and files, words and levels
ENDS = (".npy", ".png", ".mask.png")  # of a map, its panel, its mask


@dataclass(frozen=True)
class ImageFiles:
    """The images of a run, the normal ones that set a level, and the folder for the results.

    An unreadable file has no header. All files have one range of pixel values, None for 8 bits.
    """

    images: Sequence[Path]
    normal: Sequence[Path]
    out: Path
    headers: Mapping[Path, Header]
    pixel_range: PixelRange | None

    @classmethod
    def found(
        cls,
        sources: Sequence[str | Path],
        normal: Sequence[str | Path],
        out: Path,
        *,
        overwrite: bool,
        pixel_range: PixelRange | None,
    ) -> ImageFiles:
        """Find images, check the folder for the results, and read all headers.

        An image that is also in `normal`, as the same file or as a copy, is left out of the images:
        what sets a level is not judged by it. Without a `pixel_range` it is the result of
        `pixel_range_of`. Warns of images that are left out, and of files in the given folders that
        are not read. Raises ValueError for a source without images, where none is left, for a pixel
        range that does not rise, and as `check_out` does.
        """
        check_pixel_range(pixel_range)
        images, others = image_paths(sources), image_paths(normal)
        known = also_among(images, others)
        given, images = images, [path for path in images if path not in known]
        if not images:
            raise ValueError(
                f"all {counted(len(given), 'image')} set the level, or are known: give new ones"
            )
        check_out(out, images, others, overwrite=overwrite)
        _warn_passed_over([*sources, *normal])
        _warn(given, sorted(known), "left out: they set the level, or are known to be anomalous")
        headers = {}
        for path in dict.fromkeys([*images, *others]):
            try:
                headers[path] = read_header(path)
            except (ValueError, OSError):  # it is named when it is read
                continue
        limits = pixel_range or pixel_range_of(headers.values())
        return cls(images, others, out, headers, limits)

    def made(self, paths: Sequence[Path]) -> tuple[Made, ...]:
        """Return size and kind of pixels of the given files, without unreadable ones."""
        return how_made([self.headers[path] for path in paths if path in self.headers])

    def warn_odd(self, tiled: Tiled | None) -> None:
        """Warn of images that are not seen whole, and of copies, which make a level doubtful."""
        sizes = {path: self.headers[path].size for path in self.images if path in self.headers}
        if tiled:
            odd = [path for path, size in sizes.items() if not tiled.adds_detail(size)]
            what = f"too small for tiles of {tiled.side} x {tiled.side} pixels: leave --tiles out"
        else:
            odd = [path for path, size in sizes.items() if is_far_from_square(size)]
            what = "far from square, squeezed to a square: cut them into tiles"
        spare = [path for alike in copies(self.normal) for path in alike[1:]]
        _warn(self.images, odd, what)
        what = "copies, so the level allows more false alarms than it promises: leave them out"
        _warn(self.normal, spare, what, noun="normal image")


def _warn(paths: Sequence[Path], odd: Sequence[Path], what: str, *, noun: str = "image") -> None:
    if odd:
        said = f"{len(odd)} of {counted(len(paths), noun)}: {what} ({odd[0]})"
        warnings.warn(said, stacklevel=4)


def image_paths(sources: Sequence[str | Path]) -> list[Path]:
    """Return the images in files, folders and patterns; ValueError for a source without any."""
    paths: list[Path] = []
    for source in map(str, sources):
        is_pattern = not Path(source).exists() and any(sign in source for sign in "*?[")
        matches = sorted(glob.glob(source)) if is_pattern else [source]
        if not matches:
            raise ValueError(f"no file matches the pattern {source!r}; check the path")
        for path in map(Path, matches):
            paths += list_images(path) if path.is_dir() else [path]
    return list(dict.fromkeys(paths))


def _warn_passed_over(sources: Sequence[str | Path]) -> None:
    """Warn of everything in the given folders that is not read, such as sub-folders."""
    folders = [path for path in map(Path, sources) if path.is_dir()]
    for folder in folders:
        others = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
        odd = [path for path in others if not (is_image_file(path) or path in folders)]
        if names := [path.name for path in odd if not (path / RECORD).is_file()]:
            more = ", ..." * (len(names) > 8)
            warnings.warn(f"not read in {folder}: {', '.join(names[:8])}{more}", stacklevel=3)


# The folder of results


def check_out(
    out: Path, images: Sequence[Path], normal: Sequence[Path], *, overwrite: bool
) -> None:
    """Raise ValueError, before anything is written, for a folder where a file would be lost."""
    files = [out / f"{name}{end}" for name in output_names(images).values() for end in ENDS]
    check_results([*files, out / "scores.csv"], read=[*images, *normal], foreign=lambda: "")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder for the results with --out")
    found = out.iterdir() if out.exists() else ()
    is_free = all(path.name.startswith(".") for path in found)
    if not (overwrite or is_free or record_in(out / RECORD).get("images") == identities(images)):
        hint = "choose another folder with --out, or replace them with --overwrite"
        raise ValueError(f"{out} holds other files, or results of other images: {hint}")


def record_in(path: Path) -> dict[str, Any]:
    """The record of a run, from its localize.json; empty where there is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def identities(images: Iterable[Path]) -> list[str]:
    """The images that tell a run from others."""
    return sorted({str(path.resolve()) for path in images})


def output_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Name results after their files; where names clash, after their folders too, then by number.

    Case does not count, because on many disks it does not tell files apart. Names also clash where
    a result of one image has the name of another's.

    >>> list(output_names([Path("good/0.png"), Path("cut/0.png"), Path("cut/0.jpg")]).values())
    ['good-0', 'cut-0', 'cut-0-2']
    >>> list(output_names([Path("a.png"), Path("b/A.mask.png")]).values())
    ['a', 'A.mask-2']
    """
    stems = Counter(path.stem.casefold() for path in paths)
    taken: set[str] = set()
    names = {}
    for path in paths:
        clashes = stems[path.stem.casefold()] > 1
        own = f"{path.absolute().parent.name}-{path.stem}" if clashes else path.stem
        for name in chain([own], (f"{own}-{n}" for n in count(2))):
            files = {f"{name}{end}".casefold() for end in ENDS}
            if not files & taken:
                break
        taken |= files
        names[path] = name
    return names
