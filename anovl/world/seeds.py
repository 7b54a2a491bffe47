"""Which seeds are for training, for choosing and for results: no picture serves two of these."""

from __future__ import annotations

# Seeds of pocket scenes: below these for training, then for choosing, then for results.
FIRST_VALIDATION_SEED, FIRST_EVALUATION_SEED = 900_000_000, 1_000_000_000
SEEDS_OF_A_RUN = 1_000_000
TRAINING_SEEDS = 900_000_000
"""Scenes with smaller seeds are for training; evaluation uses seeds from 1,000,000,000."""
