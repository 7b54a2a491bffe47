"""The command line with a tiny random model and a cache of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    """A cache for one test, in place of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("anovl.cli.options.CACHE", str(folder))
    return folder


@pytest.fixture
def offline_model(tiny_clip, monkeypatch):
    """The tiny random model in place of the shipped one."""
    monkeypatch.setattr("anovl.models.load.load_clip", lambda *names, **options: tiny_clip)


@pytest.fixture
def the_error(capsys):
    """A function: the one line on stderr, after a command with this exit code."""

    def line(code: int, expected: int = 2) -> str:
        lines = capsys.readouterr().err.splitlines()
        assert code == expected, lines
        assert len(lines) == 1, lines
        return lines[0]

    return line


@pytest.fixture
def cells(tmp_path) -> Path:
    """A data set with two categories whose names are no words; cracked cells are dark."""
    rng = np.random.default_rng(0)
    for name in ("01", "02"):
        for i, kind in enumerate(("good", "good", "crack", "crack")):
            path = tmp_path / f"cells/{name}/test/{kind}/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            dark = 90 * (kind == "crack")
            Image.fromarray(rng.integers(100 - dark, 120 - dark, (32, 32), np.uint8)).save(path)
    return tmp_path / "cells"


@pytest.fixture
def nuts(tmp_path) -> Path:
    """A category "nut" of 4 normal and 3 anomalous images with masks, and 13 in train/good."""
    root, rng = tmp_path / "data" / "nut", np.random.default_rng(0)
    for kind, n in (("test/good", 4), ("test/spot", 3), ("train/good", 13)):
        for number in range(n):
            path = root / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 100, (32, 32), dtype=np.uint8)).save(path)
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[8:16, 8:16] = 255
    (root / "ground_truth/spot").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(mask).save(root / f"ground_truth/spot/{number}_mask.png")
    return root
