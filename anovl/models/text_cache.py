"""A cache of text embeddings on disk, for the next run.

A file's name is a hash of the model's description, of the device, the versions, the tokens of the
texts, and the code. Files may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from anovl._shared.code import code_hash
from anovl._shared.files import write_atomically
from anovl.clip import Clip, encode_text
from anovl.models.description import describe
from anovl.prompts import TextFeatures, encode_prompts


def cached_encoder(folder: str | Path) -> Callable[..., TextFeatures]:
    """Return `encode_prompts` with this cache, for the option `encode` of a detector."""
    return partial(encode_prompts, embed=partial(cached_encode_text, folder=folder))


def cached_encode_text(clip: Clip, texts: Sequence[str], *, folder: str | Path) -> Tensor:
    """Embed N texts as `encode_text` does, (N, D) float32, or read them from the cache.

    A missing or damaged file is written again, whole or not at all. Warns when the folder cannot
    be written to.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save

    path = Path(folder).expanduser() / f"{_key(clip, texts)}.safetensors"
    try:
        return load_file(path)["embeddings"].to(clip.device)
    except (OSError, SafetensorError, KeyError):
        embeddings = encode_text(clip, texts)
    tensors = {"embeddings": embeddings.cpu().contiguous()}
    try:
        write_atomically(path, lambda file: file.write(save(tensors)))
    except OSError as error:
        warnings.warn(f"nothing can be cached in {path.parent} ({error})", stacklevel=2)
    return embeddings


def _key(clip: Clip, texts: Sequence[str]) -> str:
    """A hash of everything that the embeddings depend on."""
    facts = [describe(clip), clip.device.type, torch.__version__, version("open_clip_torch")]
    facts += [code_hash("import anovl.clip, anovl.models.pocket_network")]
    facts += [clip.tokenizer(list(texts)).tolist()]
    return hashlib.sha256(repr(facts).encode()).hexdigest()
