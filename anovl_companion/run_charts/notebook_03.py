"""Charts of notebook 03."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from anovl.attention import encode_images
from anovl.clip import Clip
from anovl.data.dataset import Dataset
from anovl.prompts import encode_prompts
from anovl_companion.charts import COLOURS, SMALL
from anovl_companion.figures import PAGE, house_style
from anovl_companion.run_charts.base import NAMES, PIXEL, label_of
from anovl_companion.shared_run.reader import SharedRun

STATES = ("word", "states", "templates", "domain: industrial photo", "normalised before the mean",
          "state: damaged", "state: abnormal", "state: imperfect", "state: blemished",
          "state: with flaw", "state: with defect", "state: with damage")  # fmt: skip
NAMING = ("domains of the other surface", "name: generic", "name: unknown", "name: wrong",
          "name: none", "held-out states")  # fmt: skip
MOST = 32  # pictures of each class that the strip shows


def strip(clip: Clip, data: Dataset, category: str) -> Figure:
    """Draw where prompts and pictures of a category stand from normal to anomalous."""
    text = encode_prompts(clip, data.prompts(category))
    apart = text.prototypes[1] - text.prototypes[0]
    axis, entries = F.normalize(apart, dim=0), data.entries(category)
    groups = {
        "normal prompts": text.prompts[~text.is_anomalous],
        "anomalous prompts": text.prompts[text.is_anomalous],
    }
    for label, name in ((0, "normal pictures"), (1, "anomalous pictures"), (None, "pictures")):
        if own := [one.load()[0] for one in entries if one.label == label][:MOST]:
            groups[name] = encode_images(clip, own).cls.cpu()
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 2.4), layout="constrained")
        ax = fig.subplots()
        for row, (name, vectors) in enumerate(groups.items()):
            places = F.normalize(vectors, dim=-1) @ axis
            colour = "black" if name.startswith("anomalous") else "0.6"
            spread = np.random.default_rng(0).uniform(-0.25, 0.25, len(places))
            ax.plot(places, row + spread, "o", color=colour, markersize=3, alpha=0.5)
        ax.axvline(0, color="0.4", linewidth=1, linestyle="--")
        ax.set_yticks(range(len(groups)), groups)
        ax.invert_yaxis()
        ends = torch.tensor(ax.get_xlim())
        low, high = torch.sigmoid(ends * apart.norm())
        ax.set_xlabel(f"cosine with the direction; the score runs from {low:.2f} to {high:.2f}")
        ax.set_title(f"{category}: prompts and pictures, from normal to anomalous", loc="left")
    return fig


def states(run: SharedRun) -> Figure:
    """Draw fewer prompts against all."""
    title = "Parts of the ensemble: zero means as good as all 924 prompts"
    return against_all(run, STATES, title=title)


def naming(run: SharedRun) -> Figure:
    """Draw other names, domains and states against the published ones."""
    return against_all(run, NAMING, title="Other words: zero means as good as the published ones")


def against_all(run: SharedRun, rows: Sequence[str], *, title: str) -> Figure:
    """Draw what other words change, in points, for whole pictures and for maps."""
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 0.25 * len(rows) + 1.0), layout="constrained")
        for ax, metric in zip(fig.subplots(1, 2, sharey=True), ("auroc_sp", PIXEL), strict=True):
            found = [run.gain(one, "domains", metric, table="words") for one in rows]
            middle, low, high = 100 * np.transpose(found)
            bars = np.clip([middle - low, high - middle], 0, None)
            ax.errorbar(middle, range(len(rows)), xerr=bars, fmt="o", color=COLOURS["anovl"])
            ax.axvline(0, color="0.4", linewidth=1, linestyle="--")
            ax.set_xlabel(f"{NAMES[metric]}, points")
        fig.axes[0].set_yticks(range(len(rows)), [label_of(name) for name in rows])
        fig.axes[0].invert_yaxis()
        fig.suptitle(title, x=0.01, ha="left", fontsize=11)
        fig.supxlabel("change against all 924 prompts, with 95 % interval", fontsize=9)
    return fig
