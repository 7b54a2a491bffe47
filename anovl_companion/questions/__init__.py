"""Questions before a result, one TOML file a notebook, shown with an answer that unfolds."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from anovl._shared.messages import unknown

FILES = sorted(Path(__file__).parent.glob("*.toml"))


@dataclass(frozen=True)
class Question:
    """A question with options, the number of the right one (from 1), and why it is right.

    `misconception` is what a reader believes who chooses another; it is for teachers.
    """

    question: str
    options: list[str]
    answer: int
    because: str
    misconception: str


@cache
def questions() -> dict[str, Question]:
    """Return all questions by their names, such as "01-gradient".

    Raises ValueError for an answer that is none of the options.
    """
    tables = [tomllib.loads(file.read_text(encoding="utf-8")) for file in FILES]
    asked = {name: Question(**one) for table in tables for name, one in table.items()}
    for name, one in asked.items():
        if not 1 <= one.answer <= len(one.options):
            raise ValueError(f"question {name}: answer {one.answer} is none of its options")
    return asked


def ask(name: str) -> str:
    """Return a question as HTML; the answer is folded away.

    Raises ValueError for a name that is in none of the files.
    """
    if name not in questions():
        raise ValueError(unknown("question", name, list(questions())))
    one = questions()[name]
    options = "".join(f"<li>{escape(option)}</li>" for option in one.options)
    return (
        f"<p><strong>Predict.</strong> {escape(one.question)}</p>"
        f'<ol type="a">{options}</ol>'
        f"<details><summary>Answer</summary><p><strong>{'abcdefgh'[one.answer - 1]}.</strong> "
        f"{escape(one.because)}</p></details>"
    )
