"""What training sees: a recipe, and batches of pictures with captions. There is no mask in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anovl.clip import CLIP_MEAN, CLIP_STD
from anovl.pocket.captions import truth_matrix, write_caption
from anovl.pocket.defects import KINDS
from anovl.pocket.images import SEEN, draw_scene
from anovl.pocket.network import IMAGE_SIZE, PocketTokenizer

TRAINING_SEEDS = 900_000_000
"""Scenes with smaller seeds are for training; evaluation uses seeds from 1,000,000,000."""
SMALL = 56
"""Side of the pictures that training begins with."""


@dataclass(frozen=True)
class Recipe:
    """All that decides the trained weights."""

    seed: int = 0
    steps_small: int = 1350
    steps_full: int = 200
    easy_steps: int = 2000
    categories: int = 4
    twins: int = 8
    captions: int = 2
    lr: float = 2e-3
    weight_decay: float = 0.05
    warm_up: int = 100
    warm_up_full: int = 20
    average: float = 0.995


@dataclass(frozen=True)
class Batch:
    """Pictures uint8 (B, S, S, 3), caption tokens (C, L), and which are true of which (B, C)."""

    images: Tensor
    tokens: Tensor
    truth: Tensor


class Batches(torch.utils.data.Dataset):
    """The batches of a stage of training: number `i` is always the same."""

    def __init__(self, recipe: Recipe, tokenizer: PocketTokenizer, size: int) -> None:
        self.recipe, self.tokenizer, self.size = recipe, tokenizer, size

    def __getitem__(self, step: int) -> Batch:
        """Draw the batch of one step: a few categories, each scene healthy and damaged."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step])
        ease = max(0.0, 1 - step / recipe.easy_steps) if self.size == SMALL else 0.0
        scenes = []
        for category in rng.choice(SEEN, recipe.categories, replace=False):
            for _ in range(recipe.twins):
                seed, kind = int(rng.integers(TRAINING_SEEDS)), str(rng.choice(KINDS))
                for state in ("good", kind):
                    scene = draw_scene(category, seed=seed, kind=state, size=self.size, ease=ease)
                    scenes.append(scene)
        captions = [write_caption(rng, scene) for scene in scenes for _ in range(recipe.captions)]
        images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
        tokens = self.tokenizer([caption.text for caption in captions])
        return Batch(images, tokens, torch.from_numpy(truth_matrix(scenes, captions)))


def batches(
    recipe: Recipe, tokenizer: PocketTokenizer, first: int, workers: int
) -> Iterator[tuple[int, Batch]]:
    """Yield (step, batch) from step `first` on, small pictures before full-size ones."""
    small, total = recipe.steps_small, recipe.steps_small + recipe.steps_full
    for size, start, end in ((SMALL, first, small), (IMAGE_SIZE, max(first, small), total)):
        if start < end:
            data = Batches(recipe, tokenizer, size)
            loader = torch.utils.data.DataLoader(
                data, batch_size=None, sampler=range(start, end), num_workers=workers
            )
            yield from zip(range(start, end), loader, strict=True)


def pixels(images: Tensor) -> Tensor:
    """uint8 pictures (B, S, S, 3) as the model sees them: normalised (B, 3, S, S)."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    return (scaled - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)
