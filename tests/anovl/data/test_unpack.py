"""Archives of either kind come out the same, and none writes outside its folder."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from anovl.data.download import unpack

FILES = {"a/1.txt": b"one", "a/b/2.txt": b"two", "img..01.png": b"three"}


def make_tar(path: Path, files: dict[str, bytes], *, compression: str = "", **types: bytes) -> Path:
    """A tar with these files; `types` gives members that are no files, by name."""
    with tarfile.open(path, f"w:{compression}") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o4777
            tar.addfile(member, io.BytesIO(content))
        for name, kind in types.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a/1.txt"
            tar.addfile(member)
    return path


def make_zip(path: Path, files: dict[str, bytes], *, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


def make(path: Path, kind: str, files: dict[str, bytes]) -> Path:
    return make_zip(path, files) if kind == "zip" else make_tar(path, files, compression=kind)


def content_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def check_refused(archive: Path, said: str) -> None:
    """The archive is refused by name, and nothing is left of it."""
    with pytest.raises(ValueError, match=f"{archive.name} .*{said}"):
        unpack(archive, archive.parent / "out")
    assert list(archive.parent.iterdir()) == [archive]


@pytest.mark.parametrize("kind", ["", "gz", "xz", "zip"])
@pytest.mark.parametrize("top", ["", "top-HEAD/"])
def test_all_kinds_come_out_the_same_without_a_single_folder_at_the_top(tmp_path, kind, top):
    archive = make(tmp_path / "archive", kind, {top + name: FILES[name] for name in FILES})
    unpack(archive, tmp_path / "deep/out")
    assert content_of(tmp_path / "deep/out") == FILES
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    mode = (tmp_path / "deep/out/img..01.png").stat().st_mode
    assert not mode & (stat.S_ISUID | stat.S_IXUSR), "permissions are not taken over"


@pytest.mark.parametrize("kind", ["", "zip"])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/anovl-evil", "a/../../out/evil"])
def test_paths_that_lead_out_are_refused(tmp_path, kind, name):
    check_refused(make(tmp_path / "x", kind, FILES | {name: b"evil"}), name)
    assert not Path("/anovl-evil").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, "zip"]
)
def test_links_and_devices_are_refused(tmp_path, kind):
    if kind == "zip":
        archive = make_zip(tmp_path / "x", {"trap": b"../outside"}, mode=stat.S_IFLNK | 0o777)
    else:
        archive = make_tar(tmp_path / "x", FILES, trap=kind)
    check_refused(archive, "trap")


@pytest.mark.parametrize("kind", ["gz", "xz", "zip"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_damaged_archives_are_named(tmp_path, kind, damage):
    noise = {f"{i}.bin": bytes((i * j * j) % 251 for j in range(9999)) for i in range(9)}
    archive = make(tmp_path / "archive", kind, noise)
    whole = archive.read_bytes()
    half = len(whole) // 2
    flipped = whole[:half] + bytes([255 - whole[half]]) + whole[half + 1 :]
    archive.write_bytes({"cut": whole[:half], "flipped": flipped, "text": b"gone"}[damage])
    check_refused(archive, "damaged")


def test_nothing_is_overwritten_but_the_rest_of_a_killed_attempt(tmp_path):
    archive = make_tar(tmp_path / "x.tar", FILES)
    (tmp_path / ".out.unpacking/a").mkdir(parents=True)
    (tmp_path / ".out.unpacking/a/half.txt").touch()
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES
    with pytest.raises(ValueError, match=r"out .*x\.tar"):
        unpack(archive, tmp_path / "out")
