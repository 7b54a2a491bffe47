"""The reader's own AnoVL: functions from the notebooks, collected in one file, part by part."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

FILE = "my_anovl.py"
HEADER = '''"""Your own AnoVL, as you wrote it in notebooks 01 to 04."""

import torch
import torch.nn.functional as F
import anovl
from anovl.attention import embed, merge_heads, project_qkv, project_to_clip_space
'''
_PART = re.compile(r"(?m)^# Notebook (\d\d)\n")


def save_part(folder: Path, number: str, *functions: Callable) -> Path:
    """Write functions as the part of a notebook into `folder`/my_anovl.py; other parts stay.

    Returns the file. Raises OSError for a function whose source cannot be found.
    """
    parts = read_parts(folder) | {number: "\n\n".join(map(inspect.getsource, functions))}
    text = "".join(f"\n\n# Notebook {name}\n{parts[name].strip()}\n" for name in sorted(parts))
    path = folder / FILE
    path.write_text(HEADER + text, encoding="utf-8")
    return path


def read_parts(folder: Path) -> dict[str, str]:
    """Return the parts that are there, by the number of their notebook."""
    if not (path := folder / FILE).is_file():
        return {}
    _, *pieces = _PART.split(path.read_text(encoding="utf-8"))
    return dict(zip(pieces[::2], pieces[1::2], strict=True))
