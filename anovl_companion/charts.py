"""The kinds of charts in the notebooks: maps with twins, dots with intervals.

One message a chart, in its title. Every method has one colour, and no other thing has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from anovl import Clip, attention_weights
from anovl.cli.panels import HEAT
from anovl.data.dataset import Sample
from anovl_companion.figures import PAGE, house_style

TRUTH = "#19d3e0"  # the outline of the true defect, in every picture
COLOURS = {  # of methods, from a palette that colour-blind readers can tell apart
    "clip": "#0173b2",
    "anovl": "#d55e00",
    "anovl-tta": "#cc78bc",
    "maskclip": "#029e73",
    "clip-surgery": "#de8f05",
    "control": "#949494",
}
_CORNER = 0.34  # of the side of a panel
SMALL = {"font.size": 9, "axes.titlesize": 10, "ytick.major.size": 0}


class MapRow(NamedTuple):
    """One method's maps (B, h, w) of pictures and of their normal twins, and the words for it.

    `low` and `high` are the ends of its colour scale, the same for all its maps.
    """

    label: str
    maps: np.ndarray
    twins: np.ndarray
    low: float
    high: float
    numbers: Sequence[str] = ()


def scale_of(normal_maps: np.ndarray) -> tuple[float, float]:
    """Return the colour scale of a method from its maps of normal pictures.

    Dark is the median of their values and below, bright is their highest value, stretched by half,
    and above.

    >>> scale_of(np.array([0.0, 1.0, 2.0]))
    (1.0, 2.5)
    """
    low, high = float(np.median(normal_maps)), float(normal_maps.max())
    return low, high + 0.5 * max(high - low, 1e-6)


def map_chart(
    pictures: Sequence[Any],
    twins: Sequence[Any],
    rows: Sequence[MapRow],
    *,
    masks: Sequence[np.ndarray | None],
    heads: Sequence[str],
    title: str,
    note: str,
) -> Figure:
    """Draw pictures in columns: the picture above, then the map of each method below it.

    The normal twin stands in a corner of each panel, away from the true defect, on the same scale.
    The true defect is outlined. `note` explains the corner, the numbers and the scale.

    Raises ValueError when the lengths differ.

    >>> maps = np.zeros((2, 4, 4))
    >>> row = MapRow("v-v", maps, maps, 0.0, 1.0)
    >>> gray = np.zeros((2, 8, 8))
    >>> fig = map_chart(gray, gray, [row], masks=gray > 0, heads=["a", "b"], title="t", note="n")
    >>> len(fig.axes)  # two columns of a picture and a map
    4
    """
    count = len(pictures)
    lengths = {len(twins), len(masks), len(heads), *(len(row.maps) for row in rows)}
    if lengths != {count}:
        raise ValueError(f"expected as many twins, masks, heads and maps as pictures ({count})")
    with matplotlib.rc_context({**house_style(), **SMALL}):
        side = (PAGE - 0.7) / count
        fig = Figure(figsize=(PAGE, side * (1 + len(rows)) + 0.9), layout="constrained")
        fig.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
        axes = fig.subplots(1 + len(rows), count, squeeze=False)
        for column in range(count):
            size, corner = np.asarray(pictures[column]).shape[:2], _free_corner(masks[column])
            _panel(axes[0, column], pictures[column], twins[column], size, corner, cmap="gray")
            _outline(axes[0, column], masks[column], size)
            axes[0, column].set_title(heads[column])
            for row, ax in zip(rows, axes[1:, column], strict=True):
                colours = {"cmap": HEAT, "vmin": row.low, "vmax": row.high}
                _panel(ax, row.maps[column], row.twins[column], size, corner, **colours)
                _outline(ax, masks[column], size)
                if row.numbers:
                    _number(ax, row.numbers[column])
        for name, ax in zip(["picture", *(row.label for row in rows)], axes[:, 0], strict=True):
            ax.set_ylabel(name)
        fig.suptitle(title, x=0.01, ha="left", fontsize=11)
        fig.supxlabel(note, fontsize=8, x=0.01, ha="left")
    return fig


def _free_corner(mask: np.ndarray | None) -> tuple[float, float]:
    """Return where the corner with the fewest defect pixels begins, (x, y) from below left.

    The corner below on the left is for the number. Without a mask it is that above on the right.
    """
    if mask is None:
        return 1 - _CORNER, 1 - _CORNER
    height, width = (round(_CORNER * side) for side in mask.shape)
    above, below = mask[:height], mask[-height:]
    inside = {
        (1 - _CORNER, 1 - _CORNER): above[:, -width:],
        (0.0, 1 - _CORNER): above[:, :width],
        (1 - _CORNER, 0.0): below[:, -width:],
    }
    return min(inside, key=lambda corner: inside[corner].sum())


def _panel(
    ax: Axes,
    pixels: Any,
    twin: Any,
    size: tuple[int, int],
    corner: tuple[float, float],
    **colours: Any,
) -> None:
    """Show pixels over the area of their picture, and the twin in a corner."""
    height, width = size
    inset = ax.inset_axes((*corner, _CORNER, _CORNER))
    for place, shown in ((ax, pixels), (inset, twin)):
        place.imshow(np.asarray(shown), extent=(0, width, height, 0), **colours)
        place.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    inset.spines[:].set(visible=True, color="white", linewidth=1.5)


def _outline(ax: Axes, mask: np.ndarray | None, size: tuple[int, int]) -> None:
    if mask is not None and mask.any() and not mask.all():
        height, width = size
        ax.contour(mask, [0.5], colors=TRUTH, linewidths=1, extent=(0, width, 0, height))


def _number(ax: Axes, text: str) -> None:
    box = {"facecolor": "black", "alpha": 0.6, "pad": 1.5, "linewidth": 0}
    place = {"transform": ax.transAxes, "va": "bottom", "ha": "left"}
    ax.text(0.03, 0.03, text, color="white", weight="bold", bbox=box, **place)


def dot_chart(
    rows: Mapping[str, tuple[float, float, float]],
    *,
    title: str,
    label: str,
    colours: Mapping[str, str] | None = None,
    floor: float | None = None,
    floor_label: str = "best control",
    zero: float | None = None,
) -> Figure:
    """Draw one row a name: a dot for the value, a line for its interval (low, high).

    The area up to `floor` is shaded. A line stands at `zero`, where nothing has changed. Names have
    their order from `rows`; rows that are NaN are left out.

    >>> fig = dot_chart({"v-v": (0.8, 0.7, 0.9), "q-k": (0.6, 0.5, 0.7)}, title="t", label="AUPRO")
    >>> [text.get_text() for text in fig.axes[0].get_yticklabels()]
    ['v-v', 'q-k']
    """
    rows = {name: row for name, row in rows.items() if not np.isnan(row[0])}
    colours = colours or {}
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 0.27 * len(rows) + 1.0), layout="constrained")
        ax = fig.subplots()
        for place, (name, (value, low, high)) in enumerate(rows.items()):
            colour = colours.get(name, COLOURS["control"])
            ax.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            ax.plot(value, place, "o", color=colour, markersize=6)
        if floor is not None:
            ax.axvspan(ax.get_xlim()[0], floor, color="0.93", zorder=0)
            ax.text(floor, -0.75, f"{floor_label} ", ha="right", va="center", color="0.4")
            ax.margins(x=0)
        if zero is not None:
            ax.axvline(zero, color="0.4", linewidth=1, linestyle="--")
        ax.set_yticks(range(len(rows)), rows)
        ax.set_ylim(len(rows) - 0.4, -1.1 if floor is not None else -0.6)
        ax.set_xlabel(label)
        ax.set_title(title, loc="left")
    return fig


def looks(clip: Clip, sample: Sample, *, block: int = -1) -> Figure:
    """Draw from where the patch amid the defect collects values, with q-k and with v-v.

    Raises ValueError for a picture without a defect mask.
    """
    if sample.mask is None or not sample.mask.any():
        raise ValueError("the picture needs a mask of its defect")
    middle = np.argwhere(sample.mask).mean(axis=0) / sample.mask.shape
    row, column = (middle * clip.grid).astype(int)
    token = 1 + row * clip.grid[1] + column
    found = {}
    for name, kind in (("q-k", "qk"), ("v-v", "vv")):
        weights = attention_weights(clip, [sample.image], attention=kind, block=block)
        found[name] = weights[0, :, token, 1:].mean(dim=0).reshape(clip.grid).cpu().numpy()
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 2.5), layout="constrained")
        axes = fig.subplots(1, 3)
        height, width = sample.mask.shape
        axes[0].imshow(sample.image)
        _outline(axes[0], sample.mask, (height, width))
        axes[0].set_title("who takes (square)")
        for ax, (name, weights) in zip(axes[1:], found.items(), strict=True):
            extent = (0, width, height, 0)
            shown = ax.imshow(weights, cmap=HEAT, vmin=0, vmax=weights.max(), extent=extent)
            bar = fig.colorbar(shown, ax=ax, shrink=0.8)
            bar.set_ticks([0, weights.max()], labels=["0", f"{100 * weights.max():.1f} %"])
            ax.set_title(f"{name}: what it takes")
        step = np.array([width, height]) / clip.grid[::-1]
        for ax in axes:
            ax.add_patch(Rectangle(step * (column, row), *step, fill=False, color=TRUTH, lw=1.5))
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    return fig
