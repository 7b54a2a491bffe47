"""Charts of notebook 02."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from anovl_companion.charts import COLOURS, SMALL
from anovl_companion.figures import PAGE, house_style
from anovl_companion.run_charts.base import NAMES, PIXEL, dots, methods
from anovl_companion.shared_run.reader import SharedRun

FAMILY = ("anovl", "clip-surgery", "maskclip", "gem", "sclip", "clearclip", "naclip", "qkv",
          "values-only", "second-stream-qk", "second-stream-own")  # fmt: skip


def square(run: SharedRun) -> Figure:
    """Draw the square of streams and of mixing, with v-v as a fifth point."""
    rows = {
        "own stream, q-k (CLIP)": run.value("clip", PIXEL),
        "own stream, own value last (MaskCLIP)": run.value("maskclip", PIXEL),
        "second stream, q-k": run.value("second-stream-qk", PIXEL),
        "second stream, own value only": run.value("second-stream-own", PIXEL),
        "second stream, v-v (AnoVL)": run.value("anovl", PIXEL),
    }
    title = "What helps: a patch does not mix unlike values"
    return dots(rows, title=title, label=f"{NAMES[PIXEL]}, 95 % interval")


def kinds_by_block(run: SharedRun) -> Figure:
    """Draw pixel AUROC by the first block of the local path, one line a kind of attention."""
    table = run.table("attention")
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 2.8), layout="constrained")
        ax = fig.subplots()
        for kind, marker in zip(("v-v", "q-q", "k-k"), "osD", strict=True):
            names = [name for name in table.variants if name.startswith(f"{kind} from ")]
            starts = [int(name.split()[-1]) for name in names]
            found = [run.value(name, PIXEL, table="attention") for name in names]
            mean, low, high = np.transpose(found)
            bars = ax.errorbar(starts, mean, [mean - low, high - mean], label=kind, marker=marker)
            ax.annotate(kind, (starts[-1], mean[-1]), (8, 0), textcoords="offset points",
                        color=bars[0].get_color(), va="center")  # fmt: skip
        plain = run.value("q-k", PIXEL, table="attention")[0]
        ax.axhline(plain, color=COLOURS["clip"], linestyle="--")
        ax.text(starts[0] + 0.5, plain, "q-k", color=COLOURS["clip"], va="top")
        ax.axhline(0.5, color="0.5", linewidth=1, linestyle=":")
        ax.set(xlabel="first block of the local path", ylabel=NAMES[PIXEL], xticks=starts)
        ax.set_title("What is compared matters more than where the local path begins", loc="left")
    return fig


def family(run: SharedRun) -> Figure:
    """Draw the family of attention repairs by AUPRO."""
    return methods(
        run,
        ("clip", *FAMILY),
        "aupro",
        title="Many repairs help as much; those made for other networks may not",
    )
