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
    rates = {name: 100 * alarms / of for name, (alarms, of) in split_rates(run).items()}
    rates = dict(sorted(rates.items(), key=lambda item: item[1]))
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 3), layout="constrained")
        ax = fig.subplots()
        ax.bar(list(rates), list(rates.values()), color=COLOURS["control"])
        ax.plot(list(rates), list(rates.values()), "o", color="black", markersize=4)
        promised, mean = 100 * PROMISED, np.mean(list(rates.values())) if rates else 0.0
        for height, style, text in ((promised, "--", "promised"), (mean, "-", "average")):
            ax.axhline(height, color=COLOURS["anovl"], linestyle=style, linewidth=1)
            ax.text(0, height + 1, f"{text} {height:.0f} %", color=COLOURS["anovl"], va="bottom")
        ax.tick_params(axis="x", rotation=60)
        ax.set_ylabel("false alarms, %")
        title = f"A promise holds on average; a single level, set by {FIRST} pictures, has luck"
        ax.set_title(title, loc="left")
    return fig
