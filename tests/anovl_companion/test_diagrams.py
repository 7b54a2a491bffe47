"""Drawings hang together: every step is on a way, nothing overlaps, and they are drawn the same."""

from __future__ import annotations

from itertools import combinations

import pytest

from anovl_companion.diagrams import (
    FRAMEWORK,
    KINDS,
    WAYS,
    Box,
    framework_diagram,
    two_streams_diagram,
)
from anovl_companion.records import verify
from anovl_companion.saving import save_figure


def test_every_step_of_the_framework_is_on_a_way_and_none_overlap():
    assert {name for way in WAYS for name in way} == set(FRAMEWORK)
    assert {box.kind for box in FRAMEWORK.values()} == set(KINDS)
    for one, other in combinations(FRAMEWORK.values(), 2):
        apart_x = abs(one.x - other.x) >= (one.width + other.width) / 2
        apart_y = abs(one.y - other.y) >= (one.height + other.height) / 2
        assert apart_x or apart_y, (one.text, other.text)


def test_an_edge_lies_on_the_border_towards_the_point():
    box = Box("", 1, 1, 2, 1)
    assert box.edge(5, 1) == (2, 1)
    assert box.edge(1, -4) == (1, 0.5)
    assert box.edge(3, 2) == (2, 1.5)


@pytest.mark.parametrize("draw", [framework_diagram, two_streams_diagram])
def test_drawings_are_the_same_twice_and_verify(draw, tmp_path):
    for folder in ("one", "two"):
        save_figure(draw(), tmp_path / folder / "drawing", provenance={"model": "none"})
        assert verify(tmp_path / folder) == []
    one, two = ((tmp_path / folder / "drawing.pdf").read_bytes() for folder in ("one", "two"))
    assert one == two
