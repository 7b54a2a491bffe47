"""AnoVL for one object as an ONNX file: an image goes in, an anomaly map and a score come out.

The file holds the text prototypes and the normalisation: running it needs no CLIP, no tokenizer
and no PyTorch. Input `picture`: float32 (B, 3, S, S), RGB, 0 to 1, resized to the model's size
beforehand (the whole picture squeezed to a square, antialiased, with the interpolation that the
metadata name: bicubic for most models). Outputs: `map` (B, S, S) and `score` (B,), both float32 in
0 to 1, higher is more anomalous. With levels from normal images, there is `alarm` (B,) too, bool,
and the metadata hold the levels and the colour scale.

With ONNX Runtime:

    session = onnxruntime.InferenceSession("nut.onnx")
    maps, scores = session.run(None, {"picture": picture})

With OpenVINO (`pip install openvino`), which reads the file as it is:

    model = openvino.Core().compile_model("nut.onnx", "CPU")
    maps, scores = model(picture).values()

In a browser (`npm install onnxruntime-web`); `data` is a Float32Array, all of red first, then green
and blue, from a canvas of S x S pixels divided by 255:

    const session = await ort.InferenceSession.create("nut.onnx");
    const picture = new ort.Tensor("float32", data, [1, 3, S, S]);
    const { map, score } = await session.run({ picture });

The first is tested against PyTorch; the other two follow their makers' manuals and were not run
here. A canvas resizes bilinearly, which moves the scores of a bicubic model a little.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anovl._shared.files import write_atomically
from anovl.attention import project_to_clip_space, two_streams
from anovl.detector import AnoVL, Words
from anovl.prompts import TextFeatures

OPSET = 18


class Exportable(nn.Module):
    """AnoVL as one function of pictures (B, 3, S, S) in 0-1: maps (B, S, S) and scores (B,).

    The numbers are those of `detector.localize` on the same pixels. Its checks are missing, because
    a graph cannot depend on values. Raises ValueError for what one pass cannot do:
    test-time adaptation, 22 views, tiles, or half precision.

    With `mean_logit` (S, S), that of normal images, it is subtracted from the maps in logits. With
    `thresholds` for the score and for the highest value of the map there is a third output, alarms
    (B,) bool.
    """

    def __init__(
        self,
        detector: AnoVL,
        text: TextFeatures,
        *,
        mean_logit: Tensor | None = None,
        thresholds: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        clip = detector.clip
        asked = {"tta": detector.tta, "tiles": detector.tiles, "views": detector.views != 1}
        asked["half precision"] = clip.precision != "float32"
        if refused := [name for name, found in asked.items() if found]:
            raise ValueError(f"one pass in float32 can be exported, without {', '.join(refused)}")
        self.visual = clip.model.visual
        self.attention, self.first_block = detector.attention, detector.first_block
        self.grid, self.size = clip.grid, clip.image_size
        self.register_buffer("mean", torch.tensor(clip.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(clip.std).view(3, 1, 1))
        self.register_buffer("prototypes", text.prototypes.float())
        self.register_buffer("mean_logit", None if mean_logit is None else mean_logit.float())
        self.thresholds = thresholds

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        pixels = (picture - self.mean) / self.std
        z, u = two_streams(self.visual, pixels, self.attention, self.first_block)
        score = self._probability(z)  # (B,)
        grids = self._probability(u[:, 1:]).unflatten(1, self.grid)[:, None]  # (B, 1, h, w)
        smooth = F.avg_pool2d(F.pad(grids, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        maps = F.interpolate(smooth, size=self.size, mode="bilinear", align_corners=True)[:, 0]
        if self.mean_logit is not None:
            maps = (maps.logit(eps=1e-7) - self.mean_logit).sigmoid()
        if self.thresholds is None:
            return maps, score
        by_score, by_map = self.thresholds
        return maps, score, (score > by_score) | (maps.amax(dim=(1, 2)) > by_map)

    def _probability(self, tokens: Tensor) -> Tensor:
        features = F.normalize(project_to_clip_space(self.visual, tokens), dim=-1)
        return (features @ self.prototypes.T).softmax(dim=-1)[..., 1]


def check_target(to: str | Path) -> Path:
    """Return the path of an ONNX file to be written, before time is spent on its content.

    Raises ValueError for another ending than .onnx and, with what to install, without the packages.
    """
    to = Path(to).expanduser()
    if to.suffix != ".onnx":
        raise ValueError(f"the file must end in .onnx; found {str(to)!r}")
    try:
        import_module("onnxscript")  # torch needs it, and it needs onnx
    except ModuleNotFoundError as error:
        what = f"{error.name} is not installed: in the checkout, pip install -e '.[export]'"
        raise ValueError(what) from None
    return to


def export_onnx(
    detector: AnoVL,
    class_name: Words,
    to: str | Path,
    *,
    facts: Mapping[str, str] | None = None,
    **calibration: Any,
) -> Path:
    """Write a detector for one class name to an ONNX file; return its path.

    `calibration` are the keywords of `Exportable`. The metadata hold the model, the weights' hash,
    interpolation, class name, attention and `facts`. Needs `pip install -e '.[export]'` in the
    checkout.

    Raises ValueError as `check_target` does, and for a detector that needs more than one pass;
    OSError where it cannot be written.
    """
    to = check_target(to)
    import onnx

    clip = detector.clip
    module = Exportable(detector, detector.text(class_name), **calibration)
    outputs = ["map", "score", *["alarm"] * (module.thresholds is not None)]
    module = module.to(clip.device).eval()
    picture = torch.rand(2, 3, *clip.image_size, device=clip.device)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's own parts
        program = torch.onnx.export(
            module,
            (picture,),
            input_names=["picture"],
            output_names=outputs,
            dynamic_shapes={"picture": {0: torch.export.Dim("batch", min=1)}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    proto = program.model_proto
    known = {
        "model": clip.name,
        "weights_sha256": clip.weights_hash,
        "interpolation": clip.interpolation.name.lower(),
        "class_name": getattr(class_name, "class_name", class_name),
        "method": detector.name,
        "first_block": str(detector.first_block),
    }
    onnx.helper.set_model_props(proto, known | dict(facts or {}))
    write_atomically(to, partial(onnx.save_model, proto))
    return to
