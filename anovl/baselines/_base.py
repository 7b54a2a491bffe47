"""What all methods of others share: AnoVL's signature, prompts and way to a map."""

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
    """A method that says in `look` how anomalous each patch and each image of a batch is.

    `enlarge` makes a map of what it says of patches, as for AnoVL; `smooth = False` leaves out
    the 3x3 mean.
    """

    smooth: ClassVar[bool] = True

    @abstractmethod
    def look(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Values on the grid (B, h, w) and scores (B,) of preprocessed images (B, 3, H, W)."""

    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        images, results = as_list(images), []
        size = self.clip.image_size if size is None else size
        weight = self.clip.model.visual.conv1.weight
        with torch.inference_mode(False), torch.no_grad(), inference_context(self.clip):
            text = self.text(class_name)
            for start in range(0, len(images), self.batch_size):
                batch = preprocess(self.clip, images[start : start + self.batch_size])
                values, scores = self.look(batch.to(weight), text)
                maps = enlarge(values, size=size, smooth=self.smooth).cpu().numpy()
                results += map(Localization, maps, scores.tolist())
        return results
