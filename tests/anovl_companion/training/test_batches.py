"""What training sees: the same batches each time, and never a mask."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from anovl.data.synthetic import pocket_validation
from anovl.models.pocket import PocketTokenizer, token_ids
from anovl.world import captions, scenes
from anovl.world.defects import KINDS
from anovl.world.scenes import SEEN, TRAINING_SEEDS, draw_twins
from anovl_companion.training import batches
from anovl_companion.training.batches import Batch, Batches
from anovl_companion.training.recipe import Recipe, named_recipe

TINY = Recipe(steps_close=2, steps_full=2, easy_steps=2, categories=1, twins=1, captions=1)


@pytest.fixture(scope="module")
def tokenizer() -> PocketTokenizer:
    return PocketTokenizer(token_ids(captions.vocabulary_texts()))


class _Forbidden:
    def __getattribute__(self, name):
        raise AssertionError(f"training looked at a mask: .{name}")


def test_training_never_sees_a_mask(monkeypatch, tokenizer):
    def without_masks(*args, **options):
        twins = draw_twins(*args, **options)
        return tuple(dataclasses.replace(scene, mask=_Forbidden()) for scene in twins)

    monkeypatch.setattr(batches, "draw_twins", without_masks)
    for step in (0, TINY.steps_close):
        batch = Batches(TINY, tokenizer)[step]
        fields = {field.name for field in dataclasses.fields(batch)}
        assert fields == {"images", "corners", "tokens", "truth"}
        side = 56 if step < TINY.steps_close else 112
        assert batch.images.shape == (2, side, side, 3) and batch.truth.any(dim=1).all()
        assert (batch.corners + side // 8 <= 14).all()


def test_training_validation_and_evaluation_share_no_scene(monkeypatch, tokenizer):
    seeds = []

    def spy(module, name):
        draw = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, seed, **o: seeds.append(seed) or draw(*a, seed=seed, **o)
        )

    spy(batches, "draw_twins")
    for step in range(5):
        Batches(TINY, tokenizer)[step]
    assert max(seeds) < TRAINING_SEEDS == scenes.FIRST_VALIDATION_SEED
    seeds.clear()
    spy(scenes, "draw_scene")
    list(pocket_validation(per_category=2).samples("wood"))
    assert min(seeds) >= scenes.FIRST_VALIDATION_SEED
    assert max(seeds) < scenes.FIRST_EVALUATION_SEED


# Recipes


def test_the_laptop_recipe_draws_the_batches_of_the_weights_of_today():
    """Digests of tokens, truth and places made by the code that trained them; the pixels' mean."""
    data = Batches(named_recipe("laptop"), PocketTokenizer(token_ids(captions.vocabulary_texts())))
    for step, expected, mean in (
        (0, ["30b3f7dcd92b1767", "0b24e1191223e07b", "4ee3664da32b18ae"], 98.1973),
        (3600, ["5f70bf18a0860070", "88cb47bdbbcff448", "30cef8becf388c61"], 100.4293),
    ):
        batch = data[step]
        arrays = [array.numpy().tobytes() for array in (batch.corners, batch.tokens, batch.truth)]
        assert [hashlib.sha256(array).hexdigest()[:16] for array in arrays] == expected
        assert float(batch.images.float().mean()) == pytest.approx(mean, abs=0.01)


def test_the_gpu_recipe_draws_how_easy_each_anomaly_is(monkeypatch, tokenizer):
    drawn, twins = [], draw_twins("wood", seed=1, kind="hole", close_up=56)
    monkeypatch.setattr(
        batches, "draw_twins", lambda category, **o: drawn.append((category, o)) or twins
    )
    recipe = named_recipe("gpu", seed=3)
    assert Batches(recipe, tokenizer)[7].images.shape == (256, 56, 56, 3)
    rng, expected = np.random.default_rng([3, 7]), []
    for category in rng.choice(SEEN, 8, replace=False):
        for _ in range(16):
            seed, kind = int(rng.integers(TRAINING_SEEDS)), str(rng.choice(KINDS))
            ease = max(0.0, rng.uniform(-1.5, 1))
            options = {"seed": seed, "kind": kind, "ease": ease, "close_up": 56}
            expected.append((category, options))
    assert drawn == expected
    assert 0.4 < np.mean([options["ease"] == 0 for _, options in drawn]) < 0.8


def test_a_batch_moves_to_a_device(tokenizer):
    moved = Batches(TINY, tokenizer)[0].to(torch.device("meta"))
    assert {getattr(moved, f.name).device.type for f in dataclasses.fields(Batch)} == {"meta"}


def test_worker_processes_draw_the_same_batches_in_order(tokenizer):
    here, there = (list(batches.batches(TINY, tokenizer, 1, n)) for n in (0, 2))
    assert len(here) == len(there) == TINY.steps - 1
    for one, two in zip(here, there, strict=True):
        assert torch.equal(one.images, two.images) and torch.equal(one.tokens, two.tokens)
