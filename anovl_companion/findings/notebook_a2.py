"""The findings of notebook A2: what levels from normal pictures promise, and what they do not."""

from __future__ import annotations

import math

import numpy as np

from anovl.evaluation.misses import share_interval
from anovl.evaluation.threshold import conformal_threshold
from anovl_companion.findings.base import Estimate, Finding, Numbers, gain, value
from anovl_companion.shared_run.reader import SharedRun

FIRST, PROMISED = 4, 0.2  # the highest of four scores is a level for one false alarm in five
CONTROLS = ("outlier", "dog", "brightness")
UNKNOWN = Estimate(math.nan)


def scores_by_category(run: SharedRun) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Image scores, normal and anomalous, of categories with more than `FIRST` normal pictures."""
    images, found = run.images(), {}
    for category, own in images[images["method"] == "anovl"].groupby("category", sort=False):
        normal, scores = own["kind"] == "good", own["score"].to_numpy()
        if normal.sum() > FIRST:
            found[category] = scores[normal], scores[~normal]
    return found


def split_rates(run: SharedRun) -> dict[str, Estimate]:
    """The rate of false alarms by category: the first four normal pictures judge the others."""
    rates = {}
    for category, (normal, _) in scores_by_category(run).items():
        level = conformal_threshold(normal[:FIRST], rate=PROMISED)
        others = normal[FIRST:]
        rates[category] = Estimate(float((others > level).mean()), n=len(others))
    return rates


def splits(run: SharedRun) -> Numbers:
    """The mean rate of false alarms over categories, the best and the worst one of them."""
    rates = sorted(split_rates(run).values(), key=lambda rate: rate.value)
    if len(rates) < 2:
        return dict.fromkeys(("average", "best", "worst"), UNKNOWN)
    values = [rate.value for rate in rates]
    mean, half = float(np.mean(values)), 1.96 * np.std(values, ddof=1) / len(values) ** 0.5
    average = Estimate(mean, mean - half, mean + half)
    return {"average": average, "best": rates[0], "worst": rates[-1]}


def misses(run: SharedRun) -> Numbers:
    """Anomalous pictures at or below the highest score of all normal ones of their category."""
    found = scores_by_category(run).values()
    missed = sum(int((anomalous <= normal.max()).sum()) for normal, anomalous in found)
    share, promised = UNKNOWN, UNKNOWN
    if count := sum(len(anomalous) for _, anomalous in found):
        share = Estimate(missed / count, *share_interval(missed, count), n=count)
        promised = Estimate(float(np.mean([1 / (len(normal) + 1) for normal, _ in found])))
    return {"missed": share, "promised": promised, "auroc": value(run, "anovl", "auroc_sp")}


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
            "Anomalous pictures without an alarm: {missed:of} ({missed:interval}). Promised false "
            "alarms: at most {promised}. Image AUROC: {auroc:interval}."
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
            "Promised false alarms: at most 0.20. Average over categories: {average}. In the "
            "unluckiest one: {worst:of}."
        ),
        real_clip="The same: the promise needs no model of the scores.",
        refuted_by="images.csv: the interval of the average rate above 0.20",
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
