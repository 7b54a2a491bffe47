"""The charts draw each group, and say in the title what the data say; the page holds each row."""

from __future__ import annotations

from html.parser import HTMLParser

import pandas as pd
import pytest
from matplotlib.text import Text

from anovl_companion.atlas.charts import own_and_others, own_chart, spread_chart
from anovl_companion.atlas.contradictions import contradictions
from anovl_companion.atlas.page import link_of, write_page
from anovl_companion.atlas.table import COLUMNS, METRICS, numbers


@pytest.fixture(name="table", scope="module")
def whole_table() -> pd.DataFrame:
    return numbers()


def toy(*changes: dict) -> pd.DataFrame:
    row = ("mvtec", "toy", "auroc_px", 50.0, "1-shot", "", "", "own", "a.org", "read", "")
    return pd.DataFrame([dict(zip(COLUMNS, row, strict=True)) | change for change in changes])


def test_a_dot_for_each_group(table):
    fig = spread_chart(table)
    (ax,) = fig.axes
    dots = sum(len(one.get_offsets()) for one in ax.collections if hasattr(one, "get_sizes"))
    found = contradictions(table)
    assert dots == len(found)
    title = ax.get_title(loc="left")
    assert str(len(found)) in title and f"{found['spread'].max():.1f}" in title
    assert len(ax.get_yticks()) == len(METRICS)


def test_own_value_beside_the_others():
    table = toy(
        {},
        {"percent": 40.0, "reported_by": "A", "note": "re-run"},
        {"percent": 45.0, "reported_by": "B", "note": "unclear"},
        {"percent": 99.0, "reported_by": "C", "note": "wrong: a misprint"},
        {"method": "alone"},
        {"setting": "2-shot", "reported_by": "A", "note": "re-run"},
    )
    found = own_and_others(table, "mvtec", "auroc_px")
    assert found.to_numpy().tolist() == [["1-shot", "toy", 50.0, 40.0, 45.0]]


def test_the_title_counts_the_cases_where_the_own_value_is_highest():
    others = {"reported_by": "A", "note": "re-run"}
    higher, equal = {"percent": 40.0}, {"dataset": "visa"}
    table = toy({}, others | higher, equal, equal | others | {"percent": 49.9})
    fig = own_chart(table)
    assert "in 1 of 2 cases" in fig.get_suptitle()
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["MVTec AD", "VisA"]
    with pytest.raises(ValueError, match="aupro"):
        own_chart(table, metric="aupro")


@pytest.mark.parametrize("chart", [spread_chart, own_chart])
def test_all_text_is_read_at_a_width_of_600_pixels(chart, table):
    fig = chart(table)
    texts = [text for text in fig.findobj(Text) if text.get_text().strip()]
    pixels = [text.get_fontsize() / 72 * 600 / fig.get_figwidth() for text in texts]
    assert len(texts) > 10 and min(pixels) >= 9


class Rows(HTMLParser):
    """Collects the cells of each row of the last table, and all links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag == "table":
            self.rows = []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "a":
            self.links.append(dict(attrs)["href"])

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def test_the_page_has_each_row_its_place_and_its_spread(table, tmp_path):
    path = tmp_path / "atlas.html"
    write_page(path, table)
    text = path.read_text(encoding="utf-8")
    page = Rows(text)
    head, *rows = page.rows
    assert len(rows) == len(table) and {len(row) for row in rows} == {len(head)} == {12}
    assert f"{len(table):,} published numbers" in text
    (row,) = (row for row in rows if row[:4] == ["visa", "anovl-tta", "auroc_px", "91.4"])
    assert row[4] == "6.2"
    assert all(link.startswith("https://") for link in page.links)
    assert len(page.links) == len(table)
    assert "src=" not in text and "@import" not in text  # nothing is loaded
    assert "$" not in text.split("<script>")[0]  # no placeholder is left


def test_the_page_escapes_what_a_row_says(tmp_path):
    path = tmp_path / "atlas.html"
    write_page(path, toy({"note": "<b>&", "where": 'a.org/"><script>', "method": "a<i>"}))
    text = path.read_text(encoding="utf-8")
    assert "<b>" not in text and "<i>" not in text.split("<tbody>")[-1]
    assert text.count("<script>") == 1 and "&lt;b&gt;&amp;" in text


@pytest.mark.parametrize(
    ("where", "link"),
    [
        ("github.com/a/b, c d.md @12ab", "https://github.com/a/b"),
        ("github.com/a/b/issues/4", "https://github.com/a/b/issues/4"),
        ("ar5iv.labs.arxiv.org/html/2311.02612, abstract", "https://ar5iv.labs.arxiv.org/html/2311.02612"),
        ("Table 2", ""),
        ("v1.2 of a talk", ""),
    ],
)  # fmt: skip
def test_places_become_links(where, link):
    assert link_of(where) == link
