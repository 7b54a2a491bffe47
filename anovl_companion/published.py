"""Published numbers with their sources, and our own beside them.

`published.csv` has only numbers from public sources; nearly all come from a second source that
quotes the first, as `certainty` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pandas import DataFrame, read_csv

from anovl.data.published import MVTEC_AD

PUBLISHED_METRICS = ("auroc_px", "f1_px", "aupro", "auroc_sp", "f1_sp", "ap_sp")
NO_SOURCE = "no sourced value"
_UNKNOWN = {"value": float("nan"), "source": NO_SOURCE, "certainty": "", "note": ""}
_KEY = ["dataset", "method", "metric"]
# over which published means are taken
_CATEGORIES = {"mvtec": len(MVTEC_AD), "visa": 12, "mpdd": 6, "btad": 3}


def published() -> DataFrame:
    """Return all sourced numbers, one a row, the means over a data set's categories.

    Columns: `dataset`, `method` and `metric` as `evaluate` names them; `value`, a fraction 0-1;
    `reported`: "paper" for the claim of a method's own authors, "re-run" for what others measured,
    "unclear" where a table does not say which of the two it prints; `source`; `certainty`: "at the
    source", "two sources" that agree, or "one source" that quotes it; `note`. Tables that do not
    say which AnoVL they mean, with adaptation or without, are of "anovl (variant unspecified)".
    Where two sources disagree both stand.

    >>> table = published().set_index(["dataset", "method", "metric", "reported"])
    >>> row = table.loc[("mvtec", "anovl-tta", "aupro", "paper")]
    >>> float(row["value"]), row["certainty"]
    (0.778, 'two sources')
    """
    table = read_csv(Path(__file__).with_name("published.csv"), keep_default_na=False)
    table.insert(3, "value", (table.pop("percent") / 100).round(6))
    return table


def published_gain(dataset: str, method: str, other: str, metric: str) -> tuple[float, str]:
    """Return how far one method is above another as published, and the sources of both numbers.

    NaN and `NO_SOURCE` when one of them is missing. The two may come from two papers.

    >>> gain, source = published_gain("mvtec", "anovl-tta", "winclip", "aupro")
    >>> round(gain, 3), source.split(";")[0]
    (0.132, 'wizwand.com, page of the paper')
    """
    known = _known("paper")
    ours, theirs = (known.get((dataset, name, metric), _UNKNOWN) for name in (method, other))
    sources = dict.fromkeys((ours["source"], theirs["source"]))
    if NO_SOURCE in sources:
        return float("nan"), NO_SOURCE
    return ours["value"] - theirs["value"], "; ".join(sources)


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

    Raises ValueError for a table without rows of means.

    >>> from pandas import DataFrame
    >>> ours = DataFrame({"dataset": ["pocket"], "level": ["mean"], "method": ["anovl"]})
    >>> beside_published(ours.assign(aupro=0.5, note=""), metrics=["aupro"]).source.item()
    'no sourced value'
    """
    means = table[table["level"] == "mean"]
    if means.empty:
        raise ValueError("expected the table of evaluate, with rows of level 'mean'; found none")
    known, rows = _known(reported), []
    for mean in means.to_dict("records"):
        gap = _gap(table, mean)
        for metric in metrics:
            key = (mean["dataset"], mean["method"], metric)
            theirs = known.get(key, _UNKNOWN)
            row = dict(zip(_KEY, key, strict=True))
            row |= {"paper": theirs["value"], "ours": mean[metric]}
            row["difference"] = float("nan") if gap else mean[metric] - theirs["value"]
            row |= {"source": theirs["source"], "certainty": theirs["certainty"]}
            row["note"] = "; ".join(filter(None, (theirs["note"], gap)))
            rows.append(row)
    return DataFrame(rows)


def _known(reported: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    table = published()
    return table[table["reported"] == reported].set_index(_KEY).to_dict("index")


def _gap(table: DataFrame, mean: dict[str, Any]) -> str:
    """Say what a method's mean leaves out of the published one; "" for nothing."""
    of_method = (table["dataset"] == mean["dataset"]) & (table["method"] == mean["method"])
    here = int((of_method & (table["level"] == "category")).sum())
    whole = _CATEGORIES.get(mean["dataset"], here)
    if here != whole:
        return f"ours: {here} of {whole} categories"
    return mean["note"] if isinstance(mean["note"], str) else ""
