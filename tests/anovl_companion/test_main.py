"""The companion's command line: what each command is given, says, and exits with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from anovl.models import pocket
from anovl_companion import exercises, records, run_notebooks
from anovl_companion.__main__ import main
from anovl_companion.saving import save_table
from anovl_companion.shared_run import make
from anovl_companion.training import card, train
from anovl_companion.training.recipe import named_recipe


@pytest.fixture(name="trained")
def recorded_trainings(monkeypatch) -> list:
    calls: list = []
    monkeypatch.setattr(train, "train_pocket", lambda out, **options: calls.append((out, options)))
    monkeypatch.setattr(train, "keep_memory", lambda: None)  # it lasts as long as the process
    return calls


def test_a_training_is_given_its_options(tmp_path, trained, monkeypatch):
    threads: list = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    options = "--seed 3 --fresh --recipe gpu --device cuda --workers 15 --threads 4"
    options += " --snapshot-every 30 --arithmetic float32"
    for more in ([], options.split()):
        assert main(["train", "--out", str(tmp_path), *more]) == 0
    (out, plain), (_, given) = trained
    assert out == str(tmp_path) and threads == [4]
    assert plain == {
        **{"recipe": named_recipe("laptop"), "resume": True, "device": "cpu"},
        **{"workers": 1, "snapshot_every": 60.0, "arithmetic": None},
    }
    assert given == {
        **{"recipe": named_recipe("gpu", seed=3), "resume": False, "device": "cuda"},
        **{"workers": 15, "snapshot_every": 30.0, "arithmetic": "float32"},
    }


@pytest.mark.parametrize(("option", "value"), [("--recipe", "huge"), ("--device", "mps")])
def test_a_training_that_cannot_be_is_refused(tmp_path, capsys, option, value):
    assert main(["train", "--out", str(tmp_path), option, value]) == 2
    assert value in capsys.readouterr().err


def test_verify_reports_what_does_not_hold(tmp_path, capsys):
    save_table(pd.DataFrame({"method": ["anovl"], "aupro": [0.5]}), tmp_path / "t", provenance={})
    assert main(["verify", str(tmp_path)]) == 0
    (tmp_path / "t.csv").write_text("changed")
    assert main(["verify", str(tmp_path)]) == 1
    assert "t.csv" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("of_run", [[], ["wood, dog: aupro is 0.6, was 0.5"]])
@pytest.mark.parametrize("of_notebooks", [[], ["01.ipynb, 01_a.csv is new"]])
def test_reproduce_reports_every_difference(monkeypatch, capsys, of_run, of_notebooks):
    monkeypatch.setattr(make, "check_runs", lambda: of_run)
    monkeypatch.setattr(run_notebooks, "reproduce", lambda paths: of_notebooks)
    assert main(["reproduce"]) == bool(of_run or of_notebooks)
    printed = capsys.readouterr()
    assert all(what in printed.err for what in [*of_run, *of_notebooks])
    assert ("Everything" in printed.out) == (not of_run and not of_notebooks)


def test_notebooks_exercises_and_the_shared_run_are_made(monkeypatch, tmp_path):
    calls: list = []
    monkeypatch.setattr(run_notebooks, "run", lambda paths, measure: calls.append((paths, measure)))
    monkeypatch.setattr(exercises, "make_exercises", lambda: calls.append("exercises"))
    run = SimpleNamespace(path=tmp_path)
    given = lambda *name, **options: calls.append((name, options)) or run  # noqa: E731
    monkeypatch.setattr(make, "make_run", given)
    monkeypatch.setattr(pocket, "shipped_here", lambda: ["pocket", "pocket-2"])
    path = tmp_path / "01.ipynb"
    assert main(["notebooks", str(path), "--measure"]) == 0
    assert main(["notebooks"]) == main(["exercises"]) == 0
    assert main(["run", "--out", str(tmp_path)]) == 0
    usual = {"weights": None, "target": None, "jobs": 1}
    both = [((name, tmp_path), usual) for name in ("pocket", "pocket-2")]
    assert calls == [([path], True), ([], False), "exercises", *both]


def test_a_shared_run_is_given_its_options(monkeypatch, tmp_path, capsys):
    calls: list = []
    run = SimpleNamespace(path=tmp_path)
    monkeypatch.setattr(make, "make_run", lambda *name, **options: calls.append(options) or run)
    options = ["--model", "pocket-2", "--weights", "w", "--jobs", "2"]
    assert main(["run", *options, "--target", "t"]) == 0
    assert calls == [{"weights": Path("w"), "target": Path("t"), "jobs": 2}]
    assert main(["run", *options[2:]]) == 2 and "--model" in capsys.readouterr().err
    monkeypatch.setattr(card, "make_card", lambda out, **given: f"{out} {given}")
    assert main(["card", *options, "--out", "o"]) == 0
    given = {"name": "pocket-2", "weights": Path("w"), "jobs": 2}
    assert capsys.readouterr().out.endswith(f"o {given}\n")


@pytest.mark.parametrize("command", [["verify", "."], ["run", "--out", "."]])
def test_being_stopped_is_no_crash(monkeypatch, command):
    def stop(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(records, "verify", stop)
    monkeypatch.setattr(make, "make_run", stop)
    assert main(command) == 130
