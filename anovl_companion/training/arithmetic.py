"""The arithmetic of training: bfloat16 on a GPU, on a CPU what a short trial finds faster.

bfloat16 pays only where a processor has units for it. On some it is slower than float32, and that
can differ between close-ups and whole pictures: so both are tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

from torch import nn

from anovl.models.pocket import PocketTokenizer
from anovl_companion.training.batches import Batch, Batches
from anovl_companion.training.recipe import Recipe
from anovl_companion.training.step import Arithmetic, backward

TRIAL = {"categories": 2, "twins": 8, "steps_close": 1, "steps_full": 1}
"""Step 0 of the trial is 32 close-ups, step 1 is 32 whole pictures."""


def choose_arithmetic(
    model: nn.Module,
    recipe: Recipe,
    tokenizer: PocketTokenizer,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Arithmetic, Arithmetic]:
    """Choose the arithmetic for close-ups and for whole pictures; the model stays as it is.

    `clock` gives seconds.
    """
    if next(model.parameters()).device.type == "cuda":
        return "bfloat16", "bfloat16"
    trial = Batches(replace(recipe, **TRIAL), tokenizer)
    close, whole = (faster_arithmetic(model, trial[step], clock=clock) for step in (0, 1))
    return close, whole


def faster_arithmetic(
    model: nn.Module,
    batch: Batch,
    *,
    repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> Arithmetic:
    """Compute the gradients of one batch in each arithmetic, and return the faster one.

    The first time does not count; of `repeats` more in turns, the fastest counts.
    """
    seconds: dict[Arithmetic, list[float]] = {name: [] for name in get_args(Arithmetic)}
    for repeat in range(repeats + 1):
        for arithmetic, found in seconds.items():
            start = clock()
            backward(model, batch, arithmetic)
            found += [clock() - start] if repeat else []
    model.zero_grad()
    return min(seconds, key=lambda arithmetic: min(seconds[arithmetic]))
