"""Load a CLIP by its name, with proven weights."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anovl._shared.messages import near
from anovl.clip import Clip, Precision, check_architecture
from anovl.models.config_files import check_model_cfg, open_clip_preprocessing, read_json
from anovl.models.hf_clip import load_hf_clip
from anovl.models.pocket import SHIPPED, load_pocket, shipped_folder
from anovl.models.weights import (
    FETCH,
    TINYCLIP,
    claimed_hash,
    fill,
    find_weights,
    prove,
    read_state_dict,
    weights_source,
)


def load_clip(
    name: str = "pocket",
    *,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    image_size: int | None = None,
    allow_download: bool = False,
) -> Clip:
    """Load a CLIP by its name: "pocket" (shipped with this package) or one of open_clip's.

    "pocket-2" is the pocket model trained from another seed, in the repository only.

    `weights` is a local file, an open_clip tag, or "random" (for tests only); for the pocket model,
    the folder that its training wrote. An open_clip_config.json beside a file says how images are
    preprocessed, and must be of the architecture `name`; the folder of both may be given, too. A
    tag is looked up in the local caches, and downloaded only with `allow_download`. The hash of the
    weights travels with the model. For `precision` see `Clip`. The paper uses "ViT-B-16-plus-240"
    with the tag "laion400m_e32".

    "hf:FOLDER" is any CLIP in Hugging Face's layout (`load_hf_clip`), and so is the small real one,
    "TinyCLIP-ViT-8M-16-Text-3M-YFCC15M", whose folder is given as `weights`.

    `image_size` is the side, in pixels, of square images of another resolution than the model's
    own. Patches keep their size, so there are more of them; their position embeddings are
    interpolated (bicubic, as open_clip does), and nothing is trained. The name of the model then
    says it, such as "pocket at 168 px". The pocket model gains nothing by it: at 56, 112 (its own),
    168 and 224 px its image AUROC is 69.8, 84.4, 82.5 and 73.8 %, its debiased pixel AUROC 75.1,
    78.2, 76.2 and 75.8 % (`encode_dataset` and `score_prompts` on 320 drawn images, seed 0; maps of
    112 px), for 14, 38, 75 and 176 ms of one CPU core an image.

    Raises ValueError for an unknown or unsuitable name, for weights that are damaged, do not fit,
    or need another activation, for a configuration that contradicts the name or cannot be followed,
    and for an image size that is no multiple of the patch size;
    FileNotFoundError for missing weights; ConnectionError when a download fails.

    >>> load_clip("pocket", image_size=168).grid
    (21, 21)
    >>> load_clip("ViT-B-16-plus-420")
    Traceback (most recent call last):
    ValueError: no model is called 'ViT-B-16-plus-420'; did you mean ViT-B-16-plus-240...?
    """
    device = _usable(device)
    if name in SHIPPED:
        clip = _load_pocket(name, weights)
    elif name == TINYCLIP or name.startswith("hf:"):
        clip = _load_hf(name, weights)
    else:
        clip = _load_open_clip(name, weights, allow_download)
    if image_size is not None and clip.image_size != (image_size, image_size):
        clip = _resize_positions(clip, image_size)
    clip.model.to(device).eval()
    return replace(clip, precision=precision)


def _usable(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here ({reason}); try 'cpu'") from None


def _load_pocket(name: str, weights: str | Path | None) -> Clip:
    model, tokenizer, size = load_pocket(shipped_folder(name) if weights is None else weights)
    return Clip(model, tokenizer, image_size=size, name=name)


def _load_hf(name: str, weights: str | Path | None) -> Clip:
    folder = weights if name == TINYCLIP else name.removeprefix("hf:")
    if not folder or (name != TINYCLIP and weights is not None):
        raise ValueError(
            f"{name}: give 'hf:FOLDER' without weights, or {TINYCLIP} with weights='FOLDER' (made "
            "by `python -m anovl download weights --model tinyclip --to FOLDER`)"
        )
    return load_hf_clip(folder, name=name if name == TINYCLIP else "")


def _load_open_clip(name: str, weights: str | Path | None, allow_download: bool) -> Clip:
    import open_clip

    model = _skeleton(name)
    if weights == "random":
        warnings.warn(f"{name} has random weights: its results mean nothing", stacklevel=3)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same ones each time
            model = _build(name)
        facts = {"name": f"{name} [random weights]"}
    else:
        path, entry = _find(name, weights, allow_download)
        digest, beside = prove(path), path.with_name("open_clip_config.json")
        if not entry:  # a file
            entry = _recognise(name, path, digest)
            if beside.is_file():
                config = read_json(beside)
                check_model_cfg(beside, config.get("model_cfg"), open_clip.get_model_config(name))
                entry = config.get("preprocess_cfg") or {}
        fill(model, read_state_dict(path), name, path)
        facts = {"name": name, "weights_hash": digest} | open_clip_preprocessing(beside, entry)
    size = tuple(model.visual.image_size)
    return Clip(model, open_clip.get_tokenizer(name), image_size=size, **facts)


def _skeleton(name: str) -> nn.Module:
    """Build a model without weights, which costs nothing; refuse one that cannot be used."""
    import open_clip

    if name not in open_clip.list_models():
        meant = near(name, [*open_clip.list_models(), *SHIPPED, TINYCLIP], 3) or ["pocket"]
        raise ValueError(f"no model is called {name!r}; did you mean {', '.join(meant)}?")
    config = open_clip.get_model_config(name)
    text, model = config["text_cfg"], None
    if "multimodal_cfg" not in config and "hf_model_name" not in text:
        with torch.device("meta"):
            model = _build(name)
        check_architecture(model, name)
    if model is None or "hf_tokenizer_name" in text:
        raise ValueError(
            f"{name} cannot be loaded by name: its text tower writes captions (CoCa), or it or its "
            "tokenizer comes from the transformers library; build it with open_clip and wrap it: "
            "anovl.Clip(model, tokenizer, image_size=…)"
        )
    return model


def _build(name: str) -> nn.Module:
    import open_clip

    config = open_clip.get_model_config(name)
    custom_text = config.pop("custom_text", False)
    return (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**config)


def _find(name: str, weights: str | Path | None, download: bool) -> tuple[Path, dict[str, Any]]:
    """Return the file of weights, and what open_clip's registry says of their tag; {} of a file."""
    import open_clip

    tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "it has none"
    if weights is None:
        raise ValueError(
            f"{name} needs weights: give weights='a file', or a tag ({tags}) with "
            f"allow_download=True to fetch it once{FETCH.get(name, '')}"
        )
    if isinstance(weights, str) and open_clip.is_pretrained_cfg(name, weights):
        source, entry = weights_source(name, weights), open_clip.get_pretrained_cfg(name, weights)
        _check_activation(name, entry, source.what)
        return find_weights(source, allow_download=download), entry
    path = Path(weights).expanduser()
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # of open_clip's folders
    path = next(filter(Path.is_file, (path, *map(path.joinpath, names))), path)
    if not path.is_file():
        what = f"{weights} is no file, open_clip folder or tag of {name} ({tags})"
        raise FileNotFoundError(what + FETCH.get(name, ""))
    return path, {}


def _recognise(name: str, path: Path, digest: str) -> dict[str, Any]:
    """What open_clip's registry says of a file, known by its hash; {} when it says nothing.

    Raises ValueError when the file belongs to another architecture or activation.
    """
    import open_clip

    owners = {}
    for model, tag in open_clip.list_pretrained():
        entry = open_clip.get_pretrained_cfg(model, tag)
        if (claimed := claimed_hash(entry.get("url", ""))) and digest.startswith(claimed):
            owners[model] = entry
    if owners and name not in owners:
        raise ValueError(f"{path} holds weights of {' or '.join(owners)}, not of {name}")
    entry = owners.get(name, {})
    _check_activation(name, entry, f"the weights in {path}")
    return entry


def _check_activation(name: str, entry: dict[str, Any], what: str) -> None:
    """Raise ValueError when weights trained with QuickGELU would run with GELU, or the reverse."""
    import open_clip

    trained = bool(entry.get("quick_gelu", False))
    if entry and trained != bool(open_clip.get_model_config(name).get("quick_gelu", False)):
        other = f"{name}-quickgelu" if trained else name.removesuffix("-quickgelu")
        raise ValueError(
            f"{what} need {'QuickGELU' if trained else 'GELU'}, which {name} does not compute, so "
            f"that every feature would be slightly wrong. Load {other!r} instead"
        )


def _resize_positions(clip: Clip, image_size: int) -> Clip:
    """The same CLIP for another image size; its model is changed, not copied.

    Source: open_clip's `resize_pos_embed`.
    """
    from open_clip.model import resize_pos_embed

    visual = clip.model.visual
    step = math.lcm(*visual.patch_size)
    if not isinstance(image_size, int) or image_size < step or image_size % step:
        raise ValueError(
            f"image_size must be a multiple of {step}, the patch size of {clip.name}, such as "
            f"{step * max(1, round(image_size / step))}; found {image_size!r}"
        )
    visual.image_size = (image_size, image_size)
    visual.grid_size = tuple(image_size // side for side in visual.patch_size)
    state = {"visual.positional_embedding": visual.positional_embedding.detach()}
    resize_pos_embed(state, clip.model)
    visual.positional_embedding = nn.Parameter(state["visual.positional_embedding"])
    return replace(clip, image_size=image_size, name=f"{clip.name} at {image_size} px")
