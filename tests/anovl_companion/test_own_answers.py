"""What notebook A2 shows and says: each number against a computation by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import write_picture
from PIL import Image

from anovl.data.dataset import Entry
from anovl.detector import AnoVL
from anovl.evaluation.threshold import CalibratedDetector, Level, calibrate
from anovl_companion.own_answers import Judged, five_pictures
from anovl_companion.own_images import OwnPictures

SCORES = {"good/0.png": 0.50, "good/1.png": 0.53, "crack/0.png": 0.51, "crack/1.png": 0.55}
LEVEL = Level(0.52, n=19, false_alarms=0.05)


def detector(tiny_clip, level: Level | None = LEVEL) -> CalibratedDetector:
    images = [Image.new("RGB", (16, 16), (i, i, i)) for i in range(3)]
    found = calibrate(AnoVL(tiny_clip), images, "cell", false_alarms=0.5)
    return replace(found, score_level=level, map_level=level)


def judged(watch, folder: Path, *, labelled: bool = True) -> Judged:
    entries, found = [], []
    for i, (name, score) in enumerate(SCORES.items()):
        write_picture(folder / name, value=i, size=(32, 32))
        np.save(folder / f"{i}.npy", np.full((4, 4), score))
        kind = name.partition("/")[0] if labelled else ""
        entries.append(Entry(folder / name, name, kind))
        alarm = score > 0.52 if isinstance(watch, CalibratedDetector) and watch.level else None
        item = {"score": score, "peak": score, "alarm": alarm, "map_file": folder / f"{i}.npy"}
        found.append(SimpleNamespace(**item))
    files, names = tuple(entry.path for entry in entries), tuple(SCORES)
    pictures = OwnPictures("cell", "cell", tuple(entries), files, names, (None,) * 19, "of mine")
    return Judged(pictures, watch, found, [])


def test_files_are_listed_the_highest_score_first(tiny_clip, tmp_path):
    rows = judged(detector(tiny_clip), tmp_path).table().to_numpy().tolist()
    assert rows == [
        ["crack/1.png", "0.5500", "yes"],
        ["good/1.png", "0.5300", "yes"],
        ["crack/0.png", "0.5100", "no"],
        ["good/0.png", "0.5000", "no"],
    ]
    no_level = judged(detector(tiny_clip, None), tmp_path)
    assert set(no_level.table()["alarm"]) == {""}


def test_alarms_are_counted_for_each_label_that_there_is(tiny_clip, tmp_path):
    said = judged(detector(tiny_clip), tmp_path).said(0.05)
    unlucky = 1 - 0.05 ** (1 / 19)  # Beta(1, 19) is above this for one set in twenty
    for part in ("19 normal pictures (of mine)", "0.5200", "at most 5%", f"{unlucky:.1%}"):
        assert part in said
    assert said.count("1 of 2 (50%)") == 2 and "all pictures: 2 of 4 (50%)" in said
    unlabelled = judged(detector(tiny_clip), tmp_path, labelled=False).said(0.05)
    assert "2 of 4" in unlabelled and "1 of 2" not in unlabelled and "not measured" in unlabelled


@pytest.mark.parametrize("is_calibrated", [True, False])
def test_without_a_level_nothing_is_measured(tiny_clip, tmp_path, is_calibrated):
    """AnoVL itself has a `level` of prompts, which is none of scores."""
    watch = detector(tiny_clip, None) if is_calibrated else AnoVL(tiny_clip)
    own = judged(watch, tmp_path)
    said = own.said(0.01)
    assert "99 normal pictures; found 19" in said and "not measured" in said
    assert "not measured" in own.missed()
    assert len(five_pictures(own).axes) == 10


def test_misses_are_those_of_the_pictures_known_to_be_anomalous(tiny_clip, tmp_path):
    own = judged(detector(tiny_clip, Level(0.52, n=3, false_alarms=0.5)), tmp_path)
    assert "of 2 images known to be anomalous" in own.missed()
    assert "not measured" in judged(own.detector, tmp_path, labelled=False).missed()
