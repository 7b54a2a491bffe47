"""Figures and tables in one style: what they look like, and how they are saved.

No figure made here touches matplotlib's backend: notebooks keep theirs, and none is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from anovl.provenance import provenance, verify, write_record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["COLUMN", "DEMONSTRATION", "PAGE", "caveat", "heatmap_panels", "house_style", "overlay",
           "provenance", "save_figure", "save_table", "use_house_style", "verify"]  # fmt: skip

COLUMN, PAGE = 3.25, 6.75  # inches: the width of a column and of a page
HEAT = "magma"  # dark to bright in grey print too, and safe for colour-blind readers
PNG_BYTES = 150_000  # small enough to be kept in a repository, and in a notebook
DEMONSTRATION = "pocket model, procedural images: a demonstration, not a result of the paper"


def house_style() -> dict[str, Any]:
    """Return matplotlib settings: small ticks, colour-blind-safe lines, text that stays text."""
    import seaborn as sns
    from cycler import cycler

    return {
        **sns.axes_style("ticks"),
        **sns.plotting_context("paper"),
        "axes.prop_cycle": cycler(color=sns.color_palette("colorblind")),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.dpi": 100,
        "image.cmap": HEAT,
        "legend.frameon": False,
        "pdf.fonttype": 42,
    }


def use_house_style() -> None:
    """Draw everything that follows in the house style."""
    import matplotlib

    matplotlib.rcParams.update(house_style())


def caveat(record: Mapping[str, Any]) -> str:
    """Return what must stand under a figure or table with this provenance; "" if nothing must.

    >>> caveat({"model": "pocket", "dataset": "pocket"})
    'pocket model, procedural images: a demonstration, not a result of the paper'
    >>> caveat({"model": "pocket", "dataset": "photos"})
    'pocket model, photographs with drawn defects: a demonstration, not a result of the paper'
    """
    model, dataset = str(record.get("model", "")), record.get("dataset", "pocket")
    if "random weights" in model:
        return "random weights: neither the picture nor the numbers mean anything"
    if model != "pocket":
        return ""
    pictures = {"pocket": "procedural images", "photos": "photographs with drawn defects"}
    return DEMONSTRATION.replace(pictures["pocket"], pictures.get(dataset, f"images of {dataset}"))


def heatmap_panels(
    images: Sequence[Any],
    maps: Any,
    *,
    masks: Sequence[Any] | None = None,
    scores: Any = None,
    titles: Sequence[str] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    label: str = "P(abnormal)",
    cmap: str = HEAT,
    width: float = PAGE,
) -> Figure:
    """Draw one row an image: the image, its mask if given, and its anomaly map or maps.

    `images` are B pictures or arrays (H, W[, 3]); `maps` is (B, h, w), or several of those by name,
    each a column; `scores` (B,), or several by the same names, stand below their maps. All maps
    share one scale, `vmin` to `vmax` (default: the range of all of them) in the colours `cmap`,
    printed on one colour bar: a scale of its own would make every normal image look defective.

    Raises ValueError when the lengths differ, or a map is not finite.

    >>> fig = heatmap_panels(np.zeros((2, 8, 8)), np.arange(18).reshape(2, 3, 3), titles=["a", "b"])
    >>> len(fig.axes)  # two rows of image and map, and the colour bar
    5
    """
    import matplotlib
    from matplotlib.figure import Figure

    images = [np.asarray(image) for image in images]
    columns = {name: np.asarray(values) for name, values in _by_name(maps, "map").items()}
    scores = {} if scores is None else _by_name(scores, next(iter(columns)))
    _check_panels(len(images), columns, {"masks": masks, "titles": titles, **scores})
    low = min(values.min() for values in columns.values()) if vmin is None else vmin
    high = max(values.max() for values in columns.values()) if vmax is None else vmax
    heads = ["image", *(["mask"] if masks is not None else []), *columns]
    side = (width - 1.15) / len(heads) + (0.2 if scores else 0.05)
    with matplotlib.rc_context(house_style()):
        fig = Figure(figsize=(width, side * len(images) + 0.3), layout="constrained")
        axes = fig.subplots(len(images), len(heads), squeeze=False)
        for row, image in enumerate(images):
            panels = [(image, {"cmap": "gray"})]
            if masks is not None:
                mask = np.zeros(image.shape[:2]) if masks[row] is None else np.asarray(masks[row])
                panels.append((mask, {"cmap": "gray", "vmin": 0, "vmax": 1}))
            panels += [
                (m[row], {"cmap": cmap, "vmin": low, "vmax": high}) for m in columns.values()
            ]
            for ax, (pixels, colours) in zip(axes[row], panels, strict=True):
                _show(ax, pixels, image.shape[:2], **colours)
            for ax, name in zip(axes[row, -len(columns) :], columns, strict=True):
                if name in scores:
                    ax.set_xlabel(f"score {float(scores[name][row]):.4f}")
            axes[row, 0].set_ylabel(titles[row] if titles is not None else "")
        for ax, head in zip(axes[0], heads, strict=True):
            ax.set_title(head)
        _colour_bar(fig, axes, low, high, label, cmap)
    return fig


def _by_name(values: Any, name: str) -> dict[str, Any]:
    return dict(values) if isinstance(values, Mapping) else {name: values}


def _check_panels(count: int, maps: Mapping[str, np.ndarray], others: Mapping[str, Any]) -> None:
    if not count or not maps:
        raise ValueError(f"expected images and maps to draw; found {count} and {len(maps)}")
    for name, values in {**others, **maps}.items():
        if values is not None and len(values) != count:
            raise ValueError(f"{name!r} has {len(values)} entries for {count} images")
    for name, values in maps.items():
        if values.ndim != 3 or not np.isfinite(values).all():
            raise ValueError(
                f"{name!r} must be finite maps (B, h, w); found shape {values.shape}"
                + ("" if np.isfinite(values).all() else ", with NaN or infinite values")
            )


def _show(ax: Axes, pixels: np.ndarray, size: tuple[int, int], **colours: Any) -> None:
    """Show pixels, stretched over the height and width of their image, without ticks."""
    height, width = size
    ax.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest", **colours)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _colour_bar(fig: Figure, axes: Any, low: float, high: float, label: str, cmap: str) -> None:
    """Print the one scale, with as many digits as tell its ends apart."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    digits = 2 if high <= low else max(0, 2 - floor(log10(high - low)))
    bar = fig.colorbar(ScalarMappable(Normalize(low, high), cmap), ax=axes, label=label, aspect=30)
    ticks = [low, (low + high) / 2, high]
    bar.set_ticks(ticks, labels=[f"{tick:.{digits}f}" for tick in ticks])


def overlay(
    image: Any, heat: Any, *, vmin: float, vmax: float, opacity: float = 0.7
) -> Image.Image:
    """Lay a map (h, w) over its image in grey: an RGB picture of the image's size.

    From `vmin` to `vmax` the colour goes from clear to `opacity`, so what is normal stays visible.
    The scale has no default: it has to be the same for all images that are to be compared.

    Raises ValueError unless vmin < vmax.

    >>> overlay(Image.new("RGB", (40, 30)), np.eye(4), vmin=0, vmax=1).size
    (40, 30)
    """
    import matplotlib

    if not vmin < vmax:
        raise ValueError(f"expected vmin < vmax; found {vmin} and {vmax}")
    image = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    heat = Image.fromarray(np.asarray(heat, dtype=np.float32))
    heat = np.asarray(heat.resize(image.size, Image.Resampling.BILINEAR))
    strength = ((heat - vmin) / (vmax - vmin)).clip(0, 1)
    colours = Image.fromarray(matplotlib.colormaps[HEAT](strength, bytes=True)[..., :3])
    weight = Image.fromarray((255 * opacity * strength).round().astype(np.uint8))
    return Image.composite(colours, image.convert("L").convert("RGB"), weight)


def save_figure(fig: Figure, stem: str | Path, *, provenance: Mapping[str, Any]) -> Path:
    """Save STEM.pdf, STEM.png and STEM.provenance.json; return the PNG's path.

    The same figure gives the same bytes. The PNG has 200 dots an inch; to stay below 150 kB it may
    have fewer colours, and then fewer dots: the PDF has them all. What `caveat` says of the
    provenance is written under the figure.
    """
    import matplotlib

    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    pdf, png = (stem.with_name(stem.name + suffix) for suffix in (".pdf", ".png"))
    if (text := caveat(provenance)) and text not in (note.get_text() for note in fig.texts):
        fig.text(0.5, -0.01, text, ha="center", va="top", fontsize=7, style="italic")
    undated = {"Creator": None, "Producer": None, "CreationDate": None}
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        fig.savefig(pdf, dpi=200, bbox_inches="tight", metadata=undated)
        png.write_bytes(_small_png(fig))
    write_record(stem, [pdf, png], provenance)
    return png


def _small_png(fig: Figure) -> bytes:
    """Draw as finely as stays small: with all colours, or with dots of the 256 that matter most.

    Without dots, a smooth map would look like one of contour lines.
    """
    for dpi in (200, 150, 120, 100, 80):
        drawn, reduced = BytesIO(), BytesIO()
        fig.savefig(drawn, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
        if drawn.tell() <= PNG_BYTES:
            return drawn.getvalue()
        picture = Image.open(drawn).convert("RGB")
        palette = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
        dotted = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        dotted.save(reduced, format="png", optimize=True)
        if reduced.tell() <= PNG_BYTES:
            break
    return reduced.getvalue()


def save_table(
    table: DataFrame,
    stem: str | Path,
    *,
    provenance: Mapping[str, Any],
    percent: Sequence[str] = (),
    points: Sequence[str] = (),
    digits: int = 3,
) -> str:
    """Save STEM.csv, .md, .tex and .provenance.json; return the Markdown.

    The CSV has the values as they are (to 6 significant digits); Markdown and LaTeX have `digits`
    decimals, and the columns named in `percent`, or in `points` (differences of percentages), times
    100 with one decimal. Rows are not numbered.

    Raises ValueError when `percent` or `points` name a column that the table does not have.
    """
    units = dict.fromkeys(percent, "%") | dict.fromkeys(points, "points")
    if missing := set(units) - set(table.columns):
        raise ValueError(f"the table has no column {sorted(missing)}; it has {list(table.columns)}")
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    printed = _printed(table, units, digits)
    text = caveat(provenance)
    numeric = ["right" if kind in "fiu" else "left" for kind in (t.kind for t in table.dtypes)]
    markdown = printed.to_markdown(index=False, disable_numparse=True, colalign=numeric) + "\n"
    markdown += f"\n*{text}*\n" if text else ""
    latex = printed.replace("–", "--").to_latex(
        index=False, escape=True, column_format="".join(side[0] for side in numeric)
    )
    latex += f"\\par{{\\footnotesize {text}}}\n" if text else ""
    csv = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    contents = {".csv": csv, ".md": markdown, ".tex": latex}
    files = [stem.with_name(stem.name + suffix) for suffix in contents]
    for file, content in zip(files, contents.values(), strict=True):
        file.write_text(content, encoding="utf-8", newline="\n")
    write_record(stem, files, provenance)
    return markdown


def _printed(table: DataFrame, units: Mapping[str, str], digits: int) -> DataFrame:
    """Turn a table into text: numbers rounded, percents and points named in heads, gaps a dash."""

    def text(value: Any, column: str) -> str:
        if not isinstance(value, (float, np.floating)):
            return str(value)
        if np.isnan(value):
            return "–"
        return f"{100 * value:.1f}" if column in units else f"{value:.{digits}f}"

    cells = {
        f"{name} ({units[name]})" if name in units else name: [text(v, name) for v in table[name]]
        for name in table.columns
    }
    return type(table)(cells)
