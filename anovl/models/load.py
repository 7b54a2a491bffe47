"""A CLIP by its name, with weights that are proven."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anovl._shared.files import hash_file
from anovl._shared.messages import counted, near
from anovl.clip import PRECISIONS, Clip, Precision, check_architecture
from anovl.models.pocket import SHIPPED, load_pocket, shipped_folder
from anovl.models.weights import (
    TINYCLIP,
    check_hash,
    claimed_hash,
    find_weights,
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
    the folder that its training wrote. A tag is looked up in the local caches, and downloaded only
    with `allow_download`. The hash of the weights travels with the model. For `precision` see
    `Clip`. The paper uses "ViT-B-16-plus-240" with the tag "laion400m_e32".

    "hf:FOLDER" is any CLIP in Hugging Face's layout (`read_hf_clip`), and so is the small real one,
    "TinyCLIP-ViT-8M-16-Text-3M-YFCC15M", whose folder is given as `weights`.

    `image_size` is the side, in pixels, of square images of another resolution than the model's
    own. Patches keep their size, so there are more of them; their position embeddings are
    interpolated (bicubic, as open_clip does), and nothing is trained. The name of the model then
    says it, such as "pocket at 168 px". The pocket model gains nothing by it: at 56, 112 (its own),
    168 and 224 px its image AUROC is 69.8, 84.4, 82.5 and 73.8 %, its debiased pixel AUROC 75.1,
    78.2, 76.2 and 75.8 % (`encode_dataset` and `score_prompts` on 320 drawn images, seed 0; maps of
    112 px), for 14, 38, 75 and 176 ms of one CPU core an image.

    Raises ValueError for an unknown or unsuitable name, for weights that are damaged, do not fit,
    or need another activation, and for an image size that is no multiple of the patch size;
    FileNotFoundError for missing weights; ConnectionError when a
    download fails.

    >>> load_clip("pocket", image_size=168).grid
    (21, 21)
    >>> load_clip("ViT-B-16-plus-420")
    Traceback (most recent call last):
    ValueError: no model is called 'ViT-B-16-plus-420'; did you mean ViT-B-16-plus-240...?
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; found {precision!r}")
    device = _usable(device)
    if name in SHIPPED:
        clip = _load_pocket(name, weights, device)
    elif name == TINYCLIP or name.startswith("hf:"):
        clip = _load_hf(name, weights, device)
    else:
        clip = _load_open_clip(name, weights, device, allow_download)
    clip = replace(clip, precision=precision)
    return clip if image_size is None else _resize_positions(clip, image_size)


def _resize_positions(clip: Clip, image_size: int) -> Clip:
    """The same CLIP for another image size; what it was is changed, not copied.

    Source: open_clip's `resize_pos_embed`.
    """
    visual = clip.model.visual
    step = math.lcm(*visual.patch_size)
    if not isinstance(image_size, int) or image_size < step or image_size % step:
        near = step * max(1, round(image_size / step)) if isinstance(image_size, int) else 20 * step
        raise ValueError(
            f"image_size must be a multiple of {step}, the patch size of {clip.name}, such as "
            f"{near}; found {image_size!r}"
        )
    if clip.image_size == (image_size, image_size):
        return clip
    from open_clip.model import resize_pos_embed

    visual.image_size = (image_size, image_size)
    visual.grid_size = tuple(image_size // side for side in visual.patch_size)
    state = {"visual.positional_embedding": visual.positional_embedding.detach()}
    resize_pos_embed(state, clip.model)
    visual.positional_embedding = nn.Parameter(state["visual.positional_embedding"])
    return replace(clip, image_size=image_size, name=f"{clip.name} at {image_size} px")


def _load_open_clip(
    name: str, weights: str | Path | None, device: torch.device, allow_download: bool
) -> Clip:
    skeleton = _skeleton(name)
    if weights is None:
        raise ValueError(
            f"{name} needs weights: give weights='a file', or a tag ({_tags(name)}) "
            "with allow_download=True to fetch it once"
        )
    if weights == "random":
        warnings.warn(f"{name} has random weights: its results mean nothing", stacklevel=3)
        model, details = _random(name), {"name": f"{name} [random weights]"}
    else:
        model, details = _proven(skeleton, name, weights, allow_download)
    import open_clip

    details["image_size"] = tuple(skeleton.visual.image_size)
    return Clip(model.to(device).eval(), open_clip.get_tokenizer(name), **details)


def _proven(
    skeleton: nn.Module, name: str, weights: str | Path, allow_download: bool
) -> tuple[nn.Module, dict[str, Any]]:
    """Fill a skeleton with weights whose file is what it should be; tell what `Clip` must know."""
    path, entry = _find(name, weights, allow_download)
    digest = hash_file(path)
    check_hash(path, digest)
    entry = entry or _recognise(name, path, digest)
    model = _fill(skeleton, read_state_dict(path), name, path)
    norm = {key: tuple(entry[key]) for key in ("mean", "std") if key in entry}
    return model, {"name": name, "weights_hash": digest} | norm


def _load_pocket(name: str, weights: str | Path | None, device: torch.device) -> Clip:
    folder = shipped_folder(name) if weights is None else Path(weights).expanduser()
    advice = (
        "give the folder that `python -m anovl_companion train` wrote, or no weights for the "
        "shipped pocket model"
    )
    if not folder.exists():
        raise FileNotFoundError(f"there is no {weights}: {advice}")
    model, tokenizer, size = load_pocket(
        _folder(folder, f"of {name}, which are a folder: {advice}")
    )
    return Clip(model.to(device).eval(), tokenizer, image_size=size, name=name)


def _folder(path: Path, what: str) -> Path:
    """The folder of a model, for which its own file of weights stands too, and no other file."""
    if path.is_file() and path.name != "model.safetensors":
        raise ValueError(f"{path} holds no weights {what}")
    return path.parent if path.is_file() else path


def _load_hf(name: str, weights: str | Path | None, device: torch.device) -> Clip:
    import open_clip

    from anovl.models.hf_clip import read_hf_clip

    given = name.removeprefix("hf:") if name != TINYCLIP else weights
    if not given or (name != TINYCLIP and weights is not None):
        raise ValueError(
            f"{name}: give its folder, as 'hf:FOLDER' without weights, or weights='FOLDER' for "
            f"{TINYCLIP} (`python -m anovl download weights --model tinyclip --to FOLDER` makes it)"
        )
    folder = _folder(Path(given).expanduser(), f"of {name}: give the folder with config.json in it")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: give one with config.json in it")
    read = read_hf_clip(folder, name=name)
    with torch.device("meta"):
        model = open_clip.CLIP(**read.config)
    remedy = "Its config.json and model.safetensors do not belong together; download both again"
    model = _fill(model, read.state, name, folder / "model.safetensors", remedy=remedy)
    return Clip(
        model.to(device).eval(),
        read.tokenizer,
        image_size=model.visual.image_size,
        name=name if name == TINYCLIP else f"hf:{folder.resolve().name}",
        weights_hash=read.file_hash,
        mean=read.mean,
        std=read.std,
    )


def _usable(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here ({reason}); try 'cpu'") from None


def _skeleton(name: str) -> nn.Module:
    """Build a model without weights, which costs nothing, to see whether it can be used at all."""
    import open_clip

    config = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if config is None:
        meant = near(name, [*open_clip.list_models(), *SHIPPED, TINYCLIP], 3)
        meant = ", ".join(meant) or "pocket, ViT-B-16-plus-240"
        raise ValueError(f"no model is called {name!r}; did you mean {meant}?")
    by_hand = "build it with open_clip and wrap it: anovl.Clip(model, tokenizer, image_size=…)"
    if "multimodal_cfg" in config or "hf_model_name" in config["text_cfg"]:
        raise ValueError(
            f"{name} cannot be loaded by name: its text tower also writes captions (CoCa) or comes "
            f"from the transformers library; {by_hand}"
        )
    with torch.device("meta"):
        model = _build(name)
    check_architecture(model, name)
    if "hf_tokenizer_name" in config["text_cfg"]:
        raise ValueError(
            f"{name} cannot be loaded by name: its tokenizer is one of the transformers library; "
            f"{by_hand}"
        )
    return model


def _build(name: str) -> nn.Module:
    import open_clip

    config = open_clip.get_model_config(name)
    custom_text = config.pop("custom_text", False)
    return (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**config)


def _random(name: str) -> nn.Module:
    """Build a model with random weights, the same ones each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _build(name)


def _fill(
    model: nn.Module,
    state: dict[str, Tensor],
    name: str,
    path: Path,
    *,
    remedy: str = "Give the name of the architecture that these weights were trained with",
) -> nn.Module:
    """Give a skeleton its weights, every one of them, and the causal masks that no file holds."""
    expected = model.state_dict()
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    shared = [key for key in expected if key in state and expected[key].shape != state[key].shape]
    misfits = [
        *(f"{key} is missing" for key in missing),
        *(f"{key} is not part of {name}" for key in extra),
        *(f"{key} is {list(state[key].shape)}, not {list(expected[key].shape)}" for key in shared),
    ]
    if misfits:
        raise ValueError(
            f"{path} does not fit {name}: {misfits[0]} "
            f"(and {counted(len(misfits) - 1, 'more difference')}). {remedy}"
        )
    model.load_state_dict(state, assign=True)
    for part in model.modules():
        if getattr(part, "attn_mask", None) is not None:
            part.attn_mask = torch.full(part.attn_mask.shape, float("-inf")).triu_(1)
    return model


def _find(name: str, weights: str | Path, allow_download: bool) -> tuple[Path, dict[str, Any]]:
    """Return the weights' file and, if a tag was given, what open_clip's registry says of it."""
    import open_clip

    if isinstance(weights, str) and open_clip.is_pretrained_cfg(name, weights):
        source, entry = weights_source(name, weights), open_clip.get_pretrained_cfg(name, weights)
        _check_activation(name, entry, source.what)
        return find_weights(source, allow_download=allow_download), entry
    return _local_file(name, weights), {}


def _local_file(name: str, weights: str | Path) -> Path:
    path = Path(weights).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the file of weights in it")
    if not path.exists():
        raise FileNotFoundError(
            f"{str(weights)!r} is neither a file here nor a tag of {name}; its tags: {_tags(name)}"
        )
    return path


def _tags(name: str) -> str:
    import open_clip

    return ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "it has none"


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
            f"{what} need {'QuickGELU' if trained else 'GELU'}, which {name} does not compute: "
            f"every feature would be slightly wrong, with no other sign. Load {other!r} instead"
        )
