"""Figures in one style. None of them touches matplotlib's backend: notebooks keep theirs."""

from __future__ import annotations

from typing import Any

import matplotlib
import seaborn as sns
from cycler import cycler

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
