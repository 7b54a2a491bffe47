"""Each effect compares two rules on the same maps, and both are those of scikit-learn or of counts.

The atlas has the points measured with the shipped weights.
"""

from __future__ import annotations

import numpy as np
import pytest
from pandas import read_csv
from scipy.ndimage import label
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

import anovl
from anovl_companion.atlas.contradictions import MEASURED
from anovl_companion.measure.small_print import (
    Judged,
    aupro_by_neighbours,
    compare_rules,
    measure,
    nearest,
)

CORNERS = np.ones((3, 3))
SIDES = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def toy(seed: int) -> Judged:
    rng = np.random.default_rng(seed)
    masks = rng.random((6, 12, 12)) > 0.9
    masks[3:] = False
    maps = rng.random(masks.shape) + 0.2 * (1 + seed) * masks
    other = masks.copy()
    other[0] = rng.random((12, 12)) > 0.9
    labels = np.array([1, 1, 1, 0, 0, 0])
    return Judged(maps, rng.random(6) + 0.3 * labels, labels, masks, other)


def counted_aupro(maps: np.ndarray, masks: np.ndarray, structure: np.ndarray) -> float:
    """AUPRO threshold by threshold, up to a false positive rate of 0.3."""
    regions = [
        (i, labels == number)
        for i, (labels, count) in enumerate(label(mask, structure) for mask in masks)
        for number in range(1, count + 1)
    ]
    levels = np.sort(maps, axis=None)[::-1]
    rates = np.array([0.0, *((maps[~masks] >= level).mean() for level in levels)])
    overlap = np.array(
        [0.0, *(np.mean([(maps[i][r] >= level).mean() for i, r in regions]) for level in levels)]
    )
    inside = rates <= 0.3
    x = np.append(rates[inside], 0.3)
    y = np.append(overlap[inside], np.interp(0.3, rates, overlap))
    return auc(x, y) / 0.3


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("neighbours", "structure"), [(4, SIDES), (8, CORNERS)])
def test_regions_of_4_and_of_8_neighbours(seed, neighbours, structure):
    one = toy(seed)
    found = aupro_by_neighbours(one.maps, one.masks, neighbours=neighbours)
    assert found == pytest.approx(counted_aupro(one.maps, one.masks, structure), abs=1e-9)
    if neighbours == 8:
        assert found == pytest.approx(anovl.aupro(one.maps, one.masks), abs=1e-12)
    else:
        assert abs(found - anovl.aupro(one.maps, one.masks)) > 1e-3


def trapezoids(labels: np.ndarray, scores: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    return auc(recall, precision)


def test_both_rules_of_each_effect_are_those_of_scikit_learn():
    run = [toy(0), toy(1)]
    rows = {(row["effect"], row["metric"]): row for row in compare_rules(run)}

    def mean(metric, scores="maps", labels="masks"):
        return 100 * np.mean(
            [metric(vars(one)[labels].ravel(), vars(one)[scores].ravel()) for one in run]
        )

    pooled = [
        np.concatenate([vars(one)[name].ravel() for one in run]) for name in ("masks", "maps")
    ]
    images = {"scores": "scores", "labels": "labels"}
    expected = {
        ("trapezoids", "ap_px"): (mean(average_precision_score), mean(trapezoids)),
        ("trapezoids", "ap_sp"): (
            mean(average_precision_score, **images),
            mean(trapezoids, **images),
        ),
        ("pooled pixels", "auroc_px"): (mean(roc_auc_score), 100 * roc_auc_score(*pooled)),
        ("pooled pixels", "ap_px"): (
            mean(average_precision_score),
            100 * average_precision_score(*pooled),
        ),
        ("nearest masks", "auroc_px"): (
            mean(roc_auc_score),
            mean(roc_auc_score, labels="nearest"),
        ),
    }
    for key, (usual, other) in expected.items():
        row = rows[key]
        assert row["percent"] == pytest.approx(usual, abs=1e-9), key
        assert row["percent_other"] == pytest.approx(other, abs=1e-9), key
        assert row["points"] == pytest.approx(other - usual, abs=1e-9), key
        assert usual != other
    assert len(rows) == 11


def test_masks_of_another_size_come_by_the_nearest_pixel():
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, 0] = mask[3, 3] = True
    centres = mask[np.ix_([1, 3], [1, 3])]  # of two pixels, Pillow takes the second
    np.testing.assert_array_equal(nearest(mask, (2, 2)), centres)


def test_the_pocket_model_is_measured_on_smooth_and_on_spiky_maps():
    clip = anovl.load_clip("pocket")
    names = ["carpet", "metal nut"]
    dataset = anovl.load_dataset("pocket", categories=names, per_category=2, image_size=224)
    rows = measure(clip, dataset)
    committed = read_csv(MEASURED)
    key = ["maps", "effect", "metric"]
    assert rows[key].equals(committed[key])
    assert set(committed["weights"]) == {clip.weights_hash[:12]}, "weights changed: --measure"
    aupro = rows.query("effect == '200 thresholds'").set_index("maps")
    assert aupro.loc["anovl", "percent"] == pytest.approx(aupro.loc["anovl x 100", "percent"])
    assert aupro.loc["anovl x 100", "points"] < aupro.loc["anovl", "points"] - 5
