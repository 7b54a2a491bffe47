"""A calibrated detector as values for localize.json, and made again from these for `export`."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from anovl.evaluation.threshold import CalibratedDetector, Level
from anovl.prompts import PromptEnsemble

if TYPE_CHECKING:
    from anovl.clip import Clip
    from anovl.detector import AnoVL, Detector


FACTS = ("alarm_by", "levels", "scale", "normal_images", "map", "pixel_range")
"""What the metadata of an ONNX file hold of a record, each as JSON."""


def record_of(calibrated: CalibratedDetector) -> dict[str, Any]:
    """Describe a calibration in plain values, and in `Level`s; the mean map is in base64."""
    inside, mean = calibrated.detector, calibrated.mean_logit
    clip = getattr(getattr(inside, "detector", inside), "clip", None)
    return {
        "words": calibrated.class_name,
        "alarm_by": calibrated.alarm_by,
        "levels": {"score": calibrated.score_level, "map": calibrated.map_level},
        "scale": calibrated.scale,
        "normal_images": calibrated.n,
        "map": "as it is" if mean is None else "minus the mean map of normal images, in logits",
        "made_by": _made_by(inside, clip, calibrated.map_size),
        "mean_logit": mean if mean is None else b64encode(mean.numpy().astype("<f4")).decode(),
    }


def _made_by(detector: Detector, clip: Clip | None, size: tuple[int, int]) -> str:
    """Say what a map depends on beside image and words: method, model, weights, size."""
    model, weights = (getattr(clip, name, "") for name in ("name", "weights_hash"))
    method = f"{type(detector).__name__} ({detector.name})"
    return f"{method} with {model}, weights {weights:.12}, maps of {size[0]} x {size[1]}"


def calibrated_again(record: dict[str, Any], detector: AnoVL, path: str) -> CalibratedDetector:
    """Make a recorded calibration again; raise ValueError for another method, model or size."""
    size = detector.clip.image_size
    if (asked := _made_by(detector, detector.clip, size)) != record["made_by"]:
        raise ValueError(
            f"{path} is of {record['made_by']}, and asked for is {asked}. Give the same --model, "
            "--weights and --image-size; pca-normal, --tta and --tiles cannot be exported"
        )
    words, mean = record["words"], record["mean_logit"]
    if mean is not None:
        mean = torch.from_numpy(np.frombuffer(b64decode(mean), "<f4").reshape(size).copy())
    levels = {f"{by}_level": level and Level(**level) for by, level in record["levels"].items()}
    return CalibratedDetector(
        detector,
        PromptEnsemble(**words) if isinstance(words, dict) else words,
        n=record["normal_images"],
        **levels,
        alarm_by=record["alarm_by"],
        mean_logit=mean,
        map_size=size,
        scale=tuple(record["scale"]),
    )
