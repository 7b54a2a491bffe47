"""Test-time adaptation taken apart: every option changed alone, on the same v-v patches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anovl.adapt import TERMS
from anovl_companion.measure.ablation import in_batches, maps_of
from anovl_companion.measure.category import Category, Variant
from anovl_companion.measure.feature_cache import EncodedImages

BATCH = 2  # adapters of few images stay in the cache of the processor
NONE, PUBLISHED = "no adaptation", "5 steps"
STEPS = (0, 1, 2, 5, 10)
"""Of one long adaptation: fewer steps have the same start and the same noise."""
SHIFT = 0.2
"""What lifts every patch above one half, so that being sure means being anomalous."""
PAIRS = tuple((a, b) for i, a in enumerate(TERMS) for b in TERMS[i + 1 :])


def shifted(p: Tensor) -> Tensor:
    """Lift probabilities by `SHIFT`, to less than 1."""
    return (p + SHIFT).clamp(max=1 - 1e-6)


def pseudo_labelled(p: Tensor) -> Tensor:
    """Turn probabilities (B, *grid) into those for which the term "clean" is −log p(own label).

    A patch is labelled anomalous when it lies two standard deviations above the mean of its image.

    >>> pseudo_labelled(torch.tensor([[0.5] * 9 + [0.75]]))[0, -2:]
    tensor([0.5000, 0.2500])
    """
    known = p.detach().flatten(1)
    threshold = known.mean(dim=1) + 2 * known.std(dim=1)
    anomalous = p.detach() > threshold.view(-1, *[1] * (p.ndim - 1))
    return torch.where(anomalous, 1 - p, p)


OPTIONS: dict[str, dict[str, Any]] = {
    **{f"only {term}": {"terms": (term,)} for term in TERMS},
    **{f"{a} + {b}": {"terms": (a, b)} for a, b in PAIRS},
    f"only entropy, p + {SHIFT}": {"terms": ("entropy",), "readout": shifted},
    "pseudo-labels": {"terms": ("clean",), "readout": pseudo_labelled},
    "noise 0": {"noise_std": 0.0},
    "noise 0.55": {"noise_std": 0.55},
    "lr 0.0001": {"lr": 1e-4},
    "lr 0.01": {"lr": 1e-2},
    "linear adapter": {"adapter": "linear"},
    "start at zero": {"start": "zero"},
    "seed 1": {"seed": 1},
    "optimizer not reset": {"reset_optimizer": False},
}
"""Options of `in_batches` against those published (`PUBLISHED`), with the optimizer reset."""
REVERSED = "optimizer not reset, images in reverse order"


def tta_variants(category: Category) -> Iterator[Variant]:
    """Yield maps without adaptation, after each of `STEPS`, and with each of `OPTIONS`."""
    images, text = category.encoded(), category.text
    before = maps_of(images, text)
    below = float((before < 0.5).mean())
    yield Variant(NONE, before, facts={"below_half": below})
    traced = in_batches(images, text, steps=STEPS[-1], batch_size=BATCH, return_trace=True)
    tokens = [trace.tokens[:, list(STEPS)] for _, trace in traced]
    for place, steps in enumerate(STEPS):
        patches = torch.cat([batch[:, place] for batch in tokens])
        yield Variant(f"{steps} steps", _maps(category, images, patches))
    for name, options in OPTIONS.items():
        patches = torch.cat(list(in_batches(images, text, batch_size=BATCH, **options)))
        yield Variant(name, _maps(category, images, patches))
    backwards = replace(images, patches=images.patches.flip(0))
    patches = torch.cat(list(in_batches(backwards, text, reset_optimizer=False))).flip(0)
    yield Variant(REVERSED, _maps(category, images, patches))


def _maps(category: Category, images: EncodedImages, patches: Tensor) -> np.ndarray:
    return maps_of(replace(images, patches=patches), category.text)
