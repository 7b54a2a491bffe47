"""Ablations of test-time adaptation: the numbers of `adapt` and `score_prompts`, and paired."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from anovl.adapt import adapt
from anovl.prompts import TextFeatures
from anovl_companion.measure.ablation import in_batches, maps_of
from anovl_companion.measure.feature_cache import EncodedImages

D, P = 8, 6


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(seed, **changes):
    truth = np.zeros((4, 6, 6), dtype=bool)
    truth[2:, 1:3, 2:5] = True
    values = {
        "cls": rand(4, D, seed=seed),
        "patches": rand(4, 3, 3, D, seed=seed + 1),
        "labels": np.array([0, 0, 1, 1]),
        "truth": truth,
    }
    return EncodedImages(**{**values, **changes})


@pytest.fixture
def texts():
    prompts = F.normalize(rand(P, D, seed=1), dim=1)
    text = TextFeatures(prompts[[0, -1]], prompts, torch.arange(P) >= P // 2)
    return {"a": text, "b": text}


@pytest.fixture
def encoded():
    return {"a": images(2), "b": images(4)}


@pytest.mark.parametrize(
    "options",
    [{}, {"adapter": "linear", "steps": 2}, {"reset_optimizer": False}, {"terms": ("noisy",)}],
)
def test_it_adapts_as_adapt_does(encoded, texts, options):
    for category, some in encoded.items():
        adapted = torch.cat(list(in_batches(some, texts[category], batch_size=3, **options)))
        expected = adapt(some.patches, texts[category], **options)
        torch.testing.assert_close(adapted, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("adapter", ["text", "linear"])
def test_a_start_at_zero_leaves_the_maps_as_they_were(encoded, texts, adapter):
    some, options = encoded["a"], {"start": "zero", "adapter": adapter}
    (quiet,) = in_batches(some, texts["a"], steps=0, **options)
    torch.testing.assert_close(quiet, some.patches / 2)
    before, after = (maps_of(one, texts["a"]) for one in (some, replace(some, patches=quiet)))
    np.testing.assert_allclose(after, before, atol=1e-6)
    (moved,) = in_batches(some, texts["a"], **options)
    assert not torch.allclose(moved, quiet)


def test_an_unknown_start_is_refused(encoded, texts):
    with pytest.raises(ValueError, match="'ones'"):
        list(in_batches(encoded["a"], texts["a"], start="ones"))
