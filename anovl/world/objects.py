"""Objects on a background: each function draws one without damage.

All take `(rng, size)` and return a float32 picture (size, size, 3) in [0, 1] and the region of the
object, bool (size, size). Shapes are signed distances: negative inside, in sides of the picture.
"""

from __future__ import annotations

import numpy as np

from anovl.world import textures
from anovl.world.noise import (
    blend,
    look_up,
    near_colour,
    pixel_grid,
    random_colour,
    random_view,
    smooth_bank,
    smooth_noise,
)

CLUTTER = (textures.fabric, textures.wood, textures.grid, textures.carpet, textures.leather)


def _background(rng, size):
    """A table top: textured in half of all pictures (sharp or out of focus), else plain."""
    kind = rng.random()
    if kind < 0.5:
        from scipy.ndimage import uniform_filter

        texture = CLUTTER[rng.integers(len(CLUTTER))](rng, size)
        blur = max(3, size // 28)
        return texture if kind < 0.35 else uniform_filter(texture, (blur, blur, 1))
    x, y = pixel_grid(size)
    slope = rng.uniform(-0.15, 0.15) * x + rng.uniform(-0.15, 0.15) * y
    mottle = (0.05 if kind < 0.75 else 0.01) * smooth_noise(rng, size, 8.0)
    return np.clip(random_colour(rng) + (slope + mottle)[..., None], 0, 1)


def _place(rng, size):
    """Return coordinates of an object anywhere in the picture; the border often cuts it off."""
    return random_view(rng, size, zoom=(0.75, 1.35), shift=0.24, tilt=0.15)


def _circle(x, y, radius):
    return np.hypot(x, y) - radius


def _stadium(x, y, half_length, radius):
    return np.hypot(np.maximum(np.abs(x) - half_length, 0), y) - radius


def _box(x, y, half_width, half_height, corner):
    a = np.abs(x) - half_width + corner
    b = np.abs(y) - half_height + corner
    return np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0) - corner


def _polygon(x, y, corners, radius):
    angles = 2 * np.pi * np.arange(corners) / corners
    return np.max([x * np.cos(a) + y * np.sin(a) for a in angles], axis=0) - radius


def _finish(rng, background, picture, distance, *, bevel=0.05, depth=0.35):
    """Light the rounded edge, cast a shadow, and put the object on its background."""
    size = len(distance)
    angle = rng.uniform(0, 2 * np.pi)
    height = np.clip(-distance / bevel, 0, 1)
    height = np.sqrt(np.clip(2 * height - height**2, 0, 1))
    slope_y, slope_x = np.gradient(height)
    light = (np.cos(angle) * slope_x + np.sin(angle) * slope_y) * size / 20
    picture = np.clip(picture * (1 + depth * np.clip(light, -1, 1))[..., None], 0, 1)
    away = -np.round(np.array([np.sin(angle), np.cos(angle)]) * size * 0.02).astype(int)
    shadow = np.clip(0.5 - np.roll(distance, tuple(-away), (0, 1)) * size / 6, 0, 1)
    background = background * (1 - 0.35 * shadow)[..., None]
    cover = np.clip(0.5 - distance * size, 0, 1)
    return blend(background, picture, cover).astype(np.float32), cover > 0.5


def _flat(size, colour):
    return np.broadcast_to(colour, (size, size, 3)).astype(np.float32)


def bottle(rng, size):
    """The mouth of a bottle from above: rings of glass around a dark opening."""
    x, y = _place(rng, size)
    r = np.hypot(x, y)
    glass = near_colour(rng, rng.choice([(0.2, 0.35, 0.22), (0.35, 0.22, 0.1), (0.5, 0.55, 0.6)]))
    rings = 0.75 + 0.3 * np.cos(2 * np.pi * r / rng.uniform(0.09, 0.14) + rng.uniform(0, 6))
    picture = blend(glass * 0.35, _flat(size, glass) * rings[..., None], (r - 0.16) * 60)
    return _finish(rng, _background(rng, size), np.clip(picture, 0, 1), _circle(x, y, 0.38))


def metal_nut(rng, size):
    """A hexagonal nut with a round hole."""
    x, y = _place(rng, size)
    metal = near_colour(rng, (0.58, 0.57, 0.55), 0.18)
    brush = look_up(smooth_bank(1.0), x * 200 + rng.integers(256), y * 9)
    distance = np.maximum(_polygon(x, y, 6, 0.34), rng.uniform(0.14, 0.2) - np.hypot(x, y))
    picture = np.clip(metal + 0.05 * brush[..., None], 0, 1)
    return _finish(rng, _background(rng, size), picture, distance, bevel=0.04)


def pill(rng, size):
    """A round or oval tablet with a pressed score line or dots."""
    x, y = _place(rng, size)
    colour = random_colour(rng, 0.6, 0.97)
    speckle = 0.03 * smooth_noise(rng, size, 1.0)
    picture = np.clip(colour + speckle[..., None], 0, 1)
    distance = _stadium(x, y, rng.choice([0.0, 0.1, 0.16]), rng.uniform(0.24, 0.3))
    if rng.random() < 0.5:
        picture = blend(picture * 0.8, picture, (np.abs(x) - 0.012) * 90)
    elif rng.random() < 0.5:
        picture = blend(picture * 0.78, picture, (np.abs(np.hypot(x, y) - 0.09) - 0.015) * 90)
    return _finish(rng, _background(rng, size), picture, distance, bevel=0.1)


def capsule(rng, size):
    """A two-coloured gelatine capsule with a highlight."""
    x, y = _place(rng, size)
    left, right = random_colour(rng, 0.25, 0.95), random_colour(rng, 0.25, 0.95)
    picture = blend(left, right, x * 60 + 0.5)
    gloss = np.exp(-(((y + 0.06) / 0.025) ** 2)) * (np.abs(x) < 0.27)
    picture = np.clip(picture + 0.35 * gloss[..., None], 0, 1)
    distance = _stadium(x, y, 0.24, 0.15)
    return _finish(rng, _background(rng, size), picture, distance, bevel=0.13)


def screw(rng, size):
    """A screw on its side: head, shaft and slanted thread."""
    x, y = _place(rng, size)
    metal = near_colour(rng, (0.55, 0.53, 0.5), 0.2)
    thread = np.sin(2 * np.pi * (x * rng.uniform(18, 26) + y * 2.5))
    shaft = _stadium(x - 0.05, y, 0.3, 0.065 + 0.012 * thread * (x > -0.15))
    head = _box(x + 0.32, y, 0.075, 0.17, 0.03)
    tone = 1 + 0.28 * thread * (x > -0.22) - 0.9 * np.abs(y)
    picture = np.clip(metal * tone[..., None], 0, 1)
    distance = np.minimum(shaft, head)
    return _finish(rng, _background(rng, size), picture, distance, bevel=0.06)


def circuit_board(rng, size):
    """A green or blue board with copper tracks, round pads and dark chips."""
    x, y = _place(rng, size)
    board = near_colour(rng, rng.choice([(0.08, 0.35, 0.18), (0.08, 0.2, 0.42), (0.3, 0.1, 0.1)]))
    copper = near_colour(rng, (0.78, 0.62, 0.3), 0.12)
    picture = np.clip(board + 0.015 * smooth_noise(rng, size, 2.0)[..., None], 0, 1)
    for _ in range(rng.integers(4, 8)):
        along, across = (x, y) if rng.random() < 0.5 else (y, x)
        row, start, end = rng.integers(-5, 6) * 0.07, *np.sort(rng.uniform(-0.4, 0.4, 2))
        track = (np.abs(across - row) < 0.008) & (along > start) & (along < end)
        picture = np.where(track[..., None], board * 1.7 + 0.05, picture)
        for tip in (start, end):
            pad = _circle(along - tip, across - row, 0.025)
            picture = blend(copper, picture, 0.5 + pad * size)
    for _ in range(rng.integers(1, 3)):
        a, b = rng.uniform(-0.3, 0.3, 2)
        chip = _box(x - a, y - b, rng.uniform(0.06, 0.12), rng.uniform(0.05, 0.09), 0.008)
        picture = blend(near_colour(rng, (0.12, 0.12, 0.13), 0.05), picture, 0.5 + chip * size)
    distance = _box(x, y, 0.45, 0.42, 0.03)
    return _finish(rng, _background(rng, size), np.clip(picture, 0, 1), distance, bevel=0.02)


def hazelnut(rng, size):
    """A brown shell with meridian stripes and a pale cap."""
    x, y = _place(rng, size)
    shell = near_colour(rng, (0.52, 0.32, 0.16), 0.1)
    stripes = look_up(smooth_bank(2.0), np.arctan2(y, x + 0.3) * 90 + rng.integers(256), x * 25)
    picture = shell * (1 + 0.14 * stripes)[..., None]
    cap = _circle(x + 0.24, y * 0.8, 0.13) + 0.012 * look_up(smooth_bank(2.0), x * 200, y * 200)
    pale = near_colour(rng, (0.72, 0.6, 0.45), 0.08)
    picture = blend(pale, picture, 0.5 + cap * size / 3)
    distance = _circle(x, y * (1.1 + 0.3 * x), rng.uniform(0.3, 0.36))
    return _finish(rng, _background(rng, size), np.clip(picture, 0, 1), distance, bevel=0.22)


def biscuit(rng, size):
    """A baked biscuit with a wavy rim and a regular pattern of normal holes."""
    x, y = _place(rng, size)
    dough = near_colour(rng, (0.78, 0.58, 0.33), 0.1)
    bake = 0.06 * smooth_noise(rng, size, 4.0) + 0.03 * smooth_noise(rng, size, 1.0)
    angle = np.arctan2(y, x)
    wave = 0.012 * np.cos(rng.integers(14, 24) * angle)
    distance = (_circle(x, y, 0.38) if rng.random() < 0.5 else _box(x, y, 0.36, 0.3, 0.06)) + wave
    pitch = rng.uniform(0.11, 0.15)
    holes = np.hypot((x + 0.5 * pitch) % pitch - pitch / 2, (y + 0.5 * pitch) % pitch - pitch / 2)
    picture = np.clip(dough + bake[..., None], 0, 1)
    picture = blend(
        picture * 0.45, picture, np.maximum((holes - 0.016) * 90, (distance + 0.06) * 90)
    )
    return _finish(rng, _background(rng, size), picture, distance, bevel=0.07)


def gear(rng, size):
    """A toothed wheel with a bore."""
    x, y = _place(rng, size)
    metal = near_colour(rng, (0.56, 0.56, 0.58), 0.2)
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    teeth = np.clip(3 * np.sin(rng.integers(10, 18) * angle), -1, 1)
    distance = np.maximum(r - 0.34 - 0.035 * teeth, rng.uniform(0.07, 0.12) - r)
    rings = 0.04 * np.sin(2 * np.pi * r * 30) * (r < 0.26)
    picture = np.clip(
        metal + rings[..., None] + 0.02 * smooth_noise(rng, size, 2.0)[..., None], 0, 1
    )
    return _finish(rng, _background(rng, size), picture, distance, bevel=0.03)


def button(rng, size):
    """A sewing button: a rim and two or four holes."""
    x, y = _place(rng, size)
    colour = random_colour(rng, 0.2, 0.95)
    r = np.hypot(x, y)
    picture = _flat(size, colour) * (1 - 0.18 * np.exp(-(((r - 0.25) / 0.02) ** 2)))[..., None]
    offsets = [(0.07, 0), (-0.07, 0)] + ([(0, 0.07), (0, -0.07)] if rng.random() < 0.6 else [])
    hole = np.min([_circle(x - a, y - b, 0.03) for a, b in offsets], axis=0)
    distance = np.maximum(_circle(x, y, 0.34), -hole)
    return _finish(rng, _background(rng, size), np.clip(picture, 0, 1), distance, bevel=0.05)


def domino(rng, size):
    """A game tile: a rounded slab with a middle line and counting dots."""
    x, y = _place(rng, size)
    colour, ink = random_colour(rng, 0.7, 0.97), random_colour(rng, 0.05, 0.3)
    picture = blend(ink, _flat(size, colour), (np.abs(x) - 0.006) * 110)
    spots = [(a * 0.07, b * 0.07) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    for half in (-0.2, 0.2):
        for i in rng.permutation(9)[: rng.integers(1, 7)]:
            dot = _circle(x - half - spots[i][0], y - spots[i][1], 0.022)
            picture = blend(ink, picture, 0.5 + dot * size)
    return _finish(rng, _background(rng, size), picture, _box(x, y, 0.4, 0.2, 0.04), bevel=0.04)
