"""From a link to a data set that loads: licence, proof, and what to do when the link is dead."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import replace

import pytest

from anovl.cli import main
from anovl.data import load_dataset
from anovl.data.download import ARCHIVES, download
from anovl.data.published import LICENCES
from anovl.data.readers import READERS
from anovl.models.weights import Source, download_weights

pytestmark = pytest.mark.filterwarnings("ignore:.*has not the test images of")


@pytest.fixture
def publish(server, miniature, tmp_path, monkeypatch):
    """Serve a miniature data set as a tar, under the link and with the SHA-256 that it now has."""

    def put(name: str, **changes: str) -> str:
        root = miniature(name)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for path in sorted(root.iterdir()):
                tar.add(path, path.name)
        path = f"/{ARCHIVES[name].file}"
        server.files[path] = buffer.getvalue()
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        known = {"url": server.url + path, "sha256": digest}
        monkeypatch.setitem(ARCHIVES, name, replace(ARCHIVES[name], **known | changes))
        return digest

    return put


def error_of(capsys, *arguments: object) -> str:
    """Run the command line, which must fail, and return the one line that it says."""
    capsys.readouterr()
    assert main(["download", *map(str, arguments)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("anovl: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_data_set_is_fetched_proven_unpacked_and_ready(publish, server, tmp_path, capsys, name):
    digest = publish(name)
    to = tmp_path / "data"
    assert main(["download", name, "--to", str(to)]) == 0
    said = capsys.readouterr().out
    for part in (LICENCES[name].licence, digest, f"--dataset {name} --data-root {to / name}"):
        assert part in said
    assert load_dataset(name, to).categories
    (to / ARCHIVES[name].file).unlink()
    assert download(name, to) == to / name
    assert len(server.asked) == 1, "nothing is fetched again"


def test_a_broken_download_and_another_file_leave_nothing(
    publish, server, tmp_path, monkeypatch, capsys
):
    publish("visa")
    server.break_after = 1000
    assert "1000 bytes read" in error_of(capsys, "visa", "--to", tmp_path / "data")
    server.break_after = None
    digest = ARCHIVES["visa"].sha256
    monkeypatch.setitem(ARCHIVES, "visa", replace(ARCHIVES["visa"], sha256="0" * 64))
    message = error_of(capsys, "visa", "--to", tmp_path / "data")
    assert digest in message and "0" * 64 in message
    publish("magnetic-tile", sha256="")
    server.files["/" + ARCHIVES["magnetic-tile"].file] = b"<HTML>gone"
    message = error_of(capsys, "magnetic-tile", "--to", tmp_path / "data")
    assert LICENCES["magnetic-tile"].page in message
    assert list((tmp_path / "data").iterdir()) == []


def test_an_unknown_hash_is_printed_and_recorded_never_invented(publish, tmp_path, capsys):
    assert ARCHIVES["magnetic-tile"].sha256 == "", "none was published"
    digest = publish("magnetic-tile", sha256="")
    home = download("magnetic-tile", tmp_path / "data")
    assert digest in capsys.readouterr().out
    record = json.loads((home / "SOURCE.json").read_text())
    assert (record["sha256"], record["sha256_published"]) == (digest, "")
    assert record["from"] == ARCHIVES["magnetic-tile"].url


@pytest.mark.parametrize("name", ["visa", "magnetic-tile", "mvtec"])
def test_a_dead_link_or_none_says_what_to_do_by_hand(publish, server, tmp_path, capsys, name):
    assert (ARCHIVES[name].url == "") == (name == "mvtec"), "no lasting link is known"
    publish(name, **({"url": ""} if name == "mvtec" else {}))
    files, server.files = server.files, {}
    archive, to = ARCHIVES[name], tmp_path / "data"
    message = error_of(capsys, name, "--to", to)
    for part in ("--url", LICENCES[name].page, archive.file, archive.sha256, str(to)):
        assert part in message
    server.files = files
    assert main(["download", name, "--to", str(to), "--url", f"{server.url}/{archive.file}"]) == 0


def test_an_archive_fetched_by_hand_is_taken_if_it_is_the_right_one(publish, server, tmp_path):
    publish("mvtec", url="")
    mine = tmp_path / "data" / ARCHIVES["mvtec"].file
    mine.parent.mkdir()
    for wrong in (b"something else", b"\xef\xbb\xbf\n<!DOCTYPE html><title>Log in</title>"):
        mine.write_bytes(wrong)
        with pytest.raises(ValueError, match=f"{mine} .*by hand"):
            download("mvtec", tmp_path / "data")
        assert mine.read_bytes() == wrong
    (content,) = server.files.values()
    mine.write_bytes(content)
    assert len(load_dataset("mvtec", download("mvtec", tmp_path / "data")).categories) == 15
    assert server.asked == []


def test_an_unproven_archive_of_something_else_is_noticed(publish, server, tmp_path, capsys):
    publish("visa")
    publish("magnetic-tile", sha256="")
    path, to = "/" + ARCHIVES["magnetic-tile"].file, tmp_path / "data"
    server.files[path] = server.files["/VisA_20220922.tar"]
    assert "layout of magnetic-tile" in error_of(capsys, "magnetic-tile", "--to", to)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../evil"))
    server.files[path] = buffer.getvalue()
    assert "'../evil'" in error_of(capsys, "magnetic-tile", "--to", tmp_path / "other")
    assert not list(tmp_path.rglob("evil"))


def test_what_is_in_the_way_is_not_overwritten(publish, server, tmp_path, capsys):
    publish("visa")
    (tmp_path / "data/visa").mkdir(parents=True)
    (tmp_path / "data/visa/mine.txt").touch()
    assert str(tmp_path / "data/visa") in error_of(capsys, "visa", "--to", tmp_path / "data")
    (tmp_path / "file").touch()
    for name in ("visa", "weights"):
        assert f"--to {tmp_path / 'file'}" in error_of(capsys, name, "--to", tmp_path / "file")
    assert "'visa'" in error_of(capsys, "viza", "--to", tmp_path)
    assert server.asked == [], "it is said before anything is fetched"


def test_every_set_has_its_licence():
    assert set(READERS) - {"folder"} == set(LICENCES) == {*ARCHIVES, "elpv"}
    assert all(len(archive.sha256) in (0, 64) for archive in ARCHIVES.values())
    assert "NC" in LICENCES["mvtec"].licence and "CC BY 4.0" in LICENCES["visa"].licence


def test_weights_are_the_proven_file_of_e32(server, tmp_path, monkeypatch, capsys):
    asked = []
    content = bytes(range(256)) * 50
    name = f"vit_b_16_plus_240-laion400m_e32-{hashlib.sha256(content).hexdigest()[:8]}.pt"

    def source(model: str, tag: str) -> Source:
        asked.append((model, tag))
        return Source("the weights of the paper", url=f"{server.url}/v0.2/{name}")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("anovl.models.weights.weights_source", source)
    server.files[f"/v0.2/{name}"] = content
    assert main(["download", "weights", "--to", str(tmp_path)]) == 0
    assert asked == [("ViT-B-16-plus-240", "laion400m_e32")]
    assert (tmp_path / name).read_bytes() == content
    assert f"--weights {tmp_path / name}" in capsys.readouterr().out

    (tmp_path / name).write_bytes(content[:-1])
    assert str(tmp_path / name) in error_of(capsys, "weights", "--to", tmp_path)
    (tmp_path / name).unlink()
    server.files = {"/mirror": content, "/other": content[::-1]}
    assert download_weights(tmp_path, url=f"{server.url}/mirror") == tmp_path / name
    (tmp_path / name).unlink()
    assert name in error_of(capsys, "weights", "--to", tmp_path, "--url", f"{server.url}/other")
    message = error_of(capsys, "weights", "--to", tmp_path)
    assert "404" in message and f"{server.url}/v0.2/{name} by hand" in message
    assert list(tmp_path.iterdir()) == []
