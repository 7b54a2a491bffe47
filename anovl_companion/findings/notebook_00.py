"""The findings of notebook 00."""

from __future__ import annotations

from anovl_companion.findings.base import Finding, gain, value

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
}
