"""The recipe of a training: all that decides the trained weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from anovl._shared.messages import unknown


@dataclass(frozen=True)
class Recipe:
    """All that decides the trained weights.

    `steps_close` steps on close-ups come first, then `steps_full` on whole pictures. A step sees
    `twins` scenes of each of `categories` categories, each scene normal and anomalous, and reads
    `captions` captions a picture. The learning rate `lr` is reached after `warm_up` steps, held
    until step `steps_hold`, and then falls in a straight line to zero. The anomalies of training
    begin large and clear and reach their usual size after `easy_steps` steps; with None, how easy
    each one is, is drawn at random at every step. `average` is the decay of the running average
    of the weights.
    """

    seed: int = 0
    steps_close: int = 3600
    steps_full: int = 3500
    easy_steps: int | None = 3000
    steps_hold: int = 3000
    categories: int = 4
    twins: int = 8
    captions: int = 2
    lr: float = 2e-3
    weight_decay: float = 0.05
    warm_up: int = 100
    average: float = 0.998

    @property
    def steps(self) -> int:
        """Steps from beginning to end."""
        return self.steps_close + self.steps_full

    @property
    def pictures(self) -> int:
        """Pictures in one step."""
        return 2 * self.categories * self.twins


RECIPES = {
    "laptop": Recipe(),
    "gpu": Recipe(
        steps_close=2440,
        steps_full=3144,
        easy_steps=None,
        steps_hold=(2440 + 3144) // 2,
        categories=8,
        twins=16,
        warm_up=200,
    ),
}
"""An hour and a half on two cores, or minutes on a GPU with many cores (see SCALING.md)."""


def named_recipe(name: str, *, seed: int = 0) -> Recipe:
    """Return a recipe by its name, for a seed. Raises ValueError for an unknown name.

    >>> {name: named_recipe(name).steps * named_recipe(name).pictures for name in RECIPES}
    {'laptop': 454400, 'gpu': 1429504}
    """
    if name not in RECIPES:
        raise ValueError(unknown("recipe", name, RECIPES))
    return replace(RECIPES[name], seed=seed)
