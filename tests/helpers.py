"""Shared by the tests of baselines and metrics: pictures, words, small models, random maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from conftest import make_clip
from PIL import Image
from scipy import ndimage

from anovl.attention import project_to_clip_space
from anovl.clip import preprocess
from anovl.models.pocket import PocketTokenizer, token_ids
from anovl.prompts import TextFeatures


def picture(seed, width=50, height=40):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def with_words(**vision):
    """A random CLIP that can read "normal nut" and "damaged nut"."""
    tokenizer = PocketTokenizer(token_ids(["normal damaged nut"]))
    return replace(make_clip(**vision), tokenizer=tokenizer)


def make_text(width=16):
    """Two random prototypes."""
    rows = F.normalize(torch.randn(2, width, generator=torch.Generator().manual_seed(5)), dim=1)
    return TextFeatures(rows, rows, [False, True])


def score_patches(detector, pixels, text):
    with torch.no_grad():
        return detector.score_patches(pixels, text)


def run_through(clip, tokens):
    """Class embeddings (B, D) of tokens (B, n, width) after all blocks."""
    for block in clip.model.visual.transformer.resblocks:
        tokens = block(tokens)
    return project_to_clip_space(clip.model.visual, tokens[:, 0])


def make_pixels(clip):
    return preprocess(clip, picture(0))


def random_maps(seed: int, *, levels: int | None = None, n: int = 6, side: int = 24):
    """Maps that know a little of their masks; with `levels`, full of ties. Image 0 is normal."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal((n, side, side)), (0, 2, 2))
    masks = smooth > 1.2 * smooth.std()
    masks[0] = False
    maps = rng.standard_normal(masks.shape) + masks
    return (np.floor(maps * levels) if levels else maps), masks
