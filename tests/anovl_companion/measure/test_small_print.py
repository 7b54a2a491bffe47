"""How far each choice of small print moves a number: by hand on toy runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pandas import DataFrame

from anovl.baselines import make_detector
from anovl.data import load_dataset
from anovl.evaluation.metrics import aupro, auroc, average_precision, mask_at
from anovl_companion.measure.microscope import sampled_aupro
from anovl_companion.measure.small_print import NOT_MEASURED, Judged, judge
from anovl_companion.measure.small_print import small_print as rows_of_small_print


def small_print(*run, **options):
    return DataFrame(rows_of_small_print(*run, **options))


def toy(seed, offset=0.0, scale=3):
    """Two normal and three anomalous images of 8x8, masks three times as large."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((5, 8 * scale, 8 * scale), dtype=bool)
    for i in (2, 3, 4):
        top, left = rng.integers(0, 4 * scale, 2)
        masks[i, top : top + 7, left : left + 8] = True
    seen = np.stack([mask_at(mask, (8, 8)) for mask in masks])
    maps = rng.random((5, 8, 8)) + 0.4 * seen + offset
    labels = np.array([0, 0, 1, 1, 1])
    return Judged(maps, maps.max(axis=(1, 2)), list(masks), labels)


@pytest.fixture(scope="module")
def run():
    return {"nut": toy(0), "bolt": toy(1, offset=0.5)}


def row(table, choice, metric, other):
    found = table.query("choice == @choice and metric == @metric and other == @other")
    assert len(found) == 1
    return found.iloc[0]


def test_pooling_categories_mixes_their_levels(run):
    table = small_print(run)
    pixels = row(table, "pooling", "auroc_px", "all categories pooled")
    truth = {name: np.stack([mask_at(m, (8, 8)) for m in one.masks]) for name, one in run.items()}
    means = np.mean([auroc(one.maps, truth[name]) for name, one in run.items()])
    pooled = auroc(
        np.concatenate([one.maps for one in run.values()]), np.concatenate(list(truth.values()))
    )
    assert (pixels.value, pixels.value_other) == (pytest.approx(means), pytest.approx(pooled))
    assert pixels.difference == pytest.approx(pooled - means) and pixels.difference < -0.01
    images = row(table, "pooling", "auroc_sp", "all categories pooled")
    assert images.value == pytest.approx(
        np.mean([auroc(one.scores, one.labels) for one in run.values()])
    )
    alone = small_print({"nut": run["nut"]}).query("choice == 'pooling'")
    assert (alone.difference == 0).all()


def test_the_area_of_ap(run):
    found = row(small_print(run), "area of AP", "ap_sp", "trapezoids (published code)")
    for rule, value in (("step", found.value), ("trapezoid", found.value_other)):
        expected = [average_precision(o.scores, o.labels, rule=rule) for o in run.values()]
        assert value == pytest.approx(np.mean(expected))
    assert found.difference != 0


def test_masks_resized_in_other_ways():
    """One pixel in 3x3 is 1/9 of a pixel of the map: any part of it counts, half of it does not."""
    mask = np.zeros((6, 6), dtype=bool)
    mask[:3, :3] = True  # one whole pixel of the map
    mask[4, 4] = True  # the middle of another: the nearest to it, and a ninth of it
    maps = np.array([[[0.9, 0.2], [0.3, 0.1]], [[0.15, 0.25], [0.5, 0.05]]])
    one = Judged(maps, np.array([0.9, 0.5]), [mask, mask & ~mask], np.array([1, 0]))
    table = small_print({"nut": one})
    for other in ("nearest pixel", "any part of a pixel"):
        found = row(table, "masks", "auroc_px", other)
        assert found.value == 1  # of seven normal pixels, none is above 0.9
        assert found.value_other == pytest.approx((6 + 1) / 12)  # 0.1 is above one of six
    same_size = replace(one, masks=[mask_at(m, (2, 2)) for m in one.masks])
    assert (small_print({"nut": same_size}).query("choice == 'masks'").difference == 0).all()


def test_limits_and_thresholds(run):
    table = small_print(run, fpr_limits=(0.1, 0.3), thresholds=(20, 200))
    truth = {name: np.stack([mask_at(m, (8, 8)) for m in one.masks]) for name, one in run.items()}
    for limit in (0.1, 0.3):
        expected = [aupro(o.maps, truth[n], fpr_limit=limit) for n, o in run.items()]
        found = row(table, "FPR limit", "aupro", f"{limit:g}")
        assert found.value_other == pytest.approx(np.mean(expected))
    assert row(table, "FPR limit", "aupro", "0.3").difference == pytest.approx(0, abs=1e-12)
    published = row(table, "thresholds", "aupro", "200 thresholds, stretched (published code)")
    expected = [sampled_aupro(o.maps, truth[n], thresholds=200) for n, o in run.items()]
    assert published.value_other == pytest.approx(np.mean(expected))
    assert not table[table.other == "20 thresholds, stretched"].empty


def test_what_needs_another_run_is_said_to_be_not_measured(run):
    table = small_print(run).set_index("choice")
    for choice in ("views", "weights"):
        rows = table.loc[[choice]]
        assert rows.value.notna().all() and rows.difference.isna().all()
        assert set(rows.note) == {NOT_MEASURED[choice]}
    assert (table.drop(["views", "weights"]).note == "").all()


def test_views_and_weights_are_measured_when_they_are_given(run):
    reversed_views = {name: replace(one, views_22=-one.scores) for name, one in run.items()}
    found = row(small_print(reversed_views), "views", "auroc_sp", "22 views (published code)")
    assert found.value_other == pytest.approx(1 - found.value) and found.note == ""
    other = {name: replace(one, maps=1 - one.maps, scores=-one.scores) for name, one in run.items()}
    table = small_print(run, other_weights=other)
    weights = table[table.choice == "weights"].set_index("metric")
    assert (weights.note == "").all()
    for metric in ("auroc_sp", "auroc_px"):
        moved = weights.loc[metric]
        assert moved.value_other == pytest.approx(1 - moved.value)


def test_a_run_is_made_of_a_data_set_and_a_detector(tiny_clip):
    data = load_dataset("pocket", categories=["wood"], per_category=2, seed=0)
    one, many = (make_detector("anovl", tiny_clip, level="word", views=n) for n in (1, 22))
    (found,) = judge(data, one, with_views=many).values()
    samples = list(data.samples("wood"))
    assert found.maps.shape == (4, 64, 64) and found.labels.tolist() == list(data.labels("wood"))
    assert [mask.shape for mask in found.masks] == [sample.mask.shape for sample in samples]
    np.testing.assert_allclose(
        found.views_22, [many(sample.image, "wood").score for sample in samples], atol=1e-6
    )
    assert judge(data, one)["wood"].views_22 is None


def test_an_empty_run():
    with pytest.raises(ValueError, match="the run is empty"):
        small_print({})
