"""The pocket world: one seeded call draws a category, its healthy marks, a defect and a camera.

Defects and objects may lie anywhere in the frame, and half of all pictures carry harmless printed
marks, so that neither position nor "something unusual" gives the damage away.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anovl.pocket import objects, textures
from anovl.pocket.defects import KINDS, add_defect
from anovl.pocket.noise import blend, pixel_grid, random_colour, random_view, smooth_noise

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
WORLD_VERSION = 1


@dataclass(frozen=True)
class Scene:
    """One picture of the pocket world and all that is true of it.

    `image` is uint8 (S, S, 3); `mask` bool (S, S) marks the damage and serves evaluation only;
    `kind` is "good" or a kind of defect; `place` one of `PLACES` or ""; `look` holds photographic
    words that are true of the picture ("dark", "blurry", …).
    """

    image: np.ndarray
    mask: np.ndarray
    category: str
    kind: str
    place: str
    look: tuple[str, ...]


def draw_scene(
    category: str,
    *,
    seed: int,
    kind: str = "good",
    size: int = 112,
    ease: float = 0.0,
) -> Scene:
    """Draw one picture; the same arguments always give the same pixels.

    Scenes of one category and seed are twins: they differ in the damage and in nothing else.

    `category` is a name from `SEEN` or `UNSEEN`, `kind` "good" or one of
    `anovl.pocket.defects.KINDS`, `size` the side of the picture in pixels. `ease` is 0 for the
    world as it is, and up to 1 for larger and clearer damage, with which training begins. Training
    and evaluation use different ranges of `seed`.

    Raises ValueError if the category or the kind is unknown.

    >>> scene = draw_scene("wood", seed=3, kind="scratch", size=64)
    >>> scene.image.shape, scene.image.dtype.name, bool(scene.mask.any())
    ((64, 64, 3), 'uint8', True)
    """
    draw = TEXTURES.get(category) or OBJECTS.get(category)
    if draw is None:
        raise ValueError(
            f"unknown category {category!r}: choose one of {', '.join(SEEN + UNSEEN)}."
        )
    if kind != "good" and kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}: choose 'good' or one of {', '.join(KINDS)}.")
    key = (zlib.crc32(category.encode()), seed)
    rng, camera = (np.random.default_rng([*key, stream]) for stream in (0, 1))
    drawn = draw(rng, size)
    image, region = drawn if isinstance(drawn, tuple) else (drawn, np.ones((size, size), bool))
    if rng.random() < 0.5:
        image = _printed_mark(rng, np.asarray(image, np.float32))
    mask, place = np.zeros((size, size), bool), ""
    if kind != "good":
        rng = np.random.default_rng([*key, 2 + KINDS.index(kind)])
        where = region if region.mean() > 0.02 else np.ones_like(region)
        strength = (0.6 + 0.3 * ease, 1.0)
        scale = rng.uniform(0.9, 1.5) * (1 + 0.8 * ease)
        image, mask = add_defect(image, rng, kind=kind, where=where, scale=scale, strength=strength)
        place = _place_of(mask)
    image, look = _photograph(camera, image)
    return Scene(image, mask, category, kind, place, look)


def _printed_mark(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A label that belongs: bars, a ring, a disc, a barcode, a frame or a block of letters."""
    size = len(image)
    u, v = random_view(rng, size, zoom=(0.6, 1.6), shift=0.45, tilt=0.1)
    pixel = 1.0 / size
    ink = random_colour(rng, 0.02, 0.98)
    kind = rng.integers(6)
    frame = np.maximum(np.abs(u) - 0.12, np.abs(v) - 0.07)
    if kind == 0:
        distance = np.maximum(np.abs((v * 22) % 1 - 0.5) / 22 - 0.011, frame)
    elif kind == 1:
        distance = np.abs(np.hypot(u, v) - 0.09) - 0.014
    elif kind == 2:
        distance = np.hypot(u, v) - 0.06
    elif kind == 3:
        bars = rng.random(24)[np.clip(((u + 0.12) * 100).astype(int), 0, 23)] < 0.5
        distance = np.maximum(np.where(bars, -1.0, 1.0), frame)
    elif kind == 4:
        distance = np.abs(frame) - 0.01
    else:
        letters = rng.random((7, 12)) < 0.55
        row = np.clip(((v + 0.07) * 50).astype(int), 0, 6)
        column = np.clip(((u + 0.12) * 50).astype(int), 0, 11)
        distance = np.maximum(np.where(letters[row, column], -1.0, 1.0), frame)
    return blend(image, ink, np.clip(0.5 - distance / pixel, 0, 1) * rng.uniform(0.5, 0.95))


def _place_of(mask: np.ndarray) -> str:
    """Which ninth of the frame holds the middle of the damage."""
    if not mask.any():
        return ""
    row, column = (np.argwhere(mask).mean(axis=0) * 3 / len(mask)).astype(int)
    return PLACES[3 * row + column]


def _photograph(rng: np.random.Generator, image: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Light, colour cast, focus, sensor noise, JPEG: the camera, and the words that describe it."""
    size, look = len(image), []
    x, y = pixel_grid(size)
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
    image = image + grain * smooth_noise(rng, size, 0.5)[..., None]
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
