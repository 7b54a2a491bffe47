"""Weights as files: find or download them, prove them by their hash, read them safely."""

from __future__ import annotations

import json
import re
import shlex
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from anovl._shared.http import check_file, fetch

PAPER_MODEL, PAPER_TAG = "ViT-B-16-plus-240", "laion400m_e32"
TINYCLIP = "TinyCLIP-ViT-8M-16-Text-3M-YFCC15M"
TERMS = {  # of published weights: their licence, and its source
    PAPER_MODEL: ("not repeated here: read its terms", "mlfoundations/open_clip on GitHub"),
    TINYCLIP: ("MIT, as its model card says", "wkcn on Hugging Face"),
}
FETCH = {  # by model: the end of a message about missing weights
    PAPER_MODEL: ". `python -m anovl download weights --to weights` fetches the paper's"
}
CACHE = Path("~/.cache/clip")  # open_clip keeps its downloads here


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
    file, which must have the same hash. A file that was here is not checked: call `prove`.

    Raises FileNotFoundError when the file is not here and may not be fetched, ConnectionError when
    the download fails, ValueError when the downloaded file has another hash.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError

    target = Path(folder).expanduser() / source.url.rpartition("/")[2]
    if source.url and target.is_file():
        return target
    if source.hub:
        with suppress(EntryNotFoundError):
            return _from_hub(source.hub, local_files_only=True)
    where = source.url or f"https://huggingface.co/{source.hub}"
    by_hand = f"fetch them from {where} by hand and give the file as weights='…'"
    if constants.HF_HUB_OFFLINE or not allow_download:
        missing = "HF_HUB_OFFLINE is set" if allow_download else "give allow_download=True"
        raise FileNotFoundError(f"{source.what} are not on this machine: {missing}, or {by_hand}")
    try:
        if source.url:
            fetch(mirror or source.url, target, sha256=claimed_hash(target.name))
            return target
        # The hub's own retries take 23 seconds: ask first whether it answers.
        urllib.request.urlopen(constants.ENDPOINT, timeout=20).close()
        return _from_hub(source.hub)
    except ValueError:
        raise
    except Exception as error:  # also those of the network library that the hub uses
        raise ConnectionError(f"{source.what} cannot be downloaded ({error}): {by_hand}") from error


def _from_hub(repository: str, *, local_files_only: bool = False) -> Path:
    """The file of weights in the hub's cache, fetched first if that is allowed."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    find = partial(hf_hub_download, repository, local_files_only=local_files_only)
    try:
        return Path(find("open_clip_model.safetensors"))
    except EntryNotFoundError:
        return Path(find("open_clip_pytorch_model.bin"))


def download_weights(to: str | Path, *, url: str = "") -> Path:
    """Fetch the paper's weights into a folder, print what to do with them, and return the file.

    The file is laion400m_e32, proven by its own name; see `weights_source`. `url` is another link
    to it. Raises as `find_weights` and `prove` do.
    """
    source = weights_source(PAPER_MODEL, PAPER_TAG)
    print(f"{source.what}; licence and terms: {TERMS[PAPER_MODEL][1]}")
    path = find_weights(source, folder=to, allow_download=True, mirror=url)
    print(f"SHA-256 {prove(path)}, as its name claims")
    print(f"Use it: --model {PAPER_MODEL} --weights {shlex.quote(str(path))}")
    return path


def claimed_hash(name: str) -> str:
    """Return the hash prefix that ends a weights file's name by open_clip's custom, or "".

    >>> claimed_hash("vit_b_16_plus_240-laion400m_e32-699c4b84.pt")
    '699c4b84'
    >>> claimed_hash("my-model-20240131.pt")  # a date
    ''
    """
    match = re.search(r"-(?=\d*[a-f])([0-9a-f]{8})\.(pt|pth|bin|safetensors)$", name)
    return match[1] if match else ""


def prove(path: Path) -> str:
    """Return the SHA-256 of a file; raise ValueError when its name claims another."""
    return check_file(path, claimed_hash(path.name), path)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a .safetensors file, the index of several, or a torch file.

    No code from a file is run.


    Raises ValueError naming the file when it is damaged or does not hold tensors by name.
    """
    from safetensors.torch import load_file

    try:
        if path.suffix == ".json":  # the index of several files
            shards = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
            parts = [load_file(path.with_name(name)) for name in sorted({*shards})]
            state = {name: value for part in parts for name, value in part.items()}
        elif path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        return {name.removeprefix("module."): value.float() for name, value in state.items()}
    except Exception as error:  # damaged bytes raise almost anything
        reason = str(error).partition("\n")[0].partition(". ")[0]  # torch suggests unsafe loading
        raise ValueError(
            f"{path} cannot be read as weights ({reason}). If it is damaged, download or copy it "
            "again. A TorchScript program, such as OpenAI's original files, and Python objects are "
            "not read, because they could run code: save model.state_dict() as .safetensors"
        ) from error


def fill(model: nn.Module, state: dict[str, Tensor], name: str, path: Path) -> nn.Module:
    """Give a model all its weights, and the causal masks, which no file holds; return it.

    Raises ValueError, naming the model and the file, when a weight is missing, unknown or of
    another shape.
    """
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        differences = " ".join(str(error).split("\n\t")[1:])
        raise ValueError(f"{path} does not fit {name}: {differences:.300}") from error
    for part in model.modules():
        if getattr(part, "attn_mask", None) is not None:
            part.attn_mask = torch.full(part.attn_mask.shape, float("-inf")).triu_(1)
    return model
