"""The chart of notebook A2."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from anovl_companion.charts import COLOURS, SMALL
from anovl_companion.figures import PAGE, house_style
from anovl_companion.findings.notebook_a2 import FIRST, PROMISED, split_rates
from anovl_companion.shared_run.reader import SharedRun


def luck(run: SharedRun) -> Figure:
    """Draw the rate of false alarms of each category, with a level that four pictures set."""
    found = sorted(split_rates(run).items(), key=lambda item: item[1].value)
    rates = {name: 100 * rate.value for name, rate in found}
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 3), layout="constrained")
        ax = fig.subplots()
        ax.bar(list(rates), list(rates.values()), color=COLOURS["control"])
        average = np.mean(list(rates.values())) if rates else np.nan
        lines = {"promised": (100 * PROMISED, "--", "bottom"), "average": (average, "-", "top")}
        for text, (height, style, side) in lines.items():
            ax.axhline(height, color=COLOURS["anovl"], linestyle=style, linewidth=1)
            ax.text(-0.5, height, f"{text} {height:.0f} %", color=COLOURS["anovl"], va=side)
        ax.set_xticks(range(len(rates)), rates, rotation=60, ha="right", rotation_mode="anchor")
        ax.set_ylabel("false alarms, %")
        title = f"One promise, many users: false alarms of levels that {FIRST} pictures set"
        ax.set_title(title, loc="left")
    return fig
