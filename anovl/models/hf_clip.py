"""CLIP folders in Hugging Face's layout (config.json, model.safetensors), as open_clip's model.

transformers' CLIPModel is the same network as open_clip's CLIP with other names for its parts, and
with queries, keys and values in three matrices instead of one. The tests hold both to the same
embeddings; the transformers library is not needed here.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anovl._shared.files import hash_file, write_atomically
from anovl._shared.http import fetch
from anovl.clip import Clip
from anovl.models.config_files import check, hf_preprocessing, read_json, settings
from anovl.models.weights import TERMS, TINYCLIP, fill, read_state_dict

TINYCLIP_REVISION = "a2a8c6eaa2549ad66eb7c31b85022bf58273a26c"
TINYCLIP_URL = f"https://huggingface.co/wkcn/{TINYCLIP}/resolve/{TINYCLIP_REVISION}"
TINYCLIP_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors")
TINYCLIP_VISION = {"width": 256, "layers": 10, "patch_size": 16}  # its model card
SOURCE = "SOURCE.json"  # what was downloaded into a folder, and from where
# What a config.json may leave out: the defaults of transformers' CLIPConfig.
_BLOCKS = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
VISION = _BLOCKS | {
    **{"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    **{"image_size": 224, "patch_size": 32},
}
TEXT = _BLOCKS | {
    **{"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
    **{"max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 49407},
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
    ".self_attn.": ".attn.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
}


def download_tinyclip(to: str | Path, *, url: str = TINYCLIP_URL) -> Path:
    """Fetch TinyCLIP's files into a folder, print and record the weights' hash, return the folder.

    No hash was published with it, so none is demanded. The hash is recorded in SOURCE.json, and
    `load_clip` refuses other weights from then on. A file that is already there is not fetched
    again. `url` is another place with the same files.

    Raises ConnectionError when a download fails, ValueError when the weights have changed.
    """
    to, url = Path(to).expanduser(), (url or TINYCLIP_URL).rstrip("/")
    print(f"{TINYCLIP}, 94 MB; licence {TERMS[TINYCLIP][0]} ({TERMS[TINYCLIP][1]})")
    try:
        for name in TINYCLIP_FILES:
            fetch(f"{url}/{name}", to / name)
    except ConnectionError as error:
        raise ConnectionError(
            f"{error}. By hand: put {', '.join(TINYCLIP_FILES)} from {TINYCLIP_URL} into {to}"
        ) from error
    digest = _recorded_hash(to)
    facts = {"model": TINYCLIP, "from": url, "sha256": {"model.safetensors": digest}}
    write_atomically(to / SOURCE, json.dumps(facts, indent=2) + "\n")
    print(f"SHA-256 {digest}, recorded in {SOURCE}, for none was published")
    print(f"Use it: --model {TINYCLIP} --weights {shlex.quote(str(to))}")
    return to


def load_hf_clip(folder: str | Path, *, name: str = "") -> Clip:
    """Read a CLIP folder of Hugging Face's layout; `name` is TinyCLIP's if it should be that.

    Besides config.json and model.safetensors, or several files and model.safetensors.index.json:
    how values are scaled, normalised and resampled (see `hf_preprocessing`). The tokenizer is
    open_clip's, and the vocabulary of the folder (tokenizer.json or vocab.json), if it is there,
    must be the same.

    Raises FileNotFoundError for a missing folder or file; ValueError for another architecture,
    activation or vocabulary, for damaged files, and for weights that SOURCE.json contradicts.
    """
    import open_clip

    folder = Path(folder).expanduser()
    weights, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    weights = index if index.is_file() and not weights.is_file() else weights
    for needed in ("config.json", weights.name):
        if not (folder / needed).is_file():
            raise FileNotFoundError(
                f"{folder} has no {needed}: give a folder in Hugging Face's layout. (With weights "
                "in pytorch_model.bin: transformers' save_pretrained writes model.safetensors)"
            )
    config = _open_clip_config(folder / "config.json")
    if name == TINYCLIP and not TINYCLIP_VISION.items() <= config["vision_cfg"].items():
        raise ValueError(f"{folder} does not hold {TINYCLIP}: load another CLIP as 'hf:{folder}'")
    weights_hash = "" if weights == index else _recorded_hash(folder)
    state = open_clip_names(read_state_dict(weights))
    with torch.device("meta"):
        model = open_clip.CLIP(**config)
    return Clip(
        fill(model, state, name or "its config.json", weights),
        _tokenizer(folder, config["text_cfg"]),
        image_size=config["vision_cfg"]["image_size"],
        name=name or f"hf:{folder.resolve().name}",
        weights_hash=weights_hash,
        **hf_preprocessing(folder),
    )


def open_clip_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of transformers' CLIPModel under the names, and in the shapes, of open_clip's.

    An unknown name stays as it is. Position ids, which old files hold, are no weights and are left
    out.

    >>> state = {"visual_projection.weight": torch.ones(2, 3), "logit_scale": torch.ones(())}
    >>> {name: tuple(value.shape) for name, value in open_clip_names(state).items()}
    {'visual.proj': (3, 2), 'logit_scale': ()}
    """
    renamed = {}
    for name, value in state.items():
        for theirs, ours in _RENAMED.items():
            name = name.replace(theirs, ours)
        if not name.endswith("position_ids"):
            renamed[name] = value
    for name in ("visual.proj", "text_projection"):
        if name in renamed:
            renamed[name] = renamed[name].T.contiguous()
    for query in [name for name in renamed if ".attn.q_proj." in name]:
        names = [query.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"]
        if all(name in renamed for name in names):
            joined = torch.cat([renamed.pop(name) for name in names])
            renamed[query.replace(".q_proj.", ".in_proj_")] = joined
    return renamed


def _recorded_hash(folder: Path) -> str:
    """The SHA-256 of a folder's weights; ValueError if another was recorded at their download."""
    path = folder / "model.safetensors"
    digest, recorded = hash_file(path), read_json(folder / SOURCE).get("sha256", {})
    if digest != recorded.get(path.name, digest):
        raise ValueError(
            f"{path} is not the file that was downloaded: its SHA-256 is {digest}, and {SOURCE} "
            f"has {recorded[path.name]}. Delete both and download again"
        )
    return digest


def _open_clip_config(path: Path) -> dict[str, Any]:
    """The arguments of `open_clip.CLIP` for the sizes in a config.json."""
    config = settings(path, "", read_json(path), {"model_type": None, "projection_dim": 512})
    vision, text = (  # as transformers reads old files: what ends in _dict replaces the other
        settings(path, tower, config.get(f"{tower}_dict") or config.get(tower) or {}, defaults)
        for tower, defaults in (("vision_config", VISION), ("text_config", TEXT))
    )
    activation, other = vision["hidden_act"], text["hidden_act"]  # open_clip has one for both
    check(other == activation, path, "text_config.hidden_act", other, f"{activation!r}, for both")
    for tower in (vision, text):
        width, heads = tower["hidden_size"], tower["num_attention_heads"]
        check(width % heads == 0, path, "num_attention_heads", heads, f"a divisor of {width}")
    return {
        "embed_dim": config["projection_dim"],
        "quick_gelu": activation == "quick_gelu",
        "vision_cfg": _blocks(vision)
        | {"image_size": vision["image_size"], "patch_size": vision["patch_size"]}
        | {"head_width": vision["hidden_size"] // vision["num_attention_heads"]},
        "text_cfg": _blocks(text)
        | {"heads": text["num_attention_heads"], "vocab_size": text["vocab_size"]}
        | {"context_length": text["max_position_embeddings"]},
    }


def _blocks(tower: dict[str, Any]) -> dict[str, Any]:
    return {
        "width": tower["hidden_size"],
        "layers": tower["num_hidden_layers"],
        "mlp_ratio": tower["intermediate_size"] / tower["hidden_size"],
        "norm_kwargs": {"eps": tower["layer_norm_eps"]},
    }


def _tokenizer(folder: Path, text: dict[str, Any]) -> Callable[[list[str]], Tensor]:
    """open_clip's tokenizer, if the folder's vocabulary is the same.

    End of text is the largest number of this vocabulary, so CLIP's pooling by argmax finds it. Old
    files have a wrong `eos_token_id`, 2, for which transformers takes the largest number, too.
    """
    from open_clip import SimpleTokenizer

    tokenizer = SimpleTokenizer(context_length=text["context_length"])
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    ours = {names.get(token, token): row for token, row in tokenizer.encoder.items()}
    vocabulary = _folder_vocabulary(folder) or ours
    if not ours.items() <= vocabulary.items() or text["vocab_size"] < len(ours):
        raise ValueError(
            f"{folder} does not have CLIP's vocabulary of {len(ours):,} tokens: build its "
            "tokenizer yourself and wrap both, anovl.Clip(model, tokenizer, image_size=…)"
        )
    return tokenizer


def _folder_vocabulary(folder: Path) -> dict[str, int]:
    """Tokens with their rows; empty when the folder has none.

    The merges are not read: each made one of the tokens, in their order.
    """
    content = read_json(folder / "tokenizer.json")
    if not content:
        return read_json(folder / "vocab.json")
    added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
    return dict(content.get("model", {}).get("vocab", {})) | added
