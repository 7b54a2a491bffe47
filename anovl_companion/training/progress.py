"""What a training shows while it runs: loss, accuracy, pictures a second, and the time left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from tqdm import tqdm

from anovl_companion.training.recipe import Recipe

WHOLE = 4
"""A whole picture has four times the patches of a close-up, and takes about as much more time."""
RECENT = 30
"""Steps over which the speed is measured."""


class Progress:
    """A bar on the screen (unless `shown` is False) for a training that begins at step `first`.

    `clock` gives seconds.
    """

    def __init__(
        self,
        recipe: Recipe,
        first: int,
        *,
        shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recipe, self.step, self.clock = recipe, first, clock
        self.marks = deque([(clock(), first)], maxlen=RECENT + 1)
        layout = "train {n_fmt}/{total_fmt} |{bar:20}|{desc}"
        self.bar = tqdm(
            total=recipe.steps, initial=first, bar_format=layout, disable=not shown, mininterval=1
        )

    def update(self, loss: float, accuracy: float) -> None:
        """Show that one more step is done."""
        self.step += 1
        self.marks.append((self.clock(), self.step))
        self.bar.set_description_str(self.line(loss, accuracy), refresh=False)
        self.bar.update()

    def line(self, loss: float, accuracy: float) -> str:
        """Say how the last step went, how fast the last steps were, and how long it will take."""
        (start, before), (now, step) = self.marks[0], self.marks[-1]
        seconds = max(now - start, 1e-9)
        pictures = (step - before) * self.recipe.pictures / seconds
        left = (self._work(self.recipe.steps) - self._work(step)) * seconds
        left /= self._work(step) - self._work(before)
        return (
            f" loss {loss:.3f}, accuracy {accuracy:.2f}, {pictures:.0f} pictures/s, "
            f"{tqdm.format_interval(left)} left"
        )

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()

    def _work(self, step: int) -> int:
        """The work of all steps before this one; that of a close-up step is 1."""
        return step + (WHOLE - 1) * max(0, step - self.recipe.steps_close)
