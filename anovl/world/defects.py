"""Local damage: irregular marks, each drawn with its mask.

A defect can be drawn on any picture, generated or photographed. Masks are for evaluation only: no
training code reads them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from anovl.world.noise import blend, near_colour, pixel_grid, random_colour, smooth_noise

VISIBLE, LEAST_AREA, TRIES = 0.1, 0.0015, 8
"""A defect must change its pixels by at least VISIBLE (of 1) and cover at least LEAST_AREA of the
picture; if none of TRIES draws does, the one that changes its pixels most is taken."""


def _path_mask(rng, size, centre, *, length, wiggle, width, branches=0):
    """Return how much a random walk covers each pixel, 0 to 1; its middle is at `centre`.

    `wiggle` is the turn at each step in radians; lengths are in sides of the picture.
    """
    from PIL import Image, ImageDraw

    over, joints = 2, []
    canvas = Image.new("L", (size * over, size * over))
    pen = ImageDraw.Draw(canvas)
    for n in range(branches + 1):
        if n and n > len(joints):
            break
        start, angle, remaining = joints[n - 1] if n else (0, rng.uniform(0, 2 * np.pi), length)
        turns = rng.normal(0, wiggle, max(2, int(remaining / 0.025)))
        angles = angle + np.cumsum(turns)
        points = 0.025 * np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0)
        points += start if n else centre - points[len(points) // 2]
        thickness = max(2, round(width * size * over * (0.7 if n else 1)))
        pen.line(
            [*((points + 0.5) * size * over).ravel()], fill=255, width=thickness, joint="curve"
        )
        for i in np.flatnonzero(rng.random(len(points)) < 0.15)[: branches - len(joints)]:
            turn = rng.choice([-1, 1]) * rng.uniform(0.5, 1.1)
            joints.append((points[i], angles[i] + turn, remaining * rng.uniform(0.3, 0.6)))
    return np.asarray(canvas.reduce(over), np.float32) / 255


def _blob_mask(rng, size, centre, radius, *, rough=0.35, soft=0.012):
    """Return how much an irregular, stretched patch covers each pixel, 0 to 1."""
    x, y = pixel_grid(size)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.8)
    c, s = np.cos(angle), np.sin(angle)
    a, b = c * (x - centre[0]) + s * (y - centre[1]), -s * (x - centre[0]) + c * (y - centre[1])
    distance = np.hypot(a / stretch, b * stretch) / radius - 1
    distance = distance + rough * smooth_noise(rng, size, 6.0) * np.exp(-np.maximum(distance, 0))
    return np.clip(0.5 - distance * radius / soft, 0, 1)


def _paint(image, mask, colour, strength):
    return blend(image, colour, mask * strength)


def _contrast_colour(rng, image, mask):
    """Return a colour that is clearly darker or lighter than the covered pixels."""
    under = image[mask > 0.5].mean(axis=0) if (mask > 0.5).any() else image.mean(axis=(0, 1))
    dark = under.mean() > rng.uniform(0.25, 0.75)
    return np.clip(under * 0.25 if dark else under + 0.55, 0, 1)


def scratch(rng, image, centre, scale, strength):
    """One to three thin, nearly straight lines, darker or lighter than the ground."""
    size = len(image)
    mask = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 4)):
        shifted = centre + rng.normal(0, 0.02, 2)
        line = _path_mask(
            rng, size, shifted, length=rng.uniform(0.2, 0.5) * scale, wiggle=0.06, width=0.011
        )
        mask = np.maximum(mask, line)
    return _paint(image, mask, _contrast_colour(rng, image, mask), strength), mask


def crack(rng, image, centre, scale, strength):
    """A jagged dark line with branches."""
    mask = _path_mask(
        rng,
        len(image),
        centre,
        length=rng.uniform(0.3, 0.6) * scale,
        wiggle=0.55,
        width=0.016,
        branches=3,
    )
    return _paint(image, mask, image.mean(axis=(0, 1)) * 0.12, strength), mask


def hole(rng, image, centre, scale, strength):
    """A torn opening: dark inside, with a lighter rim on one side."""
    size = len(image)
    radius = rng.uniform(0.035, 0.085) * scale
    mask = _blob_mask(rng, size, centre, radius)
    rim = np.clip(np.roll(mask, rng.integers(-2, 3, 2), (0, 1)) - mask, 0, 1)
    image = np.clip(image + 0.3 * strength * rim[..., None], 0, 1)
    return _paint(image, mask, rng.uniform(0.0, 0.12, 3), 0.4 + 0.6 * strength), mask


def stain(rng, image, centre, scale, strength):
    """A discoloured patch with a soft edge; the surface still shows through it."""
    mask = _blob_mask(
        rng, len(image), centre, rng.uniform(0.07, 0.15) * scale, rough=0.6, soft=0.05
    )
    dye = random_colour(rng, 0.05, 0.9)
    soaked = image * (0.25 + 0.75 * dye) if image.mean() > 0.3 else image * 0.5 + 0.5 * dye
    return blend(image, soaked, mask * (0.3 + 0.7 * strength)), mask


def dent(rng, image, centre, scale, strength):
    """A pressed hollow: one side in shadow, the other side bright."""
    x, y = pixel_grid(len(image))
    radius, angle = rng.uniform(0.06, 0.12) * scale, rng.uniform(0, 2 * np.pi)
    a, b = (x - centre[0]) / radius, (y - centre[1]) / radius
    from_centre = np.hypot(a, b)
    slope = (np.cos(angle) * a + np.sin(angle) * b) * np.exp(-(from_centre**2))
    shade = 1.5 * strength * slope[..., None]
    return np.clip(image * (1 + shade) + 0.12 * shade, 0, 1), np.clip(1.9 - from_centre, 0, 1)


def missing_piece(rng, image, centre, scale, strength):
    """A broken-off piece; below it is a rough core of another colour."""
    size = len(image)
    mask = _blob_mask(rng, size, centre, rng.uniform(0.06, 0.12) * scale, rough=0.5)
    core = near_colour(rng, _contrast_colour(rng, image, mask), 0.1)
    rough = np.clip(core + 0.1 * smooth_noise(rng, size, 1.5)[..., None], 0, 1)
    return blend(image, rough, mask * (0.35 + 0.65 * strength)), mask


def contamination(rng, image, centre, scale, strength):
    """Scattered foreign grains."""
    size = len(image)
    x, y = pixel_grid(size)
    mask = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(4, 14)):
        a, b = centre + rng.normal(0, 0.06 * scale, 2)
        grain = np.hypot(x - a, y - b) - rng.uniform(0.007, 0.02) * np.sqrt(scale)
        mask = np.maximum(mask, np.clip(0.5 - grain * size, 0, 1))
    return _paint(image, mask, _contrast_colour(rng, image, mask), 0.3 + 0.7 * strength), mask


def thread(rng, image, centre, scale, strength):
    """A curved foreign fibre that casts a thin shadow."""
    mask = _path_mask(
        rng, len(image), centre, length=rng.uniform(0.35, 0.7) * scale, wiggle=0.22, width=0.014
    )
    shadow = np.roll(mask, (1, 1), (0, 1))
    image = image * (1 - 0.35 * strength * shadow)[..., None]
    colour = near_colour(rng, _contrast_colour(rng, image, mask), 0.25)
    return _paint(image, mask, colour, 0.3 + 0.7 * strength), mask


DRAW: dict[str, Callable] = {
    function.__name__: function
    for function in (scratch, crack, hole, stain, dent, missing_piece, contamination, thread)
}
KINDS = tuple(DRAW)


def add_defect(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    kind: str,
    where: np.ndarray | None = None,
    scale: float = 1.0,
    strength: tuple[float, float] = (0.45, 1.0),
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one defect on a picture and return the damaged picture with its mask.

    `image` is float32 (S, S, 3) in 0-1, `kind` one of `KINDS`; `where`, bool (S, S), are the pixels
    on which the defect may be centred (None = anywhere). `scale` is its size relative to the usual
    one, and `strength` a range of contrasts of which 1 is the strongest. The mask is bool (S, S).

    Raises ValueError if the kind is unknown, the picture is not (S, S, 3), or `where` is empty.

    >>> rng = np.random.default_rng(0)
    >>> picture, mask = add_defect(np.full((64, 64, 3), 0.5, np.float32), rng, kind="hole")
    >>> picture.shape, bool(mask.any()), bool(mask.all())
    ((64, 64, 3), True, False)
    """
    if kind not in DRAW:
        raise ValueError(f"unknown kind of defect {kind!r}: choose one of {', '.join(KINDS)}.")
    if image.ndim != 3 or image.shape[0] != image.shape[1] or image.shape[2] != 3:
        raise ValueError(f"expected a square picture (S, S, 3), found shape {image.shape}.")
    size = len(image)
    places = np.argwhere(np.ones((size, size), bool) if where is None else where)
    if not len(places):
        raise ValueError("`where` has no pixel: nowhere to put the defect.")
    before, best, clearest = image.astype(np.float32), None, -1.0
    for _ in range(TRIES):
        row, column = places[rng.integers(len(places))]
        centre = np.array([(column + 0.5) / size - 0.5, (row + 0.5) / size - 0.5])
        after, cover = DRAW[kind](rng, before, centre, scale, rng.uniform(*strength))
        after, mask = after.astype(np.float32), cover > 0.3
        if where is not None:
            mask, after = mask & where, np.where(where[..., None], after, before)
        contrast = float(np.abs(after - before)[mask].mean()) if mask.any() else 0.0
        if mask.sum() >= LEAST_AREA * size**2 and contrast > VISIBLE:
            return after, mask
        if contrast > clearest:
            best, clearest = (after, mask), contrast
    return best
