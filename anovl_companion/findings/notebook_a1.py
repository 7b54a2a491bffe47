"""The findings of notebook A1."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from pandas import read_csv

from anovl import auroc
from anovl.baselines import CONTROLS
from anovl.evaluation.bootstrap import bootstrap_auroc, bootstrap_interval, cautious_interval
from anovl.models.pocket import SHIPPED
from anovl_companion.findings.base import Estimate, Finding, Numbers, gain, value
from anovl_companion.shared_run.reader import MARGIN, SharedRun

PIXEL = "auroc_px_debiased"
UNMEASURED = Estimate(math.nan)


def on(
    read: Callable[..., Estimate], run: SharedRun, *of: str, group: str, **where: str
) -> Estimate:
    """Read a value or a gain on a group of categories, on all where the run has no such group."""
    return read(run, *of, group=group if group in run.record["groups"] else None, **where)


def apart(run: SharedRun, metric: str) -> Estimate:
    """How much higher a metric of the class token is on unseen categories than on seen ones."""
    if not {"seen", "unseen"} <= set(run.record["groups"]):
        return UNMEASURED
    seen, unseen = (run.measured("clip", group=group) for group in ("seen", "unseen"))
    drawn = unseen.replicates[metric] - seen.replicates[metric]
    return Estimate(unseen.mean(metric) - seen.mean(metric), *bootstrap_interval(drawn))


def over_best_control(run: SharedRun, group: str) -> Numbers:
    """AUPRO of v-v, of the best control on the same pictures, and the gain."""
    here = [name for name in CONTROLS if name in run.methods]
    found = {name: on(value, run, name, "aupro", group=group) for name in here}
    best = max(here, key=lambda name: found[name].value)
    return {
        "vv": on(value, run, "anovl", "aupro", group=group),
        "control": found[best],
        "gain": on(gain, run, "anovl", best, "aupro", group=group),
    }


def validated(run: SharedRun) -> Numbers:
    """V-V pixel AUROC on unseen categories in validation: first, last, and of the outer thirds."""
    path = SHIPPED.get(run.path.name, run.path) / "validation.csv"
    if not path.is_file():
        return dict.fromkeys(("first", "last", "early", "late"), UNMEASURED)
    checks = read_csv(path).query("group == 'unseen'")
    values, steps = checks["vv_pixel_auroc"], checks["step"] / checks["step"].max()
    numbers = {
        "first": values.iloc[0],
        "last": values.iloc[-1],
        "early": values[steps < 1 / 3].max(),
        "late": values[steps > 2 / 3].min(),
    }
    return {name: Estimate(number) for name, number in numbers.items()}


def missed(run: SharedRun) -> Numbers:
    """Anomalous pictures below their category's normal mean, normal ones above its anomalous mean.

    `smaller` is the AUROC of a small area as a sign that an anomalous picture is missed.
    """
    table = run.images().query("method == 'clip'")
    is_normal = table["kind"] == "good"
    normal, anomalous = table[is_normal], table[~is_normal]
    usual, bad = (one.groupby("category")["score"].mean() for one in (normal, anomalous))
    is_missed = (anomalous["score"] < anomalous["category"].map(usual)).to_numpy()
    is_alarm = (normal["score"] > normal["category"].map(bad)).to_numpy()
    numbers = {"missed": _share(is_missed), "alarms": _share(is_alarm), "smaller": UNMEASURED}
    small = -anomalous["area"].to_numpy(float)
    if is_missed.any() and not is_missed.all() and not np.isnan(small).any():
        interval = bootstrap_interval(bootstrap_auroc(small, is_missed))
        numbers["smaller"] = Estimate(auroc(small, is_missed), *interval)
    return numbers


def _share(is_wrong: np.ndarray) -> Estimate:
    share, count = float(is_wrong.mean()), len(is_wrong)
    return Estimate(share, *cautious_interval(share, count), n=count)


FINDINGS: dict[str, Finding] = {
    "A1-unseen": Finding(
        says=(
            "Pictures and captions are enough to tell normal from anomalous pictures: image AUROC "
            "{seen:interval} on categories of the training, {unseen:interval} on categories that "
            "it never had. The difference is {apart:points} ({apart:word})."
        ),
        numbers=lambda run: {
            "seen": on(value, run, "clip", "auroc_sp", group="seen"),
            "unseen": on(value, run, "clip", "auroc_sp", group="unseen"),
            "apart": apart(run, "auroc_sp"),
        },
        holds=lambda n: n["unseen"].low > 0.75,
        again="{seen:interval} and {unseen:interval}",
        otherwise="Image AUROC on categories without training: {unseen:interval}.",
        real_clip="It has seen far more things, so few are new; but captions seldom name defects.",
        refuted_by="groups.csv: `auroc_sp` of `clip` on `unseen` nearer to a coin than to one",
    ),
    "A1-maps": Finding(
        says=(
            "V-V attention repairs the maps of categories that training never had, too: pixel "
            "AUROC {qk:interval} with q-k and {vv:interval} with v-v on unseen categories "
            "({gain:points}); on seen ones the gain is {gain_seen:points}."
        ),
        numbers=lambda run: {
            "qk": on(value, run, "clip", PIXEL, group="unseen"),
            "vv": on(value, run, "anovl", PIXEL, group="unseen"),
            "gain": on(gain, run, "anovl", "clip", PIXEL, group="unseen"),
            "gain_seen": on(gain, run, "anovl", "clip", PIXEL, group="seen"),
        },
        holds=lambda n: n["gain"].verdict == n["gain_seen"].verdict == "above",
        again="{qk} and {vv} ({gain:points}); on seen ones {gain_seen:points}",
        otherwise="Pixel AUROC on categories without training: {qk} (q-k), {vv:interval} (v-v).",
        real_clip="The gain stays: it comes from the architecture and not from the categories.",
        refuted_by="groups.csv: `auroc_px_debiased` of `clip` on `unseen` level with `anovl`",
    ),
    "A1-patches": Finding(
        says=(
            "During training, v-v pixel AUROC on unseen categories rises from {first} to {last}. "
            "Every check of the last third ({late} at least) is above every check of the first "
            "third ({early} at most)."
        ),
        numbers=validated,
        holds=lambda n: n["late"].value > n["early"].value + MARGIN,
        again="from {first} to {last}, {late} at least against {early} at most",
        otherwise="The curves are those of the pocket models on drawn pictures, not on these.",
        real_clip="Maps of public checkpoints can be measured in the same way, step by step.",
        refuted_by="validation.csv: a late `vv_pixel_auroc` of `unseen` below an early one",
    ),
    "A1-centre": Finding(
        says=(
            "A fixed bright centre still reaches {centre:interval} within a picture (AUROC), and "
            "the v-v map of another picture {other:interval}. V-V reaches {vv:interval}."
        ),
        numbers=lambda run: {
            "centre": value(run, "centre", "within"),
            "other": value(run, "shuffled", "within"),
            "vv": value(run, "anovl", "within"),
            "gain": gain(run, "anovl", "centre", "within"),
        },
        holds=lambda n: n["gain"].verdict == "above" and n["centre"].low > 0.5 + MARGIN,
        again="{centre}, {other} and {vv}",
        otherwise="AUROC within a picture: {centre} (centre), {other} (another map), {vv} (v-v).",
        real_clip="In photographs of single objects the centre is worth more than here.",
        refuted_by="images.csv: `auroc_px` of `centre` at one half, or level with `anovl`",
    ),
    "A1-statistics": Finding(
        says=(
            "On unseen categories, v-v has AUPRO {vv:interval}; the best map without words has "
            "{control:interval}. The gain is {gain:points}."
        ),
        numbers=lambda run: over_best_control(run, "unseen"),
        holds=lambda n: n["gain"].verdict == "above",
        again="{vv} and {control}, {gain:points}",
        otherwise="AUPRO on categories without training: v-v {vv}, best control {control}.",
        real_clip="Photographs hold more that is unusual and normal, so statistics lose ground.",
        refuted_by="groups.csv: `aupro` of a control on `unseen` level with `anovl`",
    ),
    "A1-names": Finding(
        says=(
            "For unseen categories, a general noun in place of the unknown name changes image "
            "AUROC by {gain:points} ({gain:word}). So the unknown name no longer costs anything "
            "that we can see."
        ),
        numbers=lambda run: {
            "gain": on(
                gain, run, "name: generic", "domains", "auroc_sp", group="unseen", table="words"
            )
        },
        holds=lambda n: n["gain"].verdict in ("equal", "not told apart", "below"),
        again="{gain:points} ({gain:word})",
        otherwise="A general noun in place of the names: {gain:points} in image AUROC.",
        real_clip="It knows most names, so the right name should help and a wrong one cost.",
        refuted_by="words.csv: `name: generic` above `domains` in `auroc_sp` on unseen categories",
    ),
    "A1-missed": Finding(
        says=(
            "{missed:of} anomalous pictures score below the mean normal picture of their category, "
            "and {alarms:of} normal ones score above the mean anomalous picture. A missed defect "
            "is smaller than a found one in a share of {smaller:interval} of all comparisons; one "
            "half would mean that size plays no part."
        ),
        numbers=missed,
        holds=lambda n: n["missed"].high < 0.1 and n["alarms"].high < 0.1,
        again="{missed:of}, {alarms:of}, smaller in {smaller:interval}",
        otherwise=(
            "Anomalous pictures below their category's normal mean: {missed:of}. Normal ones above "
            "its anomalous mean: {alarms:of}."
        ),
        real_clip="Photographs hold fainter defects and odder normal things: expect more errors.",
        refuted_by="images.csv: `score clip` on the wrong side in a tenth of the pictures",
    ),
}
