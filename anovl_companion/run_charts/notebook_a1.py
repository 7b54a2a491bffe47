"""Charts of notebook A1: what training sees, what is true of it, and its curves."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from pandas import read_csv

from anovl.models.pocket import SHIPPED, shipped_here
from anovl.world.captions import Caption, truth_matrix
from anovl.world.scenes import Scene
from anovl_companion.charts import COLOURS, SMALL
from anovl_companion.figures import PAGE, house_style


def twins(scenes: Sequence[Scene], captions: Sequence[Caption]) -> Figure:
    """Draw pairs of scenes, normal above anomalous, each with its caption below it."""
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 4.7), layout="constrained")
        axes = fig.subplots(2, len(scenes) // 2)
        for ax, scene, caption in zip(axes.T.flat, scenes, captions, strict=True):
            ax.imshow(scene.image)
            ax.set(xticks=[], yticks=[], xlabel=fill(f"“{caption.text}”", 30))
            ax.spines[:].set_visible(False)
        axes[0, 0].set_ylabel("normal")
        axes[1, 0].set_ylabel("anomalous")
        fig.suptitle("Training sees twins and captions, and nothing else", x=0.01, ha="left")
    return fig


def truths(scenes: Sequence[Scene], captions: Sequence[Caption]) -> Figure:
    """Draw which captions (rows) are true of which scenes (columns)."""
    truth = truth_matrix(scenes, captions).T
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 3.4), layout="constrained")
        top, bottom = fig.subplots(2, 1, height_ratios=(1, 2.4), sharex=True)
        for column, scene in enumerate(scenes):
            top.imshow(scene.image, extent=(column - 0.46, column + 0.46, 0, 1), aspect="auto")
        top.set(xlim=(-0.5, len(scenes) - 0.5), ylim=(0, 1), yticks=[])
        top.set_title("A caption is true of more pictures than its own", loc="left")
        bottom.imshow(truth, cmap="Greys", vmin=0, vmax=1.4, aspect="auto")
        bottom.set_yticks(range(len(captions)), [fill(one.text, 38) for one in captions])
        bottom.set_xticks(range(len(scenes)), [_title(scene) for scene in scenes])
        for ax in (top, bottom):
            ax.spines[:].set_visible(False)
            ax.tick_params(length=0)
        for edge in np.arange(0.5, len(captions) - 1):
            bottom.axhline(edge, color="0.8", linewidth=0.5)
            bottom.axvline(edge, color="0.8", linewidth=0.5)
        for row, column in np.argwhere(truth):
            bottom.text(column, row, "true", ha="center", va="center", color="white")
    return fig


def _title(scene: Scene) -> str:
    return f"{scene.category},\n{scene.kind.replace('good', 'normal')}"


def curves() -> Figure:
    """Draw loss and validation of each pocket model that is here; a second one is dashed."""
    lines = {"vv_pixel_auroc": ("v-v pixel AUROC", COLOURS["anovl"]),
             "qk_pixel_auroc": ("q-k pixel AUROC", COLOURS["clip"]),
             "image_auroc": ("image AUROC", "black")}  # fmt: skip
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 2.7), layout="constrained")
        loss, *checks = axes = fig.subplots(1, 3)
        for name, style in zip(shipped_here(), ("-", "--"), strict=False):
            log = read_csv(SHIPPED[name] / "training.csv")
            smooth = log["loss"].rolling(100, center=True, min_periods=10).median()
            loss.plot(log["step"], smooth, style, color="0.4", label=name)
            validation = read_csv(SHIPPED[name] / "validation.csv")
            for ax, group in zip(checks, ("seen", "unseen"), strict=True):
                rows = validation[validation["group"] == group]
                for column, (label, colour) in lines.items():
                    label = label if name == shipped_here()[0] else None
                    ax.plot(rows["step"], rows[column], style, color=colour, label=label)
        whole = log.loc[log["size_px"] == log["size_px"].max(), "step"].min()
        for ax, title in zip(axes, ("loss", "seen categories", "unseen categories"), strict=True):
            ax.axvline(whole, color="0.6", linewidth=1, linestyle=":")
            ax.set_xlabel("step")
            ax.set_title(title, loc="left")
        for ax in checks:
            ax.set_ylim(0.38, 1)
        loss.text(whole, loss.get_ylim()[1], " whole pictures\n from here on", va="top")
        if len(shipped_here()) > 1:
            loss.legend(loc="lower left", frameon=True, framealpha=1, edgecolor="none")
        checks[0].legend(loc="lower right", frameon=True, framealpha=1, edgecolor="none")
        fig.suptitle("No step reads a map, and v-v maps get better", x=0.01, ha="left")
    return fig
