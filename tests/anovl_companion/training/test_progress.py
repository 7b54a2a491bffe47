"""What a training shows: its speed over the last steps, and the time left."""

from __future__ import annotations

from anovl_companion.training.progress import RECENT, Progress
from anovl_companion.training.recipe import Recipe

RECIPE = Recipe(steps_close=100, steps_full=50, categories=2, twins=2)  # 8 pictures a step


def test_the_time_left_counts_a_whole_picture_as_four_close_ups():
    now = [0.0]
    shown = Progress(RECIPE, 0, shown=False, clock=lambda: now[0])
    for _ in range(40):
        now[0] += 0.5
        shown.update(4.0, 0.25)
    # 60 close-ups of half a second, and 50 whole steps of two seconds.
    line = shown.line(4.0, 0.25)
    assert line == " loss 4.000, accuracy 0.25, 16 pictures/s, 02:10 left"


def test_the_speed_is_that_of_the_last_steps_and_of_this_run_only():
    now = [0.0]
    shown = Progress(RECIPE, 100, shown=False, clock=lambda: now[0])
    for step in range(45):
        now[0] += 9.0 if step < 45 - RECENT else 1.0
        shown.update(3.0, 0.5)
    assert shown.line(3.0, 0.5).endswith("8 pictures/s, 00:05 left")
