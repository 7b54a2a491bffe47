"""Pairs in other processes and on a cluster: the same table, and little lost to a kill."""

from __future__ import annotations

import json
import logging
import os
import pickle
import platform
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from anovl.baselines import METHODS, make_detector
from anovl.baselines.controls import DifferenceOfGaussians
from anovl.data import load_dataset
from anovl.evaluation import parallel
from anovl.evaluation.harness import evaluate
from anovl.masks import MaskWarning

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not have the tests


@dataclass(frozen=True)
class Watched(DifferenceOfGaussians):
    """A stub that writes its starts down; with brick it stays for ever the first time, or fails."""

    folder: Path = Path()
    hangs: bool = False
    fails: bool = False
    name = "watched"

    def localize(self, images, category, *, size=None):
        started = self.folder / f"{category} {time.monotonic_ns()}"
        first = not list(self.folder.glob(f"{category} *"))
        started.write_text(str(os.getpid()))
        if first and self.hangs and category == "brick":
            time.sleep(600)
        if self.fails and category == "brick":
            raise ValueError(f"no brick in process {os.getpid()}")
        return super().localize(images, category, size=size)


def small_photos():
    return load_dataset("photos", categories=["coins", "brick"], per_category=2, image_size=48)


def assert_same(table, expected):
    pd.testing.assert_frame_equal(table, expected, check_exact=True)


def pids_in(folder: Path, pattern: str = "brick *") -> list[int]:
    """The processes that have written themselves down."""
    return [int(text) for path in folder.glob(pattern) if (text := path.read_text())]


def kill_first_in_brick(folder: Path, after: Path) -> None:
    """In a thread: wait for the process that hangs and for a file, and kill the process."""

    def wait_and_kill():
        deadline = time.monotonic() + 120
        while not (pids := pids_in(folder)) or not after.exists():
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
        os.kill(pids[0], signal.SIGKILL)

    threading.Thread(target=wait_and_kill, daemon=True).start()


@pytest.fixture
def one_thread():
    """As many threads of torch here as in each of the processes, for sums in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["pocket", "visa"])
def test_data_sets_can_be_sent_to_another_process(name, miniature):
    given = {"per_category": 1} if name == "pocket" else {"root": miniature(name)}
    dataset = load_dataset(name, **given)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.manifest_hash() == dataset.manifest_hash()
    here, there = (next(data.samples(data.categories[0])) for data in (dataset, copy))
    assert here.image.tobytes() == there.image.tobytes()


def test_methods_can_be_sent_to_another_process(tiny_clip):
    for name in METHODS:
        assert pickle.loads(pickle.dumps(make_detector(name, tiny_clip))).name == name


def test_two_processes_give_the_same_table(tiny_clip, tmp_path, one_thread, monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    methods = [make_detector(n, tiny_clip, level="word") for n in ("anovl", "anovl-tta")]
    methods += [make_detector("dog", tiny_clip)]
    expected = evaluate(small_photos(), methods, out=tmp_path / "one", resamples=20)
    out = tmp_path / "two"
    assert_same(evaluate(small_photos(), methods, out=out, resamples=20, jobs=2), expected)

    (out / "parts/brick, dog.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    assert_same(evaluate(small_photos(), methods, out=out, resamples=20, jobs=2), expected)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


def test_a_killed_process_is_said_and_what_is_finished_is_kept(tmp_path):
    starts = tmp_path / "starts"
    starts.mkdir()
    coins = tmp_path / "out/parts/coins, watched.json"

    kill_first_in_brick(starts, after=coins)
    watched = Watched(32, folder=starts, hangs=True)
    with pytest.raises(OSError, match="process"):
        evaluate(small_photos(), [watched], out=tmp_path / "out", resamples=5, jobs=2)
    assert [path.name for path in coins.parent.iterdir()] == [coins.name]
    evaluate(small_photos(), [watched], out=tmp_path / "out", resamples=5, jobs=2)
    assert len(list(starts.glob("coins *"))) == 1


def test_an_error_in_a_process_is_the_error_here(tmp_path):
    watched = Watched(32, folder=tmp_path, fails=True)
    with pytest.raises(ValueError, match=r"^no brick in process \d+$") as caught:
        evaluate(small_photos(), [watched], out=tmp_path / "out", resamples=5, jobs=2)
    (started,) = tmp_path.glob("brick *")
    assert str(caught.value).endswith(started.read_text())
    assert started.read_text() != str(os.getpid())


def test_what_is_silent_here_is_silent_in_the_processes(tmp_path, capfd):
    inverted = np.full((32, 32), 255, dtype=np.uint8)
    inverted[8:16, 8:16] = 0
    for name in ("test/good/0.png", "test/spot/0.png", "ground_truth/spot/0_mask.png"):
        path = tmp_path / "nut" / name
        path.parent.mkdir(parents=True)
        Image.fromarray(inverted if "mask" in name else inverted // 2).save(path)
    dataset, dog = load_dataset("folder", root=tmp_path / "nut"), DifferenceOfGaussians(32)
    for action, said in (("always", 1), ("ignore", 0)):
        with warnings.catch_warnings():
            warnings.simplefilter(action, MaskWarning)
            evaluate(dataset, [dog], out=tmp_path / action, resamples=5, jobs=2)
        assert capfd.readouterr().err.count("MaskWarning") == said


def test_being_stopped_stops_the_processes(tmp_path):
    starts = tmp_path / "starts"
    starts.mkdir()
    watched = Watched(32, folder=starts, hangs=True)
    shared = small_photos(), [watched], {"size": None, "seed": 0, "resamples": 5, "threads": 1}
    tasks = [("coins", [0]), ("brick", [0])]
    running = parallel.run_with_joblib(parallel.run_category, shared, tasks, jobs=2)
    assert next(running)[0]["row"]["category"] == "coins"
    deadline = time.monotonic() + 60
    while not (pids := pids_in(starts)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.close()  # as a KeyboardInterrupt in the loop around it does
    while _is_alive(pids[0]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_processes_end_when_the_one_that_started_them_is_killed(tmp_path):
    code = f"""
import os, time
from pathlib import Path
from anovl.evaluation.parallel import run_with_joblib

def stay(shared, name):
    Path(shared, name).write_text(str(os.getpid()))
    time.sleep(600)

list(run_with_joblib(stay, {str(tmp_path)!r}, [("a",), ("b",)], jobs=2))
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while len(pids := pids_in(tmp_path, "[ab]")) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    while any(map(_is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and ") Z " in status.read_text())


@pytest.mark.parametrize(
    "options",
    [
        {"jobs": 0},
        {"jobs": 1.5},
        {"threads": 0},
        {"size": 0},
        {"seed": -1},
        {"dask": "", "jobs": 2},
    ],
    ids=str,
)
def test_wrong_options(tmp_path, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        evaluate(small_photos(), [DifferenceOfGaussians(32)], out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists(), "the corrected call would be another run"


# A real scheduler with two worker processes


@pytest.fixture
def processes(tmp_path):
    """A scheduler and two workers as SCALING.md starts them: its address, and its process."""
    pytest.importorskip("distributed", reason="needs dask.distributed: pip install -e '.[dask]'")
    file = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    run = [sys.executable, "-m", "dask"]
    here = ["--host", "127.0.0.1", "--port", "0"]
    started = [subprocess.Popen([*run, "scheduler", *common, *here], **quiet)]
    worker = [*run, "worker", *common, "--nthreads", "1", "--no-nanny"]
    started += [subprocess.Popen(worker, **quiet) for _ in range(2)]
    try:
        deadline = time.monotonic() + 120
        while not file.exists() or not file.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"], started[0]
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_workers_started_as_processes_and_one_killed(processes, tmp_path):
    """Its category is run again, by the other worker; those that were sent back are not."""
    expected = evaluate(
        small_photos(), [Watched(32, folder=tmp_path)], out=tmp_path / "one", resamples=20
    )
    starts, coins = tmp_path / "starts", tmp_path / "out/parts/coins, watched.json"
    starts.mkdir()

    kill_first_in_brick(starts, after=coins)  # for good: nobody starts it again
    watched = Watched(32, folder=starts, hangs=True)
    address, _ = processes
    table = evaluate(small_photos(), [watched], out=tmp_path / "out", resamples=20, dask=address)
    assert_same(table, expected)
    assert len(list(starts.glob("brick *"))) == 2 and len(list(starts.glob("coins *"))) == 1


@pytest.mark.filterwarnings("ignore:no worker has joined")
def test_a_scheduler_that_dies_is_said(processes, tmp_path, monkeypatch):
    logged = []
    logger = logging.getLogger("distributed.client")
    monkeypatch.setattr(logger, "handlers", [handler := logging.Handler()])
    monkeypatch.setattr(handler, "emit", logged.append)
    address, scheduler = processes
    watched = Watched(32, folder=tmp_path, hangs=True)

    def kill():
        while not list(tmp_path.glob("brick *")):
            time.sleep(0.05)
        scheduler.kill()

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(OSError, match=address):
        evaluate(small_photos(), [watched], out=tmp_path / "out", resamples=5, dask=address)
    assert not logged, "a traceback is printed beside the sentence"


@pytest.mark.filterwarnings("ignore:no worker has joined")
def test_a_model_on_a_cluster_gives_the_same_table(processes, tiny_clip, tmp_path, one_thread):
    methods = [make_detector(n, tiny_clip, level="word") for n in ("anovl-tta", "shuffled")]
    expected = evaluate(small_photos(), methods, out=tmp_path / "one", resamples=20)
    out, (address, _) = tmp_path / "all", processes
    table = evaluate(small_photos(), methods, out=out, resamples=20, dask=address)
    assert_same(table, expected)


@pytest.mark.filterwarnings("ignore:no worker has joined")
def test_a_worker_with_other_code_is_refused(processes):
    (address, _), code = processes, os.getpid  # which differs in each process
    with pytest.raises(ValueError, match="version"):
        list(parallel.run_with_dask(max, 1, [(2,)], address=address, code=code))
    results = parallel.run_with_dask(max, 1, [(2,)], address=address, code=platform.node)
    assert list(results) == [2]
