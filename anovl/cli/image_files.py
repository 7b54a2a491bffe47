"""Image files in, files of results out: their names, warnings about odd ones, refusals.

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
    is_far_from_square,
    is_image_file,
    list_images,
    pixel_range_of,
    read_header,
)

RECORD = "localize.json"  # in a folder of results: its images and files, words and levels
ENDS = (".npy", ".png", ".mask.png")  # of a map, its panel, its mask


def image_paths(sources: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """Return the images in files, folders and patterns, and a sentence for each empty source."""
    paths, problems = [], []
    for source in map(str, sources):
        is_pattern = not Path(source).exists() and any(sign in source for sign in "*?[")
        matches = sorted(glob.glob(source)) if is_pattern else [source]
        if not matches:
            problems.append(f"no file matches the pattern {source!r}; check the path")
        for path in map(Path, matches):
            try:
                paths += list_images(path) if path.is_dir() else [path]
            except ValueError as error:
                problems.append(str(error))
    return list(dict.fromkeys(paths)), problems


def warn_passed_over(sources: Sequence[str | Path]) -> None:
    """Warn of everything in the given folders that is not read, such as sub-folders."""
    folders = [path for path in map(Path, sources) if path.is_dir()]
    for folder in folders:
        others = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
        odd = [path for path in others if not (is_image_file(path) or path in folders)]
        if names := [path.name for path in odd if not (path / RECORD).is_file()]:
            more = ", ..." * (len(names) > 8)
            warnings.warn(f"not read in {folder}: {', '.join(names[:8])}{more}", stacklevel=2)


@dataclass(frozen=True)
class ImageFiles:
    """The images of a run, the normal ones that set a level, and the headers of all.

    An unreadable file has no header.
    """

    images: Sequence[Path]
    normal: Sequence[Path]
    headers: Mapping[Path, Header]

    @classmethod
    def opened(cls, images: Sequence[Path], normal: Sequence[Path] = ()) -> ImageFiles:
        """Read the headers of these files."""
        headers = {}
        for path in dict.fromkeys([*images, *normal]):
            try:
                headers[path] = read_header(path)
            except (ValueError, OSError):  # it is named when it is read
                continue
        return cls(images, normal, headers)

    def pixel_range(self) -> PixelRange | None:
        """The one range of pixel values of all files; None if all have 8 bits."""
        return pixel_range_of(self.headers.values())

    def made(self, paths: Sequence[Path]) -> tuple[Made, ...]:
        """Size and kind of pixels of those of these files that can be read."""
        return how_made([self.headers[path] for path in paths if path in self.headers])

    def warn_odd(self, tiled: Tiled | None) -> None:
        """Warn of images that are not seen whole, and of copies, which make a level doubtful."""
        sizes = {path: self.headers[path].size for path in self.images if path in self.headers}
        known, n = also_among(self.images, self.normal), counted(len(self.images), "image")
        what = "also among the normal images (the same file, or equal byte by byte): the level says"
        odd = {f"{what} nothing about them": [path for path in self.images if path in known]}
        if tiled:
            what = f"too small for tiles of {tiled.side} x {tiled.side} pixels: leave --tiles out"
            odd[what] = [path for path, size in sizes.items() if not tiled.adds_detail(size)]
        else:
            what = "far from square, squeezed to a square: cut them into tiles"
            odd[what] = [path for path, size in sizes.items() if is_far_from_square(size)]
        for what, paths in odd.items():
            if paths:
                warnings.warn(f"{len(paths)} of {n}: {what} ({paths[0]})", stacklevel=3)
        if spare := [path for alike in copies(self.normal) for path in alike[1:]]:
            what = f"{len(spare)} of {counted(len(self.normal), 'normal image')}: copies of others"
            why = "the level allows more false alarms than it promises, leave them out"
            warnings.warn(f"{what}, byte by byte: {why} ({spare[0]})", stacklevel=3)


# The folder of results


def check_out(
    out: Path, images: Sequence[Path], normal: Sequence[Path], *, overwrite: bool
) -> None:
    """Raise ValueError, before anything is written, for a folder where a file would be lost."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder for the results with --out")
    files = [out / f"{name}{end}" for name in output_names(images).values() for end in ENDS]
    check_results([*files, out / "scores.csv"], read=[*images, *normal], foreign=lambda: "")
    former = record_in(out)
    is_free = not out.is_dir() or all(path.name.startswith(".") for path in out.iterdir())
    if not (overwrite or is_free or former.get("images") == identities(images)):
        holds = "the results of other images" if former else "files of another origin"
        hint = "choose another folder with --out, or replace them with --overwrite"
        raise ValueError(f"{out} holds {holds}: {hint}")


def record_in(out: Path) -> dict[str, Any]:
    """The record of the run in a folder; empty where there is none."""
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def identities(images: Iterable[Path]) -> list[str]:
    """The images that tell a run from others."""
    return sorted({str(path.resolve()) for path in images})


def output_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Name results after their files; where names clash, after their folders too.

    Names that differ in case alone clash, because on many disks they are one file. So do names
    where a result of one has the name of another's.

    >>> list(output_names([Path("good/000.png"), Path("crack/000.png"), Path("a.png")]).values())
    ['good-000', 'crack-000', 'a']
    >>> list(output_names([Path("a.png"), Path("A.mask.png")]).values())
    ['a', 'A.mask-2']
    """
    stems = Counter(path.stem.casefold() for path in paths)
    taken: set[str] = set()
    names = {}
    for path in paths:
        clash = stems[path.stem.casefold()] > 1
        name = f"{path.absolute().parent.name}-{path.stem}" if clash else path.stem
        for own in chain([name], (f"{name}-{n}" for n in count(2))):
            files = {f"{own}{end}".casefold() for end in ENDS}
            if not files & taken:
                break
        taken |= files
        names[path] = own
    return names
