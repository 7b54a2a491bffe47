"""Claims and their verdicts: a difference, its interval, and the word that follows from them.

A verdict speaks of the images that were measured, and of no others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from pandas import DataFrame, read_csv

from anovl.evaluation.compare import Scores, compare_methods, run_record
from anovl_companion.published import NO_SOURCE, beside_published, published, published_gain
from anovl_companion.records import SUFFIX

Verdict = Literal["reproduced", "within noise", "differs", "not run here"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Compared = Literal["better", "within noise", "worse", "not run here"]
_OF_CLAIM: dict[str, Verdict] = {"better": "reproduced", "worse": "differs"}
_UNKNOWN = float("nan")
_ANOVL = ("anovl", "anovl-tta")


def compared(difference: float, low: float, high: float, *, margin: float = 0.0) -> Compared:
    """Return the word that a difference and its interval, low to high, allow.

    "better" or "worse" when the whole interval is more than `margin` above or below zero; "within
    noise" otherwise; "not run here" for NaN.

    >>> compared(0.10, 0.02, 0.18), compared(0.10, 0.02, 0.18, margin=0.03)
    ('better', 'within noise')

    Raises ValueError for an interval whose ends are the wrong way round.
    """
    if any(map(math.isnan, (difference, low, high))):
        return "not run here"
    if low > high:
        raise ValueError(f"expected low <= high; found {low} and {high}")
    return "better" if low > margin else "worse" if high < -margin else "within noise"


def verdict(difference: float, low: float, high: float, *, claimed: str = "above") -> Verdict:
    """Judge a claim by a difference and its interval, low to high.

    A claim that one thing is "above" another is reproduced when the whole interval is above zero,
    differs when the whole of it is below, and is within noise otherwise. A claim that a value is
    "equal" to a published one (the difference is ours - theirs) is reproduced when the interval
    holds zero, and differs otherwise. What is NaN was not run here.

    >>> verdict(0.10, 0.02, 0.18), verdict(0.10, -0.05, 0.25), verdict(-0.1, -0.2, -0.05)
    ('reproduced', 'within noise', 'differs')
    >>> verdict(-0.004, -0.02, 0.01, claimed="equal")
    'reproduced'

    Raises ValueError for another kind of claim, or an interval whose ends are the wrong way round.
    """
    if claimed not in ("above", "equal"):
        raise ValueError(f"claimed must be 'above' or 'equal'; found {claimed!r}")
    word = compared(difference, low, high)
    if claimed == "equal" and word != "not run here":
        return "reproduced" if word == "within noise" else "differs"
    return _OF_CLAIM.get(word, word)


@dataclass(frozen=True)
class Claim:
    """One sentence that can turn out to be wrong, and what was measured of it.

    `ours` and `other` are two values of `metric` (fractions 0-1): two methods, or ours and the
    published one. `low` and `high` bound their difference; NaN is for what was not measured.
    `by` says who claims it; `paper` is the published difference or value, with its `source`.

    >>> Claim("v-v localizes better than q-k", "aupro", 0.62, 0.07, low=0.4, high=0.6).verdict
    'reproduced'
    """

    says: str
    metric: str
    ours: float = _UNKNOWN
    other: float = _UNKNOWN
    low: float = _UNKNOWN
    high: float = _UNKNOWN
    claimed: str = "above"
    by: str = "the paper"
    paper: float = _UNKNOWN
    source: str = NO_SOURCE

    @property
    def difference(self) -> float:
        """How far ours is above the other."""
        return self.ours - self.other

    @property
    def verdict(self) -> Verdict:
        """The verdict on the sentence; see the function `verdict`."""
        return verdict(self.difference, self.low, self.high, claimed=self.claimed)


def ledger(claims: Sequence[Claim]) -> DataFrame:
    """Lay claims out as a table, one a row, the verdict beside the numbers that it follows from."""
    columns = ["says", "by", "metric", "ours", "other", "difference", "low", "high", "verdict"]
    columns += ["paper", "source"]
    rows = [[getattr(claim, name) for name in columns] for claim in claims]
    return DataFrame(rows, columns=["claim", *columns[1:]])


def claim_of_methods(
    says: str, run: str | Path, metric: str, method: str, other: str, *, by: str = "the paper"
) -> Claim:
    """Claim that one method of a finished run is above another; see `compare_methods`.

    On a data set with published numbers of both methods, their difference stands beside.
    """
    numbers = compare_methods(run, metric, method, other)
    paper, source = published_gain(run_record(run)["dataset"], method, other, metric)
    return Claim(says, metric, **numbers, by=by, paper=paper, source=source)


def claim_of_measured(
    says: str, metric: str, measured: Scores, other: Scores, *, by: str = "the paper"
) -> Claim:
    """Claim that one attention, or one set of words, is above another on the same images."""
    _, low, high = measured.gain(other, metric)
    return Claim(says, metric, measured.mean(metric), other.mean(metric), low, high, by=by)


def claims_of_numbers(
    table: DataFrame, *, same_model: bool, tolerance: float = 0.01
) -> list[Claim]:
    """Claim that AnoVL reaches what its paper reports, one claim a sourced number.

    `table` is that of `evaluate`. A number is judged if the table has the mean over its whole data
    set and `same_model` says that the paper's model made it; otherwise it was not run here. Where a
    metric has no interval, ours may be `tolerance` away.
    """
    means = table[table["level"] == "mean"].set_index(["dataset", "method"])
    beside = beside_published(table).query("difference.notna()")
    judged = {tuple(key) for key in beside[["dataset", "method", "metric"]].to_numpy()}
    claims = []
    for their in published().query("method in @_ANOVL and reported == 'paper'").itertuples():
        says = f"{their.method} on {their.dataset}: {their.metric} as published"
        claim = Claim(says, their.metric, other=their.value, claimed="equal")
        if same_model and (their.dataset, their.method, their.metric) in judged:
            mean = means.loc[(their.dataset, their.method)]
            ours = mean[their.metric]
            low = mean.get(f"{their.metric}_lo", ours - tolerance) - their.value
            high = mean.get(f"{their.metric}_hi", ours + tolerance) - their.value
            claim = replace(claim, ours=ours, low=low, high=high)
        claims.append(replace(claim, paper=their.value, source=their.source))
    return claims


def read_ledger(folder: str | Path, *, weights_hash: str) -> DataFrame:
    """Return the ledger that notebook 05 left in a folder, if these weights made it.

    Raises FileNotFoundError when there is none, ValueError when other weights made it.
    """
    stem = Path(folder) / "05_claims"
    record = stem.with_name(stem.name + SUFFIX)
    if not record.is_file():
        raise FileNotFoundError("there is no ledger yet: run notebook 05, which writes it")
    made_by = json.loads(record.read_text(encoding="utf-8")).get("weights_sha256", "")
    if made_by != weights_hash:
        theirs, ours = made_by[:12], weights_hash[:12]
        raise ValueError(f"other weights ({theirs}, not {ours}) made the ledger: run 05 again")
    return read_csv(stem.with_suffix(".csv"), keep_default_na=True)
