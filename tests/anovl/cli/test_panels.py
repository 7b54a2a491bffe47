"""A panel cannot be misread: its scale is printed, score and map are two things."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from anovl.cli import panels
from anovl.cli.panels import Scale, draw_panel

WHITE, GREY = Image.new("RGB", (60, 30), "white"), np.full((5, 5), 0.5)


def drawn(image=WHITE, values=GREY, **options) -> np.ndarray:
    given = {"scale": Scale(0.4, 0.6, ""), "score": 0.51234, "peak": 0.57} | options
    return np.asarray(draw_panel(image, values, **given))


@pytest.mark.parametrize(
    ("by", "alarm", "ends"),
    [
        ("score", True, (": alarm", "")),
        ("map", False, ("", ": no alarm")),
        ("either", True, (": alarm", ": no alarm")),
    ],
)
def test_score_peak_levels_and_scale_are_printed(monkeypatch, by, alarm, ends):
    written = []
    monkeypatch.setattr(panels, "_write", lambda draw, at, text: written.append(text))
    scale = Scale(0.4, 0.6, "20 normal", level=0.58, score_level=0.51)
    drawn(scale=replace(scale, alarm_by=by), alarm=alarm, name="a\nb.png")
    assert written[0] == f"image score 0.5123, level 0.5100{ends[0]}"
    assert written[1] == f"map, highest 0.5700, level 0.5800{ends[1]}"
    assert {"20 normal", "0.4000", "0.6000", "level 0.5800", r"a\nb.png"} <= set(written)
    written.clear()
    drawn()
    assert written[:2] == ["image score 0.5123", "map, highest 0.5700"]


def test_dark_and_bright_are_the_ends_of_the_scale():
    dark, low, middle, high, bright = (
        drawn(values=np.full((5, 5), value))[150, 600] for value in (0.1, 0.4, 0.5, 0.6, 0.9)
    )
    assert (dark == low).all() and (high == bright).all()
    assert low.sum() < middle.sum() < high.sum()


def test_what_lies_above_the_level_is_outlined():
    mask = np.zeros((10, 10), dtype=bool)
    mask[4:6, 4:6] = True
    rows, columns = np.nonzero((drawn() != drawn(mask=mask)).any(axis=2))
    height = panels.SIDE // 2
    assert 0.38 < (rows.min() - 28) / height < 0.42 and 0.58 < (rows.max() - 28) / height < 0.62
    assert 0.38 < (columns.min() - 10) / panels.SIDE < 0.42


@pytest.mark.parametrize("ends", [(0.6, 0.4), (0.5, 0.5), (0, float("inf"))])
def test_a_scale_must_rise(ends):
    with pytest.raises(ValueError, match=str(ends[0])):
        Scale(*ends, "")


@pytest.mark.parametrize(("picture", "shape"), [((900, 600), (600, 900)), ((30, 40), (7, 7))])
def test_a_panel_of_a_shrunk_picture_and_map_is_the_same(picture, shape):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (*picture[::-1], 3), dtype=np.uint8))
    values = rng.uniform(0.4, 0.6, shape).astype(np.float32)
    small, less = panels.shrink(image, values)
    assert max(small.size) == panels.SIDE and max(less.shape) == min(max(shape), panels.SIDE)
    np.testing.assert_array_equal(drawn(image, values), drawn(small, less))
