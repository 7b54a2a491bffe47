"""The pocket network is open_clip's CLIP, bit by bit: parts, draws, arithmetic, tokens."""

from __future__ import annotations

import pickle
import subprocess
import sys

import open_clip
import pytest
import torch

import anovl
from anovl.attention import encode_images
from anovl.models.pocket import CONFIG, PocketTokenizer, build_model, load_pocket, token_ids
from anovl.prompts import encode_prompts, prompt_ensemble


def reference(vocab_size: int) -> torch.nn.Module:
    text = {**CONFIG["text_cfg"], "vocab_size": vocab_size}
    return open_clip.CLIP(CONFIG["embed_dim"], CONFIG["vision_cfg"], text)


@pytest.fixture(scope="module")
def pair() -> tuple[torch.nn.Module, torch.nn.Module, PocketTokenizer]:
    """The shipped network, and open_clip's with the same weights."""
    own, tokenizer, _ = load_pocket()
    other = reference(tokenizer.vocab_size).eval()
    other.load_state_dict(own.state_dict())
    return own, other, tokenizer


def equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def test_an_untrained_network_is_drawn_as_open_clip_draws_it():
    torch.manual_seed(3)
    own = build_model(20).state_dict()
    torch.manual_seed(3)
    other = reference(20).state_dict()
    assert set(own) == set(other)
    assert all(equal(own[name], other[name]) for name in own)


def test_features_and_gradients_are_equal(pair):
    own, other, tokenizer = pair
    images = torch.randn(3, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    tokens = tokenizer(["a photo of a damaged bottle", "a nut", "a flawless wood"])
    answers = [model(images, tokens) for model in (own, other)]
    assert all(equal(one, two) for one, two in zip(*answers, strict=True))
    assert equal(own.encode_image(images), other.encode_image(images))
    assert equal(own.encode_text(tokens), other.encode_text(tokens))
    for image, text, scale in answers:
        (scale * image @ text.T).square().mean().backward()
    for (name, one), (_, two) in zip(
        sorted(own.named_parameters()), sorted(other.named_parameters()), strict=True
    ):
        assert equal(one.grad, two.grad), name


def test_what_anovl_makes_of_both_is_equal(pair):
    own, other, tokenizer = pair
    images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    features, texts = [], []
    for model in (own, other):
        clip = anovl.Clip(model, tokenizer, image_size=112, name="pocket")
        features.append(encode_images(clip, images))
        texts.append(encode_prompts(clip, prompt_ensemble("bottle")).prompts)
    assert equal(features[0].cls, features[1].cls)
    assert equal(features[0].patches, features[1].patches)
    assert equal(*texts)


def test_tokens_are_open_clips_also_after_a_journey():
    tokenizer = PocketTokenizer(token_ids(["a damaged nut"]))
    again = pickle.loads(pickle.dumps(tokenizer))
    texts = ["a damaged nut", "nut a"]
    expected = tokenizer._row[open_clip.SimpleTokenizer(context_length=32)(texts)]
    assert equal(tokenizer(texts), expected) and equal(again(texts), expected)


def test_the_pocket_model_needs_nothing_of_open_clip_but_one_file():
    check = (
        "import sys, anovl; anovl.encode_prompts(anovl.load_clip(), 'gizmo'); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    heavy = {"open_clip", "torchvision", "timm", "transformers", "torch._dynamo", "pandas"}
    assert not heavy & set(done.stdout.split())
