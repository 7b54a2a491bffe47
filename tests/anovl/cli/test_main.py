"""One clean line for every error, and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from PIL import Image

from anovl.cli import main

CHECK = ["data", "check", "."]


def evaluate(root: Path, out: Path, *arguments: object, methods: str = "dog,centre") -> int:
    command = ["evaluate", "--dataset", "folder", "--data-root", root.parent, "--out", out]
    return main([*map(str, [*command, "--methods", methods, *arguments])])


@pytest.mark.parametrize("option", ["--objct", "--objct=nut"])
def test_a_misspelt_option_is_named_by_its_own_command(option, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["localize", "x.png", option])
    (line,) = capsys.readouterr().err.splitlines()
    assert "--objct" in line and "did you mean --object?" in line
    assert "anovl localize --help" in line


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["data", "check", ""], "DIR"),
        (["evaluate", "--dataset", "folder", "--data-root", "", "--out", "out"], "--data-root"),
        (["localize", "a.png", "", "--object", "nut"], "IMAGE"),
        (["localize", "a.png", "--object", "nut", "--prompts", ""], "--prompts"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch, capsys, arguments, name):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (4, 4)).save("a.png")
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert f"argument {name}: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.usefixtures("interruptible")
def test_being_stopped_is_no_crash(monkeypatch, the_error):
    """By Ctrl-C or, as schedulers of clusters do, by SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGTERM):
        kill = partial(os.kill, os.getpid(), number)
        monkeypatch.setattr("anovl.data.load_dataset", lambda *_, kill=kill, **__: kill())
        try:
            assert "to begin anew" in the_error(main(CHECK), 130)
            assert "to go on" in the_error(main(["evaluate", "--out", "."]), 130)
        finally:
            signal.signal(signal.SIGTERM, before)


def test_warnings_are_one_clean_line(monkeypatch, capsys):
    def warn(*arguments, **options):
        warnings.warn("mind this", stacklevel=2)
        raise ValueError("and this")

    monkeypatch.setattr("anovl.data.load_dataset", warn)
    assert main(CHECK) == 2
    assert capsys.readouterr().err == "anovl: warning: mind this\nanovl: error: and this\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9 TiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 TiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("a bug"),
    ],
)
def test_out_of_memory_is_one_sentence_and_keeps_finished_results(
    offline_model, nuts, tmp_path, monkeypatch, the_error, error
):
    run = partial(evaluate, nuts, tmp_path / "out", methods="centre,dog")
    with monkeypatch.context() as small:
        small.setattr(
            "anovl.baselines.controls.DifferenceOfGaussians.map_of", Mock(side_effect=error)
        )
        if str(error) == "a bug":
            with pytest.raises(RuntimeError, match="a bug"):
                run()
        else:
            assert "--batch-size" in the_error(run())
    assert [path.name for path in (tmp_path / "out/parts").iterdir()] == ["nut, centre.json"]
    assert run() == 0


@pytest.mark.parametrize("command", ["localize", "evaluate", "evaluate --save-maps"])
def test_a_full_disk_is_one_sentence_and_leaves_no_part_of_a_file(
    offline_model, nuts, tmp_path, monkeypatch, capsys, command
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
            asked = ["localize", str(nuts / "test/spot"), "--object", "nut", "--no-cache"]
            return main([*asked, "--out", str(out), "--no-panels"])
        return evaluate(nuts, out, *command.split()[1:])

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", write)
        assert run() == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "disk is full" in line and "run the same command again" in line
    assert command != "localize" or "2 of 3 maps" in line
    left = {path for path in out.rglob("*") if path.is_file()} - {out / ".lock"}
    assert len(left) == 3 and all(path.stat().st_size > 1 for path in left)
    assert not [path for path in left if "tmp" in path.name]
    assert run() == 0


# Names


def test_names_that_a_terminal_cannot_show(nuts):
    root = nuts.parent / "ねじ"
    nuts.rename(root)
    (root / "test/spot/0.png").write_bytes(b"no picture")
    done = subprocess.run(
        [sys.executable, "-m", "anovl", "data", "check", str(root.parent)],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert rb"\u306d\u3058" in done.stdout and b"Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_names_that_are_no_text(offline_model, nuts, tmp_path, capsys):
    from anovl.evaluation.results import read_results

    odd = os.fsencode(nuts.parent) + b"/n\xfft"
    os.rename(os.fsencode(nuts), odd)
    assert evaluate(nuts, tmp_path / "out") == 0
    assert os.fsdecode(b"n\xfft") in set(read_results(tmp_path / "out")["category"])
    images = os.fsdecode(odd + b"/test/good")
    code = main(["localize", images, "--object", "nut", "--out", str(tmp_path / "maps")])
    assert code == 0 and len(list((tmp_path / "maps").glob("*.npy"))) == 4
    assert os.fsencode("data/n\udcfft") in (tmp_path / "maps/scores.csv").read_bytes()
    assert r"n\udcfft" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_a_name_with_a_line_break_is_one_line(offline_model, nuts, tmp_path, capsys):
    spots = nuts / "test/spot"
    (spots / "0.png").rename(spots / "a\nb.png")
    (spots / "c\nd.png").write_bytes(b"no picture")
    arguments = [str(spots), "--object", "a\nnut", "--out", str(tmp_path / "o")]
    assert main(["localize", *arguments, "--no-panels"]) == 1
    said = capsys.readouterr()
    assert r'damaged a\nnut"' in said.out
    assert r"spot/a\nb.png  0." in said.out and "spot/a\n" not in said.out
    assert r"spot/c\nd.png" in said.err and len(said.err.splitlines()) == 2


@pytest.mark.parametrize("command", ["train-pocket", "bench", "verify"])
def test_a_former_command_names_its_new_place(command, capsys):
    assert main([command, "--out", "x"]) == 2
    assert "anovl_companion" in capsys.readouterr().err
