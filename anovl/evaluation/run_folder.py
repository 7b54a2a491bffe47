"""The folder of a run: a record of everything that decides it, and its finished parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from filelock import FileLock

from anovl._shared.code import code_hash, git_revision, library_versions
from anovl._shared.files import hash_file, write_atomically
from anovl.clip import Clip, Images, as_list
from anovl.data.dataset import Dataset
from anovl.detector import Detector
from anovl.models.description import describe

_MAY_DIFFER = ("categories", "git_revision")  # between the processes of a run
_BY_CATEGORY = ("data_sha256", "skipped")
_IDLE = "batch_size"  # decides no result; by default it follows the free memory of a GPU


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run: run.json records everything that decides it, parts/ has finished parts.

    A file gets its name only when it is complete, so a kill loses at most the part being made.
    Several processes may write to one folder, each its own categories.
    """

    path: Path

    @classmethod
    def claim(cls, path: str | Path, run: Mapping[str, Any]) -> RunFolder:
        """Open a folder for a run, or go on with the same run there.

        The git revision is recorded but may change: a commit need not touch the code of the run.
        Other categories of the same data set may join, and images of a category without a
        finished pair may have been repaired. Raises ValueError when `path` is a file or holds
        another run.
        """
        folder = cls(Path(path))
        if folder.path.exists() and not folder.path.is_dir():
            raise ValueError(f"{path} is a file; give a folder for the results")
        record = folder.path / "run.json"
        run = json.loads(json.dumps(run, default=lambda value: type(value).__name__))
        with folder.locked():
            if record.exists():
                before = _recorded(record)
                run = _joined(before, run, path, finished=folder._finished(before))
                if run == before:
                    return folder
            else:
                run |= {"git_revision": git_revision()}
            write_atomically(record, json.dumps(run, indent=2))
        return folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the folder: one process at a time changes its record and tables."""
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".lock"):
            yield

    @property
    def categories(self) -> list[str]:
        """All categories of the run, also those of other processes."""
        return json.loads((self.path / "run.json").read_text(encoding="utf-8"))["categories"]

    def has(self, name: str) -> bool:
        """Tell whether a part is finished."""
        return self.part(name).exists()

    def read(self, name: str) -> Any:
        """Return a finished part. Raises ValueError for a damaged one."""
        try:
            return json.loads(self.part(name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{self.part(name)} is damaged ({error}): delete it, and run the same again to "
                "make it anew"
            ) from None

    def keep(self, name: str, part: Any) -> None:
        """Save a part, whole or not at all."""
        write_atomically(self.part(name), json.dumps(part))

    def part(self, name: str) -> Path:
        """The file of a part."""
        return self.path / "parts" / f"{quote(name, safe=' ,', errors='surrogateescape')}.json"

    def _finished(self, run: Mapping[str, Any]) -> set[str]:
        """Categories with a finished pair."""
        pairs = ((name, method) for name in run["categories"] for method in run.get("methods", ()))
        return {category for category, method in pairs if self.has(pair_name(category, method))}


def pair_name(category: str, method: str, **_: Any) -> str:
    return f"{category}, {method}"


def describe_run(dataset: Dataset, detectors: Sequence[Detector], **options: Any) -> dict[str, Any]:
    """Record everything that decides a result; of the machine, only device and versions."""
    clips = [clip for detector in detectors for clip in clips_of(detector)]
    return {
        "dataset": dataset.name,
        "categories": list(dataset.categories),
        "data": dict(dataset.parameters),
        "data_sha256": {name: dataset.manifest_hash(name) for name in dataset.categories},
        "methods": {detector.name: _options(detector) for detector in detectors},
        "models": {clip.name: clip.weights_hash for clip in clips},
        "descriptions": {clip.name: asdict(describe(clip)) for clip in clips},
        "precision": {
            detector.name: clip.precision for detector in detectors for clip in clips_of(detector)
        },
        "device": ", ".join(dict.fromkeys(clip.device.type for clip in clips)),
        **options,
        "versions": library_versions(),
        "code_sha256": code_of(imports_of(detectors)),
    }


def imports_of(detectors: Sequence[Detector]) -> str:
    """Imports that reach all code on which results of these detectors depend, for `code_hash`."""
    modules = {"anovl.evaluation.harness", *(type(detector).__module__ for detector in detectors)}
    return "\n".join(f"import {module}" for module in sorted(modules))


@lru_cache
def code_of(imports: str) -> str:
    """`code_hash` of the code as it was loaded, computed once in a process."""
    return code_hash(imports)


def clips_of(detector: Detector) -> list[Clip]:
    """Return the models of a detector, and of the detector inside it."""
    own = fields(detector) if is_dataclass(detector) else ()
    parts = [getattr(detector, field.name) for field in own]
    inside = [clip for part in parts if isinstance(part, Detector) for clip in clips_of(part)]
    return [part for part in parts if isinstance(part, Clip)] + inside


def _options(value: Any) -> Any:
    """Return the options of a detector that decide its results; for a model, its name."""
    if isinstance(value, Clip):
        return value.name
    if not is_dataclass(value):
        return value
    names = (field.name for field in fields(value) if field.compare)
    decisive = (name for name in names if not name.startswith("_") and name != _IDLE)
    own = {name: getattr(value, name) for name in decisive}
    return {name: _hashes(one) if name == "normal" else _options(one) for name, one in own.items()}


def _hashes(images: Images | None) -> list[str]:
    """Return the hashes of images that a method learns from: of files, or of values."""
    return [
        hash_file(Path(image))
        if isinstance(image, (str, Path))
        else hashlib.sha256(np.asarray(image).tobytes()).hexdigest()
        for image in as_list([] if images is None else images)
    ]


def _recorded(record: Path) -> dict[str, Any]:
    """Read a run.json; ValueError for a file that is of no run."""
    try:
        run = json.loads(record.read_text(encoding="utf-8"))
        if run.keys() >= {"categories", "data", "data_sha256"}:
            return run
    except (ValueError, AttributeError):
        pass
    raise ValueError(f"{record} is not of a run: choose another folder with --out")


def _joined(
    before: dict[str, Any], run: dict[str, Any], path: str | Path, *, finished: set[str]
) -> dict[str, Any]:
    """Return the record with the categories of both; ValueError if they are two runs."""
    same = finished & set(run["categories"])
    if changes := list(_changes(*(_of(one, same) for one in (before, run)))):
        raise ValueError(
            f"{path} holds another run ({'; '.join(changes[:4])}); "
            "choose another folder, or delete this one to start again"
        )
    order = run["categories"]
    if not set(before["categories"]) <= set(order):
        order = sorted({*before["categories"], *order})
    others = _of(before, set(before["categories"]) - set(run["categories"]))
    both = {key: others[key] | run.get(key, {}) for key in _BY_CATEGORY}
    words = others["data"]["words"] | run["data"].get("words", {})
    data = run["data"] | ({"words": words} if words else {})
    joined = before | both | {"categories": order, "data": data}
    return {key: value for key, value in joined.items() if value or key != "skipped"}


def _of(run: dict[str, Any], categories: set[str]) -> dict[str, Any]:
    """Return the record of a run, with these categories alone."""

    def only(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name in categories}

    own = {key: only(run.get(key, {})) for key in _BY_CATEGORY}
    data = run["data"] | {"words": only(run["data"].get("words", {}))}
    decisive = {key: value for key, value in run.items() if key not in _MAY_DIFFER}
    return decisive | own | {"data": data}


def _changes(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Describe where two nested records differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from _changes(before.get(key), after.get(key), f"{where}.{key}".strip("."))
    elif before != after:
        yield f"{where} was {_brief(before)}, now {_brief(after)}"


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."
