"""Where a figure or a table came from: a record beside its files, and a check that it still holds.

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
from typing import TYPE_CHECKING, Any

from anovl._shared.code import code_hash, library_versions
from anovl._shared.files import hash_file

if TYPE_CHECKING:
    from anovl.clip import Clip
    from anovl.data.dataset import Dataset

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
    outputs = (path for path in sorted(folder.rglob("*")) if path.suffix in FIGURE | TABLE | BESIDE)
    artefacts = (p for p in outputs if not any(p.with_name(name).exists() for name in OWN_RECORDS))
    return problems + [f"{path} has no record" for path in artefacts if path not in recorded]


def _check(path: Path, record: Mapping[str, Any], files: Mapping[Path, str]) -> list[str]:
    """Compare one record with its files, and with the model that is shipped."""
    problems = []
    if {file.suffix for file in files} - BESIDE not in (FIGURE, TABLE):
        problems.append(f"{path} must name a PNG, or a CSV and a Markdown file")
    for file, digest in files.items():
        if not file.is_file():
            problems += [] if file.suffix in BESIDE else [f"{file} is missing"]
        elif digest is None and file.suffix in BESIDE:
            continue
        elif hash_file(file) != digest:
            problems.append(f"{file} has changed since it was recorded")
    if record.get("model") == "pocket" and record.get("weights_sha256") != _shipped_weights():
        problems.append(f"{path} was made with other weights than the pocket model's of today")
    return problems


@cache
def _shipped_weights() -> str:
    from anovl.models.load import load_clip

    return load_clip("pocket").weights_hash
