"""Figures in one style. None of them touches matplotlib's backend: notebooks keep theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log10
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from anovl.cli.panels import HEAT

COLUMN, PAGE = 3.25, 6.75  # inches: the width of a column and of a page


def house_style() -> dict[str, Any]:
    """Return matplotlib settings: small ticks, colour-blind-safe lines, text that stays text."""
    return {
        **sns.axes_style("ticks"),
        **sns.plotting_context("paper"),
        "axes.prop_cycle": cycler(color=sns.color_palette("colorblind")),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.dpi": 100,
        "image.cmap": HEAT,
        "legend.frameon": False,
        "pdf.fonttype": 42,
    }


def use_house_style() -> None:
    """Draw everything that follows in the house style."""
    matplotlib.rcParams.update(house_style())


def heatmap_panels(
    images: Sequence[Any],
    maps: Any,
    *,
    masks: Sequence[Any] | None = None,
    titles: Sequence[str] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    label: str = "P(anomalous)",
    cmap: str = HEAT,
    width: float = PAGE,
) -> Figure:
    """Draw one row an image: the image, its mask if given, and its anomaly map or maps.

    `images` are B pictures or arrays (H, W[, 3]); `maps` is (B, h, w), or several of those by name,
    each a column. All maps share one scale, `vmin` to `vmax` (default: the range of all of them) in
    the colours `cmap`, printed on one colour bar: a scale for each map would make every normal
    image look anomalous.

    Raises ValueError when the lengths differ, or a map is not finite.

    >>> fig = heatmap_panels(np.zeros((2, 8, 8)), np.arange(18).reshape(2, 3, 3), titles=["a", "b"])
    >>> len(fig.axes)  # two rows of image and map, and the colour bar
    5
    """
    images = [np.asarray(image) for image in images]
    named = maps if isinstance(maps, Mapping) else {"map": maps}
    columns = {name: np.asarray(values) for name, values in named.items()}
    _check_panels(len(images), columns, {"masks": masks, "titles": titles})
    low = min(values.min() for values in columns.values()) if vmin is None else vmin
    high = max(values.max() for values in columns.values()) if vmax is None else vmax
    heads = ["image", *(["mask"] if masks is not None else []), *columns]
    side = (width - 1.15) / len(heads) + 0.05
    with matplotlib.rc_context(house_style()):
        fig = Figure(figsize=(width, side * len(images) + 0.3), layout="constrained")
        axes = fig.subplots(len(images), len(heads), squeeze=False)
        for row, image in enumerate(images):
            panels = [(image, {"cmap": "gray"})]
            if masks is not None:
                mask = np.zeros(image.shape[:2]) if masks[row] is None else np.asarray(masks[row])
                panels.append((mask, {"cmap": "gray", "vmin": 0, "vmax": 1}))
            scale = {"cmap": cmap, "vmin": low, "vmax": high}
            panels += [(values[row], scale) for values in columns.values()]
            for ax, (pixels, colours) in zip(axes[row], panels, strict=True):
                _show(ax, pixels, image.shape[:2], **colours)
            axes[row, 0].set_ylabel(titles[row] if titles is not None else "")
        for ax, head in zip(axes[0], heads, strict=True):
            ax.set_title(head)
        _colour_bar(fig, axes, low, high, label, cmap)
    return fig


def _check_panels(count: int, maps: Mapping[str, np.ndarray], others: Mapping[str, Any]) -> None:
    if not count or not maps:
        raise ValueError(f"expected images and maps to draw; found {count} and {len(maps)}")
    for name, values in {**others, **maps}.items():
        if values is not None and len(values) != count:
            raise ValueError(f"{name!r} has {len(values)} entries for {count} images")
    for name, values in maps.items():
        if values.ndim != 3 or not np.isfinite(values).all():
            raise ValueError(f"{name!r} must be finite maps (B, h, w); found {values.shape}")


def _show(ax: Axes, pixels: np.ndarray, size: tuple[int, int], **colours: Any) -> None:
    """Show pixels, stretched over the height and width of their image, without ticks."""
    height, width = size
    ax.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest", **colours)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _colour_bar(fig: Figure, axes: Any, low: float, high: float, label: str, cmap: str) -> None:
    """Print the scale, with as many digits as tell its ends apart."""
    digits = 2 if high <= low else max(0, 2 - floor(log10(high - low)))
    bar = fig.colorbar(ScalarMappable(Normalize(low, high), cmap), ax=axes, label=label, aspect=30)
    ticks = [low, (low + high) / 2, high]
    bar.set_ticks(ticks, labels=[f"{tick:.{digits}f}" for tick in ticks])
