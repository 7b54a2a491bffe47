"""The batches of training: pictures with captions. There is no mask in them."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from anovl.clip import CLIP_MEAN, CLIP_STD
from anovl.models.pocket import IMAGE_SIZE, PATCH_SIZE, PocketTokenizer
from anovl.world.captions import truth_matrix, write_caption
from anovl.world.defects import KINDS
from anovl.world.scenes import SEEN, TRAINING_SEEDS, draw_twins
from anovl_companion.training.recipe import Recipe

CLOSE_UP = 56
"""Side of the windows that training begins with, cut from pictures at their full fineness."""
EASE = -1.5, 1.0
"""Where ease is drawn, it is uniform between these, and zero where that is negative."""


@dataclass(frozen=True)
class Batch:
    """The pictures and captions of one step.

    Pictures uint8 (B, S, S, 3); which patch of the model's grid is their top left one, (B, 2);
    caption tokens (C, L); and which captions are true of which pictures, bool (B, C).
    """

    images: Tensor
    corners: Tensor
    tokens: Tensor
    truth: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


class Batches(torch.utils.data.Dataset):
    """The batches of training: number `i` is always the same."""

    def __init__(self, recipe: Recipe, tokenizer: PocketTokenizer) -> None:
        self.recipe, self.tokenizer = recipe, tokenizer

    def __getitem__(self, step: int) -> Batch:
        """Draw the batch of one step: a few categories, each scene normal and anomalous."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step])
        close_up = CLOSE_UP if step < recipe.steps_close else None
        scenes = []
        for category in rng.choice(SEEN, recipe.categories, replace=False):
            for _ in range(recipe.twins):
                seed, kind = int(rng.integers(TRAINING_SEEDS)), str(rng.choice(KINDS))
                ease = _ease(recipe, step, rng)
                scenes += draw_twins(category, seed=seed, kind=kind, ease=ease, close_up=close_up)
        captions = [write_caption(rng, scene) for scene in scenes for _ in range(recipe.captions)]
        images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some words are strange to the model on purpose
            tokens = self.tokenizer([caption.text for caption in captions])
        free = (IMAGE_SIZE - images.shape[1]) // PATCH_SIZE
        corners = torch.from_numpy(rng.integers(0, free + 1, (len(scenes) // 2, 2)))
        return Batch(
            images,
            corners.repeat_interleave(2, dim=0),  # twins are twins in this too
            tokens,
            torch.from_numpy(truth_matrix(scenes, captions)),
        )


def _ease(recipe: Recipe, step: int, rng: np.random.Generator) -> float:
    """How large and clear the anomaly of one scene is made: 0 as it is, 1 most."""
    if recipe.easy_steps is None:
        return max(0.0, rng.uniform(*EASE))
    return max(0.0, 1 - step / recipe.easy_steps)


def batches(
    recipe: Recipe, tokenizer: PocketTokenizer, first: int, workers: int
) -> Iterator[Batch]:
    """Yield the batches from step `first` on, drawn by `workers` processes; 0 = this one."""
    yield from torch.utils.data.DataLoader(
        Batches(recipe, tokenizer),
        batch_size=None,
        sampler=range(first, recipe.steps),
        num_workers=workers,
        prefetch_factor=max(2, 8 // workers) if workers else None,
        worker_init_fn=_leave_interrupts_to_the_trainer,
    )


def _leave_interrupts_to_the_trainer(worker: int) -> None:
    """Ctrl-C reaches every process; the trainer still needs the batch that it is waiting for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def pixels(images: Tensor) -> Tensor:
    """uint8 pictures (B, S, S, 3) as the model sees them: normalised (B, 3, S, S)."""
    mean, std = (
        torch.tensor(values, device=images.device).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD)
    )
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std
