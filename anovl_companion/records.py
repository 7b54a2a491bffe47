"""Records of what made a figure or a table, beside its files, and a check of them.

A record names the source code by its hash and not by a git revision, because a file cannot name the
commit that it is part of. Nothing in it changes from one run to the next, unless a cause changed.
It vouches for PNG, CSV and Markdown. PDF and LaTeX are not in git: each run writes them anew, with
the last digits of the machine that it runs on, so a record names them and has no hash for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from anovl._shared.code import code_hash, library_versions
from anovl._shared.files import hash_file
from anovl.clip import Clip
from anovl.data.dataset import Dataset
from anovl.models.load import load_clip

SUFFIX = ".provenance.json"
FIGURE = {".png"}
TABLE = {".csv", ".md"}
BESIDE = {".pdf", ".tex"}  # not in git
OWN_RECORDS = ("run.json", "localize.json")  # of a folder of `evaluate`, of `localize`


def provenance(
    *,
    clip: Clip | None = None,
    dataset: Dataset | None = None,
    parameters: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Record what made a result: model, data, parameters, code and libraries, and `more` facts.

    The parameter `out` is left out, and of paths only the last name is recorded: a record is about
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
        shown = {key: value for key, value in parameters.items() if key != "out"}
        for key in ("weights", "data_root"):
            if shown.get(key):
                shown[key] = Path(shown[key]).name
        record |= {"parameters": shown}
    return record | more


def write_record(stem: Path, files: Iterable[Path], record: Mapping[str, Any]) -> None:
    """Write STEM.provenance.json: the record, and the SHA-256 of each file that it vouches for."""
    hashes = {file.name: None if file.suffix in BESIDE else hash_file(file) for file in files}
    dump_record(stem.with_name(stem.name + SUFFIX), {**record, "files": hashes})


def dump_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a whole record, always in the same form."""
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def verify(folder: str | Path) -> list[str]:
    """Check every figure and table under a folder against its record; return the problems found.

    PDF and LaTeX files may be absent. What lies in a folder of `evaluate` or `localize` is left
    alone: its run.json or localize.json is its record.

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
    for path in sorted(folder.rglob("*")):
        of_a_run = any(path.with_name(name).exists() for name in OWN_RECORDS)
        if path.suffix in FIGURE | TABLE | BESIDE and path not in recorded and not of_a_run:
            problems.append(f"{path} has no record")
    return problems


def _check(path: Path, record: Mapping[str, Any], files: Mapping[Path, str]) -> list[str]:
    """Compare one record with its files, and with the model that is shipped."""
    problems = []
    committed = {file: digest for file, digest in files.items() if file.suffix not in BESIDE}
    if {file.suffix for file in committed} not in (FIGURE, TABLE):
        problems.append(f"{path} must name a PNG, or a CSV and a Markdown file")
    for file, digest in committed.items():
        if not file.is_file():
            problems.append(f"{file} is missing")
        elif hash_file(file) != digest:
            problems.append(f"{file} has changed since it was recorded")
    if record.get("model") == "pocket" and record.get("weights_sha256") != _shipped_weights():
        problems.append(f"{path} was made with other weights than the pocket model's of today")
    return problems


@cache
def _shipped_weights() -> str:
    return load_clip("pocket").weights_hash
