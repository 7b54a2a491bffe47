"""Which seeds are for training, for choosing and for results: no picture serves two of these."""

from __future__ import annotations

# Seeds of pocket scenes: below these for training, then for choosing, then for results.
FIRST_VALIDATION_SEED, FIRST_EVALUATION_SEED = 900_000_000, 1_000_000_000
SEEDS_OF_A_RUN = 1_000_000
NORMAL_SEEDS_OF_A_RUN = 100_000
"""The last seeds of each run: for the normal pictures of a calibration, never for results."""
TRAINING_SEEDS = 900_000_000
"""Scenes with smaller seeds are for training; evaluation uses seeds from 1,000,000,000."""

FIRST_NORMAL_INDEX = SEEDS_OF_A_RUN - NORMAL_SEEDS_OF_A_RUN
MOST_PER_CATEGORY = FIRST_NORMAL_INDEX // 2
"""So many normal and as many anomalous pictures can a run have, before it meets its last seeds."""
