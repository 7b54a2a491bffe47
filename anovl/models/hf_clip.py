"""Any CLIP folder in Hugging Face's layout (config.json, model.safetensors) for open_clip's model.

transformers' CLIPModel is the same network as open_clip's CLIP with other names for its parts, and
with queries, keys and values in three matrices instead of one. The tests hold both to the same
embeddings; the transformers library is not needed here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anovl._shared.files import hash_file
from anovl.clip import CLIP_MEAN, CLIP_STD
from anovl.models.weights import SOURCE, TINYCLIP, read_state_dict

# What a config.json may leave out: the defaults of transformers' CLIPConfig.
_BLOCKS = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
VISION = _BLOCKS | {
    **{"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    **{"image_size": 224, "patch_size": 32},
}
TEXT = _BLOCKS | {
    **{"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
    **{"max_position_embeddings": 77, "vocab_size": 49408},
}
_TINYCLIP_SIZES = {  # its model card, and the sizes in its name
    "vision_config": {"hidden_size": 256, "num_hidden_layers": 10, "patch_size": 16},
    "text_config": {"hidden_size": 256, "num_hidden_layers": 3},
}
_RENAMED = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.": "visual.conv1.",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.": "visual.ln_pre.",
    "vision_model.encoder.layers.": "visual.transformer.resblocks.",
    "vision_model.post_layernorm.": "visual.ln_post.",
    "visual_projection.weight": "visual.proj",
    "text_model.embeddings.token_embedding.": "token_embedding.",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.encoder.layers.": "transformer.resblocks.",
    "text_model.final_layer_norm.": "ln_final.",
    "text_projection.weight": "text_projection",
}
_RENAMED_IN_BLOCKS = {
    ".self_attn.": ".attn.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
}


@dataclass(frozen=True, eq=False)
class HfClip:
    """What a folder holds: arguments for `open_clip.CLIP`, its weights, and how to prepare input.

    `state` has open_clip's names; `file_hash` is the SHA-256 of model.safetensors.
    """

    config: dict[str, Any]
    state: dict[str, Tensor] = field(repr=False)
    tokenizer: Callable[[list[str]], Tensor] = field(repr=False)
    file_hash: str
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD


def read_hf_clip(folder: str | Path, *, name: str = "") -> HfClip:
    """Read a CLIP folder of Hugging Face's layout; `name` is the model that it should hold, if any.

    Besides config.json and model.safetensors: preprocessor_config.json gives mean and standard
    deviation, if it is there. The tokenizer is open_clip's, and the vocabulary of the folder
    (tokenizer.json, or vocab.json and merges.txt), if it is there, must be the same: it is for
    CLIPs whose config.json speaks of 49,408 tokens.

    Raises FileNotFoundError for a missing folder or file; ValueError for another architecture,
    activation or vocabulary, and for damaged files.
    """
    folder = Path(folder).expanduser()
    settings = _settings(folder)
    if name == TINYCLIP:
        _check_tinyclip(folder, settings)
    config = _open_clip_config(folder, settings)
    weights = _there(folder, "model.safetensors")
    digest = hash_file(weights)
    _check_recorded(folder, digest)
    preparation = folder / "preprocessor_config.json"
    said = _read_json(preparation) if preparation.is_file() else {}
    mean, std = said.get("image_mean", CLIP_MEAN), said.get("image_std", CLIP_STD)
    return HfClip(
        config,
        open_clip_names(read_state_dict(weights)),
        _tokenizer(folder, config["text_cfg"]),
        digest,
        tuple(mean),
        tuple(std),
    )


def open_clip_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of transformers' CLIPModel under the names, and in the shapes, of open_clip's.

    A name that is not known stays as it is. Position ids, which old files hold, are no weights and
    are left out.

    >>> state = {"visual_projection.weight": torch.ones(2, 3), "logit_scale": torch.ones(())}
    >>> {name: tuple(value.shape) for name, value in open_clip_names(state).items()}
    {'visual.proj': (3, 2), 'logit_scale': ()}
    """
    renamed = {_renamed(name): value for name, value in state.items()}
    found = {name: value for name, value in renamed.items() if not name.endswith("position_ids")}
    for name in ("visual.proj", "text_projection"):
        if name in found:
            found[name] = found[name].T.contiguous()
    for query in [name for name in found if ".attn.q_proj." in name]:
        names = [query.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"]
        if all(name in found for name in names):
            joined = torch.cat([found.pop(name) for name in names])
            found[query.replace(".q_proj.", ".in_proj_")] = joined
    return found


def _renamed(name: str) -> str:
    for theirs, ours in _RENAMED.items():
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs)
    if "resblocks." in name:
        for theirs, ours in _RENAMED_IN_BLOCKS.items():
            name = name.replace(theirs, ours)
    return name


def _there(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        other = ""
        if name.endswith(".safetensors") and (folder / "pytorch_model.bin").is_file():
            other = (
                " (pytorch_model.bin is here, but not read: load it with transformers and call "
                "save_pretrained, which writes model.safetensors)"
            )
        raise FileNotFoundError(
            f"{folder} has no {name}{other}: give a folder in Hugging Face's layout, with "
            "config.json and model.safetensors in it"
        )
    return folder / name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8, or not JSON
        raise ValueError(f"{path} is not JSON ({error}): download or copy it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} should hold one JSON object: download or copy it again")
    return content


def _settings(folder: Path) -> dict[str, Any]:
    """The sizes of both towers, with the defaults of what config.json leaves out."""
    path = _there(folder, "config.json")
    config = _read_json(path)
    found = config.get("model_type")
    if found != "clip":
        raise ValueError(
            f"{path} describes a model of type {found!r}, not 'clip': give the folder of a "
            "CLIPModel, with both towers; other architectures have other parts"
        )
    settings = {"projection_dim": config.get("projection_dim", 512)}
    for tower, defaults in (("vision_config", VISION), ("text_config", TEXT)):
        settings[tower] = defaults | (config.get(tower) or {})
        if old := config.get(f"{tower}_dict"):  # as transformers reads old files: it goes first
            settings[tower] |= defaults | old
    return settings


def _open_clip_config(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `open_clip.CLIP` for these sizes."""
    vision, text = settings["vision_config"], settings["text_config"]
    acts = {vision["hidden_act"], text["hidden_act"]}
    if acts not in ({"gelu"}, {"quick_gelu"}):
        raise ValueError(
            f"{folder / 'config.json'} asks for the activation {' and '.join(sorted(acts))}: only "
            "gelu or quick_gelu, the same in both towers, can be computed here"
        )
    for tower in (vision, text):
        if tower["hidden_size"] % tower["num_attention_heads"]:
            raise ValueError(
                f"{folder / 'config.json'} asks for {tower['num_attention_heads']} heads of a "
                f"width of {tower['hidden_size']}, which cannot be: download or copy it again"
            )
    shared = [
        {
            "width": tower["hidden_size"],
            "layers": tower["num_hidden_layers"],
            "mlp_ratio": tower["intermediate_size"] / tower["hidden_size"],
            "norm_kwargs": {"eps": tower["layer_norm_eps"]},
        }
        for tower in (vision, text)
    ]
    return {
        "embed_dim": settings["projection_dim"],
        "quick_gelu": acts == {"quick_gelu"},
        "vision_cfg": shared[0]
        | {name: vision[name] for name in ("image_size", "patch_size")}
        | {"head_width": vision["hidden_size"] // vision["num_attention_heads"]},
        "text_cfg": shared[1]
        | {"heads": text["num_attention_heads"], "vocab_size": text["vocab_size"]}
        | {"context_length": text["max_position_embeddings"]},
    }


def _check_tinyclip(folder: Path, settings: dict[str, Any]) -> None:
    for tower, sizes in _TINYCLIP_SIZES.items():
        found = {name: settings[tower][name] for name in sizes}
        if found != sizes:
            raise ValueError(
                f"{folder} does not hold {TINYCLIP}: its {tower} has {found}, not {sizes}. Load "
                f"another CLIP as 'hf:{folder}'"
            )


def _check_recorded(folder: Path, digest: str) -> None:
    """Raise ValueError if the weights are not those that were downloaded into this folder."""
    if not (folder / SOURCE).is_file():
        return
    recorded = _read_json(folder / SOURCE).get("sha256", {}).get("model.safetensors", digest)
    if recorded != digest:
        raise ValueError(
            f"{folder / 'model.safetensors'} is not the file that was downloaded: its SHA-256 is "
            f"{digest}, and {SOURCE} records {recorded}. Delete both and download again"
        )


def _tokenizer(folder: Path, text: dict[str, Any]) -> Callable[[list[str]], Tensor]:
    """open_clip's tokenizer, after a look at whether the folder's vocabulary is the same.

    End of text is the largest number of this vocabulary, so CLIP's pooling by argmax finds it,
    whatever `eos_token_id` in config.json says (old files say 2, which is wrong).
    """
    from open_clip import SimpleTokenizer

    tokenizer = SimpleTokenizer(context_length=text["context_length"])
    vocabulary, merges = _folder_vocabulary(folder)
    specials = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    ours = {specials.get(token, token): row for token, row in tokenizer.encoder.items()}
    same = vocabulary is None or (
        ours.items() <= vocabulary.items() and merges == list(tokenizer.bpe_ranks)
    )
    if not same or text["vocab_size"] < len(ours):
        raise ValueError(
            f"{folder} has a vocabulary of its own ({text['vocab_size']:,} tokens), not CLIP's "
            f"{len(ours):,}: build its tokenizer yourself and wrap both, "
            "anovl.Clip(model, tokenizer, image_size=…)"
        )
    return tokenizer


def _folder_vocabulary(folder: Path) -> tuple[dict[str, int] | None, list[tuple[str, ...]]]:
    """Tokens with their rows, and merges in their order, as the folder's files say; or None."""
    whole, words, pairs = (folder / n for n in ("tokenizer.json", "vocab.json", "merges.txt"))
    if whole.is_file():
        content = _read_json(whole)
        model = content.get("model", {})
        added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
        merges = model.get("merges", [])  # "a b" in older files, ["a", "b"] in newer ones
        split = (pair.split(" ") if isinstance(pair, str) else pair for pair in merges)
        return model.get("vocab", {}) | added, list(map(tuple, split))
    if words.is_file() and pairs.is_file():
        lines = pairs.read_text(encoding="utf-8").splitlines()
        merges = [line for line in lines if line and not line.startswith("#version")]
        return _read_json(words), [tuple(line.split(" ")) for line in merges]
    return None, []
