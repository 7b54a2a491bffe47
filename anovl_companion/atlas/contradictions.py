"""Where published numbers disagree, the likely reasons, and printed averages recomputed."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

from pandas import DataFrame, read_csv

from anovl_companion.atlas.table import family_of, remarks

REASONS = Path(__file__).with_name("reasons.csv")
MEASURED = Path(__file__).with_name("measured.csv")
AVERAGES = Path(__file__).with_name("averages.csv")
GROUP = ("dataset", "method", "metric", "setting")
AT_LEAST = 0.15  # points: rounding to one decimal alone makes 0.1


def groups(table: DataFrame) -> Any:
    """Group rows that claim to measure the same thing; all variants of AnoVL are one method."""
    return table.assign(method=table["method"].map(family_of)).groupby(list(GROUP))


def pairs(table: DataFrame, *, at_least: float = AT_LEAST) -> DataFrame:
    """Return each two rows that contradict each other, with their `difference` in points.

    They have the same method, data set, metric and setting; the same backbone and resolution as far
    as both say them ("CLIP" agrees with "CLIP ViT-B/16"); and they differ by `at_least` points.
    Cells known to be wrong are left out. `low` and `high` are row numbers of the table.
    """
    table = table[~remarks(table, "wrong:")].sort_values("percent")
    by_place = {row.Index: row for row in table.itertuples()}
    rows = []
    for key, places in groups(table).groups.items():
        for one, other in combinations(map(by_place.get, places), 2):
            difference = round(other.percent - one.percent, 6)
            same = _agree(one.backbone, other.backbone) and _agree(one.resolution, other.resolution)
            if same and difference >= at_least:
                rows.append((*key, one.Index, other.Index, difference))
    return DataFrame(rows, columns=[*GROUP, "low", "high", "difference"])


def contradictions(table: DataFrame, *, at_least: float = AT_LEAST) -> DataFrame:
    """Return the groups with contradicting rows (see `pairs`), the widest first.

    Columns: `GROUP`; `spread`, the largest difference in points; `said`, the values and who
    reports them ("second hand" ones are marked); `reasons`, each with how sure it is, in brackets,
    and what it does on our own maps where that was measured.

    >>> from anovl_companion.atlas.table import numbers
    >>> found = contradictions(numbers()).set_index(list(GROUP))
    >>> row = found.loc[("visa", "anovl", "auroc_px", "zero-shot, training-free")]
    >>> float(row["spread"])
    6.2
    """
    known = reasons().to_dict("records")
    texts = {row.Index: _said(row) for row in table.itertuples()}
    rows = []
    for key, group in pairs(table, at_least=at_least).groupby(list(GROUP)):
        of_group = sorted({*group["low"], *group["high"]}, key=table["percent"].get)
        said = "; ".join(texts[place] for place in of_group)
        rows.append((*key, group["difference"].max(), said, _reasons_of(key, known)))
    found = DataFrame(rows, columns=[*GROUP, "spread", "said", "reasons"])
    return found.sort_values("spread", ascending=False, kind="stable", ignore_index=True)


def reasons() -> DataFrame:
    """Read the likely reasons: which groups one may explain, what it is, and how sure it is.

    A cell of `dataset`, `method` or `metric` holds names with "|" between them; empty means all.
    `how_sure`: a source says so ("text"), it was read in the code of the place named ("code"), it
    follows from the printed numbers ("arithmetic"), or nobody says so ("guess"). `measured` tells,
    for each metric, by how many points the `effect` moves it on our own maps (`measured.csv`, made
    by `small_print.measure`); empty where no effect could be measured. `example` names a group that
    the reason may explain.
    """
    known, rows = read_csv(REASONS, keep_default_na=False), read_csv(MEASURED)
    rows["text"] = rows["points"].map("{:+.2f}".format) + " (" + rows["maps"] + ")"
    texts = rows.groupby(["effect", "metric"])["text"].agg(", ".join).reset_index("metric")
    of_effect = ("our maps: " + texts["metric"] + " " + texts["text"]).groupby("effect")
    return known.assign(measured=known["effect"].map(of_effect.agg("; ".join)).fillna(""))


def summary(table: DataFrame, found: DataFrame) -> str:
    """Say how much a table and its contradictions hold."""
    wide = (found["spread"] >= 5).sum()
    return (
        f"{len(table):,} published numbers of {table['method'].nunique()} methods on "
        f"{table['dataset'].nunique()} data sets, from {table['where'].nunique()} places. "
        f"In {len(found)} groups the sources disagree, in {wide} by 5 points or more."
    )


def averages(table: DataFrame) -> DataFrame:
    """Recompute printed averages whose cells are all in the table, each from its own source.

    Columns: those of `averages.csv`; `recomputed` in percent, NaN where a cell is missing; and
    `agrees`: whether the printed one is within 0.1 of it (two roundings to one decimal).
    """
    printed = read_csv(AVERAGES, keep_default_na=False)
    printed["recomputed"] = [_average(table, row) for row in printed.itertuples()]
    printed["agrees"] = (printed["percent"] - printed["recomputed"]).abs() <= 0.1 + 1e-9
    return printed


def _average(table: DataFrame, row: Any) -> float:
    same = (table["where"] == row.where) & (table["method"] == row.method)
    cells = table[same & (table["metric"] == row.metric)].set_index("dataset")["percent"]
    return float(cells.reindex(row.datasets.split("|")).mean(skipna=False))


def _agree(one: str, other: str) -> bool:
    """Say whether two names are the same as far as both are given."""
    return one.startswith(other) or other.startswith(one)


def _said(row: Any) -> str:
    who = row.reported_by + (", second hand" if row.certainty == "second hand" else "")
    variant = f" of {row.method}" if row.method != family_of(row.method) else ""
    return f"{row.percent:g}{variant} [{who}]"


def _reasons_of(key: tuple[str, ...], known: list[dict[str, str]]) -> str:
    names = dict(zip(GROUP[:3], key, strict=False))
    fitting = [
        reason
        for reason in known
        if all(not reason[c] or name in reason[c].split("|") for c, name in names.items())
    ]
    return "; ".join(_with_size(reason, names["metric"]) for reason in fitting)


def _with_size(reason: dict[str, str], metric: str) -> str:
    """Say a reason, how sure it is, and what it does to this metric on our own maps."""
    sizes = [size for size in reason["measured"].split("; ") if f" {metric} " in size]
    return f"{reason['reason']} [{'; '.join([reason['how_sure'], *sizes])}]"
