"""The published data sets: what each archive is, and how to get it whole and honest.

Links rot. Each stands here once, can be replaced by the caller, and a file fetched by hand is as
good: what counts is its SHA-256.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from anovl._shared.files import hash_file, is_web_page
from anovl._shared.http import fetch
from anovl._shared.messages import counted, unknown
from anovl.data.published import LICENCES


@dataclass(frozen=True)
class Archive:
    """One published archive, and what proves it; `LICENCES` says what may be done with it.

    Without a lasting `url`, the caller must bring one; without a `sha256`, none was published.
    """

    file: str
    url: str = ""
    size: int = 0
    sha256: str = ""


ARCHIVES = {
    "mvtec": Archive(
        file="mvtec_anomaly_detection.tar.xz",
        size=5_264_982_680,
        sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
    ),
    "visa": Archive(
        file="VisA_20220922.tar",
        url="https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
        size=1_929_840_640,
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

    Prints the licence first and the SHA-256 after. A broken download goes on where it stopped. A
    file of the right name that is already in `to`, fetched by hand, is taken instead. `url` is
    another link to the same file: the check stays.

    Raises ConnectionError, with the steps to do by hand, when the link is missing or dead;
    ValueError for an unknown name, and for a file that is not the published one.
    """
    if name not in ARCHIVES:
        raise ValueError(unknown("download", name, [*ARCHIVES, "weights"]))
    to = Path(to).expanduser()
    if to.exists() and not to.is_dir():
        raise ValueError(f"{to} is a file; give a folder for the download")
    return _dataset(name, to, url)


def _dataset(name: str, to: Path, url: str) -> Path:
    from anovl.data import load_dataset
    from anovl.data.unpack import check_free, unpack

    archive, about, home = ARCHIVES[name], LICENCES[name], to / name
    print(f"{about.title}\nLicence: {about.licence}. To use the data is to accept it.")
    try:
        found = load_dataset(name, home)
    except (FileNotFoundError, ValueError):
        check_free(home, to / archive.file)
        record = _fetched(name, to, url)
        unpack(to / archive.file, home)
        text = json.dumps(record | {"title": about.title, "licence": about.licence}, indent=2)
        (home / "SOURCE.json").write_text(text + "\n", encoding="utf-8")
        print(f"The archive stays, and may be deleted: {to / archive.file}")
        found = load_dataset(name, home)
    images = sum(len(found.labels(category)) for category in found.categories)
    print(f"{counted(images, 'test image')} in {home} (categories: {len(found.categories)})")
    print(f"Use it: --dataset {name} --data-root {shlex.quote(str(home))}")
    return home


def _fetched(name: str, to: Path, url: str) -> dict[str, str]:
    """Have the archive in `to`, and say where it came from and what was proven."""
    archive = ARCHIVES[name]
    target, link = to / archive.file, url or archive.url
    if target.exists():
        if is_web_page(target):
            raise ValueError(
                f"{target} is a web page, not the archive: delete it. {_by_hand(name, to)}"
            )
        digest = hash_file(target)
        _prove(archive, digest, str(target))
        link = "a file that was here"
    elif not link:
        raise ConnectionError(
            f"there is no lasting link to {LICENCES[name].title}: give --url. {_by_hand(name, to)}"
        )
    else:
        try:
            digest = fetch(link, target, prove=lambda found: _prove(archive, found, link))
        except ConnectionError as error:
            raise ConnectionError(
                f"{error}. Or give another --url. {_by_hand(name, to)}"
            ) from error
    known = "as published" if archive.sha256 else "recorded in SOURCE.json, for none was published"
    print(f"SHA-256 {digest}, {known}")
    return {"from": link, "sha256": digest, "sha256_published": archive.sha256}


def _prove(archive: Archive, digest: str, what: str) -> None:
    if archive.sha256 and digest != archive.sha256:
        raise ValueError(
            f"{what} is not {archive.file} as published: its SHA-256 is {digest} and should be "
            f"{archive.sha256}. It is damaged, or another version; delete it and fetch it again"
        )


def _by_hand(name: str, to: Path) -> str:
    archive = ARCHIVES[name]
    facts = [f"{archive.size:,} bytes"] * bool(archive.size)
    facts += [f"SHA-256 {archive.sha256}"] * bool(archive.sha256)
    about = f" ({', '.join(facts)})" if facts else ""
    return (
        f"By hand: (1) open {LICENCES[name].page}; (2) download {archive.file}{about}; (3) put it, "
        f"under this name, into {to}; (4) run `python -m anovl download {name} --to {to}` again, "
        "which checks and unpacks it"
    )
