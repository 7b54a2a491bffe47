"""The findings of notebook 05."""

from __future__ import annotations

import math

import numpy as np

from anovl.baselines import CONTROLS
from anovl.evaluation.bootstrap import bootstrap_interval
from anovl_companion.findings.base import Estimate, Finding, Numbers, gain, value
from anovl_companion.shared_run.reader import MARGIN, SharedRun

PIXEL = "auroc_px_debiased"


def beside_controls(run: SharedRun) -> Numbers:
    """V-V attention and CLIP's own patches against the control with the highest AUPRO."""
    means = {name: run.value(name, "aupro")[0] for name in CONTROLS}
    best = max(CONTROLS, key=lambda name: -math.inf if math.isnan(means[name]) else means[name])
    return {
        "vv": value(run, "anovl", "aupro"),
        "control": Estimate(means[best]),
        "gain": gain(run, "anovl", best, "aupro"),
        "baseline": gain(run, "clip", best, "aupro"),
    }


def unseen(run: SharedRun) -> Numbers:
    """V-V attention in each group of categories; NaN where the data have no such groups."""
    groups = {"seen", "unseen"} & run.record["groups"].keys()
    nothing = Estimate(math.nan)
    found = dict.fromkeys(("seen", "vv", "control", "control_seen", "gain"), nothing)
    if len(groups) < 2:
        return found
    return {
        "seen": value(run, "anovl", "aupro", group="seen"),
        "vv": value(run, "anovl", "aupro", group="unseen"),
        "control": value(run, "outlier", "aupro", group="unseen"),
        "control_seen": value(run, "outlier", "aupro", group="seen"),
        "gain": gain(run, "anovl", "clip", "aupro", group="unseen"),
    }


def wins(run: SharedRun) -> Numbers:
    """In how many categories v-v has a higher AUPRO than others."""
    rows = run.table().rows.pivot(index="category", columns="variant", values="aupro").dropna()
    others = {"clip": "clip", "control": "outlier", "surgery": "clip-surgery"}
    return {
        name: Estimate(float((rows["anovl"] > rows[other]).mean()), n=len(rows))
        for name, other in others.items()
    }


def failures(run: SharedRun) -> Numbers:
    """Maps worse than a coin, and whether small defects, or stains, are harder than others."""
    table = run.images()
    own = table[(table["method"] == "anovl") & table["auroc_px"].notna()]
    values = own["auroc_px"].to_numpy()
    is_stain, is_large = own["kind"] == "stain", own["area"] > own["area"].median()
    return {
        "failing": Estimate(float((values < 0.5).mean()) if len(values) else math.nan, n=len(own)),
        "stain": Estimate(float(values[is_stain].mean()) if is_stain.any() else math.nan),
        "stains": apart(values, is_stain.to_numpy()),
        "size": apart(values, is_large.to_numpy()),
    }


def apart(values: np.ndarray, chosen: np.ndarray) -> Estimate:
    """The mean of the chosen values minus that of the others; NaN where one side is empty.

    >>> f"{apart(np.array([0.5, 0.5, 0.3, 0.3]), np.array([1, 1, 0, 0], bool)):points}"
    '+20.0 points [+20.0 to +20.0]'
    """
    both = values[chosen], values[~chosen]
    if not all(map(len, both)):
        return Estimate(math.nan)
    rng = np.random.default_rng(0)
    ours, others = (rng.choice(one, (500, len(one))).mean(axis=1) for one in both)
    return Estimate(both[0].mean() - both[1].mean(), *bootstrap_interval(ours - others))


FINDINGS: dict[str, Finding] = {
    "05-methods": Finding(
        says=(
            "V-V attention reaches AUPRO {vv:interval}, {gain:points} above the best control. "
            "CLIP's own patches, the usual baseline, do not reach it: {baseline:points}. So to "
            "beat plain CLIP proves little."
        ),
        numbers=beside_controls,
        holds=lambda n: n["gain"].verdict == "above" and n["baseline"].verdict == "below",
        again="{gain:points} and {baseline:points}",
        otherwise="Against the best control: v-v {gain:points}, q-k {baseline:points}.",
        real_clip="Controls lose ground on photographs; WinCLIP's baseline gains some.",
        refuted_by="results.csv: `clip` above `outlier` and `dog` in AUPRO",
    ),
    "05-pooling": Finding(
        says=(
            "Pooling decides how large a gap is. The pixels of a category pooled: CLIP's own "
            "patches have AUROC {qk}, v-v {vv}. Each picture alone: {qk_alone} and {vv_alone}. "
            "The gap grows from {pooled:points} to {alone:points}, on the same maps."
        ),
        numbers=lambda run: {
            "qk": value(run, "clip", "auroc_px"),
            "vv": value(run, "anovl", "auroc_px"),
            "qk_alone": value(run, "clip", "within"),
            "vv_alone": value(run, "anovl", "within"),
            "pooled": gain(run, "anovl", "clip", "auroc_px"),
            "alone": gain(run, "anovl", "clip", "within"),
        },
        holds=lambda n: n["alone"].low > n["pooled"].value + MARGIN,
        again="from {pooled:points} to {alone:points}",
        otherwise="v-v minus q-k: {pooled:points} pooled, {alone:points} by single pictures.",
        real_clip="The two differ there, too; by how much depends on the data set.",
        refuted_by="results.csv and images.csv: the same gap in `auroc_px` of both",
    ),
    "05-metric": Finding(
        says=(
            "The verdict depends on the metric. Against MaskCLIP, v-v is {aupro:points} in AUPRO "
            "({aupro:word}) and {auroc:points} in debiased pixel AUROC ({auroc:word})."
        ),
        numbers=lambda run: {
            "aupro": gain(run, "anovl", "maskclip", "aupro"),
            "auroc": gain(run, "anovl", "maskclip", PIXEL),
        },
        holds=lambda n: n["aupro"].verdict != n["auroc"].verdict,
        again="{aupro:points} and {auroc:points}",
        otherwise="Against MaskCLIP: {aupro:points} in AUPRO, {auroc:points} in pixel AUROC.",
        real_clip="Which of the two leads may change; report both metrics.",
        refuted_by="results.csv: `anovl` above `maskclip` in `auroc_px_debiased`",
    ),
    "05-unseen": Finding(
        says=(
            "On categories that the model never saw, v-v has AUPRO {vv:interval}, {gain:points} "
            "above CLIP's own patches. On seen ones it has {seen}. Patch statistics were never "
            "trained: they have {control} and {control_seen}."
        ),
        numbers=unseen,
        holds=lambda n: n["gain"].verdict == "above",
        again="unseen {vv}, {gain:points}; seen {seen}",
        otherwise="AUPRO of v-v on unseen categories: {vv:interval}; on seen ones: {seen}.",
        real_clip="Nobody knows which products it has seen; compare rare with common ones.",
        refuted_by="groups.csv: `clip` level with `anovl` in the group `unseen`",
    ),
    "05-categories": Finding(
        says=(
            "V-V attention has a higher AUPRO than CLIP's own patches in {clip:of} categories, "
            "than patch statistics in {control:of}, and than CLIP Surgery in {surgery:of}."
        ),
        numbers=wins,
        holds=lambda n: n["clip"].value >= 0.75,
        again="{clip:of}, {control:of} and {surgery:of}",
        otherwise="It is above q-k in {clip:of}, above patch statistics in {control:of}.",
        real_clip="Textures and objects may part; read the table by category.",
        refuted_by="results.csv: `clip` above `anovl` in a quarter of the categories",
    ),
    "05-failures": Finding(
        says=(
            "{failing:of} v-v maps are worse than a coin within their picture. The kind of defect "
            "matters: stains have a mean AUROC of {stain}, {stains:points} against the others. "
            "The size does not show: larger minus smaller half is {size:points} ({size:word})."
        ),
        numbers=failures,
        holds=lambda n: n["stains"].verdict == "below" and n["size"].verdict != "above",
        again="{failing:of}; stains {stains:points}, size {size:points}",
        otherwise="{failing:of} maps are worse than a coin; larger minus smaller: {size:points}.",
        real_clip="Size should matter, because a map of few patches blurs what is small.",
        refuted_by="images.csv: `auroc_px` of `anovl` as high for `stain` as for other kinds",
    ),
}
