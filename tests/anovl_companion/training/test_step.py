"""One step of training: the loss, close-ups, the first layer, the learning rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from open_clip import ClipLoss

from anovl.attention import embed, project_to_clip_space
from anovl.models.pocket import build_model, load_tokenizer
from anovl.world.scenes import SEEN, draw_scene
from anovl_companion.training.batches import Batches, pixels
from anovl_companion.training.recipe import Recipe
from anovl_companion.training.step import (
    backward,
    contrastive_loss,
    embed_pictures,
    make_optimizers,
    whiten_patches,
)


def test_with_one_true_caption_each_the_loss_is_clips_own():
    torch.manual_seed(0)
    images, texts = (torch.nn.functional.normalize(torch.randn(6, 8), dim=1) for _ in range(2))
    ours = contrastive_loss(images, texts, torch.eye(6, dtype=torch.bool), torch.tensor(7.0))
    torch.testing.assert_close(ours, ClipLoss()(images, texts, torch.tensor(7.0)))


def test_two_true_captions_share_the_probability_evenly():
    image, texts = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    loss = contrastive_loss(image, texts, torch.tensor([[True, True]]), torch.tensor(1.0))
    assert float(loss) == pytest.approx(math.log(2) / 2)


def test_whitened_patches_are_uncorrelated_and_of_one_size():
    images = torch.from_numpy(
        np.stack([draw_scene(c, seed=s, size=56).image for c in SEEN for s in range(12)])
    )
    model = build_model(8)
    whiten_patches(model, pixels(images))
    with torch.no_grad():
        patches = model.visual.conv1(pixels(images)).flatten(2).transpose(1, 2).flatten(0, 1)
    covariance = torch.cov(patches.T)
    spread = covariance.diagonal().sqrt()
    correlation = covariance / torch.outer(spread, spread)
    assert (correlation - torch.eye(len(spread))).abs().max() < 0.05
    assert spread[:16].max() < 1.2 * spread[:16].min()


@torch.no_grad()
def test_whole_pictures_are_embedded_as_the_model_does_it():
    torch.manual_seed(0)
    model, images = build_model(8).eval(), torch.randn(2, 3, 112, 112)
    ours = embed_pictures(model.visual, images, torch.zeros(2, 2, dtype=torch.long))
    torch.testing.assert_close(ours, model.encode_image(images), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_close_up_has_the_patches_and_positions_of_its_window():
    torch.manual_seed(0)
    visual, image = build_model(8).eval().visual, torch.randn(1, 3, 112, 112)
    window = image[..., 8 * 2 : 8 * 2 + 24, 8 * 5 : 8 * 5 + 32]
    ours = embed_pictures(visual, window, torch.tensor([[2, 5]]))
    inside = [1 + 14 * row + column for row in (2, 3, 4) for column in (5, 6, 7, 8)]
    z = visual.transformer(embed(visual, image)[:, [0, *inside]])
    torch.testing.assert_close(ours, project_to_clip_space(visual, z[:, 0]), rtol=0, atol=1e-5)


def loss_and_gradients(model, batch, **embed):
    model.zero_grad()
    loss, _ = backward(model, batch, "float32", **embed)
    return torch.tensor(loss), [weight.grad.clone() for weight in model.parameters()]


def test_loss_and_gradients_are_those_of_the_plain_model():
    torch.manual_seed(0)
    tokenizer = load_tokenizer()
    model = build_model(tokenizer.vocab_size)
    recipe = Recipe(categories=2, twins=2, steps_close=0, easy_steps=None)
    batch = Batches(recipe, tokenizer)[0]
    plain = loss_and_gradients(model, batch, embed=lambda visual, images, corners: visual(images))
    fast = loss_and_gradients(model, batch)
    torch.testing.assert_close(fast[0], plain[0], rtol=1e-5, atol=0)
    for ours, theirs in zip(fast[1], plain[1], strict=True):
        assert (ours - theirs).norm() <= 1e-5 * max(theirs.norm(), 1e-3)
    whole = [torch.cat([gradient.flatten() for gradient in one[1]]) for one in (fast, plain)]
    assert (whole[0] - whole[1]).norm() <= 1e-5 * whole[1].norm()


def test_every_weight_has_one_optimiser_and_their_state_fits_into_16_mb():
    model = build_model(150)
    muon, adam = make_optimizers(model, Recipe())
    weights = [[w for group in one.param_groups for w in group["params"]] for one in (muon, adam)]
    assert {id(w) for own in weights for w in own} == {id(w) for w in model.parameters()}
    assert isinstance(muon, torch.optim.Muon) and all(w.ndim == 2 for w in weights[0])
    momenta, moments = (sum(w.numel() * w.element_size() for w in own) for own in weights)
    assert momenta + 2 * moments < 15e6
