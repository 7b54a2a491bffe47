"""The findings of notebook 01."""

from __future__ import annotations

from anovl_companion.findings.base import Finding, gain, value

PROBE = {"table": "probe"}
STATISTICS = "probe, patch statistics"

FINDINGS: dict[str, Finding] = {
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
}
