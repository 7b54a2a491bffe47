"""One warning, with numbers, if new pictures differ from the normal ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import anovl
from anovl.evaluation.threshold import Made, calibrate, how_made, unlike
from anovl.images import read_header


def test_how_files_were_made(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    Image.new("RGB", (40, 30)).save(tmp_path / "phone.jpg", exif=exif)
    Image.new("RGB", (40, 30)).save(tmp_path / "turned.tif", exif=exif)
    Image.new("L", (40, 30)).save(tmp_path / "grey.png")
    Image.fromarray(np.zeros((30, 40), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "bad.png").write_text("no picture")
    files = [tmp_path / name for name in ("phone.jpg", "turned.tif", "grey.png", "deep.png")]
    made = (
        Made(30, 40, "8-bit colour JPEG"),
        Made(30, 40, "8-bit colour"),
        Made(40, 30, "8-bit grey"),
        Made(40, 30, "16-bit grey"),
    )
    assert how_made([*files, tmp_path / "bad.png"]) == how_made(map(read_header, files)) == made


def test_sizes_and_known_values_are_compared():
    normal = [Made(200, 100), Made(400, 200), Made(300, 160)]
    assert unlike(normal, [Made(250, 130), Made(400, 200)]) == ""
    difference = unlike(normal, [Made(250, 130), Made(400, 100)])
    assert "200 x 100 to 400 x 200, 1 of 2 new ones is 400 x 100" in difference
    assert unlike([], normal) == ""
    grey, colour, unknown = (Made(9, 9, what) for what in ("8-bit grey", "8-bit colour", ""))
    assert unlike([grey], [unknown]) == unlike([unknown], [grey]) == ""
    assert "8-bit grey, 1 of 2 new ones is 8-bit colour" in unlike([grey], [colour, grey])


def test_a_calibrated_detector_says_it_once(tiny_clip):
    square, wide = Image.new("RGB", (20, 20)), Image.new("RGB", (40, 20))
    detector = calibrate(anovl.AnoVL(tiny_clip, level="word"), [square] * 4, "nut")
    with pytest.warns(UserWarning, match="20 x 20, 1 of 2 new ones is 40 x 20") as caught:
        detector(square)
        detector.localize([square, wide])
        detector(wide)
    assert len(caught) == 1
