"""Files: their hash, writing that is all or nothing, and what must not be written over."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT)  # what a full disk, or a full share of it, is called


class DiskFullError(OSError):
    """The disk is full; `strerror` says what is kept of a run, in a sentence for people."""


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_web_page(path: str | Path) -> bool:
    """Tell whether a file is HTML: what a dead link, or one that asks for a login, often gives."""
    with Path(path).open("rb") as file:
        start = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html"))


def write_atomically(path: Path, content: str | Callable[[BytesIO], Any]) -> None:
    """Write a file under another name, then give it its own; where that fails, nothing is left.

    `content` is text, with odd names of files as their bytes, or a function that writes to a file.
    It writes into memory: on a full disk, the own writing of numpy and of torch raises an error
    that does not say so. Raises OSError, with what to do where the disk is not full.
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
    """Raise ValueError, before anything is written, where one of these results would do harm.

    It would replace a file that is `read`, or lie in a folder of such files, or in one of
    `folders`, so that the next run would read it; or it exists, and `foreign` says what it is, such
    as "is not of a run"; "" if it may be replaced. `foreign` is asked last: by then another process
    of the same run has recorded it.
    """
    files = list(files)
    originals = {identity(path): path for path in read}
    closed = {identity(folder) for folder in folders}
    closed |= {identity(folder) for folder in {Path(path).parent for path in originals.values()}}
    for folder in dict.fromkeys(file.parent for file in files):
        if identity(folder) in closed:
            raise ValueError(
                f"images are read from {folder}, and results would lie among them: "
                "choose another folder with --out"
            )
    existing = [file for file in files if os.path.lexists(file)]
    for file in existing:
        if original := originals.get(identity(file)):
            raise ValueError(
                f"the result {file.name} would replace {original}, which is read: "
                "choose another folder with --out"
            )
    if existing and (what := foreign()):
        raise ValueError(
            f"{existing[0]} exists and {what}: choose another folder with --out, or empty that one"
        )


def identity(path: str | Path) -> str:
    """What two spellings of one file have in common: links are followed, case does not count."""
    return os.path.realpath(path).casefold()


def hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and the contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {hash_file(path)}\n".encode())
    return digest.hexdigest()
