"""The findings of notebook A2: what levels from normal pictures promise, and what they do not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

import numpy as np

from anovl.evaluation.misses import share_interval
from anovl.evaluation.threshold import conformal_threshold
from anovl_companion.findings.base import Estimate, Finding, Numbers, gain, value
from anovl_companion.shared_run.reader import SharedRun

FIRST, PROMISED = 4, 0.2  # the highest of four scores is a level for one false alarm in five
CONTROLS = ("outlier", "dog", "brightness")
UNKNOWN = Estimate(math.nan)


class Scores(NamedTuple):
    """Image scores of AnoVL in one category."""

    category: str
    normal: np.ndarray
    anomalous: np.ndarray


def scores_by_category(run: SharedRun) -> Iterator[Scores]:
    """Yield the scores of the categories that have more than `FIRST` normal pictures."""
    images = run.images()
    for category, own in images[images["method"] == "anovl"].groupby("category", sort=False):
        normal = own["kind"] == "good"
        if normal.sum() > FIRST:
            scores = own["score"].to_numpy()
            yield Scores(category, scores[normal], scores[~normal])


def split_rates(run: SharedRun) -> dict[str, tuple[int, int]]:
    """Count false alarms of a level set by the first four normal pictures, of the other ones."""
    rates = {}
    for own in scores_by_category(run):
        level = conformal_threshold(own.normal[:FIRST], rate=PROMISED)
        others = own.normal[FIRST:]
        rates[own.category] = int((others > level).sum()), len(others)
    return rates


def splits(run: SharedRun) -> Numbers:
    """The mean rate of false alarms over categories, and the worst one of them."""
    counts = split_rates(run).values()
    rates = [alarms / of for alarms, of in counts]
    if not rates:
        return dict.fromkeys(("average", "best", "worst"), UNKNOWN)
    half = 1.96 * np.std(rates, ddof=1) / len(rates) ** 0.5 if len(rates) > 1 else math.nan
    mean, (lowest, *_, highest) = float(np.mean(rates)), sorted(counts, key=lambda c: c[0] / c[1])
    return {
        "average": Estimate(mean, mean - half, mean + half),
        "best": Estimate(lowest[0] / lowest[1], n=lowest[1]),
        "worst": Estimate(highest[0] / highest[1], n=highest[1]),
    }


def misses(run: SharedRun) -> Numbers:
    """Anomalous pictures at or below the highest score of all normal ones of their category."""
    found = list(scores_by_category(run))
    missed = sum(int((own.anomalous <= own.normal.max()).sum()) for own in found)
    count = sum(len(own.anomalous) for own in found)
    share = Estimate(missed / count, *share_interval(missed, count), n=count) if count else UNKNOWN
    promised = np.mean([1 / (len(own.normal) + 1) for own in found]) if found else math.nan
    auroc = value(run, "anovl", "auroc_sp")
    return {"missed": share, "promised": Estimate(float(promised)), "auroc": auroc}


def other_levels(run: SharedRun) -> Numbers:
    """False alarms with a level that the normal pictures of another category set."""
    pairs = list(permutations(scores_by_category(run), 2))
    if not pairs:
        return dict.fromkeys(("rate", "promised", "worst"), UNKNOWN)
    rates = [(own.normal > other.normal.max()).mean() for own, other in pairs]
    promised = np.mean([1 / (len(other.normal) + 1) for _, other in pairs])
    worst = int(np.argmax(rates))
    return {
        "rate": Estimate(float(np.mean(rates))),
        "promised": Estimate(float(promised)),
        "worst": Estimate(float(rates[worst]), n=len(pairs[worst][0].normal)),
    }


def controls(run: SharedRun) -> Numbers:
    """Image AUROC of AnoVL and of controls without words, with the gains over each of them."""
    found = {name: value(run, name, "auroc_sp") for name in ("anovl", *CONTROLS)}
    gains = {f"over_{name}": gain(run, "anovl", name, "auroc_sp") for name in CONTROLS}
    return found | gains


FINDINGS: dict[str, Finding] = {
    "A2-missed": Finding(
        says=(
            "A level from normal pictures promises false alarms of at most {promised}, on average. "
            "It does not promise to catch defects: {missed:of} anomalous pictures raise no alarm "
            "({missed:interval}), although image AUROC is {auroc:interval}."
        ),
        numbers=misses,
        holds=lambda n: n["missed"].low > n["promised"].value,
        again="{missed:of} missed, image AUROC {auroc}",
        otherwise=(
            "With a level for false alarms of at most {promised}, {missed:of} anomalous pictures "
            "raise no alarm ({missed:interval})."
        ),
        real_clip="The promise holds for any network; how much is missed depends on its AUROC.",
        refuted_by="images.csv: scores of `anovl`, all anomalous ones above all normal ones",
    ),
    "A2-split": Finding(
        says=(
            "Promised: false alarms of at most 0.20. Four pictures set the level. Seen: "
            "{worst:of} others raise one in the unluckiest category, {best:of} in the luckiest, "
            "{average:interval} on average over categories."
        ),
        numbers=splits,
        holds=lambda n: n["average"].low <= PROMISED and n["worst"].value >= 2 * PROMISED,
        again="{worst:of}, {best:of}, and {average:interval} on average",
        otherwise=(
            "Promised: at most 0.20. Seen: {average} on average over categories, {worst:of} in the "
            "unluckiest."
        ),
        real_clip="The same: the promise needs no model of the scores.",
        refuted_by="images.csv: the interval of the average rate above 0.20",
    ),
    "A2-other": Finding(
        says=(
            "A level that another category set gives false alarms of {rate}, averaged over all "
            "pairs: near the {promised} of a level of their own. In the worst pair {worst:of} "
            "normal pictures raise an alarm."
        ),
        numbers=other_levels,
        holds=lambda n: n["rate"].value <= 2 * n["promised"].value and n["worst"].value > PROMISED,
        again="{rate} against {promised}, and {worst:of} in the worst pair",
        otherwise="With levels of other categories, false alarms are {rate}; promised: {promised}.",
        real_clip="The same: scores depend on the thing and on its name.",
        refuted_by="images.csv: a mean over pairs above twice the promise, or no bad pair",
    ),
    "A2-controls": Finding(
        says=(
            "Measure beside rules that know no words. Image AUROC: AnoVL {anovl:interval}, patch "
            "statistics {outlier}, difference of Gaussians {dog}, brightness {brightness}."
        ),
        numbers=controls,
        holds=lambda n: all(n[f"over_{name}"].verdict == "above" for name in CONTROLS),
        again="{anovl}, {outlier}, {dog}, {brightness}",
        otherwise=(
            "Image AUROC: AnoVL {anovl:interval}, patch statistics {outlier}, difference of "
            "Gaussians {dog}, brightness {brightness}. AnoVL minus patch statistics: "
            "{over_outlier:points} ({over_outlier:word})."
        ),
        real_clip="On photographs patch statistics fall behind; brightness depends on the camera.",
        refuted_by="results.csv: `auroc_sp` of a control as high as that of `anovl`",
    ),
}
