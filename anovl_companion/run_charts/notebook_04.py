"""Charts of notebook 04."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from pandas import DataFrame

from anovl import AnoVL, Sample
from anovl.adapt import TERMS, AdaptTrace, tta_loss
from anovl_companion.charts import COLOURS, SMALL, TRUTH
from anovl_companion.figures import PAGE, house_style
from anovl_companion.measure.tta_variants import NONE, PUBLISHED, REVERSED, SHIFT
from anovl_companion.shared_run.reader import SharedRun
from anovl_companion.thread import first_ones

if TYPE_CHECKING:
    from anovl_companion.notebook import Notebook

LABELS = {
    PUBLISHED: "published: 5 steps",
    "0 steps": "random adapter, 0 steps",
    "1 steps": "1 step",
    f"only entropy, p + {SHIFT}": f"entropy alone, p + {SHIFT}",
    "noise 0": "no noise",
    "noise 0.55": "10 times the noise",
    "lr 0.0001": "learning rate / 10",
    "lr 0.01": "10 times the learning rate",
    "seed 1": "another seed",
    "optimizer not reset": "AdamW not reset",
    REVERSED: "AdamW not reset, reverse order",
}


def changes(run: SharedRun) -> DataFrame:
    """Return how TTA changes the AUROC within pictures, largest gain first.

    Columns: `category`, `number` in the category, and `change`.
    """
    table, own = run.images("tta"), run.images()
    after, before = (table[table["variant"] == name] for name in (PUBLISHED, NONE))
    after = after.assign(change=after["auroc_px"].to_numpy() - before["auroc_px"].to_numpy())
    own = own[own["method"] == own["method"].iloc[0]]
    own = own.assign(number=own.groupby("category").cumcount())
    found = after.merge(own[["category", "image", "number"]], on=["category", "image"])
    found = found.dropna(subset="change").sort_values("change", ascending=False, kind="stable")
    return found[["category", "number", "change"]]


def gains_most(run: SharedRun) -> str:
    """Return the category whose pooled AUPRO gains most by TTA."""
    table = run.table("tta").rows.pivot(index="category", columns="variant", values="aupro")
    return (table[PUBLISHED] - table[NONE]).idxmax()


def before_after(
    nb: Notebook, ranks: Sequence[float], *, title: str = "", share: bool = False
) -> Figure:
    """Draw pictures by rank of what TTA changes: map before, after, and the difference.

    Rank 0 gains most, 1 loses most. Without masks they are the first pictures. `share` adds the
    histogram of all changes, and says in the title how many lose and gain.
    """
    table = changes(nb.runs[0]) if nb.has_masks else DataFrame()
    if table.empty:
        places, points = first_ones(nb.data, len(ranks)), ["not measured"] * len(ranks)
        title = "Pictures before and after adaptation"
    else:
        rows = table.iloc[[round(rank * (len(table) - 1)) for rank in ranks]]
        places = list(zip(rows["category"], rows["number"], strict=True))
        points = [f"{100 * change:+.1f} points" for change in rows["change"]]
    detector = AnoVL(nb.clip, tta=True)
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, (1.7 if share else 2.0) * len(places) + 0.6))
        fig.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03)
        widths = [1, 1, 1, 1] + [1.5] * share
        axes = fig.subplots(len(places), len(widths), squeeze=False, width_ratios=widths)
        for row, place, change in zip(axes, places, points, strict=True):
            category, number = place
            sample = nb.data.entries(category)[number].sample(category)
            found = detector.localize([sample.image], nb.data.prompts(category), size=112)[0]
            _maps(row, sample, found.map_before_tta, found.map)
            row[0].set(title=category, xlabel=change)
        if share and not table.empty:
            title = f"The median picture. {_share(axes[0, -1], table)}"
        elif share:
            axes[0, -1].set_axis_off()
        fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig


def _maps(row: Sequence[Axes], sample: Sample, before: np.ndarray, after: np.ndarray) -> None:
    """The picture, both maps on one scale, and their difference on its own."""
    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    _panel(row[0], sample.image, sample)
    _panel(row[1], before, sample, title="before", vmin=low, vmax=high)
    maps = _panel(row[2], after, sample, title="after", vmin=low, vmax=high)
    difference = _panel(row[3], after - before, sample, title="after − before", cmap="viridis")
    _bar(row[1:3], maps)
    _bar(row[3:4], difference)


def _panel(ax: Axes, shown: Any, sample: Sample, title: str = "", **scale: Any) -> AxesImage:
    """A picture or a map of it, with the outline of the true defect."""
    height, width = np.asarray(sample.image).shape[:2]
    image = ax.imshow(np.asarray(shown), extent=(0, width, height, 0), **scale)
    if sample.mask is not None and sample.mask.any():
        extent = (0, width, 0, height)
        ax.contour(sample.mask, [0.5], colors=TRUTH, linewidths=1, extent=extent)
    ax.set(xticks=[], yticks=[], title=title)
    ax.spines[:].set_visible(False)
    return image


def _bar(axes: Sequence[Axes], image: AxesImage) -> None:
    """A colour bar below maps, with both ends of its scale printed."""
    fig, ends = axes[0].figure, image.get_clim()
    bar = fig.colorbar(image, ax=list(axes), location="bottom", shrink=0.8, aspect=14, pad=0.03)
    bar.set_ticks(ends, labels=[f"{end:.3f}" for end in ends])
    bar.ax.tick_params(labelsize=8, length=0)


def _share(ax: Axes, table: DataFrame) -> str:
    """Draw the changes as a histogram, and say how many pictures lose and gain."""
    points, limit = 100 * table["change"], 2
    ax.hist(points.clip(-limit, limit), np.linspace(-limit, limit, 33), color=COLOURS["anovl-tta"])
    ax.axvline(0, color="0.4", linewidth=1, linestyle="--")
    ax.set(xlabel="change of AUROC, points", ylabel="pictures", title="within a picture")
    return f"Of {len(table)} pictures {(points < 0).sum()} lose and {(points > 0).sum()} gain"


def cancelling(p: np.ndarray, trace: AdaptTrace) -> Figure:
    """Draw the loss over p where the copy equals the patch, and the terms of one image by step.

    `p` are values of patches, of which the range is shaded.
    """
    line = torch.linspace(0.25, 0.75, 101)[:, None]
    entropy, noisy, clean, total = (term - term[50] for term in tta_loss(line, line))
    curves = {"entropy": entropy, "(noisy + clean) / 2": (noisy + clean) / 2, "total": total}
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 2.7), layout="constrained")
        left, right = fig.subplots(1, 2)
        for name, values in curves.items():
            left.plot(line, values, label=name, linewidth=3 if name == "total" else 1.5)
        left.axvspan(p.min(), p.max(), color="0.9", label="patches of this picture")
        left.set(xlabel="p of the patch, and of its copy", ylabel="loss, minus loss at ½")
        left.set_title("Two curvatures cancel", loc="left")
        for name in (*TERMS, "total"):
            values = getattr(trace, name)[0].cpu()
            right.plot(values - values[0], marker=".", label=name)
        right.set(xlabel="updates taken", ylabel="change since the start")
        right.set_title("One image: terms move, the total does not", loc="left")
        for ax in (left, right):
            ax.legend(fontsize=8)
    return fig


def flip(sample: Sample, moves: Mapping[str, np.ndarray]) -> Figure:
    """Draw a picture, and changes of p (h, w) by name on one scale around zero."""
    end = max(abs(move).max() for move in moves.values())
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 2.6), layout="constrained")
        first, *others = fig.subplots(1, 1 + len(moves))
        _panel(first, sample.image, sample)
        for ax, (name, move) in zip(others, moves.items(), strict=True):
            title = f"change of p: {name}\n{move.mean():+.3f} on average"
            image = _panel(ax, move, sample, title=title, cmap="RdBu_r", vmin=-end, vmax=end)
        _bar(others, image)
        fig.suptitle("Entropy alone: below ½, to be sure means to be normal", x=0.01, ha="left")
    return fig


def forest(run: SharedRun) -> Figure:
    """Draw what each variant changes against no adaptation, in AUPRO and within pictures."""
    names = [name for name in run.table("tta").variants if name != NONE]
    names.sort(key=lambda name: -run.gain(name, NONE, "aupro", table="tta")[0])
    metrics = {"aupro": "pooled AUPRO", "within": "AUROC within a picture"}
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 0.2 * len(names) + 1.1), layout="constrained")
        for ax, (metric, label) in zip(
            fig.subplots(1, 2, sharey=True), metrics.items(), strict=True
        ):
            for place, name in enumerate(names):
                value, low, high = 100 * np.array(run.gain(name, NONE, metric, table="tta"))
                colour = COLOURS["anovl-tta" if name == PUBLISHED else "control"]
                ax.plot([low, high], [place, place], color=colour, linewidth=2)
                ax.plot(value, place, "o", color=colour, markersize=5)
            ax.axvline(0, color="0.4", linewidth=1, linestyle="--")
            ax.set_xlabel(f"{label}, points")
        words = [LABELS.get(name, name.replace("only ", "alone: ")) for name in names]
        fig.axes[0].set_yticks(range(len(names)), words)
        fig.axes[0].invert_yaxis()
        title = "Against no adaptation: single terms do more than all three"
        fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig
