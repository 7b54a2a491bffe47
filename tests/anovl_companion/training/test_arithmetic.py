"""Which arithmetic a training takes: what a trial finds faster, by an injected clock."""

from __future__ import annotations

import pytest
import torch

from anovl.models.pocket import PocketTokenizer, build_model, token_ids
from anovl.world.captions import vocabulary_texts
from anovl_companion.training import arithmetic
from anovl_companion.training.arithmetic import choose_arithmetic, faster_arithmetic
from anovl_companion.training.batches import Batches
from anovl_companion.training.recipe import Recipe

TINY = Recipe(steps_close=2, steps_full=2, categories=1, twins=1, captions=1)


@pytest.fixture(scope="module")
def tokenizer() -> PocketTokenizer:
    return PocketTokenizer(token_ids(vocabulary_texts()))


class Slow:
    """A clock, and a `backward` that takes so many of its seconds in each arithmetic."""

    def __init__(self, monkeypatch, seconds):
        self.now, self.calls = 0.0, []

        def backward(model, batch, name):
            self.calls.append((batch.images.shape[1], name))
            first = (batch.images.shape[1], name) not in self.calls[:-1]
            self.now += 100.0 if first else seconds[batch.images.shape[1], name]

        monkeypatch.setattr(arithmetic, "backward", backward)

    def __call__(self):
        return self.now


def test_close_ups_and_whole_pictures_are_tried_by_themselves(monkeypatch, tokenizer):
    times = {(56, "float32"): 2, (56, "bfloat16"): 1, (112, "float32"): 4, (112, "bfloat16"): 6}
    clock = Slow(monkeypatch, times)
    model = build_model(tokenizer.vocab_size)
    assert choose_arithmetic(model, TINY, tokenizer, clock=clock) == ("bfloat16", "float32")
    assert {call[0] for call in clock.calls[:8]} == {56}
    assert {call[0] for call in clock.calls[8:]} == {112}


def test_a_trial_leaves_no_trace_in_the_model(tokenizer):
    torch.manual_seed(0)
    model = build_model(tokenizer.vocab_size)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    found = faster_arithmetic(model, Batches(TINY, tokenizer)[0], repeats=1)
    assert found in ("float32", "bfloat16")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
