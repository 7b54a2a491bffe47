"""Check and sort the table of published numbers; print where those of a method disagree."""

from __future__ import annotations

import argparse
from pathlib import Path

from anovl_companion.atlas.contradictions import contradictions
from anovl_companion.atlas.table import NUMBERS, family_of, numbers

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m anovl_companion.atlas", description=__doc__)
    parser.add_argument("--table", type=Path, default=NUMBERS, metavar="CSV", help="another table")
    parser.add_argument("--method", default="anovl", help="whose contradictions (anovl)")
    options = parser.parse_args()
    try:
        table = numbers(options.table)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    table.to_csv(options.table, index=False, lineterminator="\n")
    found = contradictions(table)
    rows = found[found["method"] == family_of(options.method)]
    print(f"{len(table)} numbers, checked and sorted. In {len(found)} groups the sources disagree,")
    print(f"in {len(rows)} of them on {options.method}:")
    for row in rows.itertuples(index=False):
        print(f"\n{row.dataset}, {row.metric}, {row.setting}: {row.spread:g} points")
        print(f"  {row.said}\n  likely reasons: {row.reasons or 'none known'}")
