"""Charts of notebook 01."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from anovl.baselines import CONTROLS
from anovl_companion.charts import COLOURS, SMALL
from anovl_companion.figures import PAGE, house_style
from anovl_companion.run_charts.base import dots, label_of, methods
from anovl_companion.shared_run.reader import SharedRun


def scores_and_pointing(
    run: SharedRun, ways: Sequence[str] = ("clip", "centre", "anovl")
) -> Figure:
    """Draw the scores of whole pictures, and in how many of them each map points at the defect."""
    table = run.images()
    own = table[table["method"] == "clip"]
    is_normal = own["kind"] == "good"
    usual = own[is_normal].groupby("category")["score"].mean()
    scores = own["score"] - own["category"].map(usual)
    count = int((~is_normal).sum())
    hits = [count * run.value(way, "near_defect")[0] for way in ways]
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 2.6), layout="constrained")
        left, right = fig.subplots(1, 2)
        bins = np.histogram_bin_edges(scores, 30)
        left.hist(scores[is_normal], bins, color="0.6", alpha=0.8, label="normal")
        left.hist(scores[~is_normal], bins, color="black", alpha=0.55, label="anomalous")
        left.set(xlabel="image score, above the category's normal mean", ylabel="pictures")
        left.set_title("Whole pictures: the scores separate", loc="left")
        left.legend()
        colours = [COLOURS.get(way, COLOURS["control"]) for way in ways]
        bars = right.barh([label_of(way) for way in ways], hits, color=colours)
        right.bar_label(bars, [f" {hit:.0f} of {count}" for hit in hits])
        right.invert_yaxis()
        right.set(xlabel="pictures in which the highest value is on or near the defect")
        right.set(xlim=(0, 1.25 * max(hits)))
        right.set_title("Places: CLIP's own patches do not point", loc="left")
    return fig


def controls(run: SharedRun) -> Figure:
    """Draw CLIP's own patches, v-v, and the controls by AUPRO."""
    title = "A map counts only above its strongest control"
    return methods(run, ("clip", "anovl", *CONTROLS), "aupro", title=title)


def probe(run: SharedRun) -> Figure:
    """Draw what words and a linear probe find in patches, and in the probe's controls."""
    table = run.table("probe")
    rows = {name: run.value(name, "within", table="probe") for name in table.variants}
    title = "Patches hold more than words can read"
    return dots(rows, title=title, label="AUROC within a picture, mean and 95 % interval")
