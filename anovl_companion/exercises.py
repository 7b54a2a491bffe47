"""Make the students' notebooks from the solved ones.

The lines between nbgrader's marks `### BEGIN SOLUTION` and `### END SOLUTION` are left out, and so
are the answers in words: Markdown cells with the tag "answer".
"""

from __future__ import annotations

import re

import nbformat
from nbformat import NotebookNode

from anovl._shared.code import PACKAGE

HERE = PACKAGE.parent / "notebooks" / "exercises"
SOLVED = HERE / "solutions"
SOLUTION = re.compile(r"(?ms)^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$")


def unsolved(notebook: NotebookNode) -> NotebookNode:
    """Take the solutions and the answers out of a solved notebook, in place."""
    for cell in notebook.cells:
        if "answer" in cell.metadata.get("tags", []):
            cell.source = "*Your answer.*"
        cell.source = SOLUTION.sub(r'\1raise NotImplementedError("your turn")', cell.source)
        cell.source = cell.source.replace("](../../", "](../")  # one folder less
    return notebook


def make_exercises() -> None:
    """Write the notebooks without solutions beside those with."""
    for path in sorted(SOLVED.glob("*.ipynb")):
        nbformat.write(unsolved(nbformat.read(path, as_version=4)), HERE / path.name)
        print(path.name)
