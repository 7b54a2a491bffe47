"""The pocket model: saved, loaded, and the two that ship."""

from __future__ import annotations

import warnings

import pytest
import torch

from anovl import load_clip
from anovl.models import pocket as network
from anovl.models.pocket import PocketTokenizer, build_model, load_pocket, save_pocket, token_ids


@pytest.fixture(scope="module")
def tokenizer() -> PocketTokenizer:
    return PocketTokenizer(token_ids(["a nut", "a bottle"]))


def test_a_saved_model_is_the_model_that_is_loaded(tmp_path, tokenizer):
    torch.manual_seed(1)
    model = build_model(tokenizer.vocab_size)
    save_pocket(model, tokenizer, tmp_path)
    loaded, same, size = load_pocket(tmp_path)
    assert same.ids == tokenizer.ids and size == network.IMAGE_SIZE
    expected = model.visual.proj.half().float()
    torch.testing.assert_close(loaded.visual.proj, expected, rtol=0, atol=0)


def test_what_cannot_be_loaded_says_why(tmp_path, tokenizer):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load_pocket(tmp_path)
    save_pocket(build_model(tokenizer.vocab_size), tokenizer, tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=str(weights)):
        load_pocket(tmp_path)
    save_pocket(build_model(tokenizer.vocab_size + 5), tokenizer, tmp_path)
    with pytest.raises(ValueError, match=str(weights)):
        load_pocket(tmp_path)


def test_each_unknown_word_is_named_once(tokenizer):
    own = PocketTokenizer(tokenizer.ids)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own(["a nut", "a bottle"])
    with pytest.warns(UserWarning) as caught:
        own(["a zebra nut", "the zebra"])
        own("a zebra")
    named = [str(one.message).split(":")[0].split()[-1] for one in caught]
    assert named == ["'zebra'", "'the'"]


# The two that ship


def test_the_second_model_is_loaded_by_its_own_name(tmp_path, monkeypatch, tokenizer):
    monkeypatch.setitem(network.SHIPPED, "pocket-2", tmp_path / "pocket_2")
    with pytest.raises(FileNotFoundError, match=r"pocket-2.*train --recipe gpu --seed 1"):
        load_clip("pocket-2")
    save_pocket(build_model(tokenizer.vocab_size), tokenizer, tmp_path / "pocket_2")
    second = load_clip("pocket-2")
    assert second.name == "pocket-2"
    assert second.weights_hash == load_clip("pocket", weights=tmp_path / "pocket_2").weights_hash
    assert second.weights_hash != load_clip("pocket").weights_hash
