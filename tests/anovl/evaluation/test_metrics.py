"""The metrics against hand-checked toys, brute force, scikit-learn and the reference cases."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers import random_maps
from scipy import ndimage

from anovl.evaluation.bootstrap import bootstrap_aupro, bootstrap_auroc
from anovl.evaluation.metrics import (
    aupro,
    auroc,
    auroc_f1_ap,
    average_precision,
    f1_max,
    pixel_metrics,
    position_debiased,
)

REFERENCE = Path(__file__).parents[2] / "reference"


CASES = json.loads((REFERENCE / "metrics_cases.json").read_text())["cases"]


ALL = [auroc, average_precision, f1_max, auroc_f1_ap, aupro, bootstrap_auroc, bootstrap_aupro]


@pytest.fixture(params=CASES)
def case(request):
    with np.load(REFERENCE / "metrics_cases.npz") as arrays:
        maps, masks = arrays[f"{request.param}/maps"], arrays[f"{request.param}/masks"]
    return maps, masks, CASES[request.param]


# Parity


def test_pixel_metrics_equal_the_reference(case):
    maps, masks, expected = case
    names = ("pixel_auroc", "pixel_f1_max", "pixel_average_precision", "aupro")
    found = dict(zip(names, pixel_metrics(maps, masks), strict=True))
    assert found == pytest.approx({name: expected[name] for name in names}, abs=1e-9)


def test_image_metrics_equal_the_reference(case):
    maps, masks, expected = case
    scores, labels = maps.max(axis=(1, 2)), masks.any(axis=(1, 2))
    assert auroc(scores, labels) == pytest.approx(expected["image_auroc"], abs=1e-9)
    assert f1_max(scores, labels) == pytest.approx(expected["image_f1_max"], abs=1e-9)
    for rule, key in (("step", ""), ("trapezoid", "_trapezoid")):
        found = average_precision(scores, labels, rule=rule)
        assert found == pytest.approx(expected[f"image_average_precision{key}"], abs=1e-9)


@pytest.mark.parametrize("levels", [None, 2, 1])
def test_agrees_with_scikit_learn(levels):
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    maps, masks = random_maps(3, levels=levels)
    scores, labels = maps.ravel(), masks.ravel()
    assert auroc(maps, masks) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    expected = average_precision_score(labels, scores)
    assert average_precision(maps, masks) == pytest.approx(expected, abs=1e-12)
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-30)
    assert f1_max(maps, masks) == pytest.approx(f1.max(), abs=1e-12)


def brute_force_aupro(maps, masks, limit):
    """Every threshold, every region, one at a time; then straight lines."""
    regions = []
    for i, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(i, labels == k + 1) for k in range(count)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        overlap = np.mean([found[i][region].mean() for i, region in regions])
        points.append((found[~masks].mean(), overlap))
    x, y = np.array(points).T
    inside = x <= limit
    x = np.append(x[inside], limit)
    y = np.append(y[inside], np.interp(limit, *np.array(points).T))
    return np.trapezoid(y, x) / limit if hasattr(np, "trapezoid") else np.trapz(y, x) / limit


@pytest.mark.parametrize("levels", [None, 2, 1])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_aupro_equals_brute_force(levels, limit):
    maps, masks = random_maps(7, levels=levels, side=16)
    expected = brute_force_aupro(maps, masks, limit)
    assert aupro(maps, masks, fpr_limit=limit) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [None, 2, 1])
def test_all_pixel_metrics_together_are_those_one_by_one(levels):
    maps, masks = random_maps(5, levels=levels)
    expected = [auroc(maps, masks), f1_max(maps, masks), average_precision(maps, masks)]
    assert list(auroc_f1_ap(maps, masks)) == expected
    expected += [aupro(maps, masks, fpr_limit=0.2)]
    np.testing.assert_array_equal(pixel_metrics(maps, masks, fpr_limit=0.2), expected)


# By hand


def test_aupro_joins_diagonal_neighbours():
    maps = np.array([[[9.0, 5.0, 5.0, 9.0], [5.0, 1.0, 5.0, 5.0]]])
    masks = np.array([[[1, 0, 0, 1], [0, 1, 0, 0]]])
    # Two regions: the diagonal pair, half found, and the lone pixel: (1/2 + 1) / 2. Counted
    # 4-connected they would be three: (1 + 0 + 1) / 3.
    assert aupro(maps, masks) == pytest.approx(3 / 4)


def test_aupro_is_interpolated_at_the_limit():
    # One threshold reaches (FPR 1, overlap 1) from (0, 0): below 0.3 that is a triangle.
    maps, masks = np.zeros((1, 2, 2)), np.array([[[1, 0], [0, 0]]])
    assert aupro(maps, masks) == pytest.approx(0.15)
    assert auroc(maps, masks) == 0.5


def test_invariant_to_order_and_to_monotone_transforms():
    maps, masks = random_maps(11)
    order = np.random.default_rng(0).permutation(len(maps))
    for metric in (auroc, average_precision, f1_max, aupro):
        value = metric(maps, masks)
        assert metric(np.exp(maps), masks) == pytest.approx(value, abs=1e-12)
        assert metric(maps[order], masks[order]) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_masks_of_any_type_and_infinite_scores(kind):
    maps, masks = random_maps(5)
    assert aupro(maps, masks.astype(kind)) == aupro(maps, masks)
    maps[masks] = np.inf
    assert auroc(maps, masks) == aupro(maps, masks) == 1.0
    scores, labels = np.array([-np.inf, 0.0, -0.0, np.inf, 1.0]), np.array([0, 1, 0, 1, 0])
    finite = np.array([-9.0, 0.0, 0.0, 9.0, 1.0])
    assert auroc_f1_ap(scores, labels) == auroc_f1_ap(finite, labels)


# Position


def test_debiasing_compares_positive_maps_by_ratio_and_others_by_difference():
    labels = np.array([0, 0, 1])
    positive = np.array([[[2.0, 1.0]], [[8.0, 1.0]], [[4.0, 5.0]]])  # geometric means 4 and 1
    expected = np.log([[[0.5, 1]], [[2, 1]], [[1, 5]]])
    np.testing.assert_allclose(position_debiased(positive, labels), expected, atol=1e-9)
    signed = np.array([[[-5.0, 1.0]], [[-7.0, 1.0]], [[-9.0, 4.0]]])
    np.testing.assert_array_equal(
        position_debiased(signed, labels), [[[1, 0]], [[-1, 0]], [[-3, 3]]]
    )


@pytest.mark.parametrize("kind", ["probability", "positive", "signed"])
def test_debiasing_map_by_map_is_the_formula_to_the_last_bit(kind):
    rng = np.random.default_rng(0)
    maps = rng.random((9, 12, 12)) if kind == "probability" else 9 * rng.random((9, 12, 12))
    maps, labels = (maps - 4 * (kind == "signed")).astype(np.float32), np.arange(9) % 3 == 0
    wide = maps.astype(np.float64)
    if kind != "signed":
        wide = np.clip(wide, 1e-7, 1 - 1e-7 if kind == "probability" else None)
        wide = np.log(wide) - (np.log1p(-wide) if kind == "probability" else 0)
    expected = (wide - wide[~labels].mean(axis=0)).round(10)
    before = maps.copy()
    np.testing.assert_array_equal(position_debiased(maps, labels), expected)
    np.testing.assert_array_equal(maps, before)


# Memory


@pytest.mark.parametrize(
    ("measure", "times"),
    [
        (pixel_metrics, 2.0),
        (lambda maps, masks: bootstrap_aupro(maps, masks, resamples=5), 2.0),
        (lambda maps, masks: bootstrap_auroc(maps, masks, resamples=5), 2.0),
        (lambda maps, masks: position_debiased(maps, masks.any(axis=(1, 2))), 2.5),  # it is float64
    ],
)
def test_beside_the_maps_little_memory_is_needed(measure, times):
    maps, masks = random_maps(1, n=32, side=128)
    maps, masks = maps.astype(np.float32), masks & (np.arange(32) % 2 == 0)[:, None, None]
    masks[:, 20:] = False
    measure(maps[:4], masks[:4])  # what it imports is not counted
    tracemalloc.start()
    try:
        measure(maps, masks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < times * maps.nbytes


# Errors


@pytest.mark.parametrize("metric", ALL)
def test_what_cannot_be_measured_is_said(metric):
    maps, masks = random_maps(1)
    broken = maps.copy()
    broken[0, 0, 0] = np.nan
    for scores, labels, named in (
        (maps, np.zeros_like(masks), "no anomalous"),
        (maps, np.ones_like(masks), "no normal"),
        (maps, masks[:5], r"\(5, 24, 24\)"),
        (broken, masks, "1 of 3456"),
        (maps, masks.astype(np.uint8) * 255, "0 to 255"),
        (masks, maps, "scores first"),
        (maps, np.where(masks, 1, -1), "-1 to 1"),
    ):
        with pytest.raises(ValueError, match=named):
            metric(scores, labels)


def test_debiasing_checks_what_it_gets():
    maps, _ = random_maps(1)
    labels = np.array([0, 0, 0, 1, 1, 1])
    for wrong, named in (
        (labels * 2, "0 to 2"),
        (labels[:5], r"\(5,\)"),
        (labels > -1, "no normal"),
    ):
        with pytest.raises(ValueError, match=named):
            position_debiased(maps, wrong)
    maps[2, 1, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 3456"):
        position_debiased(maps, labels)


def test_wrong_options():
    maps, masks = random_maps(1)
    with pytest.raises(ValueError, match="fpr_limit"):
        aupro(maps, masks, fpr_limit=0)
    with pytest.raises(ValueError, match="rule"):
        average_precision(maps, masks, rule="linear")
    with pytest.raises(ValueError, match=r"shape \(n, H, W\)"):
        aupro(maps[1], masks[1])
