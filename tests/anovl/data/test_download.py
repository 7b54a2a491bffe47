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
NAMES = tuple(ARCHIVES)


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
        known = {"url": server.url + path, "sha256": digest, "size": len(buffer.getvalue())}
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


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_is_fetched_proven_unpacked_and_ready(publish, tmp_path, capsys, name):
    digest = publish(name)
    assert main(["download", name, "--to", str(tmp_path / "data")]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0] == LICENCES[name].title
    assert lines[1].startswith("Licence: ")
    assert f"SHA-256 {digest}, as published" in said
    assert f"--dataset {name} --data-root {tmp_path / 'data' / name}" in said
    dataset = load_dataset(name, tmp_path / "data")
    images = sum(len(dataset.labels(category)) for category in dataset.categories)
    assert f"{images} test images" in said


def test_the_second_time_nothing_is_fetched(publish, server, tmp_path):
    publish("visa")
    first = download("visa", tmp_path / "data")
    (tmp_path / "data" / ARCHIVES["visa"].file).unlink()
    assert download("visa", tmp_path / "data") == first
    assert len(server.ranges) == 1


def test_a_broken_download_goes_on(publish, server, tmp_path, capsys):
    publish("visa")
    server.break_after = 1000
    message = error_of(capsys, "visa", "--to", tmp_path / "data")
    assert "broke after 1,000 of" in message and "run the same command again" in message
    server.break_after = None
    assert main(["download", "visa", "--to", str(tmp_path / "data")]) == 0
    assert server.ranges == [None, "bytes=1000-"]
    said = capsys.readouterr().out
    assert "VisA_20220922.tar: 1,000 of " in said and "goes on behind them" in said


def test_another_file_than_the_published_one_is_refused(publish, tmp_path, capsys):
    digest = publish("visa", sha256="0" * 64)
    message = error_of(capsys, "visa", "--to", tmp_path / "data")
    assert f"is {digest} and should be {'0' * 64}" in message
    assert list((tmp_path / "data").iterdir()) == []


def test_an_unknown_hash_is_printed_and_recorded_never_invented(publish, tmp_path, capsys):
    digest = publish("magnetic-tile", sha256="")
    home = download("magnetic-tile", tmp_path / "data")
    assert f"SHA-256 {digest}, recorded in SOURCE.json" in capsys.readouterr().out
    record = json.loads((home / "SOURCE.json").read_text())
    assert (record["sha256"], record["sha256_published"]) == (digest, "")
    assert record["from"] == ARCHIVES["magnetic-tile"].url


@pytest.mark.parametrize("name", ["visa", "magnetic-tile"])
def test_a_dead_link_says_what_to_do_by_hand(publish, server, tmp_path, capsys, name):
    publish(name)
    server.files.clear()
    archive, to = ARCHIVES[name], tmp_path / "data"
    message = error_of(capsys, name, "--to", to)
    for part in ("404 Not Found", "--url", LICENCES[name].page, archive.file, f"into {to}"):
        assert part in message
    assert f"{archive.size:,} bytes, SHA-256 {archive.sha256}" in message
    assert f"`python -m anovl download {name} --to {to}` again" in message


def test_mvtec_has_no_lasting_link_and_says_so(publish, server, tmp_path, capsys):
    assert ARCHIVES["mvtec"].url == ""
    publish("mvtec", url="")
    message = error_of(capsys, "mvtec", "--to", tmp_path / "data")
    assert "no lasting link to MVTec AD" in message and "on mvtec.com" in message
    assert server.ranges == []
    link = f"{server.url}/{ARCHIVES['mvtec'].file}"
    assert main(["download", "mvtec", "--to", str(tmp_path / "data"), "--url", link]) == 0


def test_an_archive_fetched_by_hand_is_taken(publish, server, tmp_path):
    publish("mvtec", url="")
    (tmp_path / "data").mkdir()
    (content,) = server.files.values()
    (tmp_path / "data" / ARCHIVES["mvtec"].file).write_bytes(content)
    home = download("mvtec", tmp_path / "data")
    assert len(load_dataset("mvtec", home).categories) == 15
    assert server.ranges == []


def test_a_wrong_archive_fetched_by_hand_is_refused_and_kept(publish, tmp_path):
    publish("mvtec", url="")
    (tmp_path / "data").mkdir()
    mine = tmp_path / "data" / ARCHIVES["mvtec"].file
    mine.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"mvtec_anomaly_detection\.tar\.xz is not .*as published"):
        download("mvtec", tmp_path / "data")
    assert mine.exists()


def test_a_web_page_instead_of_an_archive_is_named_as_such(publish, server, tmp_path, capsys):
    publish("mvtec", url="")
    mine = tmp_path / "data" / ARCHIVES["mvtec"].file
    mine.parent.mkdir()
    mine.write_bytes(b"\xef\xbb\xbf\n<!DOCTYPE html><title>Log in</title>")
    message = error_of(capsys, "mvtec", "--to", tmp_path / "data")
    assert "is a web page, not the archive: delete it. By hand: (1)" in message
    publish("visa")
    server.files["/VisA_20220922.tar"] = b"<HTML>gone"
    message = error_of(capsys, "visa", "--to", tmp_path / "data")
    assert "answers with a web page, not with VisA_20220922.tar" in message and "By hand" in message
    assert [path.name for path in (tmp_path / "data").iterdir()] == [mine.name]


def test_a_malicious_archive_writes_nothing_outside(publish, server, tmp_path, capsys):
    publish("magnetic-tile", sha256="")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../evil"))
    server.files["/" + ARCHIVES["magnetic-tile"].file] = buffer.getvalue()
    message = error_of(capsys, "magnetic-tile", "--to", tmp_path / "data")
    assert "'../evil' leads out of the folder" in message
    assert {path.name for path in tmp_path.rglob("*")} & {"evil"} == set()


def test_an_archive_of_something_else_is_noticed(publish, server, tmp_path, capsys):
    publish("visa")
    publish("magnetic-tile", sha256="")
    server.files["/" + ARCHIVES["magnetic-tile"].file] = server.files["/VisA_20220922.tar"]
    assert "layout of magnetic-tile" in error_of(capsys, "magnetic-tile", "--to", tmp_path / "data")


def test_what_is_in_the_way_is_not_overwritten(publish, server, tmp_path, capsys):
    publish("visa")
    (tmp_path / "data/visa").mkdir(parents=True)
    (tmp_path / "data/visa/mine.txt").touch()
    assert "visa is in the way" in error_of(capsys, "visa", "--to", tmp_path / "data")
    assert server.ranges == [], "it is said before anything is fetched"
    (tmp_path / "file").touch()
    assert "file is a file; give a folder" in error_of(capsys, "visa", "--to", tmp_path / "file")


def test_unknown_names(tmp_path, capsys):
    assert "Did you mean 'visa'?" in error_of(capsys, "viza", "--to", tmp_path)


def test_facts_are_those_of_the_publishers():
    for name, archive in ARCHIVES.items():
        about = LICENCES[name]
        assert about.title and about.licence and about.page and about.read and archive.file
        assert len(archive.sha256) in (0, 64)
    assert ARCHIVES["magnetic-tile"].sha256 == "", "none was published"
    assert "NC" in LICENCES["mvtec"].licence
    assert set(READERS) - {"folder"} == set(LICENCES) == {*ARCHIVES, "elpv"}
    assert "CC BY 4.0" in LICENCES["visa"].licence and "NC" in LICENCES["visa"].licence


# Weights


def test_weights_are_the_proven_file_of_e32(server, tmp_path, monkeypatch, capsys):
    asked = []
    content = bytes(range(256)) * 50
    name = f"vit_b_16_plus_240-laion400m_e32-{hashlib.sha256(content).hexdigest()[:8]}.pt"

    def source(model: str, tag: str) -> Source:
        asked.append((model, tag))
        return Source("the weights of the paper", url=f"{server.url}/v0.2/{name}")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("anovl.models.weights.weights_source", source)
    server.files[f"/v0.2/{name}"] = content
    assert main(["download", "weights", "--to", str(tmp_path)]) == 0
    assert asked == [("ViT-B-16-plus-240", "laion400m_e32")]
    assert (tmp_path / name).read_bytes() == content
    assert f"--weights {tmp_path / name}" in capsys.readouterr().out

    (tmp_path / name).unlink()
    server.files = {"/mirror": content}
    assert download_weights(tmp_path, url=f"{server.url}/mirror") == tmp_path / name
    (tmp_path / name).unlink()
    server.files = {"/mirror": content[::-1]}
    message = error_of(capsys, "weights", "--to", tmp_path, "--url", f"{server.url}/mirror")
    assert "begins with" in message and list(tmp_path.iterdir()) == []
    message = error_of(capsys, "weights", "--to", tmp_path)
    assert "404" in message and f"fetch them from {server.url}/v0.2/{name} by hand" in message
