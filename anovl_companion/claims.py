"""The ledger: claims, what the shared run measured of each, and the verdict that follows.

A verdict speaks of the images that were measured, and of no others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pandas import DataFrame

from anovl_companion.published import beside_published, published, published_gain
from anovl_companion.shared_run.reader import SharedRun, judged
from anovl_companion.shared_run.table import METHODS_TABLE

Verdict = Literal["reproduced", "within noise", "differs", "not run here"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
PIXEL, PLACES = "auroc_px_debiased", ("mvtec", "visa")
COLUMNS = ("claim", "by", "metric", "ours", "other", "difference", "low", "high", "verdict",
           "trained again", "published", "a real CLIP should")  # fmt: skip
_ANOVL = ("anovl", "anovl-tta")
_NOT_MEASURED = (math.nan,) * 5
EQUAL = "reach it with the paper's own weights (e32)"
_WORDS = "show it more clearly: its captions hold such words"
_MORE_VIEWS = "show it on MVTec AD, where AnoVL's score is a mean of 22 views"
_ADAPTED = "show a gain, says the paper; look at single pictures, too"
_FAMILY = "show another order: it differs from model to model"
_CONTROLS = "widen the gap: photographs hold more that is unusual"


def verdict(difference: float, low: float, high: float, *, claimed: str = "above") -> Verdict:
    """Judge a claim by a difference and its interval, low to high, as findings are judged.

    A claim that one thing is "above" another is reproduced when the interval is above zero, differs
    when it is below, and is within noise otherwise. A claim that a value is "equal" to a published
    one (the difference is ours - theirs) differs when zero is outside. What is NaN was not run.

    >>> verdict(0.10, 0.02, 0.18), verdict(0.10, -0.05, 0.25), verdict(-0.1, -0.2, -0.05)
    ('reproduced', 'within noise', 'differs')
    >>> verdict(-0.004, -0.02, 0.01, claimed="equal")
    'reproduced'

    Raises ValueError for another kind of claim, or an interval whose ends are the wrong way round.
    """
    if claimed not in ("above", "equal"):
        raise ValueError(f"claimed must be 'above' or 'equal'; found {claimed!r}")
    if low > high:
        raise ValueError(f"expected low <= high; found {low} and {high}")
    word = judged(difference, low, high)
    if word == "not measured":
        return "not run here"
    if claimed == "equal":
        return "differs" if word in ("above", "below") else "reproduced"
    found: dict[str, Verdict] = {"above": "reproduced", "below": "differs"}
    return found.get(word, "within noise")


@dataclass(frozen=True)
class Claim:
    """A sentence that can turn out to be wrong: `ours` is above `other` in `metric`.

    Both are variants of a table of the shared run. `by` says who claims it; `real_clip` what a
    CLIP trained on photographs should do.
    """

    says: str
    ours: str
    other: str
    real_clip: str
    metric: str = "aupro"
    table: str = METHODS_TABLE
    by: str = "the paper"

    def measured(self, run: SharedRun) -> tuple[float, ...]:
        """Ours, the other, their difference, low and high; NaN for what is not in the run."""
        variants = {"variant": self.ours, "over": self.other}
        try:
            gain = run.gain(**variants, metric=self.metric, table=self.table)
            both = [run.value(one, self.metric, table=self.table)[0] for one in variants.values()]
        except KeyError:
            return _NOT_MEASURED
        return (*both, *gain)


def _above(other: str, name: str, real_clip: str) -> tuple[Claim, ...]:
    ways = (("anovl", "AnoVL"), ("anovl-tta", "AnoVL with adaptation"))
    return tuple(Claim(f"{says} is above {name}", way, other, real_clip) for way, says in ways)


CLAIMS: tuple[Claim, ...] = (
    Claim("Patches lack alignment: they hold more than words can read", "probe, q-k", "words, q-k",
          "show it: no CLIP trains its last patch outputs", "within", "probe"),
    Claim("V-V attention finds more of each defect than q-k", "anovl", "clip",
          "widen the gap: more blocks mix more"),
    Claim("V-V attention localizes better than q-k", "anovl", "clip",
          "widen the gap: more blocks mix more", PIXEL),
    Claim("V-V is above q-q", "anovl", "anovl-qq", _FAMILY, by="we"),
    Claim("V-V is above k-k", "anovl", "anovl-kk", _FAMILY, by="we"),
    *_above("transmm", "TransMM", "show it: gradients of a score are coarse"),
    *_above("maskclip", "MaskCLIP", _FAMILY),
    *_above("clip-surgery", "CLIP Surgery", _FAMILY),
    *_above("winclip", "WinCLIP", "show it: the published gap is large"),
    Claim("AnoVL detects better than WinCLIP", "anovl", "winclip", _MORE_VIEWS, "auroc_sp"),
    Claim("The ensemble detects better than a bare word", "domains", "word", _WORDS, "auroc_sp",
          "words"),
    Claim("The ensemble localizes better than a bare word", "domains", "word", _WORDS, PIXEL,
          "words"),
    Claim("Domain words add to templates", "domains", "templates", _WORDS, "auroc_sp", "words"),
    Claim("Adaptation finds more of each defect", "anovl-tta", "anovl", _ADAPTED),
    Claim("Adaptation localizes better", "anovl-tta", "anovl", _ADAPTED, PIXEL),
    Claim("Adaptation improves a picture's own map", "anovl-tta", "anovl",
          "tell a better order from a shift of whole pictures", "within", by="we"),
    Claim("AnoVL is above patch statistics", "anovl", "outlier", _CONTROLS, by="we"),
    Claim("AnoVL is above local contrast", "anovl", "dog", _CONTROLS, by="we"),
    Claim("AnoVL is above a bright centre", "anovl", "centre", _CONTROLS, by="we"),
)  # fmt: skip


def ledger(
    runs: Sequence[SharedRun], dataset: str = "mvtec", claims: Sequence[Claim] = CLAIMS
) -> DataFrame:
    """Lay claims out as a table, one a row, with numbers of the first run and its verdict.

    `trained again` has the verdicts on the other models; `published` the difference as published,
    on MVTec AD where the data set is neither this nor VisA.
    """
    rows, where = [], dataset if dataset in PLACES else "mvtec"
    for claim in claims:
        found = [claim.measured(run) for run in runs] or [_NOT_MEASURED]
        words = [verdict(*numbers[2:]) for numbers in found]
        gain, _ = published_gain(where, claim.ours, claim.other, claim.metric)
        facts = [", ".join(words[1:]) or "–", gain, claim.real_clip]
        rows.append([claim.says, claim.by, claim.metric, *found[0], words[0], *facts])
    return DataFrame(rows, columns=COLUMNS)


def numbers_ledger(table: DataFrame, *, same_model: bool, tolerance: float = 0.01) -> DataFrame:
    """Claim that AnoVL reaches what its paper reports; the same columns, one row a sourced number.

    `table` is that of `evaluate`. A number is judged if the table has the mean over its whole data
    set and `same_model` says that the paper's model made it; otherwise it was not run here. Where a
    metric has no interval, ours may be `tolerance` away.
    """
    key, rows = ["dataset", "method", "metric"], []
    beside = DataFrame(columns=[*key, "difference"]) if table.empty else beside_published(table)
    known = {tuple(row) for row in beside.query("difference.notna()")[key].to_numpy()}
    for their in published().query("method in @_ANOVL and reported == 'paper'").to_dict("records"):
        dataset, method, metric = (their[name] for name in key)
        ours = low = high = math.nan
        if same_model and (dataset, method, metric) in known:
            mean = table.query("level == 'mean' and method == @method").iloc[0]
            ours = mean[metric]
            low = mean.get(f"{metric}_lo", ours - tolerance) - their["value"]
            high = mean.get(f"{metric}_hi", ours + tolerance) - their["value"]
        difference = ours - their["value"]
        said = verdict(difference, low, high, claimed="equal")
        row = [f"{method} on {dataset} as published", "the paper", metric, ours, their["value"]]
        rows.append([*row, difference, low, high, said, "–", math.nan, EQUAL])
    return DataFrame(rows, columns=COLUMNS)
