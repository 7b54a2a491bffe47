"""Two charts of the atlas: how far apart published values are, and whose are the highest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from pandas import DataFrame, concat, read_csv

from anovl_companion.atlas.contradictions import AT_LEAST, contradictions, groups
from anovl_companion.atlas.table import METRICS, SETTINGS, best_numbers, kind_of, numbers, remarks
from anovl_companion.figures import PAGE, house_style

NAMES = Path(__file__).with_name("names.csv")  # of metrics, data sets and methods, for readers
OTHERS, OURS = "0.6", "#d55e00"  # grey, and one colour for AnoVL
_STYLE = {"font.size": 9, "ytick.major.size": 0}


def spread_chart(table: DataFrame | None = None) -> Figure:
    """Draw how far apart published values of the same thing are: a dot a group, by metric.

    AnoVL's groups have a colour, and a name where they spread over 3 points or more.
    """
    table = numbers() if table is None else table
    names, found = _names(), contradictions(table)
    printed = groups(table[~remarks(table, "wrong:")])["where"].size()
    title = (
        f"Of {(printed > 1).sum()} results that are printed more than once, {len(found)} differ: "
        f"by {found['spread'].median():.1f} points\nin the median, by up to "
        f"{found['spread'].max():.1f}"
    )
    with rc_context({**house_style(), **_STYLE}):
        fig = Figure(figsize=(PAGE, 4.4), layout="constrained")
        ax = fig.subplots()
        for row, metric in enumerate(METRICS):
            of_metric = found[found["metric"] == metric]
            ours = of_metric["method"] == "anovl"
            others = of_metric.loc[~ours, "spread"]
            lift = 0.6 * (np.arange(len(others)) * 0.618 % 1 - 0.5)  # so that dots stay apart
            ax.scatter(others, row + lift, s=7, color=OTHERS)
            ax.vlines(of_metric["spread"].median(), row - 0.35, row + 0.35, color="black", lw=2)
            _mark_ours(ax, row, of_metric[ours], names)
        ax.set(xscale="log", xticks=[0.2, 0.5, 1, 2, 5, 10, 20, 50])
        ax.xaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.set_yticks(range(len(METRICS)), map(names.get, METRICS))
        ax.invert_yaxis()
        ax.set_xlabel(
            "highest minus lowest published value, points; a dot: one method on one data set;\n"
            "in colour: AnoVL; black line: median"
        )
        ax.set_title(title, loc="left", fontsize=10)
    return fig


def _mark_ours(ax: Axes, row: int, found: DataFrame, names: dict[str, str]) -> None:
    ax.scatter(found["spread"], [row] * len(found), s=30, color=OURS, zorder=3)
    edge = [withStroke(linewidth=3, foreground="white")]  # dots below do not blur the name
    for n, one in enumerate(found[found["spread"] >= 3].itertuples()):
        at = (0, 6 if n % 2 else -13)  # neighbours do not cover each other
        name = ax.annotate(names.get(one.dataset, one.dataset), (one.spread, row), at)
        name.set(anncoords="offset points", ha="center", color=OURS, path_effects=edge)


def own_and_others(table: DataFrame, dataset: str, metric: str) -> DataFrame:
    """Return each method's own value beside what others print for it, one row a setting.

    Columns: `setting`, `method`, `own` (by the rule of `best_numbers`), `low` and `high` of what
    others measured or do not say where they have it from, in percent. Only methods that have both.
    """
    of_metric = table[(table["dataset"] == dataset) & (table["metric"] == metric)]
    claims = of_metric.apply(kind_of, axis="columns").isin(("own", "quoted"))
    rows = []
    for (_, method, _, setting), group in groups(of_metric[~remarks(of_metric, "wrong:")]):
        best = best_numbers(table.loc[group.index])
        own = best.loc[best["reported"] == "paper", "percent"]
        others = group.loc[~claims, "percent"]
        if len(own) and len(others):
            rows.append((setting, method, own.max(), others.min(), others.max()))
    rows.sort(key=lambda row: (SETTINGS.index(row[0]), row[2]))
    return DataFrame(rows, columns=["setting", "method", "own", "low", "high"])


def own_chart(table: DataFrame | None = None, *, metric: str = "auroc_px") -> Figure:
    """Draw each method's own value (diamond) and the range of what others print, by setting.

    Of MVTec AD and VisA. Raises ValueError for a metric of which no method has both there.
    """
    table = numbers() if table is None else table
    names = _names()
    found = {name: own_and_others(table, name, metric) for name in ("mvtec", "visa")}
    both = concat(found.values())
    if both.empty:
        raise ValueError(f"no method has its own {metric} and another's on mvtec or visa")
    above = (both["own"] - both["high"] >= AT_LEAST).sum()
    widest = (both["high"] - both["low"]).max()
    title = (
        f"The authors' own {names[metric]} is above all that others print in {above} of "
        f"{len(both)} cases;\nothers differ by up to {widest:.0f} points among themselves"
    )
    tallest = max(len(rows) + rows["setting"].nunique() for rows in found.values())
    with rc_context({**house_style(), **_STYLE}):
        fig = Figure(figsize=(PAGE, 0.21 * tallest + 1.3), layout="constrained")
        axes = fig.subplots(1, len(found), sharex=True, squeeze=False)[0]
        for ax, (dataset, rows) in zip(axes, found.items(), strict=True):
            _own_panel(ax, rows, names)
            ax.set_title(names.get(dataset, dataset), loc="left", fontsize=9)
        fig.supxlabel("percent; diamond: the authors' value, bar: what others print", fontsize=9)
        fig.suptitle(title, x=0.01, ha="left", fontsize=10)
    return fig


def _own_panel(ax: Axes, rows: DataFrame, names: dict[str, str]) -> None:
    labels = []
    left = ax.get_yaxis_transform()
    for setting, of_setting in rows.groupby("setting", sort=False):
        ax.text(0.01, len(labels), setting, transform=left, va="center", style="italic")
        labels.append("")
        for row in of_setting.itertuples():
            ax.plot([row.low, row.high], [len(labels)] * 2, "|-", color=OTHERS, lw=3, ms=8, mew=2.5)
            colour = OURS if row.method == "anovl" else "black"
            ax.plot(row.own, len(labels), "D", color=colour, ms=4)
            labels.append(names.get(row.method, row.method))
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.9)  # the first row is at the top


def _names() -> dict[str, str]:
    return read_csv(NAMES, index_col="name")["title"].to_dict()
