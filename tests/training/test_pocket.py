"""The pocket world, its captions, and the training of the small CLIP."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from open_clip import ClipLoss
from scipy.ndimage import binary_dilation

from anovl.attention import embed, project_to_clip_space
from anovl.clip import Clip
from anovl.models import pocket as network
from anovl.models.pocket import PocketTokenizer, build_model, load_pocket, save_pocket, token_ids
from anovl.training import batches, train
from anovl.training.batches import Batches, pixels
from anovl.training.recipe import Recipe
from anovl.training.train import contrastive_loss, embed_pictures, train_pocket, whiten_patches
from anovl.training.validate import VALIDATED, validate
from anovl.world import captions
from anovl.world.captions import Caption, truth_matrix, write_caption
from anovl.world.defects import DRAW, KINDS, add_defect
from anovl.world.marks import MARKS, add_marks, two_tones
from anovl.world.scenes import PLACES, SEEN, UNSEEN, draw_scene, draw_twins

TINY = Recipe(steps_close=2, steps_full=2, easy_steps=2, categories=1, twins=1, captions=1)


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


@pytest.mark.parametrize("category", ("leather", "gear"))
def test_twins_drawn_together_are_the_scenes_drawn_one_by_one(category):
    twins = draw_twins(category, seed=9, kind="hole", size=48)
    for scene, kind in zip(twins, ("good", "hole"), strict=True):
        alone = draw_scene(category, seed=9, kind=kind, size=48)
        np.testing.assert_array_equal(scene.image, alone.image)
        np.testing.assert_array_equal(scene.mask, alone.mask)


@pytest.mark.parametrize("kind", KINDS)
def test_close_ups_of_twins_show_the_same_window_with_damage_in_one_of_them(kind):
    for seed in range(5):
        good, bad = draw_twins("wood", seed=seed, kind=kind, close_up=40)
        assert good.image.shape == bad.image.shape == (40, 40, 3)
        assert bad.mask.any() and not good.mask.any() and bad.place in PLACES
        # Far from the damage, blur and JPEG aside, they are the same picture.
        far = ~binary_dilation(bad.mask, iterations=3)
        same = np.abs(good.image.astype(int) - bad.image).max(axis=2) <= 40
        assert same[far].mean() > 0.9


@pytest.mark.parametrize("mark", (two_tones, *MARKS), ids=lambda mark: mark.__name__)
def test_harmless_marks_change_a_picture_and_keep_it_one(mark):
    picture, changed = np.full((56, 56, 3), 0.6, np.float32), 0
    for seed in range(6):
        marked = mark(np.random.default_rng(seed), picture)
        again = mark(np.random.default_rng(seed), picture)
        np.testing.assert_array_equal(marked, again)
        assert marked.shape == picture.shape and marked.min() >= 0 and marked.max() <= 1
        changed += not np.array_equal(marked, picture)
    assert changed >= 3


def test_most_pictures_have_a_mark_and_some_have_none():
    picture = np.full((32, 32, 3), 0.6, np.float32)
    bare = [
        np.array_equal(add_marks(np.random.default_rng(s), picture), picture) for s in range(80)
    ]
    assert 0.03 < np.mean(bare) < 0.3


def test_two_tones_part_a_plain_picture_in_two_shades():
    picture, parts = np.full((56, 56, 3), 0.6, np.float32), []
    for seed in range(40):
        changed = np.abs(two_tones(np.random.default_rng(seed), picture) - 0.6).max(axis=2) > 0.05
        parts.append(changed.mean())
    assert np.mean([0.1 < part < 0.9 for part in parts]) > 0.6


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


@pytest.mark.parametrize("kind", ["scratch", "crack", "thread"])
def test_a_line_of_damage_passes_near_the_place_that_it_was_given(kind):
    picture, place = np.full((112, 112, 3), 0.6, np.float32), (70.5 / 112 - 0.5, 40.5 / 112 - 0.5)
    for seed in range(20):
        _, cover = DRAW[kind](np.random.default_rng(seed), picture, place, 1, 1)
        rows, columns = np.nonzero(cover > 0.3)
        assert np.hypot(rows - 40, columns - 70).min() < 8


def test_every_damaged_picture_shows_some_damage():
    for category in ("screw", "pill", "grid", "domino"):
        for seed in range(24):
            kind = KINDS[seed % len(KINDS)]
            assert draw_scene(category, seed=seed, kind=kind, ease=1.0).mask.any()


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
        Caption("a defective thing", kinds=frozenset(KINDS)),
        Caption("a scratch", kinds=frozenset(["scratch"])),
        Caption("a good thing", kinds=frozenset(["good"])),
        Caption("a perfect offer"),
        Caption("a pill", categories=frozenset(["pill"])),
    ]
    expected = [
        [False, False, True, True, False],
        [True, True, False, True, False],
        [True, False, False, True, False],
    ]
    assert truth_matrix(scenes[:3], claims).tolist() == expected


def test_no_common_word_for_damage_means_every_kind_but_together_they_do():
    from anovl.prompts import ANOMALOUS_STATES, NORMAL_STATES

    assert set(NORMAL_STATES) < set(captions.NORMAL)
    covered = [set(captions.DAMAGED[state].split()) for state in ANOMALOUS_STATES]
    assert all(kinds < set(KINDS) for kinds in covered)
    for kind in KINDS:
        assert sum(kind in kinds for kinds in covered) >= 2, kind


def test_praise_in_a_catalogue_claims_nothing_of_the_state():
    rng = np.random.default_rng(3)
    scene = draw_scene("wood", seed=1, kind="crack", size=16)
    written = [write_caption(rng, scene) for _ in range(300)]
    praise = [c for c in written if "perfect" in c.text or "flawless" in c.text]
    assert praise and all(caption.kinds is None for caption in praise)
    assert all("industrial" not in caption.text for caption in praise)


def test_held_out_phrases_use_known_words_and_are_never_written(tokenizer):
    rng = np.random.default_rng(5)
    written = {
        write_caption(rng, draw_scene("wood", seed=s % 9, kind=k, size=16)).text
        for s in range(60)
        for k in ("good", *KINDS)
    }
    for phrase in (*captions.HELD_OUT["normal"], *captions.HELD_OUT["abnormal"]):
        assert not (tokenizer(phrase.format("wood")) == network.UNKNOWN).any(), phrase
        assert not any(phrase.format("wood") in text for text in written)


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
    from anovl.data.synthetic import pocket_validation
    from anovl.world import scenes as images
    from anovl.world.seeds import FIRST_EVALUATION_SEED, FIRST_VALIDATION_SEED

    seeds = []
    draw = batches.draw_twins
    monkeypatch.setattr(
        batches, "draw_twins", lambda *a, **o: (seeds.append(o["seed"]), draw(*a, **o))[1]
    )
    for step in range(5):
        Batches(TINY, tokenizer)[step]
    assert max(seeds) < batches.TRAINING_SEEDS == FIRST_VALIDATION_SEED

    seeds.clear()
    one = images.draw_scene
    monkeypatch.setattr(
        images, "draw_scene", lambda *a, **o: (seeds.append(o["seed"]), one(*a, **o))[1]
    )
    list(pocket_validation(per_category=2).samples("wood"))
    assert FIRST_VALIDATION_SEED <= min(seeds) <= max(seeds) < FIRST_EVALUATION_SEED


def test_validation_is_that_of_a_detector_on_the_validation_scenes(tokenizer):
    from anovl.attention import encode_images
    from anovl.data.synthetic import pocket_validation
    from anovl.evaluation.metrics import auroc
    from anovl.maps import image_scores
    from anovl.prompts import encode_prompts

    torch.manual_seed(0)
    model = build_model(tokenizer.vocab_size).eval()
    found = validate(model, tokenizer, per_category=1)
    assert set(found) == {"seen", "unseen"} and set(found["seen"]) == set(VALIDATED)
    clip, data, values = (
        Clip(model, tokenizer, image_size=112),
        pocket_validation(per_category=1),
        [],
    )
    for category in UNSEEN:
        images = [sample.image for sample in data.samples(category)]
        scores = image_scores(encode_images(clip, images).cls, encode_prompts(clip, category))
        values.append(auroc(scores.numpy(), np.array(data.labels(category))))
    assert found["unseen"]["image_auroc"] == pytest.approx(np.mean(values))


def _mean(model) -> float:
    return model.visual.proj.mean().item()


def test_a_killed_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "validate", lambda model, _: {"seen": {"bias": _mean(model)}})
    options = {"recipe": TINY, "workers": 0, "checkpoint_every": 1, "validate_every": 2}
    whole = train_pocket(tmp_path / "whole", **options)
    step = train._step

    def killed(model, average, optimizers, batch, number, recipe):
        if number == 3:
            raise KeyboardInterrupt
        return step(model, average, optimizers, batch, number, recipe)

    monkeypatch.setattr(train, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_pocket(tmp_path / "cut", **options)
    monkeypatch.setattr(train, "_step", step)
    cut = train_pocket(tmp_path / "cut", **options)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    for log, rows in (("training.csv", 4), ("validation.csv", 2)):
        assert (cut / log).read_text() == (whole / log).read_text()
        assert len((cut / log).read_text().splitlines()) == 1 + rows
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
