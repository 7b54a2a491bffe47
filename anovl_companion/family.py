"""The family of attention repairs in one table and one chart: which part of a repair matters?

The first four rows are a staircase: CLIP's own patches; a second stream that still looks with q-k;
one that looks with v-v, which is AnoVL; one whose patches see nothing but their own value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anovl.baselines import CONTROLS
from anovl.baselines.attention_variants import FAMILY, STAIRCASE
from anovl.evaluation.results import read_groups, read_results
from anovl_companion.figures import PAGE, house_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

METRICS = {"auroc_px_debiased": "pixel AUROC, position-debiased", "aupro": "AUPRO"}
LABELS = {
    "clip": "CLIP's own patches (q-k)",
    "second-stream-qk": "second stream, q-k",
    "anovl": "AnoVL: second stream, v-v",
    "second-stream-own": "second stream, own value only",
    "anovl-qq": "second stream, q-q",
    "anovl-kk": "second stream, k-k",
    "clip-surgery": "CLIP Surgery",
    "gem": "GEM",
    "maskclip": "MaskCLIP, as published",
    "values-only": "own value only, last block",
    "sclip": "SCLIP",
    "clearclip": "ClearCLIP",
    "naclip": "NACLIP",
    "qkv": "q-q + k-k + v-v, last block",
}


def family_choices() -> DataFrame:
    """Return what makes each member: one row each, straight from the code that runs it.

    Columns: `method`, `label`, the three choices `looks`, `blocks` and `remains`, `source`, `note`.

    >>> table = family_choices().set_index("method")
    >>> table.loc["naclip", ["looks", "blocks", "remains"]].tolist()
    ['k-k, near', 'last', 'nothing']
    """
    from pandas import DataFrame

    rows = [
        {"method": name, "label": LABELS[name], **vars(repair)} for name, repair in FAMILY.items()
    ]
    return DataFrame(rows).drop(columns="name")


def read_family(out: str | Path) -> DataFrame:
    """Return means of a finished run of `evaluate`, of each group of categories or of all.

    A data set without groups, such as mvtec or visa, has one: "all categories". Raises
    FileNotFoundError for an unfinished run.
    """
    if (Path(out) / "groups.csv").is_file():
        return read_groups(out)
    table = read_results(out)
    return table[table["level"] == "mean"].assign(category="all categories")


def family_table(means: DataFrame, *, cost: Mapping[str, float] | None = None) -> DataFrame:
    """Return the members found in a table of means, with their choices: one row a member and group.

    `means` has the columns of results.csv; its `category` names a group, as from `read_family`.
    Columns: `method`, `label`, `looks`, `blocks`, `remains`, `group`; each metric with its interval
    (`_lo`, `_hi`), fractions 0-1; `cost`, how many times what plain CLIP costs: from `cost`, by
    method and in any unit (counted operations, milliseconds), else from a column `ms_per_image`,
    else NaN. The staircase comes first, the others follow by their AUPRO in the first group.

    Raises ValueError if no member is in `means`.
    """
    rows = means[means["method"].isin(FAMILY)].rename(columns={"category": "group"})
    if rows.empty:
        raise ValueError(f"expected means of some of {', '.join(FAMILY)}; found none of them")
    columns = [f"{metric}{end}" for metric in METRICS for end in ("", "_lo", "_hi")]
    table = rows.merge(family_choices(), on="method")
    table["cost"] = _relative_cost(table, cost)
    first = table[table["group"] == table["group"].iloc[0]].set_index("method")["aupro"]
    order = {name: (0, step) for step, name in enumerate(STAIRCASE)}
    order |= {name: (1, -value) for name, value in first.items() if name not in order}
    groups = {name: i for i, name in enumerate(dict.fromkeys(table["group"]))}
    keys = [(*order.get(row.method, (2, 0)), groups[row.group]) for row in table.itertuples()]
    table = table.iloc[sorted(range(len(table)), key=keys.__getitem__)].reset_index(drop=True)
    return table[["method", "label", "looks", "blocks", "remains", "group", *columns, "cost"]]


def _relative_cost(table: DataFrame, cost: Mapping[str, float] | None) -> Any:
    if cost is not None:
        return table["method"].map(cost) / cost.get("clip", np.nan)
    if "ms_per_image" not in table:
        return np.nan
    plain = table[table["method"] == "clip"].set_index("group")["ms_per_image"]
    return table["ms_per_image"] / table["group"].map(plain)


def best_control(means: DataFrame) -> dict[tuple[str, str], float]:
    """Return the best value of the controls by (group, metric): what a member has to beat.

    >>> from pandas import DataFrame
    >>> row = {"category": "seen", "method": "dog", "auroc_px_debiased": 0.7, "aupro": 0.5}
    >>> best_control(DataFrame([row]))
    {('seen', 'auroc_px_debiased'): 0.7, ('seen', 'aupro'): 0.5}
    """
    best = means[means["method"].isin(CONTROLS)].groupby("category")[list(METRICS)].max()
    return {
        (group, metric): float(best.loc[group, metric])
        for group in best.index
        for metric in METRICS
    }


def printed_family(table: DataFrame) -> DataFrame:
    """Lay a `family_table` out for reading: one row a member, values in percent with intervals."""
    from pandas import DataFrame

    rows = []
    for _, parts in table.groupby("method", sort=False):
        first = parts.iloc[0]
        row = {name: first[name] for name in ("label", "looks", "blocks", "remains")}
        for metric, title in METRICS.items():
            for part in parts.to_dict("records"):
                row[f"{title}, {part['group']} (%)"] = _cell(part, metric)
        rows.append(row | {"cost / CLIP's": first["cost"]})
    return DataFrame(rows)


def _cell(row: Mapping[str, Any], metric: str) -> str:
    value, low, high = (100 * row[f"{metric}{end}"] for end in ("", "_lo", "_hi"))
    return f"{value:.1f}" + ("" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]")


def family_chart(
    table: DataFrame,
    *,
    title: str = "",
    controls: Mapping[tuple[str, str], float] | None = None,
) -> Figure:
    """Draw a `family_table`: a dot with its 95 % interval for each member, metric and group.

    The first group has full dots, the second hollow ones; AnoVL alone has a colour. Lines mark the
    best control of each group (`best_control`), and the cost beside plain CLIP's stands right.
    """
    import matplotlib
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(table["method"]))
    groups = list(dict.fromkeys(table["group"]))
    steps = sum(name in STAIRCASE for name in names)
    with matplotlib.rc_context(house_style()):
        fig = Figure(figsize=(PAGE, 0.27 * len(names) + 1.3), layout="constrained")
        axes = fig.subplots(1, len(METRICS), sharey=True)
        for ax, (metric, label) in zip(axes, METRICS.items(), strict=True):
            for i, group in enumerate(groups):
                _dots(ax, table[table["group"] == group], names, metric, i, len(groups))
                if (best := (controls or {}).get((group, metric))) is not None:
                    style = "-" if i == 0 else ":"
                    ax.axvline(
                        100 * best, color="0.6", ls=style, lw=1, label=f"best control, {group}"
                    )
            if 0 < steps < len(names):
                ax.axhline(steps - 0.5, color="0.85", lw=0.8)
            ax.set(xlabel=f"{label} (%)", ylim=(len(names) - 0.4, -0.6))
        axes[0].set_yticks(range(len(names)), labels=[LABELS[name] for name in names])
        for y, name in enumerate(names):
            cost = table[table["method"] == name]["cost"].iloc[0]
            text = "" if np.isnan(cost) else f"{cost:.1f} ×"
            place = axes[-1].get_yaxis_transform()
            axes[-1].text(1.03, y, text, transform=place, va="center", fontsize=8)
        if table["cost"].notna().any():
            axes[-1].text(1.03, 1.01, "cost", transform=axes[-1].transAxes, fontsize=8)
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
        if title:
            fig.suptitle(title, fontsize=10)
    return fig


def _dots(
    ax: Axes, rows: DataFrame, names: Sequence[str], metric: str, place: int, groups: int
) -> None:
    """One group's dots and intervals, the first group a little above the second."""
    import seaborn as sns

    rows = rows.set_index("method")
    shift = 0.22 * (place - (groups - 1) / 2)
    for y, name in enumerate(name for name in names if name in rows.index):
        value, low, high = (100 * rows.loc[name, f"{metric}{end}"] for end in ("", "_lo", "_hi"))
        colour = sns.color_palette("colorblind")[0] if name == "anovl" else "0.25"
        ax.errorbar(
            value,
            names.index(name) + shift,
            xerr=None if np.isnan(low) else [[max(value - low, 0)], [max(high - value, 0)]],
            fmt="o",
            markersize=4,
            color=colour,
            markerfacecolor=colour if place == 0 else "white",
            label=rows["group"].iloc[0] if y == 0 else None,
        )
