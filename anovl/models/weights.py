"""Weights as files: find or download them, prove them by their hash, read them safely."""

from __future__ import annotations

import json
import os
import re
import shlex
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from anovl._shared.files import hash_file, write_atomically
from anovl._shared.http import fetch

PAPER_MODEL, PAPER_TAG = "ViT-B-16-plus-240", "laion400m_e32"
TINYCLIP = "TinyCLIP-ViT-8M-16-Text-3M-YFCC15M"
TINYCLIP_REVISION = "a2a8c6eaa2549ad66eb7c31b85022bf58273a26c"
TINYCLIP_URL = f"https://huggingface.co/wkcn/{TINYCLIP}/resolve/{TINYCLIP_REVISION}"
TINYCLIP_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors")
TERMS = {  # of published weights: what is stated of their licence, and where
    PAPER_MODEL: ("not repeated here: read its terms", "mlfoundations/open_clip on GitHub"),
    TINYCLIP: ("MIT, as its model card says", "wkcn on Hugging Face"),
}
SOURCE = "SOURCE.json"  # what was downloaded into a folder, and from where
CACHE = Path("~/.cache/clip")  # where open_clip keeps the files that it downloads


@dataclass(frozen=True)
class Source:
    """Where published weights live: a URL whose file name carries its hash, or a hub repository."""

    what: str
    url: str = ""
    hub: str = ""


def weights_source(name: str, tag: str) -> Source:
    """Where the weights of a tag are, by open_clip's registry as far as it can be trusted.

    open_clip 3 gives two tags of ViT-B-16-plus-240 one repository, which can only be right for one:
    whoever asks for laion400m_e32 gets e31. Such an entry counts only for the tag in its name.
    A file that carries its hash in its name goes first, because it can be proven.
    """
    import open_clip

    def hub_of(tag: str) -> str:
        return open_clip.get_pretrained_cfg(name, tag).get("hf_hub", "").rstrip("/")

    tag = tag.lower().replace("-", "_")
    url = open_clip.get_pretrained_cfg(name, tag).get("url", "")
    hubs = [hub_of(other) for other in open_clip.list_pretrained_tags_by_model(name)]
    trusted = hubs.count(hub_of(tag)) == 1 or hub_of(tag).endswith(tag)
    return Source(
        what=f"the weights {tag!r} of {name}",
        url=url if claimed_hash(url) else "",
        hub=hub_of(tag) if trusted else "",
    )


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


def download_weights(to: str | Path, *, url: str = "") -> Path:
    """Fetch the paper's weights into a folder, print what to do with them, and return the file.

    That is the file of laion400m_e32 that its own name proves; see `weights_source`. `url` is
    another link to it. Raises as `find_weights` does, and ValueError when `to` is a file.
    """
    to = Path(to).expanduser()
    if to.exists() and not to.is_dir():
        raise ValueError(f"{to} is a file; give a folder for the download")
    source = weights_source(PAPER_MODEL, PAPER_TAG)
    print(f"{source.what}; licence and terms: {TERMS[PAPER_MODEL][1]}")
    path = find_weights(source, folder=to, allow_download=True, mirror=url)
    print(f"SHA-256 {hash_file(path)}, as its name claims")
    print(f"Use it: --model {PAPER_MODEL} --weights {shlex.quote(str(path))}")
    return path


def download_tinyclip(to: str | Path, *, url: str = TINYCLIP_URL) -> Path:
    """Fetch TinyCLIP's files into a folder, print and record the hashes found, return the folder.

    No hash was published with it, so none is demanded: what was found is printed, and kept in
    SOURCE.json, which `load_clip` holds the weights to from then on. A file that is already there
    is not fetched again. `url` is another place with the same files.

    Raises ConnectionError when a download fails, ValueError when `to` is a file.
    """
    to = Path(to).expanduser()
    if to.exists() and not to.is_dir():
        raise ValueError(f"{to} is a file; give a folder for the download")
    url = (url or TINYCLIP_URL).rstrip("/")
    print(f"{TINYCLIP}, 94 MB; licence {TERMS[TINYCLIP][0]} ({TERMS[TINYCLIP][1]})")
    try:
        for name in TINYCLIP_FILES:
            if not (to / name).is_file():
                fetch(f"{url}/{name}", to / name, prove=lambda digest: None)
    except ConnectionError as error:
        raise ConnectionError(
            f"{error}. By hand: put {', '.join(TINYCLIP_FILES)} from {TINYCLIP_URL} into {to}"
        ) from error
    hashes = {name: hash_file(to / name) for name in TINYCLIP_FILES}
    before = json.loads((to / SOURCE).read_text())["sha256"] if (to / SOURCE).exists() else hashes
    if changed := [name for name in TINYCLIP_FILES if hashes[name] != before.get(name)]:
        raise ValueError(
            f"{to / changed[0]} has changed since it was downloaded: its SHA-256 is "
            f"{hashes[changed[0]]}, and {SOURCE} records {before.get(changed[0])}. Delete both and "
            "run the command again"
        )
    record = {"model": TINYCLIP, "from": url, "sha256": hashes}
    write_atomically(to / SOURCE, json.dumps(record, indent=2) + "\n")
    print(f"SHA-256 {hashes['model.safetensors']}, recorded in {SOURCE}, for none was published")
    print(f"Use it: --model {TINYCLIP} --weights {shlex.quote(str(to))}")
    return to


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
