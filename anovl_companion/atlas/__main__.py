"""Check and sort the table of published numbers; print where those of a method disagree."""

from __future__ import annotations

import argparse
from pathlib import Path

from pandas import DataFrame, read_csv

from anovl._shared.messages import unknown
from anovl_companion.atlas.contradictions import MEASURED, contradictions, reasons, summary
from anovl_companion.atlas.table import NUMBERS, family_of, numbers, remarks

README = Path(__file__).with_name("README.md")


def measure() -> None:
    """Write `measured.csv`: what each effect does to maps of the pocket model, in percent."""
    from anovl import load_clip, load_dataset
    from anovl_companion.measure.small_print import measure

    clip = load_clip("pocket")
    rows = measure(clip, load_dataset("pocket", per_category=8, image_size=448)).round(2)
    rows.assign(weights=clip.weights_hash[:12]).to_csv(MEASURED, index=False, lineterminator="\n")


def counts(table: DataFrame, found: DataFrame) -> str:
    """Return the counts in words: by data set, setting and method, the largest first."""
    by_eye = remarks(table, "by eye").sum()
    parts = [f"{summary(table, found)} {by_eye:,} numbers were read by eye from a picture."]
    for column in ("dataset", "setting", "method"):
        sizes = table[column].value_counts()  # equal ones in the order of the table
        names = "; ".join(f"{name} {size}" for name, size in sizes.items())
        parts.append(f"By `{column}`: {names}.")
    return "\n\n".join(parts)


def effects(found: DataFrame) -> str:
    """Return two tables: points of each effect by maps, and groups that an effect may explain."""
    points = read_csv(MEASURED).pivot(index=["effect", "metric"], columns="maps", values="points")
    group = found[["dataset", "method", "metric"]].agg(", ".join, axis="columns")
    said = found[["spread", "said"]].assign(example=group)
    examples = reasons()[["effect", "example"]].merge(said, on="example")
    tables = (points.reset_index(), examples.rename(columns={"example": "may explain a part of"}))
    return "\n\n".join(rows.to_markdown(index=False, floatfmt=".2f") for rows in tables)


def write_readme(table: DataFrame, found: DataFrame) -> None:
    """Write counts and effects into README.md, between the comments that mark their places.

    Raises ValueError if a comment is missing.
    """
    text = README.read_text(encoding="utf-8")
    for name, part in (("counts", counts(table, found)), ("effects", effects(found))):
        start, end = f"<!-- {name}, written by the command -->\n", f"<!-- end of {name} -->"
        if start not in text or end not in text:
            raise ValueError(f"{README} has no place for {name}: expected {start.strip()} … {end}")
        before, after = text.split(start)[0], text.split(end)[1]
        text = f"{before}{start}{part}\n{end}{after}"
    README.write_text(text, encoding="utf-8")


def main() -> None:
    """Do what the options say."""
    parser = argparse.ArgumentParser(prog="python -m anovl_companion.atlas", description=__doc__)
    add = parser.add_argument
    add("--table", type=Path, default=NUMBERS, metavar="CSV", help="another table")
    add("--method", default="anovl", help="whose contradictions (anovl)")
    add("--measure", action="store_true", help="first write measured.csv anew (1-2 minutes)")
    options = parser.parse_args()
    if options.measure:
        measure()
    try:
        table = numbers(options.table)
        found = contradictions(table)
        if options.table == NUMBERS:
            write_readme(table, found)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    table.to_csv(options.table, index=False, lineterminator="\n")
    print(f"Checked and sorted: {summary(table, found)}")
    if options.method not in (names := {*table["method"], *table["method"].map(family_of)}):
        parser.exit(2, unknown("method", options.method, sorted(names)) + "\n")
    rows = found[found["method"] == family_of(options.method)]
    print(f"Groups with {options.method}: {len(rows)}.")
    for row in rows.itertuples(index=False):
        print(f"\n{row.dataset}, {row.metric}, {row.setting}: {row.spread:g} points")
        print(f"  {row.said}\n  likely reasons: {row.reasons or 'none known'}")


if __name__ == "__main__":
    main()
