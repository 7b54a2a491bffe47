"""The contract of the notebooks: a picture first, short, plain English, few words and figures."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from anovl_companion.findings import FINDINGS
from anovl_companion.questions import questions
from anovl_companion.run_notebooks import HERE

REWRITTEN = [path for path in sorted(HERE.glob("*.ipynb")) if "Notebook.begin" in path.read_text()]
MOST_WORDS = {"00": 1900, "01": 2000, "02": 2100, "05": 2300}
MOST_FIGURES = {"00": 2, "01": 4, "02": 6, "05": 6}
LONG, LONGEST, SHARE_OF_LONG = 20, 28, 0.05
BANNED = ("healthy", "sound", "abnormal", "read-out", "share out", "at work", "as we shall see")
each = pytest.mark.parametrize("path", REWRITTEN, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def prose(path: Path) -> str:
    """The text of a notebook without code, formulas, tables' rules and links' addresses."""
    text = "\n\n".join(cell.source for cell in cells(path, "markdown"))
    text = re.sub(r"```.*?```|\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    text = re.sub(r"`[^`]*`|\$[^$]*\$", "x", text)
    return re.sub(r"\]\([^)]*\)|arXiv \d+\.\d+", " ", text)


def sentences(text: str) -> list[str]:
    """Sentences of prose; a heading, an item and a cell of a table are sentences, too."""
    text = re.sub(r"(?m)^#+ |^- |^\d+\. |\*", "", text)
    text = re.sub(r"\(\d\) ", ". ", text)  # numbered questions
    pieces = re.split(r"\n\n|[.!?:;](?=\s|$)|\|", text)
    return [piece.strip() for piece in pieces if len(piece.split()) > 1]


def test_sentences_are_told_apart():
    assert sentences("# A head\n\nOne two three. Four five!\n\n- six seven\n\n| a b | c d |") == [
        *("A head", "One two three", "Four five", "six seven", "a b", "c d")
    ]


@each
def test_it_is_written_in_plain_english(path):
    found = sentences(prose(path))
    long = [one for one in found if len(one.split()) > LONG]
    assert len(long) <= SHARE_OF_LONG * len(found), long
    assert not [one for one in found if len(one.split()) > LONGEST]
    words = prose(path).lower()
    assert not [word for word in BANNED if re.search(rf"\b{word}\b", words)]


@each
def test_it_begins_with_a_question_a_picture_and_an_answer(path):
    head = nbformat.read(path, as_version=4).cells[:4]
    assert head[0].source.splitlines()[2].endswith("?**"), "the question stands under the title"
    kinds = {kind for cell in head for output in cell.get("outputs", []) for kind in output.data}
    assert "image/png" in kinds
    assert "nb.finding(" in head[3].source


@each
def test_it_is_short(path):
    number, code = path.stem[:2], cells(path, "code")
    assert len(nbformat.read(path, as_version=4).cells) <= 60
    assert max(len(cell.source.splitlines()) for cell in code) <= 15
    assert len(prose(path).split()) <= MOST_WORDS[number]
    figures = [
        output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    assert len(figures) <= MOST_FIGURES[number]


@each
def test_its_findings_and_questions_are_data(path):
    number, source = path.stem[:2], "\n".join(cell.source for cell in cells(path, "code"))
    named = re.findall(r'nb\.finding\("([^"]+)"\)', source)
    asked = re.findall(r'nb\.predict\("([^"]+)"\)', source)
    assert set(named) == {name for name in FINDINGS if name.startswith(number)}
    assert set(asked) == {name for name in questions() if name.startswith(number)}
    assert all(name.startswith(number) for name in (*named, *asked))
