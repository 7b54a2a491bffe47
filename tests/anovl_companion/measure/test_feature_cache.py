"""Words measured on images that were encoded once: the same numbers as `evaluate`, and paired."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anovl.data import load_dataset
from anovl.detector import AnoVL
from anovl.evaluation.harness import evaluate
from anovl.prompts import TextFeatures, encode_prompts, prompt_ensemble
from anovl_companion.measure import feature_cache as rescore
from anovl_companion.measure.feature_cache import EncodedImages, encode_dataset, score_prompts

AXES = TextFeatures(torch.eye(2), torch.eye(2), torch.tensor([False, True]))
SWAPPED = TextFeatures(torch.eye(2).flip(0), torch.eye(2), torch.tensor([True, False]))


def toy(**changes):
    """Three images of 1x2 patches, one with a defect on the right; the second axis is abnormal."""
    towards = torch.tensor([[0.1, 0.1], [0.2, 0.3], [0.2, 0.9]])  # how abnormal each patch is
    patches = torch.stack([1 - towards, towards], dim=-1)[:, None]
    values = {
        "cls": patches[:, 0].mean(dim=1),
        "patches": patches,
        "labels": np.array([0, 0, 1]),
        "truth": np.array([[[False, False]], [[False, False]], [[False, True]]]),
    }
    return EncodedImages(**{**values, **changes})


def test_it_agrees_with_evaluate(tiny_clip, tmp_path):
    data = load_dataset("pocket", categories=["wood", "screw"], per_category=10)
    table = evaluate(
        data, [AnoVL(tiny_clip, level="states")], out=tmp_path, resamples=20, progress=False
    )
    mean = table[table.level == "mean"].iloc[0]
    texts = {
        c: encode_prompts(tiny_clip, prompt_ensemble(c, level="states")) for c in data.categories
    }
    measured = score_prompts(encode_dataset(tiny_clip, data), texts, resamples=20)
    for metric in rescore.PROMPT_METRICS:
        ends = (mean[f"{metric}_lo"], mean[f"{metric}_hi"])
        assert measured.mean(metric) == pytest.approx(mean[metric], abs=1e-6)
        assert measured.interval(metric) == pytest.approx(ends, abs=2e-6)


def test_right_words_are_right_and_swapped_words_are_their_mirror():
    right = score_prompts({"toy": toy()}, {"toy": AXES}, resamples=0)
    swapped = score_prompts({"toy": toy()}, {"toy": SWAPPED}, resamples=0)
    for metric in rescore.PROMPT_METRICS:
        assert right.mean(metric) == 1
        assert swapped.mean(metric) == 0
        assert np.isnan(right.interval(metric)).all()


def test_equal_words_gain_nothing_and_the_interval_knows_it():
    rng = np.random.default_rng(0)
    many = toy(
        cls=torch.from_numpy(rng.random((20, 2))), labels=np.arange(20) % 2, truth=None,
        patches=torch.ones(20, 1, 2, 2),
    )  # fmt: skip
    measured = [score_prompts({"toy": many}, {"toy": AXES}, resamples=50) for _ in range(2)]
    low, high = measured[0].interval("auroc_sp")
    assert low < measured[0].mean("auroc_sp") < high
    assert measured[0].gain(measured[1], "auroc_sp") == (0, 0, 0)


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({"truth": None}, ["auroc_sp"]),
        ({"truth": np.zeros((3, 1, 2), dtype=bool)}, ["auroc_sp"]),
        ({"labels": np.zeros(3, dtype=int)}, []),
    ],
)
def test_what_cannot_be_measured_is_left_out_of_the_mean(changes, known):
    both = {"toy": toy(), "poor": toy(**changes)}
    measured = score_prompts(both, dict.fromkeys(both, AXES), resamples=5)
    for metric in rescore.PROMPT_METRICS:
        assert np.isnan(measured.by_category["poor"][metric]) == (metric not in known)
        assert measured.mean(metric) == 1
    alone = score_prompts({"poor": both["poor"]}, {"poor": AXES}, resamples=5)
    assert np.isnan(alone.mean("auroc_px_debiased"))


def test_every_category_needs_a_text_and_every_image_a_label(tiny_clip, tmp_path):
    with pytest.raises(ValueError, match="no text for toy"):
        score_prompts({"toy": toy()}, {})
    sample = next(load_dataset("pocket", categories=["wood"], per_category=1).samples("wood"))
    sample.image.save(tmp_path / "one.png")
    with pytest.raises(ValueError, match="have no labels"):
        encode_dataset(tiny_clip, load_dataset("folder", root=tmp_path))


def test_the_size_of_maps_can_be_chosen(tiny_clip):
    data = load_dataset("pocket", categories=["wood"], per_category=1)
    encoded = encode_dataset(tiny_clip, data, size=(20, 30), attention="qk")["wood"]
    assert encoded.truth.shape == (2, 20, 30)
    assert encoded.patches.shape == (2, *tiny_clip.grid, 32)
