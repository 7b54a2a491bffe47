"""The results of notebook A2 in tables and sentences: alarms, marks, and their worth.

They are made here, so that each number in them can be tested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anovl.cli.answers import told
from anovl.evaluation.bootstrap import FEW
from anovl.evaluation.compare import compare_methods
from anovl.evaluation.misses import share_interval
from anovl.evaluation.results import HEADLINES, HEADS
from anovl.evaluation.threshold import Level, images_needed
from anovl_companion.own_images import OwnPictures

CONTROLS = ("outlier", "dog", "centre", "brightness")
ROWS = 12  # of a table of pictures, before a notebook refers to the file


def in_one(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Join tables of categories; of several, the first column says which."""
    if len(tables) == 1:
        return next(iter(tables.values()))
    joined = pd.concat(tables, names=["category"]).reset_index(level="category")
    return joined.reset_index(drop=True)


def alarm_table(pictures: OwnPictures, found: Sequence[Any]) -> pd.DataFrame:
    """List files with `score` and `alarm`, the highest score first; "" where there is no level.

    `found` has the results of the pictures, as `localize_files` returns them.
    """
    words = {None: "", True: "yes", False: "no"}
    alarms = [words[result.alarm] for result in found]
    columns = {"file": pictures.names, "score": [one.score for one in found], "alarm": alarms}
    return pd.DataFrame(columns).sort_values("score", ascending=False, ignore_index=True)


def first_rows(markdown: str, file: str, *, rows: int = ROWS) -> str:
    """Show the first rows of a Markdown table, and say where the others are.

    >>> print(first_rows("| a |\\n|---|\\n| 1 |\\n| 2 |\\n| 3 |\\n", "a.csv", rows=2))
    | a |
    |---|
    | 1 |
    | 2 |
    <BLANKLINE>
    and 1 more in a.csv
    """
    lines = markdown.splitlines()
    table = [i for i, line in enumerate(lines) if line.startswith("|")]
    more = len(table) - rows - 2
    if more <= 0:
        return markdown
    return "\n".join([*lines[: table[rows + 1] + 1], "", f"and {more} more in {file}"])


def alarm_sentences(
    pictures: OwnPictures, found: Sequence[Any], level: Level | None, false_alarms: float
) -> str:
    """Say what a level promises and what not, what was seen of it, and what was missed."""
    n, anomalous = len(pictures.normal), pictures.anomalous
    if level is None:
        best = math.ceil(100 / (n + 1)) / 100
        return (
            f"**{pictures.category}**: to promise at most {false_alarms:.1%} false alarms, "
            f"{images_needed(false_alarms)} normal pictures are needed; found {n} "
            f"({pictures.source}): no picture raises an alarm, and the table is an order alone."
            + (f" With {n} you may ask for `-p false_alarms {best}`." if n else "")
        )
    alarms = np.array([result.alarm for result in found], dtype=bool)
    text = (
        f"**{pictures.category}**: {n} normal pictures ({pictures.source}) set the level, "
        f"{level.value:.4f}. Promised: of normal pictures, at most {level.false_alarms:.1%} raise "
        f"an alarm, on average over many such sets ({level.expected:.1%}, and more than "
        f"{level.rate_95:.1%} for one set in twenty, whose level is low). Not promised: that "
        "anomalous pictures raise one."
    )
    if (~anomalous).any():
        text += f" Seen: **{_share(alarms[~anomalous])}** of the other normal pictures."
    if anomalous.any():
        low, high = share_interval(int((~alarms[anomalous]).sum()), int(anomalous.sum()))
        text += (
            f" Caught: **{_share(alarms[anomalous])}** of the anomalous pictures, against "
            f"{level.expected * anomalous.sum():.1f} ({level.expected:.1%}) by lot at this rate. "
            f"Missed: **{_share(~alarms[anomalous])}**, 95% interval {low:.0%} to {high:.0%}."
        )
    else:
        text += " How many are missed is not known: none of these pictures is labelled anomalous."
    return text


def mark_sentences(
    pictures: OwnPictures, marked: np.ndarray, masks: Mapping[int, np.ndarray]
) -> str:
    """Say in how many pictures something is marked, and how often that is where the anomaly is.

    `marked` (B, h, w) bool; `masks` (h, w), by the number of the picture, of anomalous pictures
    with a mark: nothing is said of places where one of them has none.
    """
    touched, anomalous = marked.any(axis=(1, 2)), pictures.anomalous
    said = []
    if (~anomalous).any():
        said.append(f"**{_share(touched[~anomalous])}** of the other normal pictures")
    if anomalous.any():
        said.append(f"**{_share(touched[anomalous])}** of the anomalous ones")
    text = f"**{pictures.category}**: something is marked in {', and in '.join(said)}"
    hit = np.flatnonzero(anomalous & touched).tolist()
    if len(hit) > 1 and all(i in masks for i in hit):
        own = np.mean([masks[i][marked[i]].any() for i in hit])
        others = np.mean([masks[j][marked[i]].any() for i in hit for j in hit if i != j])
        text += f"; in {own:.0%} of these a mark touches the anomaly ({others:.0%} with the masks "
        text += "of the others in its place)"
    return text + "."


def _share(flags: np.ndarray) -> str:
    """
    >>> _share(np.array([True, False, False]))
    '1 of 3 (33%)'
    """
    return f"{flags.sum()} of {len(flags)} ({flags.mean():.0%})"


def verdicts(run: str | Path, table: pd.DataFrame, category: str, *, method: str = "anovl") -> str:
    """Say of a finished run whether a method is above a coin, and above the best control.

    Only what was resampled is judged: a difference counts where its 95 % interval does not hold
    zero. A coin is the AUROC of one half.
    """
    rows = table[table["category"] == category].set_index("method")
    said = []
    for metric in HEADLINES:
        own, low, high = (float(rows.loc[method, metric + end]) for end in ("", "_lo", "_hi"))
        if math.isnan(own) or math.isnan(low):
            continue
        text = f"{HEADS[metric]} {100 * own:.1f} [{100 * low:.0f}, {100 * high:.0f}]: "
        if metric.startswith("auroc"):
            text += f"{told(low - 0.5, high - 0.5, 'a coin (50)')}; "
        controls = rows.loc[list(CONTROLS), metric].dropna()
        best = str(controls.idxmax())
        gap = compare_methods(run, metric, method, best, categories=[category])
        other = f"the best control, {best} ({100 * controls[best]:.1f})"
        turned = _turned(rows, metric) if metric.startswith("auroc") else ""
        said.append(text + told(gap["low"], gap["high"], other) + turned)
    if not said:
        return f"**{category}**: nothing could be measured; that needs pictures of both kinds."
    if rows["auroc_px"].isna().all():
        said.append("there are no masks, so that nothing is said of *where*")
    elif rows["aupro_lo"].isna().all():
        said.append(f"fewer than {FEW} pictures of a kind are too few for a verdict on *where*")
    return f"**{category}**, {method}\n\n" + "\n".join(f"- {line}" for line in said)


def _turned(rows: pd.DataFrame, metric: str) -> str:
    """Name a control that is worse than a coin, and would be the best one turned around."""
    controls = rows.loc[list(CONTROLS)]
    known = controls[controls[f"{metric}_hi"] < 0.5][metric]
    if known.empty or 1 - known.min() <= controls[metric].max():
        return ""
    says = f"; {known.idxmin()} is reversed ({100 * known.min():.1f}): "
    return f"{says}turned around it would have {100 * (1 - known.min()):.1f}"
