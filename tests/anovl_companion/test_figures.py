"""Panels and overlays: their scale, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from anovl import overlay


def shown(fig: Figure) -> list:
    return [ax.images[0] for ax in fig.axes if ax.images]


def test_overlay_has_the_given_scale_and_not_the_range_of_the_map():
    image = Image.new("RGB", (8, 8), "gray")

    def laid(value: float) -> np.ndarray:
        return np.asarray(overlay(image, np.full((2, 2), value), vmin=0, vmax=1, opacity=1))

    np.testing.assert_array_equal(laid(0), np.asarray(image))
    np.testing.assert_array_equal(laid(-1), laid(0))
    np.testing.assert_allclose(laid(1)[0, 0], [251, 252, 191], atol=1)  # the bright end of magma
    np.testing.assert_array_equal(laid(2), laid(1))
    assert np.abs(laid(0.01) - laid(0).astype(int)).max() <= 2
    with pytest.raises(ValueError, match="vmin < vmax"):
        overlay(image, np.eye(2), vmin=1, vmax=1)
    with pytest.raises(ValueError, match="the map has NaN or infinite values"):
        overlay(image, np.full((2, 2), np.nan), vmin=0, vmax=1)
