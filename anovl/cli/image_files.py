"""Find the images of a run, read their headers, and refuse a folder where results do harm.

Headers are read once, before the first image is decoded.
"""

from __future__ import annotations

import glob
import json
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from anovl._shared.files import also_among, check_results, copies
from anovl._shared.messages import counted
from anovl.baselines.tiled import Tiled
from anovl.data.check import grouped, not_read
from anovl.data.layout import RECORD, unlabelled
from anovl.evaluation.threshold import Made, how_made
from anovl.images import (
    Header,
    PixelRange,
    check_pixel_range,
    is_far_from_square,
    pixel_range_of,
    read_headers,
)

ENDS = (".npy", ".png", ".mask.png")  # of a map, its panel, its mask


@dataclass(frozen=True)
class ImageFiles:
    """The images of a run, the normal ones that set a level, and the folder for the results.

    `names` are those of the results, by image. An unreadable file has no header. All files have one
    range of pixel values, None for 8 bits.
    """

    images: Sequence[Path]
    names: Mapping[Path, str]
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
        places, others = image_paths(sources), list(image_paths(normal))
        known = also_among(list(places), others)
        new = {path: place for path, place in places.items() if path not in known}
        if not new:
            all_images = counted(len(places), "image")
            raise ValueError(f"all {all_images} set the level, or are known: give new ones")
        images, names = list(new), output_names(new)
        check_out(out, names, others, overwrite=overwrite)
        _warn_passed_over([*sources, *normal], {*places, *others})
        what = "left out: they set the level, or are known to be anomalous"
        _warn([*places], sorted(known), what)
        headers = {Path(one.source): one for one in read_headers(dict.fromkeys([*images, *others]))}
        limits = pixel_range or pixel_range_of(headers.values())
        return cls(images, names, others, out, headers, limits)

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


def image_paths(sources: Sequence[str | Path]) -> dict[Path, Path]:
    """Return the images in files, folders and patterns, each with its place.

    That is its path below the folder that was given, without its ending. Sub-folders are searched.
    Raises ValueError for a source without any image.
    """
    paths: dict[Path, Path] = {}
    for source in map(str, sources):
        is_pattern = not Path(source).exists() and any(sign in source for sign in "*?[")
        matches = list(map(Path, sorted(glob.glob(source)) if is_pattern else [source]))
        if not matches:
            raise ValueError(f"no file matches the pattern {source!r}; check the path")
        for match in matches:
            home = match if match.is_dir() else match.parent
            for path in unlabelled(match) if match.is_dir() else [match]:
                paths.setdefault(path, path.relative_to(home).with_suffix(""))
    return paths


def _warn_passed_over(sources: Sequence[str | Path], files: Container[Path]) -> None:
    """Warn of everything in the given folders that is not read."""
    for folder in (path for path in map(Path, sources) if path.is_dir()):
        pairs = [(why, path) for why, path in not_read(folder, files) if path.name[0] != "."]
        if pairs:
            findings = "; ".join(map(str, grouped(pairs, folder)))
            warnings.warn(f"not read in {folder}: {findings}", stacklevel=3)


# The folder of results


def check_out(
    out: Path, names: Mapping[Path, str], normal: Sequence[Path], *, overwrite: bool
) -> None:
    """Raise ValueError, before anything is written, for a folder where a file would be lost."""
    files = [out / f"{name}{end}" for name in names.values() for end in ENDS]
    check_results([*files, out / "scores.csv"], read=[*names, *normal], foreign=lambda: "")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder for the results with --out")
    found = out.iterdir() if out.exists() else ()
    is_free = all(path.name.startswith(".") for path in found)
    if not (overwrite or is_free or record_in(out / RECORD).get("images") == identities(names)):
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


def output_names(places: Mapping[Path, Path]) -> dict[Path, str]:
    """Name results after the places of images, as `image_paths` returns them.

    Where names clash, numbers stand behind them. Case does not count, because on many disks it does
    not tell files apart. Names also clash where a result of one image has the name of another's.

    >>> places = {"new/0.png": "0", "new/in/0.png": "in/0", "new/1.png": "1", "new/1.jpg": "1"}
    >>> places = {Path(path): Path(place) for path, place in places.items()}
    >>> list(output_names(places).values())
    ['0', 'in/0', '1', '1-2']
    """
    taken: set[str] = set()
    names = {}
    for path, place in places.items():
        for name in chain([place.as_posix()], (f"{place.as_posix()}-{n}" for n in count(2))):
            files = {f"{name}{end}".casefold() for end in ENDS}
            if not files & taken:
                break
        taken |= files
        names[path] = name
    return names
