"""Run notebooks and keep their outputs, or compare them with those that are committed.

papermill runs each with its own default parameters. What changes from run to run is not kept, and
the notebook is told what its outputs belong to: its code cells, the modules that these use, the
pocket model, and the shared run if they read it. Prose and comments may change without a new run.
"""

from __future__ import annotations

import math
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill
import psutil
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from anovl._shared.code import PACKAGE, code_hash, source_hash
from anovl._shared.files import hash_files
from anovl_companion.records import verify
from anovl_companion.reproduce import (
    Comparison,
    compare_outputs,
    compare_results,
    keep_outputs,
    keep_results,
    record_code,
    set_aside,
)
from anovl_companion.shared_run.reader import FOLDER as SHARED_RUN

HERE = PACKAGE.parent / "notebooks"
FIGURES = PACKAGE.parent / "figures" / "pocket"
CARD = ("README.md", "bars.csv")  # what is said of the pocket model, and not shown in a notebook
WIDGET = "application/vnd.jupyter.widget-view+json"  # a progress bar
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def belongs_to(notebook: NotebookNode) -> dict[str, str]:
    """Return the hashes of all that a notebook's outputs depend on.

    Raises FileNotFoundError when the pocket model is not where it should be.
    """
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    python = "\n".join(TransformerManager().transform_cell(cell) for cell in cells)
    folder = PACKAGE / "models" / "pocket"
    weights = sorted(p for p in folder.glob("*") if p.is_file() and p.name not in CARD)
    if not weights:
        raise FileNotFoundError(f"{folder} must hold the pocket model, and holds no file of it")
    stamp = {
        "cells": source_hash(python),
        "code": code_hash(python),
        "weights": hash_files(weights),
    }
    if "shared_run" in python:
        stamp["shared run"] = hash_files(sorted(SHARED_RUN.glob("*/*.csv")))
    return stamp


def in_order(folder: Path) -> list[Path]:
    """Return the notebooks in order, but 00 last: it shows what the others have found."""
    return sorted(folder.glob("*.ipynb"), key=lambda path: (path.name.startswith("00"), path.name))


def refresh(path: Path, *, figures: Path = FIGURES, compare: bool = False) -> Comparison:
    """Run a notebook where it lies; when it fails, the file and its figures stay as they were.

    With `compare`, they also stay where the new run agrees with them; what differs is returned.
    Raises RuntimeError when the source changes meanwhile: nobody could say what made the outputs.
    """
    old = nbformat.read(path, as_version=4)
    stamp, found = belongs_to(old), Comparison()
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
                found = compare_outputs(old, new, path.name)
                found += compare_results(aside, figures, path.stem)
        if compare and not found.differs:
            keep_outputs(old, new)
            keep_results(aside, figures, path.stem)
    record_code(figures, path.stem, stamp["code"])
    new.metadata["anovl"] = stamp
    nbformat.write(new, path)
    return found


def measured(path: Path) -> str:
    """Run a notebook and write its cost into the row "Takes" of its card; return the cost."""
    start = time.perf_counter()
    with peak_memory() as peak:
        refresh(path)
    cost = in_words(time.perf_counter() - start, peak[0])
    notebook = nbformat.read(path, as_version=4)
    opening = notebook.cells[0]
    row = f"| **Takes** | {cost} on two cores; `-p quick True` takes a fraction |"
    opening.source, found = re.subn(r"(?m)^\| \*\*Takes\*\* \|.*$", row, opening.source)
    if not found:
        raise RuntimeError(f"the card of {path.name} has no row **Takes**")
    nbformat.write(notebook, path)
    return cost


def in_words(seconds: float, memory: float) -> str:
    """Say a cost as a reader needs it: whole minutes and tenths of a gigabyte, rounded up."""
    minutes = math.ceil(seconds / 60)
    return (
        f"about {'a minute' if minutes == 1 else f'{minutes} minutes'} "
        f"and {math.ceil(memory / 1e8) / 10:.1f} GB"
    )


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Watch what this process's children, the kernel among them, have in memory: bytes, at most."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            used = 0
            for child in psutil.Process().children(recursive=True):
                try:
                    used += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak[0] = max(peak[0], used)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


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
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.get("name") == "stderr" or WIDGET in output.get("data", {}):
            continue
        if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def report(folder: Path) -> list[str]:
    """Print the tables in a folder and where to look; return what `verify` finds wrong."""
    for table in sorted(folder.glob("*.md")):
        print(f"\n{table.stem}\n\n{table.read_text(encoding='utf-8')}")
    print(f"Figures (PNG, PDF) and tables (CSV, Markdown, LaTeX) are in {folder}")
    return verify(folder)


def reproduce(paths: list[Path], *, figures: Path = FIGURES) -> Comparison:
    """Run notebooks, keep what is committed where they agree with it, and report all of it."""
    found = Comparison()
    for path in paths or in_order(HERE):
        with timed(path):
            found += refresh(path, figures=figures, compare=True)
    return found + Comparison(differs=tuple(report(figures)))


@contextmanager
def timed(path: Path) -> Iterator[None]:
    """Print which notebook runs, and then how long it took."""
    print(f"{path.stem} ...", end=" ", flush=True)
    start = time.perf_counter()
    yield
    print(f"{time.perf_counter() - start:.0f} s", flush=True)


def run(paths: list[Path], *, measure: bool = False) -> None:
    """Run notebooks, default all, and keep what they show."""
    for path in paths or in_order(HERE):
        with timed(path):
            if measure:
                print(measured(path), end=", ")
            else:
                refresh(path)
