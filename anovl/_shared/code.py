"""The code that a result depends on, its libraries and its revision."""

from __future__ import annotations

import ast
import hashlib
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any

PACKAGE = Path(__file__).parent.parent
ROOTS = ("anovl", "anovl_companion")
"""The packages whose code counts."""
LIBRARIES = "torch open_clip_torch numpy scipy scikit-image scikit-learn pandas matplotlib pillow"
_ONE_AT_A_TIME = Lock()  # Python 3.11 fails when two threads parse at once


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries, where installed, that decide results."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES.split():
        with suppress(PackageNotFoundError):  # the module alone needs no scikit-learn
            found[name] = version(name).partition("+")[0]
    return found


def code_hash(script: str = "") -> str:
    """SHA-256 of the modules of `ROOTS` that a script reaches, directly or through others.

    Without a script: the modules that are loaded now, and all that they reach. Comments, docstrings
    and imports for type checkers do not count. A public name, `anovl.adapt`, leads to its module.

    Raises ValueError when the script names something of anovl that does not exist, or nothing.

    >>> code_hash("import anovl.maps") == code_hash("from anovl import anomaly_maps")
    True
    >>> code_hash("import anovl.mapps")
    Traceback (most recent call last):
    ValueError: anovl has no module or public name 'mapps' (asked for: anovl.mapps)
    """
    if not script:
        loaded = (name for name in sorted(sys.modules) if _is_ours(name) and "." in name)
        script = "\n".join(f"import {name}" for name in loaded)
    reached: dict[str, str] = {}
    with _ONE_AT_A_TIME:
        waiting = set(_imported(script))
        while waiting:
            name = waiting.pop()
            source = _file(name).read_text(encoding="utf-8")
            reached[name] = source_hash(source)
            waiting |= set(_imported(source)) - reached.keys()
    if not reached:
        raise ValueError(
            f"this code imports no module of {' or '.join(ROOTS)}: its hash would mean nothing"
        )
    lines = "".join(f"{name} {reached[name]}\n" for name in sorted(reached))
    return hashlib.sha256(lines.encode()).hexdigest()


@lru_cache(maxsize=256)
def source_hash(source: str) -> str:
    """SHA-256 of the syntax tree of a source, the same on every version of Python.

    >>> source_hash("x = 1  # one") == source_hash("'''A number.'''\\nx=1") != source_hash("x = 2")
    True
    """
    return hashlib.sha256(_canonical(_parsed(source)).encode()).hexdigest()


class _WithoutWords(ast.NodeTransformer):
    """Remove docstrings, and code for type checkers alone."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, holders) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
        return node

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test).endswith("TYPE_CHECKING") else node


@lru_cache(maxsize=256)
def _parsed(source: str) -> ast.Module:
    return _WithoutWords().visit(ast.parse(source))


def _canonical(node: Any) -> str:
    """Write a tree as text. `ast.dump` would write it differently from one Python to the next."""
    if isinstance(node, ast.AST):
        parts = ((key, value) for key, value in ast.iter_fields(node) if value not in (None, []))
        inside = ",".join(f"{key}={_canonical(value)}" for key, value in parts)
        return f"{type(node).__name__}({inside})"
    if isinstance(node, list):
        return f"[{','.join(map(_canonical, node))}]"
    return repr(node)


@lru_cache(maxsize=256)
def _naming(source: str) -> tuple[ast.AST, ...]:
    """Return the nodes of a source that can name modules."""
    kinds = (ast.Import, ast.ImportFrom, ast.Attribute)
    return tuple(node for node in ast.walk(_parsed(source)) if isinstance(node, kinds))


def _imported(source: str) -> Iterator[str]:
    """Yield the modules of `ROOTS` that a source imports, or reaches as `anovl.NAME`."""
    bound = {}
    for node in _naming(source):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                if root in ROOTS:
                    bound[alias.asname or root] = alias.name if alias.asname else root
                    if alias.name != root:
                        yield _module(alias.name, whole=True)
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError("write 'from anovl. ... import', not a relative import")
        elif isinstance(node, ast.ImportFrom) and _is_ours(str(node.module)):
            yield from (_module(f"{node.module}.{alias.name}") for alias in node.names)
    for node in _naming(source) if bound else ():
        if isinstance(node, ast.Attribute) and not node.attr.startswith("__"):
            first, _, rest = ast.unparse(node).partition(".")
            if first in bound and rest.replace(".", "").isidentifier():
                yield _module(f"{bound[first]}.{rest}")


def _module(dotted: str, *, whole: bool = False) -> str:
    """Return the module that a dotted name leads to: `anovl.X`, `anovl.maps.X`, `anovl.maps`.

    With `whole`, all of the name must be a module.
    """
    root, *parts = dotted.split(".")
    found = root
    if root == "anovl" and not whole:
        stub = (PACKAGE / "__init__.pyi").read_text(encoding="utf-8")
        found = _public_names(stub).get(parts[0], root)
        parts = parts if found == root else parts[1:]
    while parts and _file(f"{found}.{parts[0]}").is_file():
        found = f"{found}.{parts.pop(0)}"
    if found == root or (whole and parts):
        raise ValueError(f"{found} has no module or public name {parts[0]!r} (asked for: {dotted})")
    return found


@lru_cache(maxsize=8)
def _public_names(stub: str) -> dict[str, str]:
    """Return the modules that the public names of `import anovl` come from, as its stub says."""
    homes = {}
    for node in _naming(stub):
        if isinstance(node, ast.ImportFrom):
            home = ".".join(filter(None, ["anovl" if node.level else "", node.module]))
            homes |= {alias.asname or alias.name: home for alias in node.names}
    return homes


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in ROOTS


def _file(name: str) -> Path:
    """Return the file of a module of these packages; it may not exist."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    package = path / "__init__.py"
    return package if package.is_file() else path.with_name(path.name + ".py")


def git_revision() -> str | None:
    """Return the commit of the packages' working copy, with "+" if changed; None without one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # else below someone else's repository
        changed = git("status", "--porcelain", "--", *(f":/{root}" for root in ROOTS))
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
