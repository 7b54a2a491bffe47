"""An archive from the internet -> files below one folder, and nowhere else."""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from anovl._shared.files import is_web_page

# What the readers raise on bytes that are not what they should be; RuntimeError: an encrypted zip.
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error),
    *(EOFError, RuntimeError),
)


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    is_file: bool
    open: Callable[[], IO[bytes]]


def check_free(folder: Path, archive: Path) -> None:
    """Raise ValueError when `folder` exists and is not empty: nothing is ever unpacked over it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is in the way of {archive}: move it, or choose another folder")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar (also compressed) or zip archive so that `folder` appears only when complete.

    A single folder at the top of the archive is left out. Only plain files and folders are written,
    with permissions of their own.

    Raises ValueError for a damaged archive, for one with links, devices or paths that lead out of
    the folder, and when `folder` exists and is not empty.
    """
    check_free(folder, archive)
    unfinished = folder.with_name(f".{folder.name}.unpacking")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    try:
        _unpack_all(archive, unfinished)
    except _DAMAGE as error:
        shutil.rmtree(unfinished)
        reason = str(error).partition(":\n")[0]
        if is_web_page(archive):
            reason = "it is a web page, saved under this name: open the link in a browser"
        raise ValueError(
            f"{archive} is damaged or no archive ({reason}): delete it and download it again"
        ) from error
    except ValueError:
        shutil.rmtree(unfinished)
        raise
    top = list(unfinished.iterdir())
    if folder.exists():
        folder.rmdir()
    if len(top) == 1 and top[0].is_dir():
        top[0].rename(folder)
        unfinished.rmdir()
    else:
        unfinished.rename(folder)


def _unpack_all(archive: Path, folder: Path) -> None:
    from tqdm import tqdm

    folder.mkdir(parents=True)
    with _members(archive) as members:
        for member in tqdm(members, desc=f"unpacking {archive.name}", unit="file", disable=None):
            path = _inside(folder, member, archive)
            if member.is_folder:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def _inside(folder: Path, member: _Member, archive: Path) -> Path:
    """Return where a member goes. No link is ever made, so a resolved path tells the truth."""
    path = (folder / member.name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{archive} is not safe: {member.name!r} leads out of the folder")
    if not (member.is_file or member.is_folder):
        raise ValueError(f"{archive} is not safe: {member.name!r} is a link or a device")
    return path


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    """What an archive of either kind holds, in its order; the kind is told by the content."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield _zip_members(opened)
    else:
        with tarfile.open(archive) as opened:
            yield _tar_members(opened)


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        mode = stat.S_IFMT(info.external_attr >> 16)  # 0 where it was made without modes
        is_file = not info.is_dir() and mode in (0, stat.S_IFREG)
        yield _Member(info.filename, info.is_dir(), is_file, partial(archive.open, info))


def _tar_members(archive: tarfile.TarFile) -> Iterator[_Member]:
    for info in archive:
        yield _Member(info.name, info.isdir(), info.isfile(), partial(archive.extractfile, info))
    while archive.fileobj.read(1 << 20):
        pass  # behind the last member, compressed archives have the checksum of all
