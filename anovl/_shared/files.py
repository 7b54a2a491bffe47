"""Files: their hash, and writing that is all or nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


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


def write_atomically(path: Path, text: str) -> None:
    """Write a file under another name, then give it its own; odd names of files as their bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="\n")
    temporary.replace(path)


def hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and the contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {hash_file(path)}\n".encode())
    return digest.hexdigest()
