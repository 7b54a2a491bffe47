"""What may weigh on the repository: figures and notebooks, as git has them.

The limits are today's sizes. They only fall: whoever makes something smaller writes the new size.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMITS = {
    "pictures": 73,
    "bytes of pictures": 6_563_246,
    "bytes of figures": 6_947_020,
    "bytes of notebooks": 9_408_466,
}


@pytest.fixture(name="tracked", scope="module")
def tracked_files() -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "figures", "notebooks"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("this is no git repository, or git is not here")
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    if not files:
        pytest.skip("git does not track this folder")
    return [file for file in files if file.is_file()]


def size(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def test_figures_and_notebooks_weigh_no_more_than_they_did(tracked):
    figures = [file for file in tracked if ROOT / "figures" in file.parents]
    pictures = [file for file in figures if file.suffix == ".png"]
    notebooks = [file for file in tracked if file.suffix == ".ipynb"]
    sizes = (len(pictures), size(pictures), size(figures), size(notebooks))
    found = dict(zip(LIMITS, sizes, strict=True))
    too_heavy = {what: n for what, n in found.items() if n > LIMITS[what]}
    assert not too_heavy, f"more than the limits {LIMITS}"


def test_no_pdf_and_no_latex_is_in_git(tracked):
    assert [file.name for file in tracked if file.suffix in (".pdf", ".tex")] == []
