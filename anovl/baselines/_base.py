"""What all methods of others share: AnoVL's signature, prompts and way to a map."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from anovl.clip import Images, inference_context
from anovl.detector import Category, ClipDetector, Localization, as_list, pixels_of
from anovl.maps import Size, smooth_and_upsample
from anovl.prompts import TextFeatures


@dataclass(frozen=True)
class Baseline(ClipDetector):
    """A method that says in `look` how anomalous each patch and each image of a batch is.

    What it says of patches is enlarged to a map as AnoVL's is: a 3x3 mean, then bilinear.
    """

    enlarge = staticmethod(smooth_and_upsample)

    @abstractmethod
    def look(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Values on the grid (B, h, w) and scores (B,) of preprocessed images (B, 3, H, W)."""

    def localize(
        self, images: Images, category: Category, *, size: Size | None = None
    ) -> list[Localization]:
        results = []
        size = self.clip.image_size if size is None else size
        weight = self.clip.model.visual.conv1.weight
        with torch.inference_mode(False), torch.no_grad(), inference_context(self.clip):
            text = self.text(category)
            for batch in self.batches(as_list(images)):
                pixels = self.compute(pixels_of, self.clip, batch)
                values, scores = self.look(pixels.to(weight), text)
                maps = self.enlarge(values, size=size).cpu().numpy()
                results += map(Localization, maps, scores.tolist())
        return results
