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
    "gem": "GEM",
    "sclip": "SCLIP",
    "clearclip": "ClearCLIP",
    "naclip": "NACLIP",
    "qkv": "q-q, k-k and v-v together",
    "values-only": "values only, last block",
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
FAMILY = ("anovl", "clip-surgery", "maskclip", "gem", "sclip", "clearclip", "naclip", "qkv",
          "values-only", "second-stream-qk", "second-stream-own")  # fmt: skip
PIXEL = "auroc_px_debiased"
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


def controls(run: SharedRun) -> Figure:
    """Draw CLIP's own patches, v-v, and the controls by AUPRO."""
    title = "A map counts only above its strongest control"
    return methods(run, ("clip", "anovl", *CONTROLS), "aupro", title=title)


def family(run: SharedRun) -> Figure:
    """Draw the family of attention repairs by AUPRO."""
    return methods(
        run,
        ("clip", *FAMILY),
        "aupro",
        title="Many repairs help as much; those made for other networks may not",
    )


def methods(run: SharedRun, names: Sequence[str], metric: str, *, title: str) -> Figure:
    """Draw methods by a metric, best first; the best control is a shaded floor."""
    found = {name: run.value(name, metric) for name in names if name in run.methods}
    floor = max((one[0] for name, one in found.items() if name in CONTROLS), default=None)
    rows = dict(sorted(found.items(), key=lambda item: -item[1][0]))
    return dots(rows, title=title, label=f"{NAMES.get(metric, metric)}, 95 % interval", floor=floor)


def probe(run: SharedRun) -> Figure:
    """Draw what words and a linear probe find in patches, and in the probe's controls."""
    table = run.table("probe")
    rows = {name: run.value(name, "within", table="probe") for name in table.variants}
    title = "Patches hold more than words can read"
    return dots(rows, title=title, label="AUROC within a picture, mean and 95 % interval")


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


def gains(
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
