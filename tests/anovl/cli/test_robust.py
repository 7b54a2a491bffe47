"""One odd file, name or shortage does not cost the rest, and is said in one line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anovl.cli import main
from anovl.evaluation.results import read_results


@pytest.fixture(autouse=True)
def offline_model(tiny_clip, monkeypatch, tmp_path_factory):
    """The command line, with the tiny random model and a cache of its own."""
    monkeypatch.setattr("anovl.models.load.load_clip", lambda *names, **options: tiny_clip)
    monkeypatch.setattr("anovl.cli.options.CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A category "nut" of 4 normal and 3 anomalous images with masks, and 13 in train/good."""
    root, rng = tmp_path / "data" / "nut", np.random.default_rng(0)
    for kind, n in (("test/good", 4), ("test/spot", 3), ("train/good", 13)):
        for number in range(n):
            write(rng.integers(0, 100, (32, 32)), root / kind / f"{number}.png")
    mask = np.zeros((32, 32))
    mask[8:16, 8:16] = 255
    for number in range(3):
        write(mask, root / "ground_truth/spot" / f"{number}_mask.png")
    return root


def write(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def evaluate(folder: Path, out: Path, *arguments: object, methods: str = "dog,centre") -> int:
    command = ["evaluate", "--dataset", "folder", "--data-root", folder.parent, "--out", out]
    return main([*map(str, [*command, "--methods", methods, *arguments])])


# Pictures that cannot be read


def test_unreadable_pictures_are_named_and_left_out_if_asked(folder, tmp_path, capsys):
    bad = [folder / "test/good/0.png", folder / "ground_truth/spot/2_mask.png"]
    bad[0].write_bytes(b"no picture")
    write(np.zeros((5, 5)), bad[1])
    for more, code in (([], 2), (["--skip-unreadable"], 1)):
        assert evaluate(folder, tmp_path / "out", *more) == code
        said = capsys.readouterr().err
        assert all(str(path) in said for path in bad) and "Traceback" not in said
    own = read_results(tmp_path / "out").query("level == 'category'")
    assert (own["n_images"] == 5).all() and (own["n_anomalous"] == 2).all()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_doubt_is_said_at_the_start_and_at_the_end_once_for_all_masks(
    folder, tmp_path, capfd, jobs
):
    mask = np.full((32, 32), 255)
    mask[8:16, 8:16] = 0
    for number in range(3):
        write(mask, folder / f"ground_truth/spot/{number}_mask.png")
    assert evaluate(folder, tmp_path / "out", "--jobs", jobs) == 0
    said, line = capfd.readouterr(), "3 masks: more than half of the image is defect; for masks"
    assert said.out.count(line) == said.err.count(line) == 1
    assert f"anovl: please check: {line}" in said.err and said.err.count("more than half") == 1
    assert "\n1 category of folder; percent" in said.out


def test_why_numbers_are_missing_is_printed(folder, tmp_path, capsys):
    for path in (folder / "ground_truth/spot").iterdir():
        path.unlink()
    (folder / "ground_truth/spot").rmdir()
    assert evaluate(folder, tmp_path / "out") == 0
    assert "\n-: no pixel metrics of nut: defects without masks\n" in capsys.readouterr().out


# Names


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_names_that_a_terminal_cannot_show(folder, tmp_path, encoding):
    root = folder.parent / "ねじ"
    folder.rename(root)
    (root / "test/spot/0.png").write_bytes(b"no picture")
    command = [sys.executable, "-m", "anovl", "evaluate", "--dataset", "folder", "--methods", "dog"]
    command += ["--skip-unreadable"]
    done = subprocess.run(
        [*command, "--data-root", str(root.parent), "--out", str(tmp_path / "out")],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert rb"\u306d\u3058" in done.stdout and b"Traceback" not in done.stderr
    assert set(read_results(tmp_path / "out")["category"]) == {"ねじ", "mean"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_names_that_are_no_text(folder, tmp_path, capsys):
    odd = os.fsencode(folder.parent) + b"/n\xfft"
    os.rename(os.fsencode(folder), odd)
    assert evaluate(folder, tmp_path / "out") == 0
    assert os.fsdecode(b"n\xfft") in set(read_results(tmp_path / "out")["category"])
    images = os.fsdecode(odd + b"/test/good")
    code = main(["localize", images, "--object", "nut", "--out", str(tmp_path / "maps")])
    assert code == 0 and len(list((tmp_path / "maps").glob("*.npy"))) == 4
    assert os.fsencode("data/n\udcfft") in (tmp_path / "maps/scores.csv").read_bytes()
    assert r"n\udcfft" in capsys.readouterr().out


# Memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9 TiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 TiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_is_one_sentence_and_keeps_what_is_finished(
    folder, tmp_path, monkeypatch, capsys, error
):
    def fail(*arguments, **options):
        raise error

    with monkeypatch.context() as small:
        small.setattr("anovl.baselines.controls.DifferenceOfGaussians.map_of", fail)
        assert evaluate(folder, tmp_path / "out", methods="centre,dog") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "anovl: error: out of memory; what is finished is kept. What helps: a sm"
    )
    assert "--batch-size" in line and "--precision bfloat16" in line
    assert [path.name for path in (tmp_path / "out/parts").iterdir()] == ["nut, centre.json"]
    assert evaluate(folder, tmp_path / "out", methods="centre,dog") == 0


def test_other_errors_of_torch_are_not_taken_for_it(monkeypatch, folder, tmp_path):
    def fail(*arguments, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr("anovl.baselines.controls.DifferenceOfGaussians.map_of", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        evaluate(folder, tmp_path / "out")


def test_exit_codes_are_documented(capsys):
    for command in ([], ["evaluate"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        assert "1 all but some images" in " ".join(capsys.readouterr().out.split())


# Disk


LOCALIZED = "maps of 2 of 3 images are kept in {}, without scores.csv"
AGAIN = "free some space, and run the same command again"


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("localize", f"{LOCALIZED}: {AGAIN}; it begins anew"),
        ("evaluate", f"what is finished is kept in {{}}: {AGAIN}"),
        ("evaluate --save-maps", f"what is finished is kept in {{}}: {AGAIN}"),
    ],
)
def test_a_full_disk_is_one_sentence_and_leaves_no_part_of_a_file(
    folder, tmp_path, monkeypatch, capsys, command, kept
):
    """The disk takes three files, and one byte of the next."""
    real, out, written = Path.write_bytes, tmp_path / "out", []

    def write(path, data):
        written.append(path)
        if len(written) > 3:
            real(path, bytes(data)[:1])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, data)

    def run():
        if command == "localize":
            asked = ["localize", str(folder / "test/spot"), "--object", "nut", "--no-cache"]
            return main([*asked, "--out", str(out), "--no-panels"])
        return evaluate(folder, out, *command.split()[1:])

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", write)
        assert run() == 2
    line = capsys.readouterr().err.splitlines()[-1]
    full = "anovl: error: the disk is full (No space left on device); "
    assert line == full + kept.format(out)
    left = {path for path in out.rglob("*") if path.is_file()} - {out / ".lock"}
    assert len(left) == 3 and all(path.stat().st_size > 1 for path in left)
    assert not [path for path in left if "tmp" in path.name]
    assert run() == 0


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        ("0.npy", "maps of 0 of 3 images are kept"),
        ("2.png", "maps of 3 of 3 images and panels of 2 are kept"),
        ("scores.csv", "maps of 3 of 3 images and panels of 3 are kept"),
    ],
)
def test_localize_says_how_many_images_are_done_and_begins_anew(
    folder, tmp_path, monkeypatch, capsys, last, kept
):
    """The disk is full when this file is written; the folder is that of no --out."""
    from anovl.cli import localized_files

    real, out = localized_files.write_atomically, tmp_path / "localized"

    def write(path, content):
        if path.name == last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, content)

    monkeypatch.chdir(tmp_path)
    asked = ["localize", str(folder / "test/spot"), "--object", "nut"]
    with monkeypatch.context() as full:
        full.setattr(localized_files, "write_atomically", write)
        assert main(asked) == 2
    assert f"{kept} in localized, without scores.csv" in capsys.readouterr().err
    kept_maps = list(out.glob("*.npy"))
    assert f"maps of {len(kept_maps)} of" in kept and not (out / "scores.csv").exists()
    for file in kept_maps:
        file.write_bytes(b"of the run before")
    assert main(asked) == 0 and not (tmp_path / "localized-2").exists()
    assert [np.load(out / f"{i}.npy").shape for i in range(3)] == [(64, 64)] * 3


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_a_name_with_a_line_break_is_one_line_of_the_table(folder, tmp_path, capsys):
    (folder / "test/spot/0.png").rename(folder / "test/spot/a\nb.png")
    (folder / "test/spot/1.png").rename(folder / "test/spot/c\nd.png")
    (folder / "test/spot/c\nd.png").write_bytes(b"no picture")
    arguments = [str(folder / "test/spot"), "--object", "a\nnut", "--out", str(tmp_path / "o")]
    assert main(["localize", *arguments, "--no-panels"]) == 1
    said = capsys.readouterr()
    assert r'damaged a\nnut"' in said.out
    assert r"spot/a\nb.png  0." in said.out and "spot/a\n" not in said.out
    assert r"spot/c\nd.png is not a picture" in said.err and len(said.err.splitlines()) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
@pytest.mark.parametrize("name", ["nut\nbolt", "nut\tbolt", "nut\x1b[2J", "nut\u2028bolt"])
def test_a_category_s_name_must_fit_into_a_line(folder, tmp_path, capsys, name):
    folder.rename(folder.parent / name)
    assert evaluate(folder, tmp_path / "out") == 2
    said = capsys.readouterr()
    assert f"category {name!r} has a line break, a tab or" in said.err
    assert said.err.endswith("rename its folder\n") and not said.out


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_what_a_folder_holds_is_one_line_each(folder, capsys):
    (folder / "test/spot").rename(folder / "test/sp\not")
    (folder / "ground_truth/spot").rename(folder / "ground_truth/sp\not")
    (folder / "a\nb.txt").touch()
    assert main(["data", "check", str(folder.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert r"(sp\not 3)" in lines[1] and r"(nut/a\nb.txt)" in "".join(lines), lines


def test_what_was_written_is_named(folder, tmp_path, capsys):
    out, normal = tmp_path / "o", str(folder / "train/good")
    arguments = [str(folder / "test/spot"), "--object", "nut", "--out", str(out)]
    for more, kinds in (
        (["--no-panels"], "Maps"),
        ([], "Maps, panels"),
        (["--normal", normal, "--false-alarms", "0.5"], "Maps, panels, masks"),
    ):
        assert main(["localize", *arguments, *more]) == 0
        assert f"\n{kinds} and scores.csv: {out}\n" in capsys.readouterr().out


# Metadata


def test_odd_metadata_costs_nothing(folder, tmp_path, capsys):
    """Broken orientation, colour profile and resolution: the pixels are all that counts."""
    plain = Image.fromarray(np.full((32, 32, 3), 90, np.uint8))
    files = [tmp_path / f"odd/{name}" for name in ("exif.jpg", "profile.png", "short.jpg")]
    files[0].parent.mkdir()
    plain.save(files[0], exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    plain.save(files[1], icc_profile=b"not a profile", dpi=(0, 0))
    plain.save(files[2], exif=b"Exif\0\0")
    assert (
        main(["localize", *map(str, files), "--object", "nut", "--out", str(tmp_path / "o")]) == 0
    )
    maps = [np.load(tmp_path / f"o/{path.stem}.npy") for path in files]
    for other in maps[1:]:
        np.testing.assert_allclose(other, maps[0], atol=0.02)
    assert "Traceback" not in capsys.readouterr().err
