"""Which seeds are for training, for choosing and for results: no picture serves two of these."""

from __future__ import annotations

# Seeds of pocket scenes: below these for training, then for choosing, then for results.
TRAINING_SEEDS = FIRST_VALIDATION_SEED = 900_000_000
FIRST_EVALUATION_SEED, SEEDS_OF_A_RUN = 1_000_000_000, 1_000_000
