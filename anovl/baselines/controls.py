"""Controls: simple methods that a claim about localization has to beat.

Two controls do not use the image itself: `Centre` knows where defects usually lie, `Shuffled` takes
the map of another image. The other three use plain statistics of its pixels, and no network.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from anovl.clip import Images, as_list
from anovl.detector import Detector, Localization, Words
from anovl.images import read_image
from anovl.maps import Size, as_size, enlarge


@dataclass(frozen=True)
class ModelFree(Detector):
    """A method that uses pixels alone: pictures or paths go in, the class name is ignored.

    A subclass makes a map (H, W) of pixels (H, W, 3) in 0-1. Pictures are resized to `image_size`,
    which is the size of the maps unless a call asks for another. The score of an image is the
    largest value of its map, unless the subclass has another.

    Raises ValueError for preprocessed tensors.
    """

    image_size: Size = 240

    @abstractmethod
    def map_of(self, pixels: np.ndarray) -> np.ndarray:
        """The map (H, W) of one picture (H, W, 3)."""

    def score_of(self, pixels: np.ndarray, values: np.ndarray) -> float:
        """The score of one picture (H, W, 3) with this map (H, W)."""
        return float(values.max())

    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        if isinstance(images, Tensor):
            raise ValueError(f"{self.name} needs pictures: give PIL images or paths, no tensor")
        height, width = as_size(self.image_size)
        results = []
        for image in as_list(images):
            pixels = np.asarray(read_image(image).resize((width, height)), dtype=np.float32) / 255
            values = self.map_of(pixels).astype(np.float32)
            size_of_map = (height, width) if size is None else size
            enlarged = enlarge(torch.from_numpy(values)[None], size=size_of_map, smooth=False)
            results.append(Localization(enlarged[0].numpy(), self.score_of(pixels, values)))
        return results


@dataclass(frozen=True)
class Centre(ModelFree):
    """A fixed map, high in the middle, where things usually lie.

    >>> Centre(3).map_of(np.zeros((3, 3, 3))).round(2)
    array([[0.14, 0.37, 0.14],
           [0.37, 1.  , 0.37],
           [0.14, 0.37, 0.14]])
    """

    name = "centre"

    def map_of(self, pixels: np.ndarray) -> np.ndarray:
        y, x = np.ogrid[tuple(slice(-1, 1, side * 1j) for side in pixels.shape[:2])]
        return np.exp(-(y**2) - x**2)


@dataclass(frozen=True)
class PatchOutlier(ModelFree):
    """The difference of the neighbourhood of each pixel from the rest of its image.

    Mean and spread of the three colours and the mean slope of the brightness, over `patch` by
    `patch` pixels; then the Mahalanobis distance from the median. The covariance is that of values
    cut at three robust deviations, so that a defect does not add to it.

    >>> picture = np.full((32, 32, 3), 0.5) + 0.01 * np.random.default_rng(0).random((32, 32, 3))
    >>> picture[20:24, 8:12] = 1
    >>> values = PatchOutlier(32).map_of(picture)
    >>> bool(values[22, 10] > 3 * values[5, 25])
    True
    """

    patch: int = 9
    name = "outlier"

    def map_of(self, pixels: np.ndarray) -> np.ndarray:
        from scipy.ndimage import uniform_filter

        slope = np.hypot(*np.gradient(pixels.mean(axis=2)))[..., None]
        mean, square, slope = (
            uniform_filter(values, size=(self.patch, self.patch, 1))
            for values in (pixels, pixels**2, slope)
        )
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        features = np.concatenate([mean, spread, slope], axis=2)
        features = features - np.median(features, axis=(0, 1))
        features = features / (1.4826 * np.median(abs(features), axis=(0, 1)) + 1e-3)
        usual = features.clip(-3, 3).reshape(-1, features.shape[2])
        precision = np.linalg.inv(usual.T @ usual / len(usual) + 1e-2 * np.eye(usual.shape[1]))
        return np.sqrt(np.einsum("hwi,ij,hwj->hw", features, precision, features))


@dataclass(frozen=True)
class DifferenceOfGaussians(ModelFree):
    """The energy between two scales of detail, of the Gaussian blurs `fine` and `coarse` (pixels).

    >>> picture = np.zeros((32, 32, 3))
    >>> picture[20, 8] = 1
    >>> values = DifferenceOfGaussians(32).map_of(picture)
    >>> int(values.argmax()) == 20 * 32 + 8
    True
    """

    fine: float = 1.0
    coarse: float = 4.0
    name = "dog"

    def map_of(self, pixels: np.ndarray) -> np.ndarray:
        from scipy.ndimage import gaussian_filter

        grey = pixels.mean(axis=2)
        band = gaussian_filter(grey, self.fine) - gaussian_filter(grey, self.coarse)
        return np.sqrt(gaussian_filter(band**2, self.fine))


@dataclass(frozen=True)
class Brightness(ModelFree):
    """Darker is worse: 1 minus the mean grey (0-1) of `patch` by `patch` pixels, or of the picture.

    Where defects are bright, it is informative the other way round: its AUROC is below one half.

    >>> from PIL import Image
    >>> found = Brightness(2, patch=1)(Image.fromarray(np.uint8([[0, 255], [51, 102]])), "wall")
    >>> found.map.round(1), round(found.score, 2)
    (array([[1. , 0. ],
           [0.8, 0.6]], dtype=float32), 0.6)
    """

    patch: int = 9
    name = "brightness"

    def map_of(self, pixels: np.ndarray) -> np.ndarray:
        from scipy.ndimage import uniform_filter

        return 1 - uniform_filter(pixels.mean(axis=2), size=self.patch)

    def score_of(self, pixels: np.ndarray, values: np.ndarray) -> float:
        return float(1 - pixels.mean())


@dataclass(frozen=True)
class Shuffled(Detector):
    """Give each image the map of another: the knowledge of a category without the image itself.

    Image i gets the map of the image half the list further on, counted in a circle: lists are often
    sorted by defect, and a neighbour would be too similar. Scores are NaN: in a list with as many
    normal as anomalous images, one kind first, the AUROC of exchanged scores would be 1 minus that
    of the method.

    Raises ValueError for fewer than two images, or if their maps differ in shape.
    """

    detector: Detector
    name = "shuffled"
    whole_category = True

    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        return self.exchange(self.detector.localize(images, class_name, size=size))

    @staticmethod
    def exchange(results: Sequence[Localization]) -> list[Localization]:
        """Give each image the map of another one."""
        if len(results) < 2:
            raise ValueError("shuffled gives an image the map of another: it needs at least two")
        shapes = {result.map.shape for result in results}
        if len(shapes) > 1:
            raise ValueError(f"maps of {sorted(shapes)} cannot change places: give one size=(H, W)")
        half = len(results) // 2
        return [replace(other, score=math.nan) for other in results[half:] + results[:half]]
