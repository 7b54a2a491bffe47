"""Tensors kept on disk under the hash of all that made them, so that they are made once."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

from torch import Tensor


def cached_tensors(
    folder: str | Path, key: str, make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the tensors of FOLDER/KEY.safetensors, on the CPU; make and keep them if need be.

    A file that is missing, or damaged, is made again, and appears only when it is complete. Warns,
    and goes on, when the folder cannot be written to.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    path = Path(folder).expanduser() / f"{key}.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        tensors = {name: value.cpu().contiguous() for name, value in make().items()}
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        warnings.warn(f"nothing can be kept in {path.parent} ({error})", stacklevel=2)
    return tensors
