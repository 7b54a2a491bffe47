"""The pocket world: one call with a seed draws an object, harmless marks, a defect and a camera.

Defects and objects may lie anywhere in the picture, and most pictures have harmless marks: neither
the place nor an unusual mark alone tells the damage.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anovl.world import objects, textures
from anovl.world.defects import KINDS, add_defect
from anovl.world.marks import add_marks
from anovl.world.noise import pixel_grid, smooth_noise

TEXTURES: dict[str, Callable] = {
    "carpet": textures.carpet,
    "wood": textures.wood,
    "leather": textures.leather,
    "tile": textures.tile,
    "grid": textures.grid,
    "fabric": textures.fabric,
    "metal plate": textures.metal_plate,
    "concrete": textures.concrete,
    "corrugated sheet": textures.corrugated_sheet,
}
OBJECTS: dict[str, Callable] = {
    "bottle": objects.bottle,
    "metal nut": objects.metal_nut,
    "pill": objects.pill,
    "capsule": objects.capsule,
    "screw": objects.screw,
    "circuit board": objects.circuit_board,
    "hazelnut": objects.hazelnut,
    "biscuit": objects.biscuit,
    "gear": objects.gear,
    "button": objects.button,
    "domino": objects.domino,
}
UNSEEN = ("concrete", "corrugated sheet", "gear", "button", "domino")
SEEN = tuple(name for name in (*TEXTURES, *OBJECTS) if name not in UNSEEN)
PLACES = ("top left", "top", "top right", "left", "centre", "right",
          "bottom left", "bottom", "bottom right")  # fmt: skip
WORLD_VERSION = 4
SCALES, STRENGTHS = (1.0, 1.7), (0.6, 1.0)
"""Ranges for defects: their size relative to the usual one, and their contrast."""
# Seeds for training are below these; then come seeds for choosing a model, then for results.
TRAINING_SEEDS = FIRST_VALIDATION_SEED = 900_000_000
FIRST_EVALUATION_SEED, SEEDS_OF_A_RUN = 1_000_000_000, 1_000_000
# The last seeds of each run are for the normal images of a calibration, never for results.
FIRST_NORMAL_INDEX = SEEDS_OF_A_RUN - 100_000
MOST_PER_CATEGORY = FIRST_NORMAL_INDEX // 2  # normal images, and as many anomalous ones


@dataclass(frozen=True)
class Scene:
    """One picture of the pocket world and the facts about it.

    `image` is uint8 (S, S, 3); `mask` bool (S, S) marks the damage and is for evaluation only;
    `kind` is "good" or a kind of defect; `place` is one of `PLACES` or ""; `look` holds words about
    the photograph ("dark", "blurry", …).
    """

    image: np.ndarray
    mask: np.ndarray
    category: str
    kind: str
    place: str
    look: tuple[str, ...]


def draw_scene(
    category: str, *, seed: int, kind: str = "good", size: int = 112, ease: float = 0.0
) -> Scene:
    """Draw one picture; the same arguments always give the same pixels.

    Scenes of one category and seed are twins: they differ in the damage alone.

    `category` is a name from `SEEN` or `UNSEEN`, `kind` "good" or one of
    `anovl.world.defects.KINDS`, `size` the side of the picture in pixels. `ease` is 0 for the usual
    damage, and up to 1 for larger and clearer damage, with which training begins. Training and
    evaluation use different ranges of `seed` (see `TRAINING_SEEDS`).

    Raises ValueError if the category or the kind is unknown.

    >>> scene = draw_scene("wood", seed=3, kind="scratch", size=64)
    >>> scene.image.shape, scene.image.dtype.name, bool(scene.mask.any())
    ((64, 64, 3), 'uint8', True)
    """
    _check(category, kind)
    image, region = _healthy(category, seed, size)
    if kind == "good":
        return _photographed(category, seed, kind, image, np.zeros((size, size), bool), size)
    damaged, mask = _damaged(category, seed, kind, image, region, ease)
    return _photographed(category, seed, kind, damaged, mask, size)


def draw_twins(
    category: str,
    *,
    seed: int,
    kind: str,
    size: int = 112,
    ease: float = 0.0,
    close_up: int | None = None,
) -> tuple[Scene, Scene]:
    """Draw one scene without and with damage, (good, damaged), with arguments of `draw_scene`.

    With `close_up`, both pictures are the same window of `close_up` x `close_up` pixels, which
    holds at least a part of the damage.

    >>> good, bad = draw_twins("wood", seed=3, kind="scratch", close_up=56)
    >>> good.kind, bad.kind, bad.image.shape, bool(bad.mask.any())
    ('good', 'scratch', (56, 56, 3), True)
    """
    _check(category, kind)
    image, region = _healthy(category, seed, size)
    damaged, mask = _damaged(category, seed, kind, image, region, ease)
    window = slice(None), slice(None)
    if close_up is not None:
        rng = np.random.default_rng([*_key(category, seed), 1, close_up])
        window = _window_on(rng, mask, close_up)
    good = _photographed(category, seed, "good", image[window], np.zeros_like(mask)[window], size)
    return good, _photographed(category, seed, kind, damaged[window], mask[window], size)


def _window_on(rng: np.random.Generator, mask: np.ndarray, side: int) -> tuple[slice, slice]:
    """Return a random window of this side; a pixel of the mask lies in it, not at its border."""
    inside, margin = np.argwhere(mask)[rng.integers(mask.sum())], side // 8
    lowest, highest = inside - side + margin, inside - margin
    low, high = (np.clip(end, 0, len(mask) - side) for end in (lowest, highest))
    top, left = rng.integers(low, high + 1)
    return slice(top, top + side), slice(left, left + side)


def _check(category: str, kind: str) -> None:
    if category not in SEEN + UNSEEN:
        raise ValueError(
            f"unknown category {category!r}: choose one of {', '.join(SEEN + UNSEEN)}."
        )
    if kind != "good" and kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}: choose 'good' or one of {', '.join(KINDS)}.")


def _key(category: str, seed: int) -> tuple[int, int]:
    return zlib.crc32(category.encode()), seed


def _healthy(category: str, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a picture without damage, and the region (S, S) in which damage may lie."""
    rng = np.random.default_rng([*_key(category, seed), 0])
    drawn = (TEXTURES.get(category) or OBJECTS[category])(rng, size)
    image, region = drawn if isinstance(drawn, tuple) else (drawn, np.ones((size, size), bool))
    return add_marks(rng, image), region if region.mean() > 0.02 else np.ones_like(region)


def _damaged(category, seed, kind, image, region, ease) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([*_key(category, seed), 2 + KINDS.index(kind)])
    scale = np.exp(rng.uniform(*np.log(SCALES))) * (1 + 0.8 * ease)
    low, high = STRENGTHS
    strength = (low + (0.9 - low) * ease, high)
    return add_defect(image, rng, kind=kind, where=region, scale=scale, strength=strength)


def _photographed(category, seed, kind, image, mask, size) -> Scene:
    camera = np.random.default_rng([*_key(category, seed), 1])
    pixels, look = _photograph(camera, image, size)
    return Scene(pixels, mask, category, kind, _place_of(mask), look)


def _place_of(mask: np.ndarray) -> str:
    """Return which ninth of the picture holds the middle of the damage."""
    if not mask.any():
        return ""
    row, column = (np.argwhere(mask).mean(axis=0) * 3 / len(mask)).astype(int)
    return PLACES[3 * row + column]


def _photograph(
    rng: np.random.Generator, image: np.ndarray, size: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Apply light, colour cast, focus, sensor noise and JPEG; return the picture and its words.

    `size` is the side of the whole picture; `image` may be a window of it.
    """
    look = []
    x, y = pixel_grid(len(image))
    light = 1 + rng.uniform(-0.25, 0.25) * x + rng.uniform(-0.25, 0.25) * y
    gain = rng.choice([0.55, 1.0, 1.3], p=[0.12, 0.76, 0.12]) * rng.uniform(0.9, 1.1)
    look += ["dark"] if gain < 0.7 else ["bright"] if gain > 1.15 else []
    image = image * (light * gain)[..., None] * (1 + rng.uniform(-0.04, 0.04, 3))
    if rng.random() < 0.15:
        from scipy.ndimage import gaussian_filter

        image = gaussian_filter(image, (size * 0.007, size * 0.007, 0))
        look.append("blurry")
    if rng.random() < 0.12:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
        look.append("grey")
    grain = rng.uniform(0.0, 0.025)
    image = image + grain * smooth_noise(rng, len(image), 0.5)[..., None]
    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.12:
        pixels = _jpeg(pixels, int(rng.integers(30, 80)))
        look.append("jpeg")
    return pixels, tuple(look)


def _jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))
