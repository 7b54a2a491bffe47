"""Harmless marks on normal things: two tones, labels, seams, holes, gloss, shadows.

They are regular or soft, and damage is ragged: so a model cannot take everything unusual for
damage. Each function takes `(rng, image)` and returns a float32 picture of the same size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from anovl.world.noise import blend, near_colour, random_colour, random_view


def _view(rng, image):
    return random_view(rng, len(image), zoom=(0.6, 1.6), shift=0.45, tilt=0.1)


def _inked(rng, image, distance):
    """Print a colour where the distance (in sides) is negative."""
    ink, cover = random_colour(rng, 0.02, 0.98), np.clip(0.5 - distance * len(image), 0, 1)
    return blend(image, ink, cover * rng.uniform(0.5, 0.95))


def _frame(u, v, half_width=0.12, half_height=0.07):
    return np.maximum(np.abs(u) - half_width, np.abs(v) - half_height)


def two_tones(rng, image):
    """Another shade on a part of the picture or on a broad band, with a sharp or a soft edge."""
    u, v = random_view(rng, len(image), zoom=(0.6, 1.6), shift=0.3, tilt=0.1)
    beyond = np.maximum(v, -v - rng.uniform(0.12, 0.3)) if rng.random() < 0.5 else v + u**2 / 2
    cover = np.clip(0.5 - beyond / rng.choice([1.5 / len(image), 0.06]), 0, 1)
    tint = np.exp(-rng.uniform(0.25, 0.8) + rng.uniform(-0.25, 0.25, 3))
    return blend(image, image * tint if rng.random() < 0.5 else 1 - (1 - image) * tint, cover)


def bars(rng, image):
    """Four printed bars."""
    u, v = _view(rng, image)
    return _inked(rng, image, np.maximum(np.abs((v * 22) % 1 - 0.5) / 22 - 0.011, _frame(u, v)))


def ring(rng, image):
    """A printed circle."""
    u, v = _view(rng, image)
    return _inked(rng, image, np.abs(np.hypot(u, v) - 0.09) - 0.014)


def disc(rng, image):
    """A printed dot."""
    u, v = _view(rng, image)
    return _inked(rng, image, np.hypot(u, v) - 0.06)


def outline(rng, image):
    """A printed rectangle."""
    u, v = _view(rng, image)
    return _inked(rng, image, np.abs(_frame(u, v)) - 0.01)


def barcode(rng, image):
    """A barcode."""
    u, v = _view(rng, image)
    dark = rng.random(24)[np.clip(((u + 0.12) * 100).astype(int), 0, 23)] < 0.5
    return _inked(rng, image, np.maximum(np.where(dark, -1.0, 1.0), _frame(u, v)))


def letters(rng, image):
    """A few lines of small print."""
    u, v = _view(rng, image)
    row = np.clip(((v + 0.07) * 50).astype(int), 0, 6)
    column = np.clip(((u + 0.12) * 50).astype(int), 0, 11)
    dark = rng.random((7, 12))[row, column] < 0.55
    return _inked(rng, image, np.maximum(np.where(dark, -1.0, 1.0), _frame(u, v)))


def sticker(rng, image):
    """A plain rounded label that casts a little shadow."""
    u, v = _view(rng, image)
    rounded = np.hypot(np.maximum(np.abs(u) - 0.09, 0), np.maximum(np.abs(v) - 0.05, 0)) - 0.02
    shadow = np.clip(0.5 - np.roll(rounded, (2, 2), (0, 1)) * len(image) / 4, 0, 1)
    return _inked(rng, image * (1 - 0.3 * shadow)[..., None], rounded)


def seam(rng, image):
    """A straight seam through the picture, with stitches at equal steps."""
    u, v = _view(rng, image)
    groove = np.clip(1 - np.abs(v) / 0.012, 0, 1)
    stitch = np.maximum(np.abs(np.abs(v) - 0.025) - 0.006, np.abs((u * 16) % 1 - 0.5) / 16 - 0.02)
    return _inked(rng, image * (1 - 0.45 * groove)[..., None], stitch)


def drilled_holes(rng, image):
    """A row of equal round holes, evenly spaced, each with a bright edge."""
    u, v = _view(rng, image)
    count, pitch = rng.integers(2, 6), rng.uniform(0.1, 0.16)
    nearest = np.clip(np.round(u / pitch), 0, count - 1) * pitch
    r = np.hypot(u - nearest, v) - rng.uniform(0.02, 0.035)
    edge = np.exp(-((r / 0.008) ** 2))
    image = np.clip(image + 0.25 * edge[..., None], 0, 1)
    return blend(near_colour(rng, (0.08, 0.08, 0.08), 0.05), image, 0.5 + r * len(image))


def gloss(rng, image):
    """A soft reflection of a lamp."""
    u, v = _view(rng, image)
    spot = np.exp(-((u / rng.uniform(0.1, 0.3)) ** 2) - (v / rng.uniform(0.04, 0.1)) ** 2)
    return np.clip(image + (rng.uniform(0.2, 0.5) * spot)[..., None], 0, 1)


def shadow(rng, image):
    """The straight, soft-edged shadow of something outside the picture."""
    _, v = _view(rng, image)
    width, soft = rng.uniform(0.08, 0.25), rng.uniform(0.01, 0.05)
    inside = np.clip(0.5 - (np.abs(v) - width) / soft, 0, 1)
    return image * (1 - rng.uniform(0.2, 0.45) * inside)[..., None]


MARKS: dict[Callable, int] = {
    bars: 2, ring: 1, disc: 1, outline: 2, barcode: 3, letters: 3, sticker: 1,
    seam: 1, drilled_holes: 1, gloss: 1, shadow: 1,
}  # fmt: skip
"""The small marks, and how common each is: on products, most marks are print."""


def add_marks(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add harmless marks to a picture (S, S, 3) in 0-1: two tones to half, and 0 to 2 others.

    >>> picture = add_marks(np.random.default_rng(0), np.full((32, 32, 3), 0.5, np.float32))
    >>> picture.shape
    (32, 32, 3)
    """
    image = np.asarray(image, np.float32)
    if rng.random() < 0.5:
        image = two_tones(rng, image)
    common = np.array(list(MARKS.values())) / sum(MARKS.values())
    for mark in rng.choice(len(MARKS), size=rng.choice(3, p=(0.2, 0.5, 0.3)), p=common):
        image = list(MARKS)[mark](rng, image)
    return np.asarray(image, np.float32)
