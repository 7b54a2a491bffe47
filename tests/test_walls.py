"""Imports go one way (the contracts in pyproject.toml), and the packages stay small."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ("clip", "prompts", "attention", "maps", "adapt", "protocols", "detector")
WRONG = {  # a file, an import that it must not have, and what the linter says of it
    "maps.py": ("import anovl.models.weights", "anovl.maps is not allowed to import anovl.models"),
    "images.py": ("import anovl._shared.files", "The core stands alone BROKEN"),
    "models/weights.py": ("import anovl.data.readers", "anovl.models is not allowed to import"),
    "cli/options.py": ("import seaborn", "anovl is not allowed to import seaborn"),
    "evaluation/compare.py": ("import anovl_companion.claims", "anovl.evaluation is not allowed"),
    "world/noise.py": ("import torch", "anovl.world is not allowed to import torch"),
    "data/readers.py": ("import matplotlib", "anovl.data is not allowed to import matplotlib"),
    "evaluation/metrics.py": ("import pandas", "anovl.evaluation.metrics -> pandas"),
}


def lint(folder: Path) -> subprocess.CompletedProcess:
    linter = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", linter, "--no-cache", "--no-logo"]
    environment = {"PYTHONPATH": str(folder), "COLUMNS": "500", "PATH": ""}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_contracts_are_kept():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 7 kept, 0 broken" in done.stdout


def test_wrong_imports_and_modules_without_a_place_are_found(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for package in ("anovl", "anovl_companion"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "anovl/loose.py").touch()
    for file, (line, _) in WRONG.items():
        with (tmp_path / "anovl" / file).open("a", encoding="utf-8") as module:
            module.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stderr
    for said in ("loose", *(said for _, said in WRONG.values())):
        assert said in done.stdout, said


def code_lines(file: Path) -> int:
    """Lines of a module that hold code: neither blank, nor comments, nor docstrings alone."""
    lines, starts = set(), True  # whether a statement starts here
    with tokenize.open(file) as source:
        for token in tokenize.generate_tokens(source.readline):
            if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
                starts = True
            elif token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER):
                if not (starts and token.type == tokenize.STRING):
                    lines.update(range(token.start[0], token.end[0] + 1))
                starts = False
    return len(lines)


def test_lines_of_code_are_counted_without_words(tmp_path):
    sample = tmp_path / "sample.py"
    sample.write_text('"""Words.\n\nMore."""\n\nx = """a\nb"""  # why\n# alone\ny = (\n    1\n)\n')
    assert code_lines(sample) == 5


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_the_packages_stay_thin():
    lines = {name: sum(map(code_lines, modules(name))) for name in ("anovl", "anovl_companion")}
    # the second number: the description of a model, misses, and an export that decides
    assert lines["anovl"] <= 7300 + 400 and len(modules("anovl")) <= 75, lines
    # then the atlas, the tables of the shared run, and the frame of the notebooks with its findings
    assert lines["anovl_companion"] <= 2800 + 350 + 800 + 1950, lines
    assert sum(map(code_lines, modules("anovl/world"))) <= 832


def test_the_core_is_read_in_less_than_an_hour():
    core = [ROOT / f"anovl/{name}.py" for name in CORE]
    assert sum(map(code_lines, core)) <= 920
    assert sum(len(path.read_text(encoding="utf-8").split()) for path in core) <= 9000
