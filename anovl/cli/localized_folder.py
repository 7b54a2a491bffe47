"""The folder of a run of `localize`: its names, its record, and whether it may be written to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from anovl._shared.files import check_results

RECORD = "localize.json"  # in OUT: which images its files belong to, and the words
ENDS = (".npy", ".png", ".mask.png")  # of a map, its panel, and what lies above the level


def next_folder(name: str, paths: Sequence[Path]) -> Path:
    """The first of NAME, NAME-2, ... that is free, or that holds a run on these very images."""
    run = run_of(paths)
    for number in count(1):
        folder = Path(name if number == 1 else f"{name}-{number}")
        if not folder.exists() or _is_of(folder, run):
            return folder


def run_of(paths: Sequence[Path]) -> dict[str, Any]:
    """What tells a run from others: the images that it reads."""
    return {"images": sorted({str(path.resolve()) for path in paths})}


def output_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Name results after their files; where names clash, after their folders too.

    Names that differ in case alone clash as well, because on many disks they are one file; and so
    do those of which one result would be called as another.

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
        wanted = f"{path.absolute().parent.name}-{path.stem}" if clash else path.stem
        for name in chain([wanted], (f"{wanted}-{n}" for n in count(2))):
            files = {f"{name}{end}".casefold() for end in ENDS}
            if not files & taken:
                break
        taken |= files
        names[path] = name
    return names


def check_out(out: Path, run: dict[str, Any], read: Iterable[Path]) -> None:
    """Raise ValueError, before anything is written, where a file would be lost."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder for the heat maps")

    def foreign() -> str:
        if _is_of(out, run):
            return ""
        is_run = (out / RECORD).is_file()
        return "belongs to a run on other images" if is_run else "is not of a run"

    files = [out / name for name in (*run["files"], RECORD)]
    check_results(files, read=read, foreign=foreign)


def record_in(out: Path) -> dict[str, Any]:
    """What is known of the run in a folder; nothing where there is none."""
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_of(out: Path, run: Mapping[str, Any]) -> bool:
    """Tell whether a folder's run read the same images: other words may replace its results."""
    return record_in(out).get("images") == run["images"]
