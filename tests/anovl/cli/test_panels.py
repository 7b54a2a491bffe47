"""A panel cannot be misread: its scale is printed, score and map are two things."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from anovl.cli import panels
from anovl.cli.panels import Scale, draw_panel


@pytest.fixture
def written(monkeypatch):
    texts = []
    real = panels._write
    monkeypatch.setattr(
        panels, "_write", lambda draw, at, text: (texts.append(text), real(draw, at, text))
    )
    return texts


def test_what_is_printed(written):
    levels = {"level": 0.55, "level_says": ("5 % above",), "score_level": 0.51}
    scale = Scale(0.4, 0.6, "scale: 20 normal pictures", **levels)
    values = np.full((7, 7), 0.5)
    values[3, 3] = 0.57
    image = Image.new("RGB", (40, 20))
    draw_panel(image, values, scale, score=0.51234, peak=0.57, alarm=True)
    assert written[0] == "image score 0.5123, level 0.5100: alarm"
    assert written[1] == "map, highest 0.5700, level 0.5500"
    shown = {"scale: 20 normal pictures", "0.4000", "0.6000", "level 0.5500", "5 % above"}
    assert shown <= set(written)
    written.clear()
    draw_panel(image, values, replace(scale, alarm_by="map"), score=0.51234, peak=0.57, alarm=False)
    assert written[0] == "image score 0.5123, level 0.5100"
    assert written[1] == "map, highest 0.5700, level 0.5500: no alarm"
    written.clear()
    draw_panel(image, values, Scale(0.4, 0.6, ""), score=0.51234, peak=0.57)
    assert written[:2] == ["image score 0.5123", "map, highest 0.5700"]


def test_dark_and_bright_are_the_ends_of_the_scale():
    image = Image.new("RGB", (50, 50), "white")
    scale = Scale(0.4, 0.6, "")
    colours = [
        np.asarray(draw_panel(image, np.full((5, 5), value), scale, score=0.5, peak=0.5))[200, 600]
        for value in (0.1, 0.4, 0.5, 0.6, 0.9)
    ]
    assert (colours[0] == colours[1]).all() and (colours[3] == colours[4]).all()
    assert colours[1].sum() < colours[2].sum() < colours[3].sum()


def test_what_lies_above_the_level_is_outlined():
    image, scale = Image.new("RGB", (60, 30), "white"), Scale(0.4, 0.6, "")
    mask = np.zeros((10, 10), dtype=bool)
    mask[4:6, 4:6] = True
    plain = np.asarray(draw_panel(image, np.full((5, 5), 0.5), scale, score=0.5, peak=0.5))
    marked = np.asarray(
        draw_panel(image, np.full((5, 5), 0.5), scale, score=0.5, peak=0.5, mask=mask)
    )
    rows, columns = np.nonzero((plain != marked).any(axis=2))
    height = panels.SIDE // 2
    assert 0.38 < (rows.min() - 28) / height < 0.42 and 0.58 < (rows.max() - 28) / height < 0.62
    assert 0.38 < (columns.min() - 10) / panels.SIDE < 0.42


def test_a_scale_must_rise():
    with pytest.raises(ValueError, match=r"low before high; found 0\.6 and 0\.4"):
        Scale(0.6, 0.4, "")


@pytest.mark.parametrize(("picture", "shape"), [((900, 600), (600, 900)), ((30, 40), (7, 7))])
def test_a_panel_of_a_shrunk_picture_and_map_is_the_same(picture, shape):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (*picture[::-1], 3), dtype=np.uint8))
    values = rng.uniform(0.4, 0.6, shape).astype(np.float32)
    own = {"scale": Scale(0.4, 0.6, ""), "score": 0.5, "peak": 0.6}
    small, less = panels.shrink(image, values)
    assert max(small.size) == panels.SIDE and max(less.shape) == min(max(shape), panels.SIDE)
    drawn = [np.asarray(draw_panel(*pair, **own)) for pair in ((image, values), (small, less))]
    np.testing.assert_array_equal(*drawn)
