"""A training on disk: the trained model, its logs, and a checkpoint in three files.

A file appears under its name only when it is whole, and the parts of a checkpoint carry their step
in their names. So a kill at any moment leaves at least one checkpoint with all of its parts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch

from anovl._shared.files import write_atomically
from anovl.models.pocket import PocketTokenizer, save_pocket
from anovl_companion.training.recipe import RECIPES, Recipe
from anovl_companion.training.step import State

PARTS = ("model", "average", "optimizers")
PATTERN = "checkpoint-*-*.pt"


def save_snapshot(out: Path, state: State, recipe: Recipe, tokenizer: PocketTokenizer) -> None:
    """Write the average as a pocket model with its recipe, and a checkpoint in place of the last.

    Each part of the checkpoint is below 16 MB.
    """
    parts = {
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
    }
    paths = {part: _path(out, state.step, part) for part in PARTS}
    for part, path in paths.items():
        content = {"recipe": asdict(recipe), part: parts[part]}
        write_atomically(path, partial(torch.save, content))
    for path in set(out.glob(PATTERN)) - set(paths.values()):
        path.unlink()
    save_pocket(state.average, tokenizer, out)
    names = [name for name, known in RECIPES.items() if replace(known, seed=recipe.seed) == recipe]
    record = {"name": names[0] if names else None, **asdict(recipe)}
    write_atomically(out / "recipe.json", json.dumps(record, indent=1) + "\n")


def load_checkpoint(out: Path, recipe: Recipe) -> dict[str, Any] | None:
    """Read the last whole checkpoint of a folder, on the CPU wherever it was made; None = none.

    The result has `step` and the `PARTS`. Raises ValueError if the checkpoint is one of another
    recipe.
    """
    steps = {int(re.split("[-.]", path.name)[1]) for path in out.glob(PATTERN)}
    whole = [s for s in steps if all(_path(out, s, part).is_file() for part in PARTS)]
    if not whole:
        return None
    found: dict[str, Any] = {"step": max(whole)}
    for part in PARTS:
        path = _path(out, max(whole), part)
        found |= torch.load(path, map_location="cpu", weights_only=True)
    if found["recipe"] != asdict(recipe):
        raise ValueError(
            f"the checkpoint in {out} belongs to another recipe, {found['recipe']}: choose another "
            "folder, or begin anew (resume=False, or --fresh)"
        )
    return found


def open_log(path: Path, columns: Sequence[str], first: int) -> TextIO:
    """Open a log behind its rows of the steps before `first`; the others are taken out."""
    rows = path.read_text().splitlines()[1:] if first and path.exists() else []
    before = [row for row in rows if int(row.partition(",")[0]) < first]
    write_atomically(path, "\n".join([",".join(columns), *before]) + "\n")
    return open(path, "a")


def _path(out: Path, step: int, part: str) -> Path:
    return out / f"checkpoint-{step}-{part}.pt"
