"""Where a figure or a table came from: a record beside its files, and a check that it still holds.

A record names the source code by its hash and not by a git revision, because a file cannot name the
commit that it is part of. Nothing in it changes from one run to the next, unless a cause changed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anovl.weights import hash_file

if TYPE_CHECKING:
    from anovl.clip import Clip
    from anovl.datasets import Dataset

PACKAGE = Path(__file__).parent
SUFFIX = ".provenance.json"
LIBRARIES = ("torch", "open_clip_torch", "numpy", "scipy", "scikit-image", "scikit-learn",
             "pandas", "matplotlib", "pillow")  # fmt: skip
FIGURE = {".pdf", ".png"}
TABLE = {".csv", ".md", ".tex"}


def provenance(
    *,
    clip: Clip | None = None,
    dataset: Dataset | None = None,
    parameters: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Gather what made a result: model, data, parameters, code and libraries, and `more` facts.

    Of the parameters `out` is left out, and of paths only the last name is kept: a record is about
    the result, not about the machine.

    >>> record = provenance(parameters={"seed": 0, "data_root": "somewhere/mvtec"}, method="anovl")
    >>> record["parameters"], record["method"]
    ({'seed': 0, 'data_root': 'mvtec'}, 'anovl')
    """
    record: dict[str, Any] = {"code_sha256": code_hash(), "versions": library_versions()}
    if clip is not None:
        record |= {"model": clip.name, "weights_sha256": clip.weights_hash}
        record |= {"device": str(clip.device), "precision": clip.precision}
    if dataset is not None:
        record |= {"dataset": dataset.name, "data_sha256": dataset.manifest_hash()}
    if parameters is not None:
        paths = {key: Path(parameters[key]).name for key in ("weights", "data_root")
                 if parameters.get(key)}  # fmt: skip
        kept = {key: value for key, value in {**parameters, **paths}.items() if key != "out"}
        record |= {"parameters": kept}
    return record | more


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on."""
    libraries = {name: version(name).partition("+")[0] for name in LIBRARIES}
    return {"python": platform.python_version(), **libraries}


def code_hash(script: str = "") -> str:
    """SHA-256 of the anovl modules that a script uses, directly or through others.

    Without a script: of those that are loaded now. Another module may change without touching it.

    >>> code_hash("import anovl.metrics") == code_hash("from anovl import metrics")
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


def hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and the contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {hash_file(path)}\n".encode())
    return digest.hexdigest()


def write_record(stem: Path, files: Iterable[Path], record: Mapping[str, Any]) -> None:
    """Write STEM.provenance.json: the record, and the SHA-256 of each file that it speaks of."""
    hashes = {file.name: hash_file(file) for file in files}
    text = json.dumps({**record, "files": hashes}, indent=2, sort_keys=True, ensure_ascii=False)
    stem.with_name(stem.name + SUFFIX).write_text(text + "\n", encoding="utf-8")


def verify(folder: str | Path) -> list[str]:
    """Check every figure and table under a folder against its record; return the problems found.

    What lies in a folder of `evaluate` is left alone: its run.json is its record.
    Raises FileNotFoundError when there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; `make reproduce` writes figures/pocket")
    records = sorted(folder.rglob(f"*{SUFFIX}"))
    if not records:
        return [f"{folder} holds no record (*{SUFFIX}): nothing to verify"]
    problems: list[str] = []
    recorded: set[Path] = set()
    for path in records:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            files = {path.with_name(name): digest for name, digest in record["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"{path} cannot be read as a record ({error!r})")
            continue
        recorded |= files.keys()
        problems += _check(path, record, files)
    outputs = (path for path in sorted(folder.rglob("*")) if path.suffix in FIGURE | TABLE)
    artefacts = (path for path in outputs if not path.with_name("run.json").exists())
    return problems + [f"{path} has no record" for path in artefacts if path not in recorded]


def _check(path: Path, record: Mapping[str, Any], files: Mapping[Path, str]) -> list[str]:
    """Compare one record with its files, and with the model that is shipped."""
    problems = []
    if {file.suffix for file in files} not in (FIGURE, TABLE):
        problems.append(f"{path} must name a PDF and a PNG, or a CSV, a Markdown and a LaTeX file")
    for file, digest in files.items():
        if not file.is_file():
            problems.append(f"{file} is missing")
        elif hash_file(file) != digest:
            problems.append(f"{file} has changed since it was recorded")
    if record.get("model") == "pocket" and record.get("weights_sha256") != _shipped_weights():
        problems.append(f"{path} was made with other weights than the pocket model's of today")
    return problems


def _shipped_weights() -> str:
    from anovl.load import load_clip

    return load_clip("pocket").weights_hash
