"""Diagrams of boxes and arrows: AnoVL as a whole, and which notebook needs which."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch

from anovl_companion.figures import PAGE, house_style


@dataclass(frozen=True)
class Box:
    """A step: its words, its middle (x, y), its width and height, and what kind of step it is."""

    text: str
    x: float
    y: float
    width: float = 1.7
    height: float = 0.8
    kind: str = "given"

    def edge(self, x: float, y: float) -> tuple[float, float]:
        """The point of the border on the way from the middle to (x, y)."""
        dx, dy = x - self.x, y - self.y
        scale = min(
            self.width / 2 / abs(dx) if dx else float("inf"),
            self.height / 2 / abs(dy) if dy else float("inf"),
        )
        return self.x + dx * scale, self.y + dy * scale


KINDS = {
    "given": (7, "what you bring"),
    "words": (1, "words"),
    "ordinary": (0, "ordinary path (q-k)"),
    "local": (2, "local path (v-v)"),
    "learned": (4, "trained on the one image"),
    "answer": (3, "what comes out"),
}
"""Kinds of steps: the number in the colour-blind palette, and the words of the key."""

_ARROW = {"arrowstyle": "-|>", "color": "0.35", "lw": 0.9, "shrinkA": 0, "shrinkB": 1.5}

FRAMEWORK = {
    "image": Box("image\n(B, 3, H, W)", 0.9, 2.4),
    "name": Box("name\n“metal nut”", 0.9, 5.0),
    "patches in": Box("patches and\nclass token", 3.0, 2.4),
    "ordinary": Box("every block:\nq-k attention + MLP", 5.6, 3.3, 2.4, kind="ordinary"),
    "local": Box("every block adds\nv-v attention, no MLP", 5.6, 1.5, 2.4, kind="local"),
    "prompts": Box("states × templates\n× domains", 3.0, 5.0, 2.0, kind="words"),
    "text": Box("text tower, mean\nfor each state", 5.6, 5.0, 2.4, kind="words"),
    "cls": Box("class token\n(B, D)", 8.4, 3.3, kind="ordinary"),
    "patches": Box("patch tokens\n(B, h, w, D)", 8.4, 1.5, kind="local"),
    "prototypes": Box("two prototypes\nnormal, anomalous", 8.4, 5.0, 2.0, kind="words"),
    "adapter": Box("adapter,\na few steps (TTA)", 10.9, 0.25, 2.1, kind="learned"),
    "score": Box("cosine, softmax:\nscore (B)", 11.4, 3.3, 2.1, kind="answer"),
    "map": Box("cosine, softmax:\nmap (B, H, W)", 11.4, 1.5, 2.1, kind="answer"),
}
WAYS = (
    *(("image", "patches in"), ("patches in", "ordinary"), ("patches in", "local")),
    *(("ordinary", "local"), ("ordinary", "cls"), ("local", "patches")),
    *(("name", "prompts"), ("prompts", "text"), ("text", "prototypes")),
    *(("prototypes", "score"), ("cls", "score"), ("patches", "map")),
    *(("patches", "adapter"), ("adapter", "map")),
)


def framework_diagram() -> Figure:
    """Draw AnoVL: words become two prototypes, an image becomes tokens on two paths; they meet.

    >>> len(framework_diagram().axes)
    1
    """
    with matplotlib.rc_context(house_style()):
        fig = Figure(figsize=(PAGE, 3.4), layout="constrained")
        ax = fig.subplots()
        for name, other in WAYS:
            _draw_arrow(ax, FRAMEWORK[name], FRAMEWORK[other])
        _draw_bend(ax, FRAMEWORK["prototypes"], FRAMEWORK["map"])
        for box in FRAMEWORK.values():
            _draw_box(ax, box)
        ax.text(5.72, 2.4, "values", fontsize=6, va="center", color="0.35")
        _draw_key(ax)
        ax.set(xlim=(-0.1, 13.3), ylim=(-1.15, 5.55))
        ax.set_axis_off()
    return fig


STREAMS = {
    "z": [Box(f"$z_{n}$", 3.2 * n, 2.2, 0.9, kind="ordinary") for n in range(3)],
    "u": [Box(f"$u_{n}$", 3.2 * n, 0, 0.9, kind="local") for n in range(3)],
    "block": [Box("q-k attention,\nMLP", 3.2 * n + 1.6, 2.2, 1.5, kind="ordinary") for n in (0, 1)],
    "vv": [Box("v-v attention,\nno MLP", 3.2 * n + 1.6, 1.1, 1.5, kind="local") for n in (0, 1)],
    "read": [
        Box("class token:\nimage score", 8.4, 2.2, 1.6, kind="answer"),
        Box("patches:\nanomaly map", 8.4, 0, 1.6, kind="answer"),
    ],
}


def two_streams_diagram() -> Figure:
    """Draw the ordinary and the local stream through two blocks; nothing leads from u to z.

    >>> len(two_streams_diagram().axes)
    1
    """
    z, u, read = STREAMS["z"], STREAMS["u"], STREAMS["read"]
    with matplotlib.rc_context(house_style()):
        fig = Figure(figsize=(5, 1.9), layout="constrained")
        ax = fig.subplots()
        for n, (block, vv) in enumerate(zip(STREAMS["block"], STREAMS["vv"], strict=True)):
            for start, end in ((z[n], block), (block, z[n + 1]), (z[n], vv), (vv, u[n + 1])):
                _draw_arrow(ax, start, end)
            _draw_arrow(ax, u[n], u[n + 1])
        for start, end in ((z[0], u[0]), (z[-1], read[0]), (u[-1], read[1])):
            _draw_arrow(ax, start, end)
        for box in [box for boxes in STREAMS.values() for box in boxes]:
            _draw_box(ax, box)
        ax.set(xlim=(-0.7, 9.4), ylim=(-0.6, 2.8))
        ax.set_axis_off()
    return fig


def _colour(kind: str) -> tuple[float, float, float]:
    return sns.color_palette("colorblind")[KINDS[kind][0]]


def _draw_box(ax: Axes, box: Box) -> None:
    colour = _colour(box.kind)
    corner = (box.x - box.width / 2, box.y - box.height / 2)
    shape = "round,pad=0,rounding_size=0.12"
    ax.add_patch(
        FancyBboxPatch(corner, box.width, box.height, shape, fc="white", ec=colour, lw=1.3)
    )
    ax.text(box.x, box.y, box.text, ha="center", va="center", fontsize=6.5, linespacing=1.15)


def _draw_arrow(ax: Axes, start: Box, end: Box) -> None:
    ax.annotate("", end.edge(start.x, start.y), start.edge(end.x, end.y), arrowprops=_ARROW)


def _draw_bend(ax: Axes, start: Box, end: Box) -> None:
    """An arrow around the right side of the boxes between."""
    right = end.x + end.width / 2
    x = right + 0.45
    ax.plot([start.x + start.width / 2, x, x], [start.y, start.y, end.y], color="0.35", lw=0.9)
    ax.annotate("", (right, end.y), (x, end.y), arrowprops=_ARROW)


def _draw_key(ax: Axes) -> None:
    handles = [
        Line2D([], [], color=_colour(kind), lw=3, label=label) for kind, (_, label) in KINDS.items()
    ]
    ax.legend(handles=handles, ncols=6, loc="lower center", fontsize=6, handlelength=1.2,
              columnspacing=1.1, handletextpad=0.5, borderpad=0)  # fmt: skip
