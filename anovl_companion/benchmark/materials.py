"""What the benchmark works with: random pixels and maps, a category on disk, and stand-ins."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from anovl.baselines.controls import Centre
from anovl.clip import Clip, Images, as_list
from anovl.detector import Localization, Words
from anovl.maps import Size, as_size


@dataclass(frozen=True)
class Waiting(Centre):
    """In place of a network: it waits `seconds` for each picture, and answers with a fixed map."""

    seconds: float = 0.02
    name = "waiting"

    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        time.sleep(self.seconds * len(as_list(images)))
        return self._answer(size) * len(as_list(images))

    @lru_cache(maxsize=1)  # noqa: B019  (one lives as long as a benchmark)
    def _answer(self, size: Size | None) -> list[Localization]:
        return super().localize(Image.new("RGB", as_size(self.image_size)[::-1]), "", size=size)


def aupro_by_thresholds(
    maps: np.ndarray, masks: np.ndarray, *, thresholds: int = 200, fpr_limit: float = 0.3
) -> float:
    """AUPRO as it is usually computed, to be compared with: `thresholds` levels, one by one.

    At each, the regions of every mask are found again; the curve is cut at the last false positive
    rate below `fpr_limit` and divided by it.
    """
    from skimage.measure import label, regionprops

    points = []
    for threshold in np.linspace(maps.min(), maps.max(), thresholds):
        found = maps > threshold
        overlaps = [
            found[i][tuple(region.coords.T)].mean()
            for i, mask in enumerate(masks)
            for region in regionprops(label(mask))
        ]
        points.append((found[~masks].mean(), np.mean(overlaps)))
    x, y = np.array(sorted(point for point in points if point[0] < fpr_limit)).T
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum() / x.max())


def with_grid(clip: Clip, side: int) -> Clip:
    """The same image tower for another number of patches, its places interpolated."""
    from copy import deepcopy

    from torch.nn.functional import interpolate

    model, patch = deepcopy(clip.model), clip.model.visual.patch_size[0]
    visual = model.visual
    cls, places = visual.positional_embedding.detach().split([1, clip.grid[0] * clip.grid[1]])
    grid = places.T.reshape(1, -1, *clip.grid)
    resized = interpolate(grid, size=(side, side), mode="bilinear")[0].flatten(1).T
    visual.positional_embedding = torch.nn.Parameter(torch.cat([cls, resized]))
    visual.grid_size, visual.image_size = (side, side), (side * patch, side * patch)
    return replace(clip, model=model, image_size=side * patch, weights_hash="")


def pixels(clip: Clip, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, *clip.image_size, generator=generator).clamp(-2, 2)


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def random_maps(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps (n, H, W) float32, and masks of which two in three hold some defects."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.standard_normal((count, side, side)), (0, side / 40, side / 40))
    masks = smooth > np.quantile(smooth, 0.97)
    masks[::3] = False
    noise = gaussian_filter(rng.standard_normal(smooth.shape), (0, side / 80, side / 80))
    return (smooth / smooth.std() + noise / noise.std()).astype(np.float32), masks


def write_category(root: Path, *, images: int, side: int = 512) -> None:
    """A category on disk, half of it with a defect: PNG files of photographic size."""
    if root.exists():
        return
    _, masks = random_maps(2, side)
    for number in range(images):
        kind = "good" if number % 2 else "cut"
        path = root / "test" / kind / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, (side // 8, side // 8)).resize((side, side)).save(path)
        if kind == "cut":
            mask = root / "ground_truth/cut" / f"{number:03d}_mask.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(masks[1].astype(np.uint8) * 255).save(mask)
