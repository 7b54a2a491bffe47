"""A quick start: public names are loaded when they are used, and known to type checkers."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import anovl

PACKAGE = Path(anovl.__file__).parent
SCRIPT = """
import anovl

clip: anovl.Clip = anovl.load_clip("pocket")
text = anovl.encode_prompts(clip, anovl.prompt_ensemble("metal nut", level="states"))
features = anovl.encode_images(clip, ["nut.png"], attention="vv")
maps = anovl.anomaly_maps(features.patches, text, size=(480, 640))
scores: list[float] = anovl.image_scores(features.cls, text).tolist()
result: anovl.Localization = anovl.AnoVL(clip, tta=True)("nut.png", "metal nut")
print(maps.shape, scores, result.map.mean(), result.score)
"""


def python(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "COLUMNS": "200"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "localize"),
        (["localise"], "invalid choice: 'localise'"),
        (["evaluate", "--help"], "clip-surgery"),
        (["evaluate", "--help"], "magnetic-tile"),
        (["localize", "--help"], "bfloat16"),
    ],
)
def test_the_command_line_answers_without_torch(arguments, said):
    done = python("-X", "importtime", "-m", "anovl", *arguments)
    assert said in done.stdout + done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "anovl.cli" in loaded
    assert not loaded & {"torch", "numpy", "pandas", "matplotlib"}


def test_listed_names_are_those_that_there_are():
    from anovl.baselines import FEW_SHOT, METHODS, VARIANTS, _makers
    from anovl.clip import PRECISIONS
    from anovl.data import DATASETS
    from anovl.data.readers import READERS

    assert set(_makers()) == {*METHODS, *VARIANTS, *FEW_SHOT}
    assert set(DATASETS) == {*READERS, "photos", "pocket"} and len(DATASETS) == 11
    helped = python("-m", "anovl", "localize", "--help").stdout
    assert all(name in helped for name in PRECISIONS)


def test_every_public_name_is_there():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    listed = next(ast.literal_eval(n.value) for n in stub.body if isinstance(n, ast.Assign))
    assert listed == sorted(listed) and listed == anovl.__all__
    assert all(getattr(anovl, name).__name__ == name for name in listed)
    assert set(listed) <= set(dir(anovl))


@pytest.mark.parametrize("first", ["anovl.adapt", "anovl"])
def test_adapt_is_the_function_whatever_was_imported_before(first):
    check = f"import {first}; import anovl; from anovl import adapt; print(callable(anovl.adapt))"
    assert python("-c", f"{check}; assert adapt is anovl.adapt").stdout.strip() == "True"


def test_a_script_passes_the_type_checker(tmp_path):
    assert (PACKAGE / "py.typed").is_file()
    script, config = tmp_path / "script.py", tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\nfollow_imports = silent\n"
                      "[mypy-torch.*]\nfollow_imports = skip\n")  # fmt: skip
    mypy = ("-m", "mypy", "--config-file", str(config), "--cache-dir", str(tmp_path), str(script))
    environment = os.environ | {"MYPYPATH": str(PACKAGE.parent)}
    script.write_text(SCRIPT + "anovl.load_klip()\nprint(result.scores)\n")
    done = subprocess.run([sys.executable, *mypy], env=environment, capture_output=True, text=True)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 2, done.stdout + done.stderr
    assert "load_klip" in errors[0] and "scores" in errors[1]
