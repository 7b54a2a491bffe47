"""What the parts of the shared run measure, against the same by hand on a few pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from anovl import AnoVL, adapt, encode_prompts, load_clip, prompt_ensemble
from anovl.attention import embed
from anovl.data import load_dataset
from anovl.maps import anomalous_probability
from anovl.prompts import ANOMALOUS_STATES
from anovl.world.scenes import SEEN, UNSEEN
from anovl_companion.measure import probe, tta_variants, wordings
from anovl_companion.measure.ablation import maps_of, silent
from anovl_companion.measure.attention_variants import (
    OWN_STREAM,
    attention_variants,
    own_value_shares,
)
from anovl_companion.measure.category import Category
from anovl_companion.measure.single_pictures import pointing_distance, within_picture


@pytest.fixture(scope="module", name="category")
def few_pictures():
    data = load_dataset("pocket", categories=["gear"], per_category=2)
    return Category.read(load_clip("pocket"), data, "gear")


def by_name(variants):
    return {one.name: one for one in variants}


# A category


def test_a_category_is_what_its_pictures_are(category):
    data = load_dataset("pocket", categories=["gear"], per_category=2)
    samples = list(data.samples("gear"))
    assert category.labels.tolist() == [sample.label for sample in samples]
    assert all(np.array_equal(a, b.mask) for a, b in zip(category.truth, samples, strict=True))
    assert category.encoded("qk") is category.encoded("qk", 1)
    found = AnoVL(category.clip).localize([sample.image for sample in samples], "gear")
    ours = maps_of(category.encoded(), category.text)
    np.testing.assert_allclose(ours, np.stack([one.map for one in found]), atol=1e-6)


def test_coverage_is_the_share_of_a_patch_that_the_defect_covers(category):
    coverage = category.coverage()
    assert coverage.shape == (4, *category.clip.grid)
    assert coverage[3, 2, 5] == category.truth[3, 16:24, 40:48].mean()
    assert coverage.mean() == pytest.approx(category.truth.mean())


def test_without_masks_nothing_is_measured(category, tmp_path):
    data = load_dataset("pocket", categories=["gear"], per_category=1)
    for sample in data.samples("gear"):
        (tmp_path / "gear/test" / sample.kind).mkdir(parents=True)
        sample.image.save(tmp_path / "gear/test" / sample.kind / "0.png")
    folder = load_dataset("folder", tmp_path)
    with pytest.raises(ValueError, match="gear"):
        Category.read(category.clip, folder, "gear")


# Single pictures


def test_the_highest_value_is_so_far_from_the_defect():
    rng = np.random.default_rng(0)
    values, truth = rng.random((20, 30)), np.zeros((20, 30), dtype=bool)
    truth[3:6, 4:9] = truth[15, 20] = True
    place = np.argwhere(values == values.max())
    assert pointing_distance(values, truth) == pytest.approx(cdist(place, np.argwhere(truth)).min())
    assert pointing_distance(truth.astype(float), truth) == 0
    found = within_picture([values, values, values], [truth, truth & False, truth | True])
    assert math.isfinite(found["distance"][0]) and np.isnan(found["distance"][1:]).all()
    assert np.isnan(found["auroc_px"][1:]).all()


# Attention


def test_kinds_of_attention_are_those_of_the_library_and_own_values_need_no_other_patch(category):
    found = by_name(attention_variants(category))
    assert len(found) == 1 + 3 * 4 + 1
    for name, kind, first in (("q-k", "qk", 1), ("k-k from 2", "kk", 2)):
        ours = maps_of(category.encoded(kind, first), category.text)
        np.testing.assert_array_equal(found[name].maps, ours)
    clip, patch = category.clip, 50
    z = embed(clip.model.visual, category.pixels)[:, [0, 1 + patch]]  # no other patch is there
    with torch.inference_mode():
        for block in clip.model.visual.transformer.resblocks:
            heads = torch.nn.functional.linear(
                block.ln_1(z), block.attn.in_proj_weight, block.attn.in_proj_bias
            )
            z = z + block.attn.out_proj(heads[..., 2 * z.shape[-1] :])
            z = z + block.mlp(block.ln_2(z))
        alone = clip.model.visual.ln_post(z[:, 1]) @ clip.model.visual.proj
    p = anomalous_probability(alone, category.text).numpy()
    row, column = divmod(patch, 14)
    assert 0 < row < 13 and 0 < column < 13
    with pytest.MonkeyPatch.context() as patched:
        module = "anovl_companion.measure.attention_variants.anomaly_maps"
        plain = lambda patches, text, size: anomalous_probability(patches, text)  # noqa: E731
        patched.setattr(module, plain)
        grid = by_name(attention_variants(category))[OWN_STREAM].maps
    np.testing.assert_allclose(grid[:, row, column], p, atol=1e-5)


@pytest.mark.parametrize("kind", ["qk", "vv"])
def test_own_value_shares_are_those_of_plain_products(category, kind):
    found = own_value_shares(category, kind)
    visual, place = category.clip.model.visual, 3
    with torch.inference_mode():
        z = embed(visual, category.pixels[place : place + 1])
        for block in visual.transformer.resblocks[:-1]:
            z = block(z)
        last = visual.transformer.resblocks[-1]
        weight, bias = last.attn.in_proj_weight, last.attn.in_proj_bias
        qkv = torch.nn.functional.linear(last.ln_1(z[0]), weight, bias).double()
    q, k, v = (part.unflatten(1, (3, 64)).transpose(0, 1) for part in qkv.chunk(3, dim=1))
    a, b = {"qk": (q, k), "vv": (v, v)}[kind]
    arrives = ((a @ b.mT / 8).softmax(dim=-1) @ v)[:, 1:]
    own = v[:, 1:]
    share = (arrives * own).sum(-1) / (own * own).sum(-1)
    mean = own.mean(dim=1, keepdim=True)
    centred = ((arrives - mean) * (own - mean)).sum(-1) / ((own - mean) ** 2).sum(-1)
    covered = torch.from_numpy(category.coverage()[place].ravel())
    for name, one in (
        ("own_value", share),
        ("own_value_centred", centred),
        ("own_value_negative", (share < 0).double()),
    ):
        want = (one.mean(dim=0) * covered).sum() / covered.sum()
        assert found[name][1] == pytest.approx(float(want), abs=1e-4), name


# Words


def test_each_wording_changes_one_thing(category):
    words = wordings.wordings("gear")
    everything = prompt_ensemble("gear")
    assert words["domains"] == everything and len(words["word"]) == 2
    assert words["name: wrong"].class_name != "gear"
    assert not any("gear" in text for text in words["name: none"].anomalous)
    assert len(words["name: none"]) == len(everything)
    domains = {name for name in words if name.startswith("domain: ")}
    assert len(domains) == 5 and all(len(words[name]) == 308 for name in domains)
    states = [name for name in words if name.startswith("state: ")]
    assert len(states) == len(ANOMALOUS_STATES) and len(words[states[0]]) == 132
    assert set(words["normal is 'not anomalous'"].anomalous) == set(everything.anomalous)


def test_words_are_measured_with_their_scores_and_coarse_numbers_leave_few_levels(category):
    found = by_name(wordings.word_variants(category))
    word = encode_prompts(category.clip, prompt_ensemble("gear", level="word"))
    np.testing.assert_array_equal(found["word"].maps, maps_of(category.encoded(), word))
    assert found["word"].scores.shape == (4,)
    levels = {name: one.facts["levels"] for name, one in found.items() if one.facts}
    assert sorted(levels.values()) == list(levels.values())[::-1]
    assert levels["span of 0.02, bfloat16"] <= 10
    fine = found["span of 0.02, float32"].maps
    assert fine.max() - fine.min() == pytest.approx(wordings.SPAN, abs=1e-6)


# Adaptation


def test_every_option_is_that_of_adapt(category):
    found = by_name(tta_variants.tta_variants(category))
    images, text = category.encoded(), category.text
    assert len(found) == 1 + len(tta_variants.STEPS) + len(tta_variants.OPTIONS) + 1

    def adapted(**options):
        patches = adapt(images.patches, text, **options)
        return maps_of(type(images)(images.cls, patches, images.labels, images.truth), text)

    for name, options in (
        ("5 steps", {}),
        ("1 steps", {"steps": 1}),
        ("only entropy", {"terms": ("entropy",)}),
        ("lr 0.01", {"lr": 0.01}),
        ("optimizer not reset", {"reset_optimizer": False}),
        ("start at zero", {"init": silent(images.patches, text)}),
    ):
        np.testing.assert_allclose(found[name].maps, adapted(**options), atol=1e-5, err_msg=name)
    assert abs(found["seed 1"].maps - found["5 steps"].maps).max() > 1e-5
    first, last = found["optimizer not reset"].maps, found[tta_variants.REVERSED].maps
    assert abs(first - last).max() > 1e-6
    below = (found[tta_variants.NONE].maps < 0.5).mean()
    assert found[tta_variants.NONE].facts == {"below_half": pytest.approx(below)}


def test_pseudo_labels_ask_for_what_they_say():
    p = torch.tensor([[0.4] * 19 + [0.6]], requires_grad=True)
    (-(1 - tta_variants.pseudo_labelled(p)).log()).sum().backward()
    assert (p.grad[0, :19] > 0).all() and p.grad[0, 19] < 0  # down, and the outstanding one up


# The probe


def test_the_probe_never_sees_the_categories_of_its_fold(category, monkeypatch):
    monkeypatch.setattr(probe, "PER_CATEGORY", 1)
    seen = []
    true = probe.patches_for_fitting.__wrapped__

    def recorded(features, clip, name):
        seen.append(name)
        return true(features, clip, name)

    monkeypatch.setattr(probe, "patches_for_fitting", recorded)
    fold = probe.fold_of("gear")
    probe.fitted.__wrapped__("raw pixels", category.clip, fold)
    held_out = {name for name in (*SEEN, *UNSEEN) if probe.fold_of(name) == fold}
    assert "gear" in held_out and len(held_out) == 4
    assert set(seen) == {*SEEN, *UNSEEN} - held_out
    assert probe.fold_of("my own thing") not in {probe.fold_of(name) for name in (*SEEN, *UNSEEN)}
    fitting, measured = (
        probe.scenes_for_fitting.__wrapped__(category.clip, "gear").pixels,
        category.pixels,
    )
    assert not any(torch.equal(a, b) for a in fitting for b in measured)


def test_features_of_controls_are_of_the_pixels(category):
    pixels = category.pixels[1, :, 8:16, 16:24].numpy()
    np.testing.assert_allclose(probe.FEATURES["raw pixels"](category)[1, 1, 2], pixels.ravel())
    twelve = probe.statistics(category)
    assert twelve.shape == (4, 14, 14, 12)
    six = [*pixels.mean(axis=(1, 2)), *pixels.std(axis=(1, 2))]
    np.testing.assert_allclose(twelve[1, 1, 2, :6], six, rtol=1e-4, atol=1e-5)
    assert (twelve[..., 6:] >= 0).all() and (np.median(twelve[1, ..., 6], axis=(0, 1)) > 0)
    trained, random = (probe.FEATURES[name](category) for name in ("q-k", probe.UNTRAINED))
    assert trained.shape == random.shape and abs(trained - random).max() > 0.1
