"""The pocket world, its captions, and the training of the small CLIP."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from open_clip import ClipLoss

from anovl.pocket import batches, captions, network, train
from anovl.pocket.batches import Batches, Recipe, pixels
from anovl.pocket.captions import Caption, truth_matrix, write_caption
from anovl.pocket.defects import KINDS, add_defect
from anovl.pocket.images import PLACES, SEEN, UNSEEN, draw_scene
from anovl.pocket.network import PocketTokenizer, build_model, load_pocket, save_pocket, token_ids
from anovl.pocket.train import contrastive_loss, train_pocket, whiten_patches

TINY = Recipe(steps_small=2, steps_full=2, easy_steps=2, categories=1, twins=1, captions=1)


@pytest.fixture(scope="module")
def tokenizer() -> PocketTokenizer:
    return PocketTokenizer(token_ids(captions.vocabulary_texts()))


# The world


@pytest.mark.parametrize("category", SEEN + UNSEEN)
def test_a_scene_is_decided_by_its_arguments(category):
    first, again = (draw_scene(category, seed=5, kind="crack", size=48) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image, draw_scene(category, seed=6, size=48).image)
    assert first.mask.any() and first.place in PLACES


@pytest.mark.parametrize("kind", KINDS)
def test_twins_differ_where_the_damage_is_and_hardly_elsewhere(kind):
    near = far = 0.0
    for category in ("wood", "bottle", "tile"):
        good, bad = (draw_scene(category, seed=11, kind=k, size=112) for k in ("good", kind))
        change = np.abs(good.image.astype(float) - bad.image).mean(axis=2)
        near, far = near + change[bad.mask].mean(), far + change[~bad.mask].mean()
        assert not good.mask.any()
    assert near > 10 * far


def test_damage_lies_anywhere_up_to_the_border():
    masks = np.mean([draw_scene("wood", seed=s, kind="stain", size=32).mask for s in range(150)], 0)
    border = np.concatenate([masks[0], masks[-1], masks[:, 0], masks[:, -1]]).mean()
    assert border > 0.4 * masks[8:24, 8:24].mean()


def test_a_defect_on_an_object_stays_on_it_and_other_pictures_can_be_damaged():
    picture, where = np.full((40, 40, 3), 0.5, np.float32), np.zeros((40, 40), bool)
    where[10:30, 10:30] = True
    for kind in KINDS:
        damaged, mask = add_defect(picture, np.random.default_rng(1), kind=kind, where=where)
        assert mask.any() and not mask[~where].any()
        np.testing.assert_array_equal(damaged[~where], picture[~where])


def test_bad_requests_name_what_there_is():
    with pytest.raises(ValueError, match=r"unknown category 'car'.*carpet"):
        draw_scene("car", seed=0)
    with pytest.raises(ValueError, match=r"unknown kind 'rust'.*scratch"):
        draw_scene("wood", seed=0, kind="rust")
    with pytest.raises(ValueError, match=r"square picture.*\(4, 5, 3\)"):
        add_defect(np.zeros((4, 5, 3)), np.random.default_rng(0), kind="hole")
    with pytest.raises(ValueError, match="nowhere"):
        empty = np.zeros((4, 4), bool)
        add_defect(np.zeros((4, 4, 3)), np.random.default_rng(0), kind="hole", where=empty)


# Captions


def test_a_written_caption_is_true_of_its_scene_and_a_contrary_one_is_not():
    rng = np.random.default_rng(0)
    scenes = [draw_scene("wood", seed=s, kind=k, size=24) for s, k in enumerate(("good", *KINDS))]
    for scene in scenes:
        own = [write_caption(rng, scene) for _ in range(20)]
        assert truth_matrix([scene], own).all()
    claims = [
        Caption("a damaged thing", damaged=True),
        Caption("a scratch", kind="scratch"),
        Caption("a pill", categories=frozenset(["pill"])),
    ]
    expected = [[False, False, False], [True, True, False], [True, False, False]]
    assert truth_matrix(scenes[:3], claims).tolist() == expected


def test_every_word_of_captions_is_known_but_the_strange_ones(tokenizer):
    rng, unknown = np.random.default_rng(1), set()
    for seed in range(200):
        kind = ("good", *KINDS)[seed % 9]
        text = write_caption(rng, draw_scene(SEEN[seed % 15], seed=seed, kind=kind, size=16)).text
        if (tokenizer(text) == network.UNKNOWN).any():
            unknown.add(text)
    assert unknown and all(any(w in t for w in captions.STRANGE_WORDS) for t in unknown)


def test_the_end_of_text_is_the_largest_token_and_padding_is_zero(tokenizer):
    rows = tokenizer(["a photo of a damaged bottle", "zebra"])
    assert rows.shape == (2, network.CONTEXT_LENGTH)
    assert rows.max(dim=1).values.tolist() == [tokenizer.vocab_size - 1] * 2
    assert rows[0, -1] == network.PADDING


# Training


def test_with_one_true_caption_each_the_loss_is_clips_own():
    torch.manual_seed(0)
    images, texts = (torch.nn.functional.normalize(torch.randn(6, 8), dim=1) for _ in range(2))
    ours = contrastive_loss(images, texts, torch.eye(6, dtype=torch.bool), torch.tensor(7.0))
    torch.testing.assert_close(ours, ClipLoss()(images, texts, torch.tensor(7.0)))


def test_two_true_captions_share_the_probability_evenly():
    image, texts = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    truth = torch.tensor([[True, True, False]])
    by_image = math.log(2 * math.e + 1) - 1
    logits = torch.tensor([[1.0, 1.0, 0.0]])
    assert torch.equal(image @ texts.T, logits)
    loss = contrastive_loss(image, texts[:2], truth[:, :2], torch.tensor(1.0))
    assert float(loss) == pytest.approx(math.log(2) / 2)
    kept = -(truth / 2.0 * logits.log_softmax(dim=1)).sum()
    assert float(kept) == pytest.approx(by_image)


def test_whitened_patches_are_uncorrelated_and_of_one_size():
    images = torch.from_numpy(
        np.stack([draw_scene(c, seed=s, size=56).image for c in SEEN for s in range(12)])
    )
    model = build_model(8, image_size=56)
    whiten_patches(model, pixels(images))
    with torch.no_grad():
        patches = model.visual.conv1(pixels(images)).flatten(2).transpose(1, 2).flatten(0, 1)
    covariance = torch.cov(patches.T)
    spread = covariance.diagonal().sqrt()
    correlation = covariance / torch.outer(spread, spread)
    assert (correlation - torch.eye(len(spread))).abs().max() < 0.05
    assert spread[:16].max() < 1.2 * spread[:16].min()


class _Forbidden:
    def __getattribute__(self, name):
        raise AssertionError(f"training looked at a mask: .{name}")


def test_training_never_sees_a_mask(monkeypatch, tokenizer):
    def without_mask(*args, **options):
        return dataclasses.replace(draw_scene(*args, **options), mask=_Forbidden())

    monkeypatch.setattr(batches, "draw_scene", without_mask)
    batch = Batches(TINY, tokenizer, 56)[0]
    assert {field.name for field in dataclasses.fields(batch)} == {"images", "tokens", "truth"}
    assert batch.images.shape == (2, 56, 56, 3) and batch.truth.any(dim=1).all()


def test_training_and_evaluation_share_no_scene(monkeypatch, tokenizer):
    from anovl.datasets import FIRST_EVALUATION_SEED

    seeds = []
    draw = batches.draw_scene
    monkeypatch.setattr(
        batches, "draw_scene", lambda *a, **o: (seeds.append(o["seed"]), draw(*a, **o))[1]
    )
    for step in range(5):
        Batches(TINY, tokenizer, 16)[step]
    assert max(seeds) < batches.TRAINING_SEEDS <= FIRST_EVALUATION_SEED


def test_pictures_in_chunks_leave_the_gradients_of_the_whole_batch(tokenizer):
    torch.manual_seed(0)
    model = build_model(tokenizer.vocab_size, image_size=56)
    batch = Batches(dataclasses.replace(TINY, categories=2, twins=2), tokenizer, 56)[0]
    gradients = []
    for chunk in (3, len(batch.images)):
        loss, _ = train._backward(model, batch, chunk)
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        model.zero_grad()
    whole = train.contrastive_loss(
        model.encode_image(pixels(batch.images), normalize=True),
        model.encode_text(batch.tokens, normalize=True),
        batch.truth.float(),
        model.logit_scale.exp(),
    )
    assert loss == pytest.approx(whole.item(), rel=1e-2)
    whole.backward()
    for name, parameter in model.named_parameters():
        for gradient in (gradients[0][name], gradients[1][name]):
            cosine = torch.cosine_similarity(gradient.flatten(), parameter.grad.flatten(), dim=0)
            assert cosine > 0.98, name


def test_a_killed_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    whole = train_pocket(tmp_path / "whole", recipe=TINY, workers=0, checkpoint_every=1)
    step = train._step

    def killed(model, average, optimizers, batch, number, recipe):
        if number == 3:
            raise KeyboardInterrupt
        return step(model, average, optimizers, batch, number, recipe)

    monkeypatch.setattr(train, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_pocket(tmp_path / "cut", recipe=TINY, workers=0, checkpoint_every=1)
    monkeypatch.setattr(train, "_step", step)
    cut = train_pocket(tmp_path / "cut", recipe=TINY, workers=0, checkpoint_every=1)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (cut / "training.csv").read_text() == (whole / "training.csv").read_text()
    with pytest.raises(ValueError, match="another recipe"):
        train_pocket(cut, recipe=dataclasses.replace(TINY, seed=1), workers=0)


# Loading


def test_a_saved_model_is_the_model_that_is_loaded(tmp_path, tokenizer):
    torch.manual_seed(1)
    model = build_model(tokenizer.vocab_size)
    save_pocket(model, tokenizer, tmp_path)
    loaded, same, size = load_pocket(tmp_path)
    assert same.ids == tokenizer.ids and size == network.IMAGE_SIZE
    expected = model.visual.proj.half().float()
    torch.testing.assert_close(loaded.visual.proj, expected, rtol=0, atol=0)


def test_what_cannot_be_loaded_says_why(tmp_path, tokenizer):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing.*train-pocket"):
        load_pocket(tmp_path)
    save_pocket(build_model(tokenizer.vocab_size), tokenizer, tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut short"):
        load_pocket(tmp_path)
    save_pocket(build_model(tokenizer.vocab_size + 5), tokenizer, tmp_path)
    with pytest.raises(ValueError, match=r"not a pocket model"):
        load_pocket(tmp_path)
