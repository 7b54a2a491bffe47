"""What decides a training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """All that decides the trained weights."""

    seed: int = 0
    steps_close: int = 3600
    steps_full: int = 3500
    easy_steps: int = 3000
    steps_hold: int = 3000
    categories: int = 4
    twins: int = 8
    captions: int = 2
    lr: float = 2e-3
    weight_decay: float = 0.05
    warm_up: int = 100
    average: float = 0.998
