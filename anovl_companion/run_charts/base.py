"""Charts of a run: one function for each message that a notebook draws from measured tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from anovl.baselines import CONTROLS
from anovl_companion.charts import COLOURS, dot_chart
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
    "word": "one word on each side",
    "states": "seven bare states",
    "templates": "seven states in templates, photo",
    "name: generic": "name: object or surface",
    "name: wrong": "name: that of another category",
}
"""Words for code names, for figures."""
PIXEL = "auroc_px_debiased"
NAMES = {"aupro": "AUPRO", "auroc_px_debiased": "pixel AUROC, debiased", "auroc_sp": "image AUROC"}


def label_of(name: str) -> str:
    """Return the words for a method; other names stay."""
    return LABELS.get(name, name)


def methods(run: SharedRun, names: Sequence[str], metric: str, *, title: str) -> Figure:
    """Draw methods by a metric, best first; the best control is a shaded floor."""
    found = {name: run.value(name, metric) for name in names if name in run.methods}
    floor = max((one[0] for name, one in found.items() if name in CONTROLS), default=None)
    rows = dict(sorted(found.items(), key=lambda item: -item[1][0]))
    return dots(rows, title=title, label=f"{NAMES.get(metric, metric)}, 95 % interval", floor=floor)


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
