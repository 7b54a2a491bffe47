"""The published data sets: where each archive is, how to prove it, and how to unpack it.

Links rot. Each stands here once, and the caller can give another. A file that was fetched by hand
is as good: its SHA-256 counts.
"""

from __future__ import annotations

import gzip
import json
import lzma
import shlex
import shutil
import stat
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from anovl._shared.http import check_file, fetch
from anovl._shared.messages import counted, unknown
from anovl.data.published import LICENCES

# Errors of the readers of archives for damaged bytes; RuntimeError is an encrypted zip.
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error),
    *(EOFError, RuntimeError),
)


@dataclass(frozen=True)
class Archive:
    """One published archive, and what proves it; `LICENCES` says what may be done with it.

    Without a lasting `url`, the caller must bring one; without a `sha256`, none was published.
    """

    file: str
    url: str = ""
    sha256: str = ""


ARCHIVES = {
    "mvtec": Archive(
        file="mvtec_anomaly_detection.tar.xz",
        sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
    ),
    "visa": Archive(
        file="VisA_20220922.tar",
        url="https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
        sha256="2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
    ),
    "magnetic-tile": Archive(
        file="Magnetic-tile-defect-datasets.zip",
        url="https://github.com/abin24/Magnetic-tile-defect-datasets./archive/HEAD.zip",
    ),
    "kolektor-sdd": Archive(
        file="KolektorSDD.zip",
        url="https://go.vicos.si/kolektorsdd",
        sha256="65dc621693418585de9c4467d1340ea7958a6181816f0dc2883a1e8b61f9d4dc",
    ),
    "btad": Archive(
        file="btad.zip",
        url="http://avires.dimi.uniud.it/papers/btad/btad.zip",
        sha256="461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
    ),
    "mpdd": Archive(file="MPDD.zip"),
    "mvtec-ad-2": Archive(
        file="mvtec_ad_2.tar.gz",
        sha256="c0ded99ef32bfc8e352d52beb44515e5b292b8598cb963aadfa91ca0763505e4",
    ),
}


def download(name: str, to: str | Path, *, url: str = "") -> Path:
    """Fetch a data set below the folder `to`; return the folder that `load_dataset` takes.

    Prints the licence first and the SHA-256 after. An archive of the right name that is already in
    `to`, fetched by hand, is taken instead. `url` is another link to the same file, which must have
    the same hash.

    Raises ConnectionError, with the steps to do by hand, when the link is missing or dead;
    ValueError for an unknown name, and for a file that is not the published one.
    """
    from anovl.data import load_dataset

    if name not in ARCHIVES:
        raise ValueError(unknown("download", name, [*ARCHIVES, "weights"]))
    to = Path(to).expanduser()
    archive, about, home = ARCHIVES[name], LICENCES[name], to / name
    print(f"{about.title}\nLicence: {about.licence}. To use the data is to accept it.")
    try:
        found = load_dataset(name, home)
    except (FileNotFoundError, ValueError):
        check_free(home, to / archive.file)
        facts = _fetch_archive(name, to, url)
        unpack(to / archive.file, home)
        facts |= {"title": about.title, "licence": about.licence}
        (home / "SOURCE.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        print(f"The archive stays, and may be deleted: {to / archive.file}")
        found = load_dataset(name, home)
    images = sum(len(found.labels(category)) for category in found.categories)
    print(f"{counted(images, 'test image')} in {home} (categories: {len(found.categories)})")
    print(f"Use it: --dataset {name} --data-root {shlex.quote(str(home))}")
    return home


def _fetch_archive(name: str, to: Path, url: str) -> dict[str, str]:
    """Put the archive into `to` unless it is there; return its source and its hashes."""
    archive = ARCHIVES[name]
    target, source = to / archive.file, url or archive.url
    try:
        if target.exists():
            source = "a file that was here"
        elif source:
            fetch(source, target, sha256=archive.sha256)
        else:
            raise ConnectionError(f"there is no lasting link to {LICENCES[name].title}: give --url")
        digest = check_file(target, archive.sha256, target)
    except (ConnectionError, ValueError) as error:
        raise type(error)(f"{error}. {_by_hand(name, to)}") from error
    known = "as published" if archive.sha256 else "recorded in SOURCE.json, for none was published"
    print(f"SHA-256 {digest}, {known}")
    return {"from": source, "sha256": digest, "sha256_published": archive.sha256}


def _by_hand(name: str, to: Path) -> str:
    archive = ARCHIVES[name]
    about = f" (SHA-256 {archive.sha256})" if archive.sha256 else ""
    return (
        f"Give another --url, or do it by hand: (1) open {LICENCES[name].page}; (2) download "
        f"{archive.file}{about}; (3) put it, under this name, into {to}; (4) run `python -m anovl "
        f"download {name} --to {to}` again, which checks and unpacks it"
    )


def check_free(folder: Path, archive: Path) -> None:
    """Raise ValueError when `folder` exists and is not empty: nothing is ever unpacked over it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is in the way of {archive}: move it, or choose another folder")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar (also compressed) or zip archive so that `folder` appears only when complete.

    A single folder at the top of the archive is left out. Only plain files and folders are written,
    without the permissions and owners of the archive.

    Raises ValueError for a damaged archive, for one with links, devices or paths that lead out of
    the folder, and when `folder` exists and is not empty.
    """
    check_free(folder, archive)
    unfinished = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        (_unzip if zipfile.is_zipfile(archive) else _untar)(archive, unfinished)
        content = list(unfinished.iterdir())
        only_a_folder = len(content) == 1 and content[0].is_dir()
        if folder.exists():
            folder.rmdir()
        (content[0] if only_a_folder else unfinished).rename(folder)
    except _DAMAGE as error:
        reason = str(error).partition(":\n")[0]
        raise ValueError(
            f"{archive} is damaged or no archive ({reason}): delete it and download it again"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _unzip(archive: Path, folder: Path) -> None:
    from tqdm import tqdm

    with zipfile.ZipFile(archive) as opened:
        for member in tqdm(opened.infolist(), desc="unpacking", unit="file", disable=None):
            mode = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive has no modes
            _check_member(archive, member.filename, mode in (0, stat.S_IFREG, stat.S_IFDIR))
            opened.extract(member, folder)


def _untar(archive: Path, folder: Path) -> None:
    from tqdm import tqdm

    with tarfile.open(archive) as opened:
        # Python 3.10.11, 3.11.3 and older do not have this filter; `_check_member` is enough.
        opened.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        for member in tqdm(opened, desc="unpacking", unit="file", disable=None):
            _check_member(archive, member.name, member.isfile() or member.isdir())
            opened.extract(member, folder, set_attrs=False)
        while opened.fileobj.read(1 << 20):
            pass  # the checksum of a compressed archive stands behind its last member


def _check_member(archive: Path, name: str, is_plain: bool) -> None:
    path = Path(name)
    if path.anchor or ".." in path.parts:
        raise ValueError(f"{archive} is not safe: {name!r} leads out of the folder")
    if not is_plain:
        raise ValueError(f"{archive} is not safe: {name!r} is a link or a device")
