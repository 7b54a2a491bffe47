"""Published numbers that can stand beside ours: the one that the atlas chooses of each.

All numbers with their sources are in `anovl_companion.atlas`; README.md there states the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from pandas import DataFrame, concat

from anovl.baselines import METHODS
from anovl.data.published import MVTEC_AD
from anovl_companion.atlas.table import best_numbers

PUBLISHED_METRICS = ("auroc_px", "f1_px", "aupro", "auroc_sp", "f1_sp", "ap_sp")
NO_SOURCE = "no sourced value"
_KEY = ["dataset", "method", "metric"]
# over which published means are taken
_CATEGORIES = {"mvtec": len(MVTEC_AD), "visa": 12, "mpdd": 6, "btad": 3}


def published() -> DataFrame:
    """Return the published numbers that can be printed beside ours, one a row.

    Columns: `dataset`, `method` and `metric` as `evaluate` names them; `value`, a fraction 0-1;
    `reported`: "paper" for the claim of a method's own authors, "re-run" for what others measured;
    `setting`; `source`; `certainty`: "read" there, or "second hand"; `note`. `best_numbers` chooses
    the one row of each. Numbers of which it is unclear what they are stand in the atlas only.

    >>> table = published().set_index(["dataset", "method", "metric", "reported"])
    >>> row = table.loc[("mvtec", "anovl-tta", "aupro", "paper")]
    >>> float(row["value"]), row["certainty"]
    (0.778, 'second hand')
    """
    columns = [*_KEY, "value", "reported", "setting", "source", "certainty", "note"]
    return _of_atlas()[columns]


@cache  # it is asked for by each claim of the ledger
def _of_atlas() -> DataFrame:
    return best_numbers()


def published_gain(dataset: str, method: str, other: str, metric: str) -> tuple[float, str]:
    """Return how far one method is above another as published, and the sources of both numbers.

    NaN and `NO_SOURCE` when one of them is missing. The two may come from two papers.

    >>> gain, source = published_gain("mvtec", "anovl-tta", "winclip", "aupro")
    >>> round(gain, 3), "MuSc" in source
    (0.132, True)
    """
    known = _known("paper").set_index(_KEY)[["paper", "source"]]
    pair = known.reindex([(dataset, name, metric) for name in (method, other)])
    sources = "; ".join(pair["source"].fillna(NO_SOURCE).unique())
    gain = pair["paper"].iloc[0] - pair["paper"].iloc[1]
    return float(gain), NO_SOURCE if NO_SOURCE in sources else sources


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

    >>> from pandas import DataFrame, concat
    >>> ours = DataFrame({"dataset": ["pocket"], "level": ["mean"], "method": ["anovl"]})
    >>> beside_published(ours.assign(aupro=0.5, note=""), metrics=["aupro"]).source.item()
    'no sourced value'
    """
    means = table[table["level"] == "mean"]
    if means.empty:
        raise ValueError("expected the table of evaluate, with rows of level 'mean'; found none")
    means = means.assign(gap=[_gap(table, mean) for mean in means.to_dict("records")])
    means = means.reset_index(drop=True)
    of_mean = ["dataset", "method", "gap"]
    beside = means.melt(of_mean, list(metrics), "metric", "ours", ignore_index=False)
    beside = beside.sort_index(kind="stable").merge(_known(reported), how="left", on=_KEY)
    beside = beside.fillna({"source": NO_SOURCE, "certainty": "", "note": ""})
    beside["difference"] = (beside["ours"] - beside["paper"]).where(beside["gap"] == "")
    both = zip(beside["note"], beside.pop("gap"), strict=True)
    beside["note"] = ["; ".join(filter(None, notes)) for notes in both]
    return beside[[*_KEY, "paper", "ours", "difference", "source", "certainty", "note"]]


def _known(reported: str) -> DataFrame:
    return published().query("reported == @reported").rename(columns={"value": "paper"})


def _gap(table: DataFrame, mean: dict[str, Any]) -> str:
    """Say what a method's mean leaves out of the published one; "" for nothing."""
    of_method = (table["dataset"] == mean["dataset"]) & (table["method"] == mean["method"])
    here = int((of_method & (table["level"] == "category")).sum())
    whole = _CATEGORIES.get(mean["dataset"], here)
    if here != whole:
        return f"ours: {here} of {whole} categories"
    return mean["note"] if isinstance(mean["note"], str) else ""


def published_or_beside(table: DataFrame, dataset: str) -> DataFrame:
    """Return ours beside what is published, on MVTec AD or VisA; else what is published there.

    `table` is that of `evaluate`, empty where nothing was measured.
    """
    if dataset in ("mvtec", "visa") and not table.empty:
        both = [
            beside_published(table, reported=who).assign(reported=who)
            for who in ("paper", "re-run")
        ]
        return concat(both).query("paper.notna()")
    known = published().query("dataset in ('mvtec', 'visa')")
    return known.loc[
        known["method"].isin(METHODS), [*_KEY, "value", "reported", "source", "certainty"]
    ]
