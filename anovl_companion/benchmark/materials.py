"""What the benchmark works with: random pixels, maps, and pictures on disk."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.integrate import trapezoid
from scipy.ndimage import gaussian_filter

from anovl import Clip


def random_pixels(clip: Clip, count: int) -> torch.Tensor:
    """Random preprocessed images (count, 3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, *clip.image_size, generator=generator).clamp(-2, 2)


def random_maps(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps (n, H, W) float32, and masks of which two in three hold some defects."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.standard_normal((count, side, side)), (0, side / 40, side / 40))
    masks = smooth > np.quantile(smooth, 0.97)
    masks[::3] = False
    noise = gaussian_filter(rng.standard_normal(smooth.shape), (0, side / 80, side / 80))
    return (smooth / smooth.std() + noise / noise.std()).astype(np.float32), masks


def write_category(root: Path, *, images: int, side: int = 512) -> None:
    """Write a category in MVTec AD's layout, half of it anomalous: a noisy drawing, shifted."""
    smooth, masks = random_maps(3, side)
    noise = np.random.default_rng(0).integers(0, 40, smooth.shape)
    drawing = (
        ((smooth - smooth.min()) / np.ptp(smooth) * 200 + noise).astype(np.uint8).transpose(1, 2, 0)
    )
    mask = masks.any(axis=0).astype(np.uint8) * 255
    for kind in ("test/good", "test/cut", "ground_truth/cut"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for number in range(images):
        picture, truth = (np.roll(one, 37 * number, axis=1) for one in (drawing, mask))
        if number % 2:
            Image.fromarray(picture).save(root / f"test/cut/{number:03d}.png")
            Image.fromarray(truth).save(root / f"ground_truth/cut/{number:03d}_mask.png")
        else:
            Image.fromarray(picture).save(root / f"test/good/{number:03d}.png")


def aupro_by_thresholds(maps: np.ndarray, masks: np.ndarray) -> float:
    """AUPRO as it is usually computed: at 200 thresholds the regions of every mask are found anew.

    The curve is cut at the last false positive rate below 0.3 and divided by it.
    """
    from skimage.measure import label, regionprops

    points = []
    for threshold in np.linspace(maps.min(), maps.max(), 200):
        found = maps > threshold
        overlaps = [
            found[i][tuple(region.coords.T)].mean()
            for i, mask in enumerate(masks)
            for region in regionprops(label(mask))
        ]
        points.append((found[~masks].mean(), np.mean(overlaps)))
    x, y = np.array(sorted(point for point in points if point[0] < 0.3)).T
    return float(trapezoid(y, x) / x.max())


def with_grid(clip: Clip, side: int) -> Clip:
    """The same model for another number of patches, all at one position: only costs count."""
    model, patch = deepcopy(clip.model), clip.model.visual.patch_size[0]
    positions = model.visual.positional_embedding[:1].detach().repeat(1 + side**2, 1)
    model.visual.positional_embedding = torch.nn.Parameter(positions)
    model.visual.grid_size, model.visual.image_size = (side, side), (side * patch, side * patch)
    return replace(clip, model=model, image_size=side * patch, weights_hash="")
