"""What training sees: a recipe, and batches of pictures with captions. There is no mask in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anovl.clip import CLIP_MEAN, CLIP_STD
from anovl.models.pocket import IMAGE_SIZE, PATCH_SIZE, PocketTokenizer
from anovl.training.recipe import Recipe
from anovl.world.captions import truth_matrix, write_caption
from anovl.world.defects import KINDS
from anovl.world.scenes import SEEN, draw_twins
from anovl.world.seeds import TRAINING_SEEDS

CLOSE_UP = 56
"""Side of the windows that training begins with, cut from pictures at their full fineness."""


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    Pictures uint8 (B, S, S, 3); which patch of the model's grid is their top left one, (B, 2);
    caption tokens (C, L); and which captions are true of which pictures, bool (B, C).
    """

    images: Tensor
    corners: Tensor
    tokens: Tensor
    truth: Tensor


class Batches(torch.utils.data.Dataset):
    """The batches of training: number `i` is always the same."""

    def __init__(self, recipe: Recipe, tokenizer: PocketTokenizer) -> None:
        self.recipe, self.tokenizer = recipe, tokenizer

    def __getitem__(self, step: int) -> Batch:
        """Draw the batch of one step: a few categories, each scene healthy and damaged."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step])
        close_up = CLOSE_UP if step < recipe.steps_close else None
        ease = max(0.0, 1 - step / recipe.easy_steps)
        scenes = []
        for category in rng.choice(SEEN, recipe.categories, replace=False):
            for _ in range(recipe.twins):
                seed, kind = int(rng.integers(TRAINING_SEEDS)), str(rng.choice(KINDS))
                scenes += draw_twins(category, seed=seed, kind=kind, ease=ease, close_up=close_up)
        captions = [write_caption(rng, scene) for scene in scenes for _ in range(recipe.captions)]
        images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
        free = (IMAGE_SIZE - images.shape[1]) // PATCH_SIZE
        corners = torch.from_numpy(rng.integers(0, free + 1, (len(scenes) // 2, 2)))
        return Batch(
            images,
            corners.repeat_interleave(2, dim=0),  # twins are twins in this too
            self.tokenizer([caption.text for caption in captions]),
            torch.from_numpy(truth_matrix(scenes, captions)),
        )


def batches(
    recipe: Recipe, tokenizer: PocketTokenizer, first: int, workers: int
) -> Iterator[tuple[int, Batch]]:
    """Yield (step, batch) from step `first` on."""
    steps = range(first, recipe.steps_close + recipe.steps_full)
    data = Batches(recipe, tokenizer)
    loader = torch.utils.data.DataLoader(
        data,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=8 if workers else None,
    )
    yield from zip(steps, loader, strict=True)


def pixels(images: Tensor) -> Tensor:
    """uint8 pictures (B, S, S, 3) as the model sees them: normalised (B, 3, S, S)."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    return (scaled - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)
