"""Which code a result depends on, with which libraries, at which revision."""

from __future__ import annotations

import ast
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from anovl._shared.files import hash_files

PACKAGE = Path(__file__).parent.parent
LIBRARIES = ("torch", "open_clip_torch", "numpy", "scipy", "scikit-image", "scikit-learn",
             "pandas", "matplotlib", "pillow")  # fmt: skip


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on."""
    libraries = {name: version(name).partition("+")[0] for name in LIBRARIES}
    return {"python": platform.python_version(), **libraries}


def code_hash(script: str = "") -> str:
    """SHA-256 of the anovl modules that a script uses, directly or through others.

    Without a script: of those that are loaded now. Another module may change without touching it.

    >>> code_hash("import anovl.maps") == code_hash("from anovl import maps")
    True
    """
    if not script:
        loaded = sorted(name for name in sys.modules if name.partition(".")[0] == PACKAGE.name)
        script = "\n".join(f"import {name}" for name in loaded)
    files: dict[str, Path] = {}
    waiting = _imported(script)
    while waiting:
        name = waiting.pop()
        if name not in files and (file := _file(name)):
            files[name] = file
            waiting |= _imported(file.read_text(encoding="utf-8")) | {name.rpartition(".")[0]}
    return hash_files(files[name] for name in sorted(files))


def _imported(source: str) -> set[str]:
    """Return the names that might be modules in a source's (absolute) imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module)}
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _file(name: str) -> Path | None:
    """Return the file of one of this package's modules; None for what is not one."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    files = (path.with_name(path.name + ".py"), path / "__init__.py")
    own = name.partition(".")[0] == PACKAGE.name
    return next((file for file in files if own and file.is_file()), None)


def git_revision() -> str | None:
    """Return the commit of this package's working copy, with "+" if changed; None without one."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(PACKAGE), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None  # installed somewhere below a repository of someone else's
    changed = "+" if git("status", "--porcelain", "--", ".") else ""
    return f"{git('rev-parse', 'HEAD')}{changed}"
