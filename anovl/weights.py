"""Weights as files: find or download them, prove them by their hash, read them safely."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from anovl.fetch import fetch, hash_file

CACHE = Path("~/.cache/clip")  # where open_clip keeps the files that it downloads


@dataclass(frozen=True)
class Source:
    """Where published weights live: a URL whose file name carries its hash, or a hub repository."""

    what: str
    url: str = ""
    hub: str = ""


def find_weights(
    source: Source, *, folder: str | Path = CACHE, allow_download: bool = False, mirror: str = ""
) -> Path:
    """Return the local file of published weights, downloading it only when that is allowed.

    Looks in `folder` and in the Hugging Face cache. The network is not touched unless
    `allow_download` is true and HF_HUB_OFFLINE is not set. `mirror` is another link to the same
    file, which must have the same hash.

    Raises FileNotFoundError when the file is not here and may not be fetched, ConnectionError when
    the download fails, ValueError when a file is not what its name says.
    """
    target = Path(folder).expanduser() / source.url.rpartition("/")[2]
    if source.url and target.is_file():
        check_hash(target, hash_file(target))
        return target
    if source.hub and (cached := _cached_from_hub(source.hub)):
        return cached
    where = source.url or f"https://huggingface.co/{source.hub}"
    by_hand = f"fetch them from {where} by hand and give the file as weights='…'"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise FileNotFoundError(
            f"{source.what} are not on this machine, and HF_HUB_OFFLINE is set: {by_hand}"
        )
    if not allow_download:
        raise FileNotFoundError(
            f"{source.what} are not on this machine: give allow_download=True, or {by_hand}"
        )
    try:
        if source.url:
            return download(mirror or source.url, target)
        return _download_from_hub(source.hub)
    except OSError as error:
        raise ConnectionError(
            f"{source.what} could not be downloaded ({error}): {by_hand}"
        ) from error


def download(url: str, target: Path) -> Path:
    """Download weights with a progress bar; they must have the hash that `target`'s name claims.

    Raises ConnectionError when that fails, ValueError when the file is another one.
    """
    fetch(url, target, prove=lambda digest: check_hash(target, digest))
    return target


def _cached_from_hub(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for name in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
        if isinstance(path := try_to_load_from_cache(repository, name), str):
            return Path(path)
    return None


def _download_from_hub(repository: str) -> Path:
    """Download from the Hugging Face hub; ask first if it answers, for its own retries are long."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    urllib.request.urlopen(constants.ENDPOINT, timeout=20).close()
    try:
        return Path(hf_hub_download(repository, "open_clip_model.safetensors"))
    except EntryNotFoundError:
        return Path(hf_hub_download(repository, "open_clip_pytorch_model.bin"))


def hash_state_dict(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and float32 values of a state dict, sorted by name.

    Values count, not their storage: the same weights in float16 and float32 have one hash.

    >>> hash_state_dict({"a": torch.ones(2)}) == hash_state_dict({"a": torch.ones(2).half()})
    True
    """
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def claimed_hash(name: str) -> str:
    """Return the hash prefix that ends a weights file's name by open_clip's custom, or "".

    >>> claimed_hash("vit_b_16_plus_240-laion400m_e32-699c4b84.pt")
    '699c4b84'
    >>> claimed_hash("my-model-20240131.pt")  # a date
    ''
    """
    match = re.search(r"-(?=\d*[a-f])([0-9a-f]{8})\.(pt|pth|bin|safetensors)$", name)
    return match[1] if match else ""


def check_hash(path: Path, digest: str) -> None:
    """Raise ValueError when a file does not hash to the prefix in its own name."""
    if not digest.startswith(claimed := claimed_hash(path.name)):
        raise ValueError(
            f"{path} should have a SHA-256 that begins with {claimed}, as its name says, but it is "
            f"{digest}: the file is damaged or not the one that it claims to be. Download it again"
        )


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a .safetensors or a torch file, never running code from it.

    Raises ValueError naming the file when it is empty, damaged, or holds more than tensors.
    """
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); download or copy it again")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise almost anything
        raise ValueError(f"{path} {_why_unreadable(str(error))}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f"{path} holds no state dict (tensors by name); save model.state_dict() to a file"
        )
    return {name.removeprefix("module."): value.float() for name, value in state.items()}


def _why_unreadable(error: str) -> str:
    if "TorchScript" in error:
        return (
            "is a TorchScript program (such as OpenAI's original release), which is not read, "
            "because it would be run; give the tag weights='openai' for the plain weights"
        )
    if "Unsupported global" in error:
        return (
            "holds Python objects besides tensors, and reading those could run code from it; "
            "save only model.state_dict(), best as .safetensors"
        )
    reason = error.partition("\n")[0].partition(". ")[0]  # torch goes on to suggest unsafe loading
    return (
        f"cannot be read as weights: it is damaged, cut short, or something else ({reason}); "
        "download or copy it again"
    )
