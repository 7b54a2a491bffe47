"""Which pictures are meant: what files, folders and patterns stand for, and what is passed over."""

from __future__ import annotations

import glob
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from anovl._shared.messages import counted
from anovl.cli.localized_folder import RECORD
from anovl.data.check import OTHER_PICTURES
from anovl.images import SUFFIXES, is_image_file, list_images


def image_paths(sources: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """Return the images that files, folders and patterns stand for, and what is wrong with them."""
    paths, problems = [], []
    for source in sources:
        matches = [source] if Path(source).exists() else sorted(glob.glob(str(source)))
        if not matches and any(sign in str(source) for sign in "*?["):
            problems.append(_without_match(str(source)))
            continue
        for path in map(Path, matches or [source]):
            try:
                paths += list_images(path) if path.is_dir() else [path]
            except ValueError as error:
                problems.append(str(error))
    return list(dict.fromkeys(paths)), problems


def mention_folders(sources: Sequence[str | Path]) -> None:
    """Warn of what is passed over in the folders that are given.

    That is pictures in their sub-folders, pictures of other formats, and links to nothing.
    """
    folders = [path for path in map(Path, sources) if path.is_dir()]
    for folder in folders:
        if odd := sorted(path.name for path in folder.iterdir() if _is_lost(path)):
            warnings.warn(
                f"{counted(len(odd), 'picture')} in {folder} ({', '.join(odd[:8])}), not looked "
                "at: of a format that is not read, convert to PNG; or a link to nothing",
                stacklevel=2,
            )
        others = (path for path in folder.iterdir() if path.is_dir() and path not in folders)
        unused = [path for path in others if not (path / RECORD).is_file()]
        if below := [file for path in unused for file in path.iterdir() if is_image_file(file)]:
            names = ", ".join(sorted({path.parent.name for path in below})[:8])
            warnings.warn(
                f"{counted(len(below), 'picture')} in sub-folders of {folder} ({names}), not "
                "looked at: give these folders as well",
                stacklevel=2,
            )


def _is_lost(path: Path) -> bool:
    suffix, is_there = path.suffix.lower(), path.exists()
    is_picture = suffix in OTHER_PICTURES or (suffix in SUFFIXES and not is_there)
    return is_picture and not path.name.startswith(".") and not path.is_dir()


def _without_match(pattern: str) -> str:
    """Say that a pattern matches nothing, and what its folder holds instead."""
    folder = Path(pattern).parent
    said = f"the pattern {pattern!r} matches nothing"
    if not folder.is_dir():
        return f"{said}: there is no folder {folder}"
    names = Counter(path.suffix or "no suffix" for path in folder.iterdir() if path.is_file())
    held = ", ".join(f"{name} ({n})" for name, n in names.most_common(8)) or "no files"
    return f"{said}; {folder} holds {held}"
