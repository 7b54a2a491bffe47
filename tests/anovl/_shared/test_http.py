"""Downloads from a server on this machine, which breaks off and refuses."""

from __future__ import annotations

import hashlib

import pytest

from anovl._shared.http import check_file, fetch

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sha256", [DIGEST, DIGEST[:8], ""])
def test_a_file_comes_whole_and_once(server, tmp_path, sha256):
    server.files["/data"] = CONTENT
    target = tmp_path / "new/data.bin"
    for _ in range(2):
        fetch(f"{server.url}/data", target, sha256=sha256)
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["data.bin"] and server.asked == ["/data"]


@pytest.mark.parametrize("sha256", [DIGEST, ""])
def test_a_broken_download_leaves_nothing_and_begins_anew(server, tmp_path, sha256):
    server.files["/data"] = CONTENT
    server.break_after = 300_000
    with pytest.raises(ConnectionError, match=r"/data.*300000"):
        fetch(f"{server.url}/data", tmp_path / "data.bin", sha256=sha256)
    assert names(tmp_path) == []
    server.break_after = None
    fetch(f"{server.url}/data", tmp_path / "data.bin", sha256=sha256)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "said"),
    [(CONTENT[::-1], hashlib.sha256(CONTENT[::-1]).hexdigest()), (b" <!doctype HTML>", "web page")],
)
def test_another_file_is_refused_and_not_kept(server, tmp_path, content, said):
    server.files["/data"] = content
    with pytest.raises(ValueError, match=rf"data\.bin from .*/data .*{said}"):
        fetch(f"{server.url}/data", tmp_path / "data.bin", sha256=DIGEST[:8])
    assert names(tmp_path) == []


@pytest.mark.parametrize("dead", ["404", "stopped", "nonsense"])
def test_dead_links(server, tmp_path, dead):
    if dead == "stopped":
        server.stop()
    url = dead if dead == "nonsense" else f"{server.url}/gone"
    with pytest.raises(ConnectionError, match=url):
        fetch(url, tmp_path / "data.bin")
    assert names(tmp_path) == []


def test_a_file_on_this_machine_is_checked_in_the_same_way(tmp_path):
    (tmp_path / "mine").write_bytes(CONTENT)
    assert check_file(tmp_path / "mine", DIGEST[:8], "mine") == DIGEST
    with pytest.raises(ValueError, match=r"mine .*00ff"):
        check_file(tmp_path / "mine", "00ff", "mine")
