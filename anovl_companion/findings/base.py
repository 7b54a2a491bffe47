"""Findings: sentences with numbers from a run, and the condition under which each is true.

A notebook names a finding; its sentence, its numbers and its condition stand in the module of the
notebook. In the shipped configuration the condition must hold on every shipped model; elsewhere
the notebook says what was found there.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from anovl_companion.shared_run.reader import SharedRun, judged


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval, `low` to `high`; NaN where it was not measured.

    In a sentence `{x}` is a fraction with two digits, `{x:interval}` has its interval beside it,
    `{x:points}` is a difference in percentage points, `{x:count}` a whole number, `{x:of}` a count
    out of `n`, and `{x:word}` the verdict on a difference.

    >>> gain, few = Estimate(0.142, 0.121, 0.163), Estimate(0.1875, n=320)
    >>> f"{gain:points}", f"{few:of}", f"{gain:word}", f"{Estimate(math.nan)}"
    ('+14.2 points [+12.1 to +16.3]', '60 of 320', 'above', 'not measured')
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0

    @property
    def verdict(self) -> str:
        """The word for a difference: "above", "below", "equal", "not told apart", …"""
        return judged(self.value, self.low, self.high)

    def __format__(self, kind: str) -> str:
        if math.isnan(self.value):
            return "not measured"
        if kind == "word":
            return self.verdict
        if kind == "count":
            return f"{self.value:.0f}"
        if kind == "of":
            return f"{self.value * self.n:.0f} of {self.n}"
        form = "{:+.1f}" if kind == "points" else "{:.2f}"
        scale, unit = (100, " points") if kind == "points" else (1, "")
        said = form.format(scale * self.value) + unit
        if not kind or math.isnan(self.low):
            return said
        return f"{said} [{form.format(scale * self.low)} to {form.format(scale * self.high)}]"


Numbers = Mapping[str, Estimate]


@dataclass(frozen=True)
class Finding:
    """A sentence that can turn out to be wrong.

    `says` has a place for each of `numbers`, which reads them from a run; it is true where `holds`.
    `again` is a short clause with the numbers of another model. `otherwise` has the same numbers
    without a claim, for other pictures and other models. `real_clip` says what a CLIP trained on
    photographs should change, and why; `refuted_by` names the table and the row that would overturn
    the sentence.
    """

    says: str
    numbers: Callable[[SharedRun], Numbers]
    holds: Callable[[Numbers], bool]
    again: str
    otherwise: str
    real_clip: str
    refuted_by: str


def state(finding: Finding, runs: Sequence[SharedRun], *, is_shipped: bool) -> str:
    """Return a finding as a sentence, with its numbers in `runs`, one run a model.

    Raises AssertionError where `is_shipped` and the finding does not hold on each of them.
    """
    measured = [finding.numbers(run) for run in runs]
    if not is_shipped:
        places = {name for _, name, _, _ in string.Formatter().parse(finding.otherwise) if name}
        unknown = dict.fromkeys(places, Estimate(math.nan))
        return finding.otherwise.format(**(measured[0] if measured else unknown))
    for run, numbers in zip(runs, measured, strict=True):
        if not finding.holds(numbers):
            said = finding.says.format(**numbers)
            raise AssertionError(f"this finding does not hold on {run.path.name}: {said}")
    said = [finding.says.format(**measured[0])]
    said += [f"Trained again with another seed: {finding.again.format(**n)}." for n in measured[1:]]
    return " ".join(said)


def value(run: SharedRun, *of: str, **where: str) -> Estimate:
    """`run.value` as an `Estimate`, with the number of anomalous pictures."""
    return Estimate(*run.value(*of, **where), n=anomalous_pictures(run))


def gain(run: SharedRun, *of: str, **where: str) -> Estimate:
    """`run.gain` as an `Estimate`."""
    return Estimate(*run.gain(*of, **where))


def anomalous_pictures(run: SharedRun) -> int:
    """Count the anomalous pictures of a run."""
    images = run.images()
    facts = images[images["method"] == images["method"].iloc[0]]
    return int((facts["kind"] != "good").sum())
