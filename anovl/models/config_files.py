"""Read the configuration that lies beside weights: JSON files of Hugging Face and of open_clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL.Image import Resampling

from anovl.clip import CLIP_MEAN, CLIP_STD

# What a file may leave out: the defaults of transformers' CLIPImageProcessor, and of open_clip.
PROCESSOR = {
    **{"do_rescale": True, "rescale_factor": 1 / 255, "resample": Resampling.BICUBIC},
    **{"do_normalize": True, "image_mean": CLIP_MEAN, "image_std": CLIP_STD},
}
PREPROCESS = {"mode": "RGB", "interpolation": "bicubic", "mean": CLIP_MEAN, "std": CLIP_STD}


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


def hf_preprocessing(folder: Path) -> dict[str, Any]:
    """Return `mean`, `std` and `interpolation` of a `Clip`, as transformers 5 reads a folder.

    An image processor in processor_config.json goes before preprocessor_config.json; null is the
    same as a missing key. Sizes and crops do not count, because the geometry is ours.

    Raises ValueError, naming file, key and value, for what a `Clip` cannot do.
    """
    path = folder / "processor_config.json"
    if "image_processor" not in read_json(path):
        path = folder / "preprocessor_config.json"
    found = read_json(path)
    found = found.get("image_processor", found)
    check(isinstance(found, dict), path, "image_processor", found, "an object")
    given = PROCESSOR | {key: value for key, value in found.items() if value is not None}
    kind = given.get("image_processor_type", given.get("feature_extractor_type", "CLIP"))
    check(str(kind).startswith("CLIP"), path, "image_processor_type", kind, "CLIP's own")
    for key in ("do_rescale", "do_normalize"):
        check(isinstance(given[key], bool), path, key, given[key], "true or false")
    check(given["resample"] in [*Resampling], path, "resample", given["resample"], "0 to 5")
    factor = _three(path, "rescale_factor", given)[0] if given["do_rescale"] else 1
    if not given["do_normalize"]:
        given |= {"image_mean": 0, "image_std": 1}
    # A Clip divides by 255: (factor · v - mean) / std = (v / 255 - mean / unit) / (std / unit).
    mean, std = (_three(path, f"image_{key}", given, unit=255 * factor) for key in ("mean", "std"))
    return {"mean": mean, "std": std, "interpolation": Resampling(given["resample"])}


def open_clip_preprocessing(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Return `mean`, `std` and `interpolation` of a `Clip` from open_clip's preprocess_cfg.

    As there, a missing value, null or 0 is the default. Raises ValueError, naming file, key and
    value, for what a `Clip` cannot do.
    """
    check(isinstance(found, dict), path, "preprocess_cfg", found, "an object")
    given = PREPROCESS | {key: value for key, value in found.items() if value}
    for key, known in (("mode", ["RGB"]), ("interpolation", ["bicubic", "bilinear", "random"])):
        check(given[key] in known, path, key, given[key], " or ".join(known))
    name = given["interpolation"].replace("random", "bicubic")  # random in training only
    mean, std = (_three(path, key, given) for key in ("mean", "std"))
    return {"mean": mean, "std": std, "interpolation": Resampling[name.upper()]}


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


def _three(path: Path, key: str, given: dict[str, Any], unit: float = 1.0) -> tuple[float, ...]:
    """One value for each colour, from one number or from three, divided by `unit`."""
    values = given[key] if isinstance(given[key], (list, tuple)) else [given[key]]
    low = -1e9 if "mean" in key else 0
    right = all(type(value) in (int, float) and low < value < 1e9 for value in values)
    right &= len(values) in (1, 3)
    check(right, path, key, given[key], "one number or three, above 0 but for a mean")
    return tuple(value / unit for value in ([*values] * 3)[:3])
