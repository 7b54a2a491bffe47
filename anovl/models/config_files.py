"""Read the configuration that lies beside weights: JSON files of Hugging Face and of open_clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL.Image import Resampling

from anovl.clip import CLIP_MEAN, CLIP_STD

# What files may leave out: the defaults of transformers' CLIPImageProcessor, and of open_clip.
PROCESSOR = {"do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "resample": 3}
PREPROCESS = {"mode": "RGB", "interpolation": "bicubic"}
_KNOWN = {  # other settings are numbers above 0
    **{"do_rescale": [True, False], "do_normalize": [True, False], "resample": [*range(6)]},
    **{"mode": ["RGB"], "interpolation": ["bicubic", "bilinear", "random"]},
    **{"model_type": ["clip"], "hidden_act": ["gelu", "quick_gelu"], "eos_token_id": [49407, 2]},
}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is no file."""
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:  # not UTF-8, not JSON, or no object
        raise ValueError(f"{path} is no JSON object ({error}): download it again") from None


def check(right: bool, path: Path, key: str, value: object, expected: str) -> None:
    """Raise ValueError, naming file, key and value, unless the value is right."""
    if not right:
        raise ValueError(f"{path} has {key} {value!r:.200}; expected {expected}")


def settings(path: Path, where: str, given: object, defaults: dict[str, Any]) -> dict[str, Any]:
    """Complete the settings under the key `where` of a file by their defaults, and check these.

    Numbers must be above 0, and whole if the default is. Raises ValueError, naming file, key and
    value.
    """
    check(isinstance(given, dict), path, where, given, "an object")
    given = defaults | given
    for key, default in defaults.items():
        value, known = given[key], _KNOWN.get(key)
        right = value in known if known else type(value) in (int, type(default)) and 0 < value < 1e7
        check(right, path, f"{where}.{key}".strip("."), value, f"{known or 'a number above 0'}")
    return given


def hf_preprocessing(folder: Path) -> dict[str, Any]:
    """Return `mean`, `std` and `interpolation` of a `Clip`, as transformers 5 reads a folder.

    An image processor in processor_config.json goes before preprocessor_config.json. Sizes and
    crops do not count, because the geometry is ours.

    Raises ValueError, naming file, key and value, for what a `Clip` cannot do.
    """
    path, where = folder / "processor_config.json", "image_processor"
    if where not in read_json(path):
        path, where = folder / "preprocessor_config.json", ""
    found = read_json(path)
    given = settings(path, where, found.get(where, found), PROCESSOR)
    kind = given.get("image_processor_type", given.get("feature_extractor_type", "CLIP"))
    check(str(kind).startswith("CLIP"), path, "image_processor_type", kind, "CLIP's own")
    mean, std = given.get("image_mean", CLIP_MEAN), given.get("image_std", CLIP_STD)
    mean, std = (mean, std) if given["do_normalize"] else (0, 1)
    # A Clip divides by 255: (factor · v - mean) / std = (v / 255 - mean / unit) / (std / unit).
    unit = 255 * (given["rescale_factor"] if given["do_rescale"] else 1)
    return {
        "mean": _three(path, "image_mean", mean, unit),
        "std": _three(path, "image_std", std, unit),
        "interpolation": Resampling(given["resample"]),
    }


def open_clip_preprocessing(path: Path, found: object) -> dict[str, Any]:
    """Return `mean`, `std` and `interpolation` of a `Clip` from open_clip's preprocess_cfg.

    As there, a mean or std of null or 0 is the default. Raises ValueError, naming file, key and
    value, for what a `Clip` cannot do.
    """
    given = settings(path, "preprocess_cfg", found, PREPROCESS)
    name = given["interpolation"].replace("random", "bicubic")  # random in training only
    return {
        "mean": _three(path, "mean", given.get("mean") or CLIP_MEAN),
        "std": _three(path, "std", given.get("std") or CLIP_STD),
        "interpolation": Resampling[name.upper()],
    }


def check_model_cfg(path: Path, theirs: object, ours: object, key: str = "model_cfg") -> None:
    """Raise ValueError, naming file, key and value, where two model_cfg of open_clip differ."""
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    towers = {"model_cfg.vision_cfg": CLIPVisionCfg, "model_cfg.text_cfg": CLIPTextCfg}
    if isinstance(theirs, dict) and isinstance(ours, dict):
        defaults = vars(towers[key]()) if key in towers else {}
        theirs, ours = defaults | theirs, defaults | ours
        for part in theirs | ours:
            check_model_cfg(path, theirs.get(part), ours.get(part), f"{key}.{part}")
    elif "logit" not in key and "patch_dropout" not in key:  # no feature depends on them
        same = (theirs or None) == (ours or None)  # false may be left out
        check(same, path, key, theirs, f"{ours!r}, as --model has it")


def _three(path: Path, key: str, value: object, unit: float = 1.0) -> tuple[float, ...]:
    """One value for each colour, from one number or from three, divided by `unit`."""
    values = value if isinstance(value, (list, tuple)) else [value]
    low = -1e9 if "mean" in key else 0
    right = all(type(one) in (int, float) and low < one < 1e9 for one in values)
    right &= len(values) in (1, 3)
    check(right, path, key, value, "one number or three, above 0 if not a mean")
    return tuple(one / unit for one in ([*values] * 3)[:3])
