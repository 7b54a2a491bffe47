"""Which code a result depends on: what its hash covers, what it does not, and what is an error."""

from __future__ import annotations

import ast
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from anovl._shared import code
from anovl._shared.code import code_hash, source_hash

SOURCES = {
    "__init__.py": "import lazy_loader\n",
    "__init__.pyi": "from .a import adapt as adapt\nfrom .wing import load\nfrom . import c\n",
    "a.py": "def adapt():\n    '''Words.'''\n    from anovl.b import g  # deep\n    return g",
    "b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from anovl.c import x\ng = 1",
    "c.py": "x = 1",
    "wing/__init__.py": "from anovl.wing.inner import other\ndef load(): return other",
    "wing/inner.py": "other = 1",
    "wing/leaf.py": "y = 1",
}


@pytest.fixture(name="package")
def small_package(tmp_path, monkeypatch) -> Path:
    package = tmp_path / "anovl"
    (package / "wing").mkdir(parents=True)
    for name, source in SOURCES.items():
        (package / name).write_text(source)
    monkeypatch.setattr(code, "PACKAGE", package)
    return package


def changed_by(package: Path, script: str) -> set[str]:
    """The files whose change is seen in the hash of a script."""
    before, seen = code_hash(script), set()
    for name in SOURCES:
        source = (package / name).read_text()
        (package / name).write_text(source + "\nz = 1\n")
        if code_hash(script) != before:
            seen.add(name)
        (package / name).write_text(source)
    assert code_hash(script) == before
    return seen


@pytest.mark.parametrize(
    ("script", "reached"),
    [
        ("import numpy\nfrom anovl import a", {"a.py", "b.py"}),
        ("import anovl\nanovl.adapt(1)", {"a.py", "b.py"}),
        ("import anovl as it\ndef f():\n    return it.adapt.__name__", {"a.py", "b.py"}),
        ("from anovl import load", {"wing/__init__.py", "wing/inner.py"}),
        ("import anovl.wing.leaf", {"wing/leaf.py"}),
        ("import anovl\nanovl.c.x", {"c.py"}),
    ],
)
def test_the_hash_covers_what_a_script_reaches_and_nothing_else(package, script, reached):
    assert changed_by(package, script) == reached


def test_words_and_what_type_checkers_read_do_not_count(package):
    before = code_hash("import anovl.a")
    text = SOURCES["a.py"].replace("Words.", "Better words.").replace("deep", "deeper")
    (package / "a.py").write_text("'''A module.'''\n\n" + text)
    assert code_hash("import anovl.a") == before
    (package / "a.py").write_text(text.replace("return g", "return -g"))
    assert code_hash("import anovl.a") != before


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import anovl.gone", "'gone'"),
        ("import anovl.wing.gone", "anovl.wing .*'gone'"),
        ("import anovl\nanovl.gone()", "'gone'"),
        ("import numpy", "anovl"),
        ("import anovl", "anovl"),
        ("from .a import adapt", "relative"),
    ],
)
def test_a_hash_of_nothing_is_an_error(package, script, said):
    with pytest.raises(ValueError, match=said):
        code_hash(script)


def test_a_source_is_told_from_another_by_what_it_does():
    assert source_hash("def f():\n    'Words.'\n    return (1)") == source_hash(
        "def f(): return 1 # x"
    )
    different = ("x = 1", "x = 1.0", "x = '1'", "x = None", "y = 1", "x = f'{1}'", "x = f'{1!r}'")
    assert len({source_hash(source) for source in different}) == len(different)


def test_the_names_of_modules_in_strings_exist():
    """Names in strings break silently when files move; `code_hash` is asked for each."""
    found = {}
    for path in code.PACKAGE.rglob("*.py"):
        statements = ast.unparse(code._parsed(path.read_text(encoding="utf-8")))
        for name in re.findall(r"'(?:import )?(anovl\.[\w.]+)'", statements):
            found[name] = code_hash(f"import {name}")
    assert "anovl.evaluation.harness" in found


def test_a_hash_of_the_whole_command_line_covers_every_method_and_the_core():
    reached, waiting = set(), {"anovl.cli"}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        source = code._file(name).read_text(encoding="utf-8")
        waiting |= set(code._imported(source)) - reached
    assert {"anovl.attention", "anovl.baselines.winclip", "anovl.data.readers"} <= reached


def test_threads_parse_one_after_the_other(monkeypatch):
    """Two parsers at once end in a SystemError of Python 3.11, now and then."""
    at_once, parse = [], ast.parse

    def watched(*arguments):
        at_once.append(None)
        time.sleep(0.005)
        assert len(at_once) == 1, "another thread was parsing"
        at_once.pop()
        return parse(*arguments)

    for cached in (code.source_hash, code._parsed, code._naming):
        cached.cache_clear()
    monkeypatch.setattr(code.ast, "parse", watched)
    with ThreadPoolExecutor(2) as pool:
        hashes = [pool.submit(code.code_hash, "import anovl.maps") for _ in range(2)]
        assert hashes[0].result() == hashes[1].result()
