"""Hash files, find copies, write atomically, and protect the user's files from results."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or the quota, is full


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def copies(paths: Iterable[Path]) -> list[list[Path]]:
    """Group the files that are equal byte by byte; a file without a copy is in no group.

    Most files differ in size, so that few are hashed. Unreadable files are skipped.
    """
    groups = [list(dict.fromkeys(paths))]
    for key in (_size, hash_file):
        groups = [alike for group in groups for alike in _alike(group, key)]
    return groups


def also_among(paths: Sequence[Path], others: Sequence[Path]) -> set[Path]:
    """Return the `paths` that are in `others` too, as the same file or as a copy of it."""
    known = {identity(path) for path in others}
    groups = copies([*paths, *others]) if known else []
    equal = {path for alike in groups if known & set(map(identity, alike)) for path in alike}
    return {path for path in paths if identity(path) in known or path in equal}


def _alike(paths: Iterable[Path], key: Callable[[Path], Any]) -> list[list[Path]]:
    groups: dict[Any, list[Path]] = defaultdict(list)
    for path in paths:
        with suppress(OSError):
            groups[key(path)].append(path)
    return [alike for alike in groups.values() if len(alike) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def is_web_page(path: str | Path) -> bool:
    """Tell whether a file is HTML: a dead link, or one with a login, often returns a page."""
    with Path(path).open("rb") as file:
        start = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html"))


def write_atomically(path: Path, content: str | Callable[[BytesIO], Any]) -> None:
    """Write a file under a temporary name, then rename it; after an error, nothing is left.

    `content` is text (with surrogates for bytes that are not UTF-8), or a function that writes to
    a file. It writes into memory first: on a full disk, numpy and torch raise errors that do not
    say so. Raises OSError; if the disk is not full, its sentence says what to do.
    """
    if isinstance(content, str):
        data = content.encode(errors="surrogateescape")
    else:
        content(memory := BytesIO())
        data = memory.getbuffer()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno not in FULL:
            why = error.strerror or error
            said = f"{path} cannot be written ({why}): choose a folder that you may write to"
            raise type(error)(said) from None
        raise


def check_results(
    files: Iterable[Path],
    *,
    read: Iterable[str | Path],
    foreign: Callable[[], str],
    folders: Iterable[str | Path] = (),
) -> None:
    """Raise ValueError, before anything is written, if one of these results would do harm.

    A result must not lie in the folder of a file that is `read`, or in one of `folders`: it could
    replace the file, and the next run would read it. A file that exists may be replaced only if
    `foreign()` is ""; else it says why not, such as "is not of a run". It is called last, when
    another process of the same run may have recorded the run.
    """
    files = list(files)
    closed = {identity(folder) for folder in folders}
    for path in read:  # and where it is, if it is a link
        closed |= {identity(Path(path).parent), os.path.dirname(identity(path))}
    for folder in dict.fromkeys(file.parent for file in files):
        if identity(folder) in closed:
            raise ValueError(
                f"images are read from {folder}, and results would lie among them: "
                "choose another folder with --out"
            )
    existing = [file for file in files if os.path.lexists(file)]
    if existing and (what := foreign()):
        raise ValueError(
            f"{existing[0]} exists and {what}: choose another folder with --out, or empty that one"
        )


def identity(path: str | Path) -> str:
    """One spelling for all paths of a file: links are followed, case is ignored."""
    return os.path.realpath(path).casefold()


def hash_files(paths: Sequence[Path]) -> str:
    """SHA-256 over the names and the contents of files, in the order given.

    Raises FileNotFoundError for no files: their hash would mean nothing.
    """
    if not paths:
        raise FileNotFoundError("expected files to hash, such as those of a model; found none")
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {hash_file(path)}\n".encode())
    return digest.hexdigest()
