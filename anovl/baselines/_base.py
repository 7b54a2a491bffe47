"""The part that all compared methods share: AnoVL's signature, prompts and enlarging of maps."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from anovl.clip import Images, as_list, inference_context, preprocess
from anovl.detector import ClipDetector, Localization, Words
from anovl.maps import Size, enlarge
from anovl.prompts import TextFeatures


@dataclass(frozen=True)
class Baseline(ClipDetector):
    """A method that gives each patch and each image of a batch a value, in `score_patches`.

    Maps are enlarged as for AnoVL; `smooth = False` leaves out the 3x3 mean.
    """

    smooth: ClassVar[bool] = True

    @abstractmethod
    def score_patches(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Values on the grid (B, h, w) and scores (B,) of preprocessed images (B, 3, H, W)."""

    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        images, results = as_list(images), []
        size = self.clip.image_size if size is None else size
        weight = self.clip.model.visual.conv1.weight
        with torch.inference_mode(False), torch.no_grad(), inference_context(self.clip):
            text = self.text(class_name)
            for batch in self.batches(images):
                pixels = preprocess(self.clip, batch).to(weight)
                values, scores = self.score_patches(pixels, text)
                maps = enlarge(values, size=size, smooth=self.smooth).cpu().numpy()
                results += map(Localization, maps, scores.tolist())
        return results[: len(images)]
