"""What others report, every number with its source, and what was measured here beside it.

Only numbers that were read in a public source are in `published.csv`; nearly all were read at
second hand, as `certainty` says. What has no source has no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anovl.data.published import MVTEC_AD

if TYPE_CHECKING:
    from pandas import DataFrame

PUBLISHED_METRICS = ("auroc_px", "f1_px", "aupro", "auroc_sp", "f1_sp", "ap_sp")
NO_SOURCE = "no sourced value"
UNSPECIFIED = " (variant unspecified)"  # ends the name of a method whose source says no more
# over which published means are taken
_CATEGORIES = {"mvtec": len(MVTEC_AD), "visa": 12, "mpdd": 6, "btad": 3}


def published() -> DataFrame:
    """Return all sourced numbers, one a row, the means over a data set's categories.

    Columns: `dataset`, `method` and `metric` as `evaluate` names them; `value`, a fraction 0-1;
    `reported`: "paper" for the claim of a method's own authors, "re-run" for what others measured,
    "unclear" where a table does not say which of the two it prints; `source`; `certainty`: "at the
    source", "two sources" that agree, or "one source" that quotes it; `note`. Tables that do not
    say which AnoVL they mean, with adaptation or without, are of "anovl (variant unspecified)".
    Where two sources disagree both stand: see `disagreements`.

    >>> table = published().set_index(["dataset", "method", "metric", "reported"])
    >>> row = table.loc[("mvtec", "anovl-tta", "aupro", "paper")]
    >>> float(row["value"]), row["certainty"]
    (0.778, 'two sources')
    """
    from pandas import read_csv

    table = read_csv(Path(__file__).with_name("published.csv"), keep_default_na=False)
    table.insert(3, "value", (table.pop("percent") / 100).round(6))
    return table


def disagreements(*, reruns: bool = False) -> DataFrame:
    """Return where sources give different values of one method: one row a data set and metric.

    Columns: `dataset`, `method` (all variants of AnoVL are one: which is meant is often the
    question), `metric`, the `lowest` and `highest` value, their `spread`, fractions 0-1, and
    `sources` with each value. With `reruns`, what others measured counts too.

    >>> table = disagreements().set_index(["dataset", "method", "metric"])
    >>> print(table.loc[("visa", "anovl", "auroc_px"), "sources"])
    85.2 (Crane (arXiv 2504.11055), Table 1, column AnoVL); 91.4 (wizwand.com, page of the paper)
    """
    from pandas import DataFrame

    table = published()
    table = table if reruns else table[table["reported"] != "re-run"]
    of_any_variant = table["method"].str.removesuffix(UNSPECIFIED).str.removesuffix("-tta")
    rows = []
    for key, group in table.assign(method=of_any_variant).groupby(["dataset", "method", "metric"]):
        if group["value"].nunique() > 1:
            group = group.sort_values("value")
            ends = float(group["value"].iloc[0]), float(group["value"].iloc[-1])
            said = (f"{100 * row.value:.4g} ({row.source})" for row in group.itertuples())
            rows.append((*key, *ends, ends[1] - ends[0], "; ".join(said)))
    names = ("dataset", "method", "metric", "lowest", "highest", "spread", "sources")
    return DataFrame(rows, columns=list(names))


def published_value(
    dataset: str, method: str, metric: str, *, reported: Literal["paper", "re-run"] = "paper"
) -> tuple[float, str]:
    """Return one sourced number, a fraction 0-1, and its source; NaN and `NO_SOURCE` without one.

    >>> published_value("mvtec", "anovl", "auroc_sp")[0]
    0.925
    >>> published_value("pocket", "anovl", "aupro")
    (nan, 'no sourced value')
    """
    wanted = (dataset, method, metric, reported)
    table = published().set_index(["dataset", "method", "metric", "reported"])
    if wanted not in table.index:
        return float("nan"), NO_SOURCE
    return float(table.loc[wanted, "value"]), table.loc[wanted, "source"]


def published_gain(dataset: str, method: str, other: str, metric: str) -> tuple[float, str]:
    """Return how far one method is above another as published, and the sources of both numbers.

    NaN and `NO_SOURCE` when one of them is missing. The two may come from two papers.

    >>> gain, source = published_gain("mvtec", "anovl-tta", "winclip", "aupro")
    >>> round(gain, 3), source.split(";")[0]
    (0.132, 'wizwand.com, page of the paper')
    """
    pairs = [published_value(dataset, name, metric) for name in (method, other)]
    (ours, source), (theirs, their_source) = pairs
    if NO_SOURCE in (source, their_source):
        return float("nan"), NO_SOURCE
    return ours - theirs, "; ".join(dict.fromkeys((source, their_source)))


def beside_published(
    table: DataFrame,
    *,
    metrics: Sequence[str] = PUBLISHED_METRICS,
    reported: Literal["paper", "re-run"] = "paper",
) -> DataFrame:
    """Set the means of `evaluate`'s table beside the published ones: one row a method and metric.

    Columns: `dataset`, `method`, `metric`; `paper`, `ours` and their `difference` (ours - paper),
    fractions 0-1, NaN where there is none; `source` ("no sourced value" without one); `certainty`;
    `note`. A mean over only some of a data set's categories has no difference: it would compare
    other images.

    Raises ValueError for a table without rows of means or without one of the metrics.

    >>> from pandas import DataFrame
    >>> ours = DataFrame({"dataset": ["pocket"], "level": ["mean"], "method": ["anovl"]})
    >>> beside_published(ours.assign(aupro=0.5, note=""), metrics=["aupro"]).source.item()
    'no sourced value'
    """
    from pandas import DataFrame

    means = table[table["level"] == "mean"]
    if means.empty:
        raise ValueError(
            "expected the table of evaluate, with a row of level 'mean' for each method"
        )
    if missing := [metric for metric in metrics if metric not in table.columns]:
        raise ValueError(f"the table has no column {', '.join(missing)}")
    known = published().query("reported == @reported")
    known = known.set_index(["dataset", "method", "metric"]).to_dict("index")
    rows = [
        _row(mean, metric, known.get((mean["dataset"], mean["method"], metric)), _gap(table, mean))
        for mean in means.to_dict("records")
        for metric in metrics
    ]
    return DataFrame(rows)


def _row(
    mean: dict[str, Any], metric: str, theirs: dict[str, Any] | None, gap: str
) -> dict[str, Any]:
    nothing = {"value": float("nan"), "source": NO_SOURCE, "certainty": "", "note": ""}
    theirs = theirs or nothing
    difference = float("nan") if gap else mean[metric] - theirs["value"]
    return {
        **{"dataset": mean["dataset"], "method": mean["method"], "metric": metric},
        **{"paper": theirs["value"], "ours": mean[metric], "difference": difference},
        **{"source": theirs["source"], "certainty": theirs["certainty"]},
        "note": "; ".join(filter(None, (theirs["note"], gap))),
    }


def _gap(table: DataFrame, mean: dict[str, Any]) -> str:
    """Say what a method's mean leaves out of the published one; "" for nothing."""
    of_method = (table["dataset"] == mean["dataset"]) & (table["method"] == mean["method"])
    here = int((of_method & (table["level"] == "category")).sum())
    whole = _CATEGORIES.get(mean["dataset"], here)
    if here != whole:
        return f"ours: {here} of {whole} categories"
    return mean["note"] if isinstance(mean["note"], str) else ""
