"""What the shared runs say, as a table of the model card: written down before they are looked at.

Each row is shown whatever its sign. A finding is one only where both models say the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from anovl_companion.shared_run.reader import SharedRun, judged

START, END = "<!-- shared run -->", "<!-- /shared run -->"
PIXELS, REGIONS = "auroc_px_debiased", "aupro"
SQUARE = ("clip", "maskclip", "second-stream-qk", "second-stream-own", "anovl")
"""{own stream, second stream} x {q-k, own value}, and v-v."""
FAMILY = ("second-stream-own", "clip-surgery", "maskclip", "sclip", "gem", "clearclip", "naclip")
PROBED = ("q-k", "v-v", "untrained network", "raw pixels", "patch statistics")
VALUES = (
    *(("methods", name, PIXELS) for name in SQUARE),
    *(("methods", name, "near_defect") for name in ("clip", "centre", "anovl")),
    *(("probe", f"words, {name}", PIXELS) for name in PROBED[:2]),
    *(("probe", f"probe, {name}", PIXELS) for name in PROBED),
)
GAINS = (
    *(("methods", "anovl", name, metric) for name in FAMILY for metric in (PIXELS, REGIONS)),
    *(("methods", "anovl-tta", "anovl", metric) for metric in (PIXELS, REGIONS, "within")),
    *(("words", "domains", "word", metric) for metric in ("auroc_sp", PIXELS)),
)
GROUPS = ("seen", "unseen")


def runs_markdown(runs: Sequence[SharedRun]) -> str:
    """The table of the card: values in percent and gains in points, with their 95 % intervals.

    Raises KeyError where a run lacks a part.
    """
    names = [next(iter(run.record["models"])) for run in runs]
    heads = [f"{name}, {group}" for name in names for group in GROUPS]
    lines = [START, f"| measure | {' | '.join(heads)} |", "|:--|" + ":--|" * len(heads)]
    for table, variant, metric in VALUES:
        found = [run.value(variant, metric, table=table, group=g) for run in runs for g in GROUPS]
        cells = (
            f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]" for mean, low, high in found
        )
        lines.append(f"| {variant}: {metric} | {' | '.join(cells)} |")
    for table, variant, over, metric in GAINS:
        where = {"table": table}
        found = [run.gain(variant, over, metric, **where, group=g) for run in runs for g in GROUPS]
        cells = (
            f"{100 * gain:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}], {judged(gain, low, high)}"
            for gain, low, high in found
        )
        lines.append(f"| {variant} - {over}: {metric} | {' | '.join(cells)} |")
    return "\n".join([*lines, END])
