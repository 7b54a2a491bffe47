"""The atlas as one HTML file: all numbers, searched and sorted in the browser without a network."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from string import Template

from pandas import DataFrame

from anovl_companion.atlas.contradictions import GROUP, contradictions, summary
from anovl_companion.atlas.table import COLUMNS, family_of

PAGE = Path(__file__).with_name("page.html")
HEADS = (*COLUMNS[:4], "spread", *COLUMNS[4:])


def link_of(where: str) -> str:
    """Return the address of a place, "" for one without: a GitHub file at its revision, or a page.

    >>> link_of("github.com/xrli-U/MuSc, README.md @b76b93da8b (Results)")
    'https://github.com/xrli-U/MuSc/blob/b76b93da8b/README.md'
    >>> link_of("arxiv.org/abs/2502.07601, Table 2"), link_of("a talk")
    ('https://arxiv.org/abs/2502.07601', '')
    """
    if found := re.match(r"(github\.com/[^,\s]+), (\S+) @(\w+)", where):
        repository, path, revision = found.groups()
        return f"https://{repository}/blob/{revision}/{path}"
    page = re.match(r"[\w.-]+\.[a-z]{2,}(/[^\s,]*)?(?=[\s,]|$)", where)
    return f"https://{page[0]}" if page else ""


def write_page(path: str | Path, table: DataFrame) -> None:
    """Write the page of a table from `numbers`: one file that needs no other, 1.1 MB."""
    found = contradictions(table)
    wide = found[found["spread"] >= 5]
    spreads = found.set_index(list(GROUP))["spread"].to_dict()
    keys = table.assign(method=table["method"].map(family_of))[list(GROUP)].to_numpy()
    table = table.assign(spread=[spreads.get(tuple(key), "") for key in keys])
    html = Template(PAGE.read_text(encoding="utf-8")).substitute(
        summary=summary(table, found),
        wide=len(wide),
        groups=_rows(wide),
        numbers=_rows(table[list(HEADS)]),
    )
    Path(path).write_text(html, encoding="utf-8")


def _rows(table: DataFrame) -> str:
    names = (column.replace("_", " ") for column in table)
    heads = (f'<th><button type="button">{name}</button></th>' for name in names)
    lines = [f"<thead><tr>{''.join(heads)}</tr></thead><tbody>"]
    for row in table.to_dict("records"):
        cells = (f"<td>{_cell(column, value)}</td>" for column, value in row.items())
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody>"])


def _cell(column: str, value: str | float) -> str:
    text = escape(value if isinstance(value, str) else f"{value:g}")
    link = link_of(str(value)) if column == "where" else ""
    return f'<a href="{escape(link)}">{text}</a>' if link else text
