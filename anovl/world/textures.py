"""Surfaces that fill the picture: each function draws one without damage.

All take `(rng, size)` and return a float32 picture (size, size, 3) in [0, 1].
"""

from __future__ import annotations

import numpy as np

from anovl.world.noise import (
    blend,
    cell_bank,
    look_up,
    near_colour,
    random_colour,
    random_view,
    smooth_bank,
    smooth_noise,
)


def _speckle(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, stretch: float = 1.0):
    """Return fine noise that lies on the plane, stretched along v."""
    offset = rng.integers(256, size=2)
    return look_up(smooth_bank(1.0), u * 150 + offset[0], v * 150 / stretch + offset[1])


def carpet(rng, size):
    """Short tufts in rows, a soft uneven pile, and stripes or spots on every second carpet."""
    u, v = random_view(rng, size)
    base = random_colour(rng, 0.15, 0.8)
    rows = rng.uniform(22, 34)
    tufts = np.sin(2 * np.pi * rows * u) * np.sin(2 * np.pi * rows * v)
    pile = 0.5 * _speckle(rng, u, v) + 0.5 * smooth_noise(rng, size, 3.0)
    plain = blend(base * 0.62, near_colour(rng, base, 0.15), 0.5 + 0.22 * tufts + 0.22 * pile)
    if rng.random() < 0.5:
        return plain
    pitch = rng.uniform(3, 6)
    motif = np.cos(2 * np.pi * pitch * u) + rng.choice([0, 1]) * np.cos(2 * np.pi * pitch * v)
    return np.clip(plain * blend(random_colour(rng, 0.4, 1.0), np.ones(3), 0.5 + 4 * motif), 0, 1)


def wood(rng, size):
    """Wavy grain along one direction, pores, and sometimes a normal knot."""
    u, v = random_view(rng, size)
    dark = near_colour(rng, (0.42, 0.27, 0.15), 0.14)
    light = np.clip(dark + rng.uniform(0.15, 0.32), 0, 1)
    bend = 0.05 * look_up(smooth_bank(16.0), u * 60 + rng.integers(256), v * 25)
    if rng.random() < 0.35:
        a, b = rng.uniform(-0.4, 0.4, 2)
        distance = np.hypot((u - a) * 1.6, v - b)
        bend = bend + 0.09 * np.exp(-((distance / 0.11) ** 2)) * np.sign(u - a)
        knot = np.exp(-((distance / 0.045) ** 2))
    else:
        knot = 0.0
    rings = np.sin(2 * np.pi * rng.uniform(5, 11) * (u + bend))
    pores = _speckle(rng, u, v, stretch=14)
    return blend(dark, light, 0.5 + 0.28 * rings + 0.16 * pores - 0.8 * knot)


def leather(rng, size):
    """A net of fine wrinkles between small bumps."""
    u, v = random_view(rng, size)
    base = near_colour(rng, rng.choice([(0.35, 0.2, 0.12), (0.16, 0.15, 0.15), (0.5, 0.38, 0.3)]))
    zoom = rng.uniform(110, 190)
    walls, shades = (look_up(bank, u * zoom, v * zoom) for bank in cell_bank())
    relief = np.clip(walls / 4, 0, 1)
    tone = 0.2 + 0.7 * relief + 0.12 * shades + 0.07 * smooth_noise(rng, size, 8.0)
    return blend(base * 0.4, np.clip(base * 1.6, 0, 1), tone)


def tile(rng, size):
    """Square tiles with straight joints; every tile has a slightly different shade."""
    u, v = random_view(rng, size, tilt=0.15)
    count = rng.uniform(2.0, 4.5)
    a, b = u * count + rng.uniform(0, 1), v * count + rng.uniform(0, 1)
    edge = np.minimum(np.abs(a - np.round(a)), np.abs(b - np.round(b)))
    shade = look_up(smooth_bank(1.0), np.floor(a) * 17 + 40, np.floor(b) * 29 + 90)
    face = random_colour(rng, 0.35, 0.95)
    speckle = 0.05 * _speckle(rng, u, v) + 0.05 * smooth_noise(rng, size, 8.0)
    picture = np.clip(face + (0.05 * shade + speckle)[..., None], 0, 1)
    return blend(near_colour(rng, face * 0.55, 0.08), picture, (edge - 0.035) / 0.02)


def grid(rng, size):
    """A wire mesh over a dark or a light ground."""
    u, v = random_view(rng, size, tilt=0.15)
    count = rng.uniform(6, 11)
    wires = []
    for w in (u, v):
        wires.append(np.abs(((w * count) % 1) - 0.5))
    near = np.minimum(*wires)
    wire = near_colour(rng, (0.66, 0.66, 0.68), 0.15)
    ground = random_colour(rng, 0.04, 0.25) if rng.random() < 0.7 else random_colour(rng, 0.8, 0.95)
    glint = np.clip(1.1 - 3.5 * near, 0.3, 1.1)[..., None] * wire
    ground = np.clip(ground + 0.03 * smooth_noise(rng, size, 8.0)[..., None], 0, 1)
    return blend(glint, ground, (near - 0.13) / 0.06)


def fabric(rng, size):
    """A plain weave: warp and weft threads that pass over and under each other."""
    u, v = random_view(rng, size)
    count = rng.uniform(9, 17)
    a, b = u * count, v * count
    over = ((np.floor(a) + np.floor(b)) % 2) == 0
    across = np.where(over, a, b)
    round_thread = 1 - (2 * (across % 1) - 1) ** 2
    warp = random_colour(rng, 0.2, 0.9)
    weft = near_colour(rng, warp, 0.2)
    tone = 0.35 + 0.6 * round_thread + 0.14 * _speckle(rng, u, v)
    return np.clip(np.where(over[..., None], warp, weft) * tone[..., None], 0, 1)


def metal_plate(rng, size):
    """Brushed metal with a broad reflection."""
    u, v = random_view(rng, size)
    base = near_colour(rng, (0.6, 0.61, 0.63), 0.16)
    brush = 0.6 * _speckle(rng, u, v, stretch=40) + 0.4 * _speckle(rng, u, v, stretch=12)
    sheen = np.cos(2 * np.pi * (u * rng.uniform(0.3, 0.9) + rng.uniform()))
    return np.clip(base + (0.06 * brush + 0.1 * sheen)[..., None], 0, 1)


def concrete(rng, size):
    """Mottled grey with pores."""
    u, v = random_view(rng, size)
    base = near_colour(rng, (0.58, 0.57, 0.54), 0.15)
    mottle = sum(w * smooth_noise(rng, size, s) for w, s in ((0.05, 16.0), (0.04, 4.0)))
    pores = look_up(smooth_bank(1.5), u * 120 + rng.integers(256), v * 120)
    picture = base + (mottle + 0.035 * _speckle(rng, u, v))[..., None]
    return blend(np.clip(picture, 0, 1), base * 0.6, (pores - 2.1) / 0.5)


def corrugated_sheet(rng, size):
    """Parallel ridges lit from one side."""
    u, v = random_view(rng, size)
    base = random_colour(rng, 0.3, 0.85)
    ridges = np.cos(2 * np.pi * (u * rng.uniform(5, 10) + rng.uniform()))
    tone = (
        0.8 + 0.25 * ridges + 0.04 * _speckle(rng, u, v, 8) + 0.05 * smooth_noise(rng, size, 16.0)
    )
    return np.clip(base * tone[..., None], 0, 1)
