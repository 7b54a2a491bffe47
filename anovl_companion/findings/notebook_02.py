"""The findings of notebook 02."""

from __future__ import annotations

from anovl_companion.findings.base import Finding, Numbers, gain, value
from anovl_companion.measure.attention_variants import OWN_STREAM
from anovl_companion.shared_run.reader import MARGIN, SharedRun

PIXEL = "auroc_px_debiased"

FINDINGS: dict[str, Finding] = {
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
