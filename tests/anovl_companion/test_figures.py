"""Panels and overlays: their scale, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from anovl import overlay
from anovl_companion.figures import heatmap_panels


def shown(fig: Figure) -> list:
    return [ax.images[0] for ax in fig.axes if ax.images]


def test_all_maps_share_one_scale_and_it_is_printed():
    images, low, high = np.zeros((2, 8, 8, 3)), np.full((2, 4, 4), 0.498), np.full((2, 4, 4), 0.512)
    fig = heatmap_panels(images, {"q-k": low, "v-v": high})
    maps = [panel for panel in shown(fig) if panel.get_array().shape == (4, 4)]
    assert len(maps) == 4
    assert {panel.get_clim() for panel in maps} == {(0.498, 0.512)}
    bar = fig.axes[-1]
    assert [tick.get_text() for tick in bar.get_yticklabels()] == ["0.4980", "0.5050", "0.5120"]


def test_panels_stand_in_rows_of_image_mask_and_map():
    images = [Image.new("RGB", (6, 4), "red"), Image.new("L", (6, 4))]
    mask = np.eye(4, 6, dtype=bool)
    maps = torch.rand(2, 3, 3)
    fig = heatmap_panels(images, maps, masks=[mask, None], titles=["a", "b"])
    first, second = np.array(fig.axes[:6]).reshape(2, 3)
    assert [ax.get_title() for ax in first] == ["image", "mask", "map"]
    assert (first[0].get_ylabel(), second[0].get_ylabel()) == ("a", "b")
    np.testing.assert_array_equal(first[1].images[0].get_array(), mask)
    assert not second[1].images[0].get_array().any()
    np.testing.assert_array_equal(second[2].images[0].get_array(), maps[1])
    assert {tuple(panel.get_extent()) for panel in shown(fig)} >= {(0, 6, 4, 0)}


@pytest.mark.parametrize(
    ("maps", "options", "said"),
    [
        (np.zeros((3, 4, 4)), {}, "'map'.*3.*2"),
        (np.full((2, 4, 4), np.nan), {}, "finite"),
        (np.zeros((2, 4)), {}, r"\(2, 4\)"),
        (np.zeros((2, 4, 4)), {"titles": ["one"]}, "'titles'.*1.*2"),
        ({}, {}, "2 and 0"),
    ],
)
def test_panels_that_do_not_fit_are_refused(maps, options, said):
    with pytest.raises(ValueError, match=said):
        heatmap_panels(np.zeros((2, 8, 8)), maps, **options)


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
