"""Periodic noise, random camera views and random colours: the material of generated pictures."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

BANK = 256
REFERENCE_SIZE = 112


@lru_cache(maxsize=16)
def smooth_bank(scale: float) -> np.ndarray:
    """Return periodic Gaussian noise (256, 256), mean 0, deviation 1, with blobs of `scale` pixels.

    >>> bank = smooth_bank(4.0)
    >>> bank.shape, round(float(bank.std()), 3)
    ((256, 256), 1.0)
    """
    from scipy.ndimage import gaussian_filter

    white = np.random.default_rng(round(1000 * scale)).standard_normal((BANK, BANK))
    bank = gaussian_filter(white, scale, mode="wrap")
    return ((bank - bank.mean()) / bank.std()).astype(np.float32)


@lru_cache(maxsize=1)
def cell_bank() -> tuple[np.ndarray, np.ndarray]:
    """Return a periodic pattern of cells as two arrays (256, 256).

    The first is the distance to the nearest wall between cells, in pixels; the second is a shade
    from -1 to 1, constant in each cell.
    """
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(7)
    seeds = rng.uniform(0, BANK, (340, 2))
    ys, xs = np.mgrid[:BANK, :BANK]
    points = np.stack([ys.ravel(), xs.ravel()], axis=1)
    distance, index = cKDTree(seeds, boxsize=BANK).query(points, k=2)
    walls = (distance[:, 1] - distance[:, 0]).reshape(BANK, BANK)
    shades = rng.uniform(-1, 1, len(seeds))[index[:, 0]].reshape(BANK, BANK)
    return walls.astype(np.float32), shades.astype(np.float32)


def look_up(bank: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the values of a bank at coordinates (u, v) in its pixels; the bank repeats itself."""
    return bank[v.astype(np.int64) % BANK, u.astype(np.int64) % BANK]


def smooth_noise(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """Return random noise (size, size); `scale` is the size of its blobs, in 112ths of the side."""
    along = np.arange(size) * (REFERENCE_SIZE / size)
    columns, rows = (((along + rng.integers(BANK)) % BANK).astype(np.int64) for _ in range(2))
    return smooth_bank(scale)[rows[:, None], columns]


@lru_cache(maxsize=8)
def pixel_grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel centres (x, y) of a square picture, in sides, from -0.5 to 0.5."""
    along = ((np.arange(size, dtype=np.float32) + 0.5) / size) - 0.5
    x, y = np.meshgrid(along, along)
    return x, y


def random_view(
    rng: np.random.Generator,
    size: int,
    *,
    zoom: tuple[float, float] = (0.8, 1.3),
    shift: float = 0.5,
    tilt: float = 0.25,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates (u, v) of every pixel on a plane, for a random camera.

    The camera is turned, shifted and tilted at random. Units are sides of the picture; `tilt` is
    the strongest perspective, `shift` the largest offset.
    """
    x, y = pixel_grid(size)
    angle = rng.uniform(0, 2 * np.pi)
    scale = 1 / rng.uniform(*zoom)
    depth = 1 + rng.uniform(-tilt, tilt) * x + rng.uniform(-tilt, tilt) * y
    c, s = np.float32(scale * np.cos(angle)), np.float32(scale * np.sin(angle))
    dx, dy = rng.uniform(-shift, shift, 2).astype(np.float32)
    x, y = x - dx, y - dy
    return (c * x - s * y) / depth, (s * x + c * y) / depth


def blend(first: np.ndarray, second: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Mix two colours or pictures; `amount` (H, W) is 0 for the first and 1 for the second."""
    amount = np.clip(amount, 0, 1).astype(np.float32)[..., None]
    first, second = np.asarray(first, np.float32), np.asarray(second, np.float32)
    return first + (second - first) * amount


def random_colour(rng: np.random.Generator, low: float = 0.1, high: float = 0.95) -> np.ndarray:
    """Return a random RGB colour (3,), mostly of moderate saturation."""
    grey = rng.uniform(low, high)
    tint = rng.uniform(-1, 1, 3) * rng.choice([0.08, 0.25, 0.45])
    return np.clip(grey + tint, low, high).astype(np.float32)


def near_colour(rng: np.random.Generator, colour, spread: float = 0.1) -> np.ndarray:
    """Return a colour near the given one: its lightness changes, and its hue a little."""
    change = rng.uniform(-spread, spread) + rng.uniform(-spread, spread, 3) / 3
    return np.clip(np.asarray(colour, np.float32) + change, 0.02, 0.98).astype(np.float32)
