"""Charts of a run: one function for each message that a notebook draws from measured tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from anovl.baselines import CONTROLS
from anovl_companion.charts import COLOURS, SMALL, dot_chart
from anovl_companion.figures import PAGE, house_style
from anovl_companion.shared_run.reader import SharedRun
from anovl_companion.shared_run.table import METHODS_TABLE

LABELS = {
    "clip": "CLIP's own patches (q-k)",
    "anovl": "V-V attention",
    "anovl-tta": "V-V with test-time adaptation",
    "transmm": "TransMM",
    "maskclip": "MaskCLIP",
    "clip-surgery": "CLIP Surgery",
    "winclip": "WinCLIP",
    "centre": "a fixed bright centre",
    "shuffled": "the v-v map of another picture",
    "outlier": "patch statistics",
    "dog": "difference of Gaussians",
    "brightness": "brightness",
    "second-stream-qk": "second stream, q-k",
    "second-stream-own": "second stream, own value",
}
"""Words for code names, for figures."""
NAMES = {"aupro": "AUPRO", "auroc_px_debiased": "pixel AUROC, debiased", "auroc_sp": "image AUROC"}


def label_of(name: str) -> str:
    """Return the words for a method; other names stay."""
    return LABELS.get(name, name)


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


def method_chart(run: SharedRun, names: Sequence[str], metric: str, *, title: str) -> Figure:
    """Draw methods by a metric, best first; the best control is a shaded floor."""
    found = {name: run.value(name, metric) for name in names}
    floor = max((one[0] for name, one in found.items() if name in CONTROLS), default=None)
    rows = dict(sorted(found.items(), key=lambda item: -item[1][0]))
    return dots(rows, title=title, label=f"{NAMES.get(metric, metric)}, 95 % interval", floor=floor)


def variant_chart(
    run: SharedRun,
    names: Mapping[str, tuple[str, str]],
    metric: str,
    *,
    title: str,
    label: str,
) -> Figure:
    """Draw variants of tables: `names` holds the table and the variant for each label."""
    rows = {
        label: run.value(variant, metric, table=table) for label, (table, variant) in names.items()
    }
    return dots(rows, title=title, label=label)


def gain_chart(
    run: SharedRun,
    names: Sequence[str],
    over: str,
    metric: str,
    *,
    title: str,
    label: str,
    table: str = METHODS_TABLE,
) -> Figure:
    """Draw the gain of variants over one of them, in points, as a forest chart."""
    rows = {name: run.gain(name, over, metric, table=table) for name in names}
    points = {name: tuple(100 * end for end in gain) for name, gain in rows.items()}
    return dots(points, title=title, label=label, zero=0.0)


def dots(rows: Mapping[str, tuple[float, float, float]], **options: object) -> Figure:
    """Draw a dot chart with words for code names, and one colour for each method."""
    colours = {label_of(name): COLOURS.get(name, COLOURS["control"]) for name in rows}
    named = {label_of(name): row for name, row in rows.items()}
    return dot_chart(named, colours=colours, **options)
