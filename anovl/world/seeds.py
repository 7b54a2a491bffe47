"""Which seeds are for training, for choosing and for results: no picture serves two of these."""

from __future__ import annotations

# Seeds of pocket scenes: below these for training, then for choosing, then for results.
TRAINING_SEEDS = FIRST_VALIDATION_SEED = 900_000_000
FIRST_EVALUATION_SEED, SEEDS_OF_A_RUN = 1_000_000_000, 1_000_000
# The last seeds of each run are for the normal pictures of a calibration, never for results.
FIRST_NORMAL_INDEX = SEEDS_OF_A_RUN - 100_000
MOST_PER_CATEGORY = FIRST_NORMAL_INDEX // 2  # so many normal and as many anomalous pictures
