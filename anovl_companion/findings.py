"""Findings: sentences with numbers from a run, and the condition under which each is true.

A notebook names a finding; its sentence, its numbers and its condition stand in `FINDINGS`, written
before the run is read. In the shipped configuration the condition must hold on every shipped model;
elsewhere the notebook says what was found there.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from anovl_companion.measure.attention_variants import OWN_STREAM
from anovl_companion.shared_run.reader import MARGIN, SharedRun, judged


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval, `low` to `high`; NaN where it was not measured.

    In a sentence `{x}` is a fraction with two digits, `{x:interval}` has its interval beside it,
    `{x:points}` is a difference in percentage points, `{x:of}` a count out of `n`, and `{x:word}`
    the verdict on a difference.

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


PIXEL, PROBE = "auroc_px_debiased", {"table": "probe"}
STATISTICS = "probe, patch statistics"

FINDINGS: dict[str, Finding] = {
    "00-maps": Finding(
        says=(
            "V-V attention lets the same network find more of each defect: AUPRO {vv:interval} "
            "against {qk:interval} with CLIP's own patches (a gain of {gain:points})."
        ),
        numbers=lambda run: {
            "vv": value(run, "anovl", "aupro"),
            "qk": value(run, "clip", "aupro"),
            "gain": gain(run, "anovl", "clip", "aupro"),
        },
        holds=lambda n: n["gain"].verdict == "above",
        again="{vv} against {qk}, {gain:points}",
        otherwise="AUPRO is {vv:interval} with v-v, {qk:interval} with CLIP's own patches.",
        real_clip="The gap stays: the paper reports it for MVTec AD and VisA.",
        refuted_by="results.csv: a row `clip` whose AUPRO reaches that of `anovl`",
    ),
    "01-pointing": Finding(
        says=(
            "CLIP's own patches point at the defect in {qk:of} pictures, a fixed point in the "
            "middle in {centre:of}. With V-V attention it is {vv:of}."
        ),
        numbers=lambda run: {
            "qk": value(run, "clip", "near_defect"),
            "centre": value(run, "centre", "near_defect"),
            "vv": value(run, "anovl", "near_defect"),
            "over_centre": gain(run, "clip", "centre", "near_defect"),
            "gain": gain(run, "anovl", "clip", "near_defect"),
        },
        holds=lambda n: n["gain"].verdict == "above",
        again="{qk:of}, {centre:of} and {vv:of}",
        otherwise="The maps point at the defect in {qk:of} (q-k) and {vv:of} (v-v) pictures.",
        real_clip="The order stays; a fixed point earns less where things lie anywhere.",
        refuted_by="images.csv: `distance` of `clip` below 8 as often as that of `anovl`",
    ),
    "01-whole": Finding(
        says="The class token tells normal from anomalous pictures: image AUROC {whole:interval}.",
        numbers=lambda run: {"whole": value(run, "clip", "auroc_sp")},
        holds=lambda n: n["whole"].low > 0.8,
        again="{whole:interval}",
        otherwise="Image AUROC of the class token is {whole:interval}.",
        real_clip="It stays high; the paper reports more than nine in ten on MVTec AD.",
        refuted_by="results.csv: `auroc_sp` of `clip` near one half",
    ),
    "01-probe": Finding(
        says=(
            "In CLIP's own patches a linear probe finds {probe:interval} (AUROC within a picture), "
            "words find {words:interval}. The strongest control of the probe, patch statistics, "
            "reaches {control}: the probe is ahead by {over_control:points}. In v-v patches, words "
            "find {repaired}."
        ),
        numbers=lambda run: {
            "probe": value(run, "probe, q-k", "within", **PROBE),
            "words": value(run, "words, q-k", "within", **PROBE),
            "control": value(run, STATISTICS, "within", **PROBE),
            "repaired": value(run, "words, v-v", "within", **PROBE),
            "over_words": gain(run, "probe, q-k", "words, q-k", "within", **PROBE),
            "over_control": gain(run, "probe, q-k", STATISTICS, "within", **PROBE),
        },
        holds=lambda n: all(n[one].verdict == "above" for one in ("over_words", "over_control")),
        again="probe {probe}, words {words}, statistics {control}",
        otherwise="The probe reaches {probe:interval}, words {words:interval} on the same patches.",
        real_clip="The probe's lead over patch statistics grows: a large network knows more.",
        refuted_by="probe.csv: `probe, patch statistics` level with `probe, q-k`",
    ),
    "01-controls": Finding(
        says=(
            "V-V attention is above every control in AUPRO: {vv:interval}, the next is patch "
            "statistics with {control:interval} ({gain:points})."
        ),
        numbers=lambda run: {
            "vv": value(run, "anovl", "aupro"),
            "control": value(run, "outlier", "aupro"),
            "gain": gain(run, "anovl", "outlier", "aupro"),
            "contrast": gain(run, "anovl", "dog", "aupro"),
        },
        holds=lambda n: all(n[one].verdict == "above" for one in ("gain", "contrast")),
        again="{vv} against {control}, {gain:points}",
        otherwise="AUPRO is {vv:interval} with v-v and {control:interval} with patch statistics.",
        real_clip="On photographs the controls fall behind.",
        refuted_by="results.csv: a control whose AUPRO reaches that of `anovl`",
    ),
    "01-statistics": Finding(
        says=(
            "On whole pictures CLIP is ahead of patch statistics: image AUROC {clip:interval} "
            "against {control:interval}."
        ),
        numbers=lambda run: {
            "clip": value(run, "clip", "auroc_sp"),
            "control": value(run, "outlier", "auroc_sp"),
            "gain": gain(run, "clip", "outlier", "auroc_sp"),
        },
        holds=lambda n: n["gain"].verdict == "above",
        again="{clip} against {control}",
        otherwise="Image AUROC is {clip:interval} with CLIP, {control:interval} with statistics.",
        real_clip="The gap grows with the variety of normal pictures.",
        refuted_by="results.csv: `auroc_sp` of `outlier` as high as that of `clip`",
    ),
    "02-square": Finding(
        says=(
            "A patch must not mix unlike values. In CLIP's own stream, keeping its own value lifts "
            "pixel AUROC from {qk} to {own} ({gain:points}). In a second stream it is {qk2} and "
            "{own2} ({gain2:points}). V-V attention reaches {vv:interval}."
        ),
        numbers=lambda run: {
            "qk": value(run, "clip", PIXEL),
            "own": value(run, "maskclip", PIXEL),
            "qk2": value(run, "second-stream-qk", PIXEL),
            "own2": value(run, "second-stream-own", PIXEL),
            "vv": value(run, "anovl", PIXEL),
            "gain": gain(run, "maskclip", "clip", PIXEL),
            "gain2": gain(run, "second-stream-own", "second-stream-qk", PIXEL),
        },
        holds=lambda n: n["gain"].verdict == n["gain2"].verdict == "above",
        again="{qk} to {own}, {qk2} to {own2}, v-v {vv}",
        otherwise="Own stream: {qk} to {own}; second stream: {qk2} to {own2}; v-v: {vv}.",
        real_clip="More blocks mix more, so both gains grow.",
        refuted_by="results.csv: `maskclip` level with `clip` in `auroc_px_debiased`",
    ),
    "02-all-blocks": Finding(
        says=(
            "Own values in *all* blocks of CLIP's own stream make no repair: pixel AUROC is "
            "{all_blocks:interval}, less than the {qk:interval} of q-k."
        ),
        numbers=lambda run: {
            "all_blocks": value(run, OWN_STREAM, PIXEL, table="attention"),
            "qk": value(run, "q-k", PIXEL, table="attention"),
            "gain": gain(run, OWN_STREAM, "q-k", PIXEL, table="attention"),
        },
        holds=lambda n: n["gain"].verdict == "below",
        again="{all_blocks} against {qk}",
        otherwise="Own values in all blocks of CLIP's own stream: {all_blocks:interval}.",
        real_clip="It fails there, too: the network never met such tokens in training.",
        refuted_by="attention.csv: own value in all blocks level with `q-k`",
    ),
    "02-own-value": Finding(
        says=(
            "In the last block an anomalous patch receives {qk:interval} times its own value with "
            "q-k and {vv:interval} times with v-v. After the picture's mean value is subtracted, "
            "it is {qk_centred} and {vv_centred}."
        ),
        numbers=lambda run: {
            "qk": value(run, "q-k", "own_value", table="attention"),
            "vv": value(run, "v-v from 1", "own_value", table="attention"),
            "qk_centred": value(run, "q-k", "own_value_centred", table="attention"),
            "vv_centred": value(run, "v-v from 1", "own_value_centred", table="attention"),
            "gain": gain(run, "v-v from 1", "q-k", "own_value_centred", table="attention"),
        },
        holds=lambda n: n["gain"].verdict == "above",
        again="{qk} and {vv}; centred, {qk_centred} and {vv_centred}",
        otherwise="It receives {qk} times its own value with q-k, {vv} times with v-v.",
        real_clip="q-k dilutes more: there are more patches to take from.",
        refuted_by="attention.csv: `own_value_centred` of `q-k` as high as that of `v-v from 1`",
    ),
    "02-looking": Finding(
        says=(
            "Looking at like patches changes little once a patch keeps its own value: v-v minus "
            "own value is {auroc:points} in pixel AUROC ({auroc:word}) and {aupro:points} in AUPRO "
            "({aupro:word})."
        ),
        numbers=lambda run: {
            "auroc": gain(run, "anovl", "second-stream-own", PIXEL),
            "aupro": gain(run, "anovl", "second-stream-own", "aupro"),
            "mixing": gain(run, "second-stream-own", "second-stream-qk", "aupro"),
        },
        holds=lambda n: abs(n["aupro"].value) < n["mixing"].value / 2,
        again="{auroc:points} and {aupro:points}",
        otherwise="v-v minus own value: {auroc:points} in pixel AUROC, {aupro:points} in AUPRO.",
        real_clip="The blur may help more where patches are smaller and noisier.",
        refuted_by="results.csv: `anovl` as far above `second-stream-own` as this is above q-k",
    ),
    "02-blocks": Finding(
        says=(
            "The last block alone is enough here: v-v reaches {last:interval} there and "
            "{first:interval} in all blocks (all blocks minus last: {gain:points})."
        ),
        numbers=lambda run: blocks(run),
        holds=lambda n: n["gain"].verdict != "above",
        again="{last} and {first}, {gain:points}",
        otherwise="v-v in all blocks: {first:interval}; in the last block alone: {last:interval}.",
        real_clip="AnoVL takes all blocks, CLIP Surgery the last six of twelve: measure both.",
        refuted_by="attention.csv: `v-v from 1` above the last `v-v from`",
    ),
    "02-upside-down": Finding(
        says="Here no map is upside down: the last block alone reaches {last:interval}.",
        numbers=lambda run: blocks(run),
        holds=lambda n: n["last"].low > 0.5 + MARGIN,
        again="{last:interval}",
        otherwise="The last block alone reaches {last:interval}.",
        real_clip="CLIP Surgery and CLIP-AD report inverted maps: look at this number first.",
        refuted_by="attention.csv: the last `v-v from` below one half",
    ),
    "02-family": Finding(
        says=(
            "V-V attention does not lead its family: CLIP Surgery has AUPRO {surgery:interval}, "
            "v-v {vv:interval}, and the difference is {gain:points} ({gain:word})."
        ),
        numbers=lambda run: {
            "vv": value(run, "anovl", "aupro"),
            "surgery": value(run, "clip-surgery", "aupro"),
            "gain": gain(run, "anovl", "clip-surgery", "aupro"),
        },
        holds=lambda n: n["gain"].verdict != "above",
        again="{surgery} and {vv}, {gain:points} ({gain:word})",
        otherwise="AUPRO: CLIP Surgery {surgery:interval}, v-v {vv:interval} ({gain:word}).",
        real_clip="The order inside the family differs from model to model.",
        refuted_by="results.csv: `anovl` above `clip-surgery` in AUPRO",
    ),
}


def blocks(run: SharedRun) -> Numbers:
    """V-V attention from block 1, and in the last block alone."""
    names = [name for name in run.table("attention").variants if name.startswith("v-v from ")]
    first, *_, last = sorted(names, key=lambda name: int(name.split()[-1]))
    where = {"table": "attention"}
    return {
        "first": value(run, first, PIXEL, **where),
        "last": value(run, last, PIXEL, **where),
        "gain": gain(run, first, last, PIXEL, **where),
    }
