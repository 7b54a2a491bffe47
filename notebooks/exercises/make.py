"""Make the students' notebooks from the solved ones: `python notebooks/exercises/make.py`.

What stands between `### BEGIN SOLUTION` and `### END SOLUTION`, nbgrader's marks, is left out, and
so are the answers in words: Markdown cells with the tag "answer".
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
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


def main() -> None:
    for path in sorted(SOLVED.glob("*.ipynb")):
        nbformat.write(unsolved(nbformat.read(path, as_version=4)), HERE / path.name)
        print(path.name)


if __name__ == "__main__":
    main()
