"""Charts of notebook 05. Titles are counted on the run, so that they hold on other data."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pandas import DataFrame
from PIL import Image

from anovl import Clip, encode_prompts, image_scores, preprocess
from anovl.attention import encode_pixels
from anovl.baselines import CONTROLS, METHODS
from anovl.protocols import augmented_views, encode_other_views, fit_short_side
from anovl_companion.charts import COLOURS, SMALL
from anovl_companion.figures import PAGE, house_style
from anovl_companion.run_charts.base import NAMES, label_of, methods
from anovl_companion.shared_run.reader import SharedRun
from anovl_companion.thread import Pair

SHOWN = (*METHODS, "gem", "sclip", "clearclip", "naclip")
WORDED = tuple(name for name in METHODS if name not in CONTROLS)
ROWS = {"turned": (0, 9), "moved": (9, 17), "other": (17, 22)}
MARKERS = dict(zip(WORDED, "osD^vP*", strict=True))


def floor_of(run: SharedRun) -> float:
    """The highest AUPRO of a control. Raises KeyError for pictures without masks."""
    values = [run.value(name, "aupro")[0] for name in CONTROLS if name in run.methods]
    if np.isnan(values).all():
        raise KeyError("AUPRO was not measured: these pictures have no masks")
    return float(np.nanmax(values))


def all_methods(run: SharedRun) -> Figure:
    """Draw all methods by AUPRO, best first; the best control is a shaded floor."""
    found = {name: run.value(name, "aupro")[0] for name in SHOWN if name in run.methods}
    floor = floor_of(run)
    with_words = [value for name, value in found.items() if name not in CONTROLS]
    above = sum(value > floor for value in with_words)
    title = f"{above} of {len(with_words)} methods with words are above the best control"
    fig, controls = methods(run, SHOWN, "aupro", title=title), {*map(label_of, CONTROLS)}
    ax = fig.axes[0]
    names = [text.get_text() for text in ax.get_yticklabels()]
    ax.set_yticklabels([f"control: {name}" if name in controls else name for name in names])
    return fig


def views_and_tiles(clip: Clip, pair: Pair) -> Figure:
    """Draw the 22 views of a picture with the score of each, and two tiles of an oblong one."""
    sample, side = pair.sample, clip.image_size[0]
    pixels = preprocess(clip, [sample.image])
    own = encode_pixels(clip, pixels, attention="qk", batch_size=1).cls
    tokens = torch.cat([own, encode_other_views(clip, pixels, batch_size=1)[0]])
    text = encode_prompts(clip, sample.category)
    scores = image_scores(tokens, text).cpu().numpy()
    plain = np.asarray(sample.image.resize((side, side)), dtype=np.float32) / 255
    views = augmented_views(torch.from_numpy(plain).permute(2, 0, 1)[None])[0]
    with matplotlib.rc_context({**house_style(), **SMALL, "font.size": 8}):
        fig = Figure(figsize=(PAGE, 3.6), layout="constrained")
        axes = fig.subplots(3, 9)
        for ax in axes.flat:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for row, (name, (first, last)) in zip(axes, ROWS.items(), strict=True):
            row[0].set_ylabel(name)
            for ax, place in zip(row, range(first, last), strict=False):
                ax.imshow(views[place].permute(1, 2, 0).numpy())
                ax.set_xlabel(f"{scores[place]:.3f}")
        _tiles(fig.add_subplot(axes[2, 5].get_gridspec()[2, 6:]), pair, side)
        title = f"One image score is the mean of 22 views: here {scores.mean():.3f}"
        fig.suptitle(f"{title}, as it is {scores[0]:.3f}", x=0.01, ha="left", fontsize=11)
    return fig


def _tiles(ax: Axes, pair: Pair, side: int) -> None:
    wide = Image.new("RGB", (3 * side // 2, side))
    for left, picture in ((0, pair.sample.image), (side, pair.normal)):
        wide.paste(picture.resize((side, side)), (left, 0))
    ax.imshow(fit_short_side(wide, side))
    for left, colour in ((0, COLOURS["anovl"]), (side // 2, COLOURS["clip"])):
        ax.add_patch(Rectangle((left, 0), side - 1, side - 1, fill=False, ec=colour, lw=2))
    ax.set(xticks=[], yticks=[], xlabel="VisA: two tiles of an oblong picture")
    ax.spines[:].set_visible(False)


def cost_and_accuracy(run: SharedRun, flops: Mapping[str, int]) -> Figure:
    """Draw AUPRO over the operations of an image, in passes of plain CLIP."""
    floor = floor_of(run)
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 3.2), layout="constrained")
        ax = fig.subplots()
        for name, spent in flops.items():
            value, low, high = run.value(name, "aupro")
            ends, colour = [[value - low], [high - value]], COLOURS.get(name, "0.3")
            ax.errorbar(spent / flops["clip"], value, ends, fmt=MARKERS[name], color=colour,
                        label=label_of(name))  # fmt: skip
        ax.axhspan(0, floor, color="0.93", zorder=0, label="up to the best control")
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        ax.set(xscale="log", xlabel="operations, in passes of plain CLIP", ylabel=NAMES["aupro"])
        ax.set(ylim=(0, 1), xticks=[1, 2, 5, 10])
        ax.xaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        passes = flops["anovl"] / flops["clip"]
        ax.set_title(f"V-V attention costs {passes:.2f} passes of plain CLIP", loc="left")
    return fig


def own_maps(run: SharedRun, method: str = "anovl") -> DataFrame:
    """The anomalous pictures with masks, with what a method's map has on each.

    Raises KeyError where there are none.
    """
    table = run.images()
    own = table[(table["method"] == method) & table["auroc_px"].notna()]
    if own.empty:
        raise KeyError("no map was measured: these pictures have no masks")
    return own


def by_category(run: SharedRun) -> Figure:
    """Draw the AUROC within each picture, category by category, with the mean of two methods."""
    own, clip = own_maps(run), own_maps(run, "clip")
    means, plain = (one.groupby("category")["auroc_px"].mean() for one in (own, clip))
    order, failing = means.sort_values().index, own[own["auroc_px"] < 0.5]
    where = failing["category"].nunique()
    failed = f"{len(failing)} of {len(own)} v-v maps are worse than a coin"
    title = f"{failed}, in {where} of {len(order)} categories"
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 0.2 * len(order) + 1.3), layout="constrained")
        ax = fig.subplots()
        for place, name in enumerate(order):
            values = own.loc[own["category"] == name, "auroc_px"]
            ax.plot(values, np.full(len(values), place), "|", color="0.6")
        ax.plot(plain[order], range(len(order)), "D", color=COLOURS["clip"], label=label_of("clip"))
        ax.plot(means[order], range(len(order)), "o", color=COLOURS["anovl"],
                label=label_of("anovl"))  # fmt: skip
        ax.axvline(0.5, color="0.4", linewidth=1, linestyle="--")
        ax.set_yticks(range(len(order)), order)
        ax.set_xlabel("AUROC within a picture; grey: one picture, v-v; dots: means")
        ax.set_title(title, loc="left")
        ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=2)
    return fig
