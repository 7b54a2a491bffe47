"""Downloads from a real server on this machine, which breaks off, refuses and changes its mind."""

from __future__ import annotations

import hashlib

import pytest

from anovl._shared.files import hash_file
from anovl._shared.http import fetch

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def trust(digest: str) -> None:
    assert digest == DIGEST


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole(server, tmp_path):
    server.files["/data"] = CONTENT
    target = tmp_path / "new/data.bin"
    assert fetch(f"{server.url}/data", target, prove=trust) == DIGEST == hash_file(target)
    assert names(target.parent) == ["data.bin"]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.files["/data"] = CONTENT
    server.break_after = 300_000
    target = tmp_path / "data.bin"
    with pytest.raises(ConnectionError, match=r"300,000 of 1,024,000 bytes; they are kept in"):
        fetch(f"{server.url}/data", target, prove=trust)
    assert not target.exists()
    server.break_after = 200_000
    with pytest.raises(ConnectionError, match=r"500,000 of 1,024,000 bytes"):
        fetch(f"{server.url}/data", target, prove=trust)
    server.break_after = None
    assert fetch(f"{server.url}/data", target, prove=trust) == DIGEST
    assert names(tmp_path) == ["data.bin"]
    assert server.ranges == [None, "bytes=300000-", "bytes=500000-"]


@pytest.mark.parametrize("change", ["content", "no parts", "no version"])
def test_a_download_begins_again_where_going_on_would_mix_files(server, tmp_path, change):
    server.files["/data"] = b"old" + CONTENT[3:] if change == "content" else CONTENT
    server.break_after = 300_000
    server.has_versions = change != "no version"
    with pytest.raises(ConnectionError, match="300,000 of"):
        fetch(f"{server.url}/data", tmp_path / "data.bin", prove=trust)
    server.files["/data"] = CONTENT
    server.break_after = None
    server.sends_parts = change != "no parts"
    assert fetch(f"{server.url}/data", tmp_path / "data.bin", prove=trust) == DIGEST
    assert server.ranges[1] == (None if change == "no version" else "bytes=300000-")


@pytest.mark.parametrize(("surplus", "requests"), [(0, 2), (5, 3)])
def test_killed_at_the_last_moment(server, tmp_path, surplus, requests):
    """All bytes had come, or some that do not belong, when the process ended."""
    server.files["/data"] = CONTENT
    server.break_after = 300_000
    with pytest.raises(ConnectionError, match="300,000 of"):
        fetch(f"{server.url}/data", tmp_path / "data.bin", prove=trust)
    (tmp_path / "data.bin.part").write_bytes(CONTENT + b"x" * surplus)
    server.break_after = None
    assert fetch(f"{server.url}/data", tmp_path / "data.bin", prove=trust) == DIGEST
    assert len(server.ranges) == requests


def test_what_is_not_proven_is_not_kept(server, tmp_path):
    server.files["/data"] = CONTENT[::-1]

    def refuse(digest: str) -> None:
        raise ValueError(f"not {digest}")

    with pytest.raises(ValueError, match=f"not {hashlib.sha256(CONTENT[::-1]).hexdigest()}"):
        fetch(f"{server.url}/data", tmp_path / "data.bin", prove=refuse)
    assert names(tmp_path) == []


def test_dead_links(server, tmp_path):
    with pytest.raises(ConnectionError, match=r"/gone answers 404 Not Found"):
        fetch(f"{server.url}/gone", tmp_path / "data.bin", prove=trust)
    server.stop()
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:\d+/data: .*refused"):
        fetch(f"{server.url}/data", tmp_path / "data.bin", prove=trust)
    with pytest.raises(ValueError, match="unknown url type"):
        fetch("nonsense", tmp_path / "data.bin", prove=trust)
    assert names(tmp_path) == []


def test_a_link_to_a_file_on_this_machine(tmp_path):
    (tmp_path / "here").write_bytes(CONTENT)
    assert fetch((tmp_path / "here").as_uri(), tmp_path / "there", prove=trust) == DIGEST
