"""The exercises: each solution passes its check, no stub does, and no solution is given away."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import torch

from anovl_companion.exercises import HERE, SOLUTION, SOLVED, unsolved

SOLUTIONS = sorted(SOLVED.glob("*.ipynb"))
each = pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    return notebook


def tagged(notebook: nbformat.NotebookNode, tag: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def test_each_notebook_of_the_course_has_exercises():
    course = sorted(path.name for path in HERE.parent.glob("[0A][1-9]_*.ipynb"))
    course.remove("A2_your_own_images.ipynb")  # which is an exercise itself
    assert [path.name for path in SOLUTIONS] == course
    assert sorted(path.name for path in HERE.glob("*.ipynb")) == course


@each
def test_the_students_notebook_is_the_solved_one_without_its_solutions(path):
    solved, given = read(path), read(HERE / path.name)
    assert given == unsolved(read(path)), "`make exercises` makes it anew"
    text = "\n".join(cell.source for cell in given.cells)
    assert "SOLUTION" not in text
    for cell in tagged(solved, "answer"):
        assert cell.source not in text
    for cell in tagged(solved, "task"):
        [solution] = SOLUTION.finditer(cell.source)
        assert solution[0] not in text
    for notebook in (solved, given):
        assert not any(cell.get("outputs") for cell in notebook.cells)


@each
def test_links_lead_to_notebooks(path):
    for file in (path, HERE / path.name):
        links = re.findall(r"\]\(([^)]*)\)", "\n".join(cell.source for cell in read(file).cells))
        assert links
        for link in links:
            assert (file.parent / link).is_file(), f"{file}: {link}"


@pytest.mark.notebook
@each
def test_every_solution_passes_its_check_and_a_stub_does_not(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    notebook = read(path)
    tasks, checks = tagged(notebook, "task"), tagged(notebook, "check")
    assert len(tasks) == len(checks) >= 3
    namespace: dict[str, object] = {}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    with torch.enable_grad():  # a notebook may switch gradients off: not for the tests to come
        for cell in code:
            if cell in tasks:
                check = checks[tasks.index(cell)]
                for stub in ('raise NotImplementedError("your turn")', "return None"):
                    trial = dict(namespace)
                    exec(SOLUTION.sub(rf"\1{stub}", cell.source), trial)
                    with pytest.raises(Exception, match=r"(?s).*"):
                        exec(check.source, trial)
            exec(cell.source, namespace)
    said = capsys.readouterr().out
    assert [f"task {i}: right" in said for i in range(1, len(tasks) + 1)] == [True] * len(tasks)
