"""Figures and tables on disk: byte-stable files with a record beside them.

PNG, CSV and Markdown are in git; PDF and LaTeX, for papers, are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame
from PIL import Image

from anovl.cli.answers import caveat
from anovl_companion.records import write_record

PNG_BYTES = 150_000  # small enough for a repository, and for a notebook
DIGITS = 3  # after the point, of fractions: what carries over from one processor to another


def save_figure(fig: Figure, stem: str | Path, *, provenance: Mapping[str, Any]) -> Path:
    """Save STEM.pdf, STEM.png and STEM.provenance.json; return the PNG's path.

    The same figure gives the same bytes. The PNG has 200 dots an inch; to stay below 150 kB it may
    have fewer colours, and then fewer dots. The `caveat` of the provenance stands under the figure.
    """
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
    digits: int = DIGITS,
) -> str:
    """Save STEM.csv, .md, .tex and .provenance.json; return the Markdown.

    Numbers have `digits` decimals, in the CSV at least three. Markdown and LaTeX show the columns
    named in `percent`, or in `points` (differences of percentages), times 100 with one decimal: the
    same three digits. Rows are not numbered.

    Raises ValueError when `percent` or `points` name a column that the table does not have.
    """
    units = dict.fromkeys(percent, "%") | dict.fromkeys(points, "points")
    if missing := set(units) - set(table.columns):
        raise ValueError(f"the table has no column {sorted(missing)}; it has {list(table.columns)}")
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    printed = _printed(table, units, digits)
    text = caveat(provenance)
    sides = ["right" if dtype.kind in "fiu" else "left" for dtype in table.dtypes]
    markdown = printed.to_markdown(index=False, disable_numparse=True, colalign=sides) + "\n"
    columns = "".join(side[0] for side in sides)
    latex = printed.replace("–", "--").to_latex(index=False, escape=True, column_format=columns)
    if text:
        markdown += f"\n*{text}*\n"
        latex += f"\\par{{\\footnotesize {text}}}\n"
    rounded = f"%.{max(digits, DIGITS)}f"
    csv = table.to_csv(index=False, float_format=rounded, lineterminator="\n")
    contents = {stem.name + ".csv": csv, stem.name + ".md": markdown, stem.name + ".tex": latex}
    for name, content in contents.items():
        stem.with_name(name).write_text(content, encoding="utf-8", newline="\n")
    write_record(stem, map(stem.with_name, contents), provenance)
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
