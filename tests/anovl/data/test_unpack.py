"""Archives of either kind come out the same, and none writes outside its folder."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from anovl.data.unpack import unpack

FILES = {"a/1.txt": b"one", "a/b/2.txt": b"two", "3.txt": b"three"}


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
            member.type, member.linkname = kind, "../../outside"
            tar.addfile(member)
    return path


def make_zip(path: Path, files: dict[str, bytes], *, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("kind", ["", "gz", "xz", "zip"])
def test_all_kinds_come_out_the_same(tmp_path, kind):
    archive = tmp_path / "archive"  # the kind is told by the content
    make_zip(archive, FILES) if kind == "zip" else make_tar(archive, FILES, compression=kind)
    unpack(archive, tmp_path / "deep/out")
    assert content_of(tmp_path / "deep/out") == FILES
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_a_single_folder_at_the_top_is_left_out(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {f"top-HEAD/{name}": FILES[name] for name in FILES})
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES


def test_permissions_are_not_taken_over(tmp_path):
    unpack(make_tar(tmp_path / "x.tar", FILES), tmp_path / "out")
    assert not (tmp_path / "out/3.txt").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/anovl-evil", "a/../../out/evil"])
def test_paths_that_lead_out_are_refused(tmp_path, make, name):
    archive = make(tmp_path / "x", FILES | {name: b"evil"})
    with pytest.raises(ValueError, match=r"x is not safe: '.*evil' leads out of the folder"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert not Path("/anovl-evil").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_tars_are_refused(tmp_path, kind):
    archive = make_tar(tmp_path / "x.tar", FILES, trap=kind)
    with pytest.raises(ValueError, match="'trap' is a link or a device"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_links_in_zips_are_refused(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {"trap": b"../outside"}, mode=stat.S_IFLNK | 0o777)
    with pytest.raises(ValueError, match="'trap' is a link or a device"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


@pytest.mark.parametrize("kind", ["gz", "xz", "zip"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_damaged_archives_are_named(tmp_path, kind, damage):
    noise = {f"{i}.bin": bytes((i * j * j) % 251 for j in range(9999)) for i in range(9)}
    archive = tmp_path / "archive"
    make_zip(archive, noise) if kind == "zip" else make_tar(archive, noise, compression=kind)
    whole = archive.read_bytes()
    half = len(whole) // 2
    flipped = whole[:half] + bytes([255 - whole[half]]) + whole[half + 1 :]
    archive.write_bytes({"cut": whole[:half], "flipped": flipped, "text": b"gone"}[damage])
    with pytest.raises(ValueError, match=r"archive is damaged or no archive .*download it again"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_web_page_is_named_as_such(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"  <!doctype HTML>\n<p>gone")
    with pytest.raises(ValueError, match=r"no archive \(it is a web page, saved under this name"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_nothing_is_overwritten(tmp_path):
    archive = make_tar(tmp_path / "x.tar", FILES)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(ValueError, match=r"out is in the way of .*x\.tar"):
        unpack(archive, tmp_path / "out")
    assert content_of(tmp_path / "out") == {"mine": b""}


def test_what_a_killed_attempt_left_is_cleared(tmp_path):
    (tmp_path / ".out.unpacking/a").mkdir(parents=True)
    (tmp_path / ".out.unpacking/a/half.txt").touch()
    unpack(make_tar(tmp_path / "x.tar", FILES), tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES
