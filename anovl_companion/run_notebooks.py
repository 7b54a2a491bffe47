"""Run notebooks and keep their outputs, or compare them with those that are committed.

papermill runs each with its own default parameters. Times, warnings and progress bars are left out.
The notebook records what its outputs belong to: its code cells, the modules that these use, the
pocket model, the shared run, and the questions. Prose and comments may change without a new run.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from anovl._shared.code import PACKAGE, code_hash, source_hash
from anovl._shared.files import hash_files
from anovl.models.pocket import FOLDER
from anovl_companion.questions import FILES as QUESTIONS
from anovl_companion.records import verify
from anovl_companion.reproduce import keep_what_agrees, record_code, set_aside
from anovl_companion.shared_run.reader import FOLDER as SHARED_RUN

HERE = PACKAGE.parent / "notebooks"
FIGURES = PACKAGE.parent / "figures" / "pocket"
CARD = (
    "README.md",
    "bars.csv",
)  # beside the weights of the pocket model, and not used by notebooks
WIDGET = "application/vnd.jupyter.widget-view+json"  # a progress bar
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def run(paths: list[Path], *, measure: bool = False) -> None:
    """Run notebooks, default all, and keep what they show; `measure` writes their cost in them."""
    for path in paths or in_order(HERE):
        print(path.stem, flush=True)
        if measure:
            print(write_cost(path))
        else:
            refresh(path)


def reproduce(paths: list[Path], *, figures: Path = FIGURES) -> list[str]:
    """Run notebooks, keep what is committed where they agree with it, and return what differs."""
    differs = []
    for path in paths or in_order(HERE):
        print(path.stem, flush=True)
        differs += refresh(path, figures=figures, compare=True)
    print(f"Figures (PNG, PDF) and tables (CSV, Markdown, LaTeX) are in {figures}")
    return differs + verify(figures)


def in_order(folder: Path) -> list[Path]:
    """Return the notebooks in order, but 00 last: it shows what the others have found."""
    return sorted(folder.glob("*.ipynb"), key=lambda path: (path.name.startswith("00"), path.name))


def belongs_to(notebook: NotebookNode) -> dict[str, str]:
    """Return the hashes of all that a notebook's outputs depend on.

    Raises FileNotFoundError when the pocket model is not where it should be.
    """
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    python = "\n".join(TransformerManager().transform_cell(cell) for cell in cells)
    model = (path for path in FOLDER.glob("*") if path.is_file() and path.name not in CARD)
    stamp = {"cells": source_hash(python), "code": code_hash(python)}
    stamp["weights"] = hash_files(sorted(model))
    stamp["shared run"] = hash_files(sorted(SHARED_RUN.glob("*/*.csv")))
    stamp["questions"] = hash_files(QUESTIONS)
    return stamp


def refresh(path: Path, *, figures: Path = FIGURES, compare: bool = False) -> list[str]:
    """Run a notebook where it lies; when it fails, the file and its figures stay as they were.

    With `compare`, they also stay where the new run agrees with them; what differs is returned.
    Raises RuntimeError when the source changes meanwhile: nobody could say what made the outputs.
    """
    old = nbformat.read(path, as_version=4)
    stamp, differs = belongs_to(old), []
    with tempfile.TemporaryDirectory() as folder:
        aside = Path(folder) / "committed"
        with set_aside(figures, path.stem, aside):
            executed = papermill.execute_notebook(
                str(path),
                str(Path(folder) / path.name),
                cwd=str(path.parent),
                kernel_name="python3",
                start_timeout=300,  # a cold disk reads torch slowly
                progress_bar=False,
            )
            new = without_volatile(executed)
            if belongs_to(new) != stamp:
                raise RuntimeError(f"the source of {path.name} changed while it ran: run it again")
            if compare:
                differs = keep_what_agrees(old, new, aside, figures, path.stem)
    record_code(figures, path.stem, stamp["code"])
    new.metadata["anovl"] = stamp
    nbformat.write(new, path)
    return [f"{path.name}, {what}" for what in differs]


def without_volatile(notebook: NotebookNode) -> NotebookNode:
    """Leave out times, progress bars, warnings and versions; join what was printed in pieces."""
    for cell in notebook.cells:
        cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k == "tags" and v})
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    language = {"name": "python", "pygments_lexer": "ipython3"}
    notebook.metadata = NotebookNode(kernelspec=KERNEL, language_info=language)
    notebook.nbformat_minor = 5
    return notebook


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    joined: list[NotebookNode] = []
    for output in outputs:
        if output.get("name") == "stderr" or WIDGET in output.get("data", {}):
            continue
        if output.output_type == "stream" and joined and joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def write_cost(path: Path) -> str:
    """Run a notebook in a process of its own, write time and memory into its card, return them.

    Raises RuntimeError when the notebook fails, or its card has no row **Takes**.
    """
    row = re.compile(r"(?m)^\| \*\*Takes\*\* \|.*$")
    if not row.search(nbformat.read(path, as_version=4).cells[0].source):
        raise RuntimeError(f"the card of {path.name} has no row **Takes**")
    start = time.perf_counter()
    command = [sys.executable, "-m", "anovl_companion", "notebooks", str(path)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)  # of the kernel too, which is a child of this child
    if status:
        raise RuntimeError(f"{path.name} could not be run: see above")
    minutes = math.ceil((time.perf_counter() - start) / 60)
    memory = math.ceil(used.ru_maxrss * 1024 / 1e8) / 10
    cost = f"about {'a minute' if minutes == 1 else f'{minutes} minutes'} and {memory:.1f} GB"
    notebook = nbformat.read(path, as_version=4)
    takes = f"| **Takes** | {cost} on two cores; `-p quick True` takes a fraction |"
    notebook.cells[0].source = row.sub(takes, notebook.cells[0].source)
    nbformat.write(notebook, path)
    return cost
