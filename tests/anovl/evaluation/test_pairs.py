"""All metrics of a category at once are what each gives by itself."""

from __future__ import annotations

import numpy as np
import pytest

from anovl.evaluation import pairs as module
from anovl.evaluation.bootstrap import bootstrap_aupro, bootstrap_auroc
from anovl.evaluation.metrics import aupro, auroc, average_precision, f1_max, position_debiased
from anovl.evaluation.pairs import all_metrics
from anovl.evaluation.results import IMAGE, PIXEL

DRAWS = {"seed": [0, 7], "resamples": 20}


@pytest.fixture
def category():
    """Maps, scores, labels and masks of six images, the last two normal."""
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 12, 12), dtype=bool)
    masks[:4, 2:5, 3:7] = True
    maps = (rng.random(masks.shape) + masks).astype(np.float32) / 2
    return maps, maps.max(axis=(1, 2)), np.array([1, 1, 1, 1, 0, 0]), masks


@pytest.mark.parametrize("large", [0, module._LARGE])
def test_one_by_one_or_two_at_a_time(category, large, monkeypatch):
    monkeypatch.setattr(module, "_LARGE", large)
    maps, scores, labels, masks = category
    values, replicates, notes = all_metrics(*category, **DRAWS)
    assert tuple(values) == (*PIXEL, *IMAGE) and notes == []
    debiased = position_debiased(maps, labels)
    pairs = {"px": (maps, masks), "sp": (scores, labels)}
    for end, pair in pairs.items():
        assert values[f"auroc_{end}"] == auroc(*pair)
        assert values[f"f1_{end}"] == f1_max(*pair)
        assert values[f"ap_{end}"] == average_precision(*pair)
    assert values["aupro"] == aupro(maps, masks)
    assert values["auroc_px_debiased"] == auroc(debiased, masks)
    assert set(replicates) == {"auroc_sp", "aupro", "auroc_px_debiased"}
    drawn = {
        "auroc_sp": bootstrap_auroc(scores, labels, **DRAWS),
        "aupro": bootstrap_aupro(maps, masks, **DRAWS),
        "auroc_px_debiased": bootstrap_auroc(debiased, masks, **DRAWS),
    }
    for metric, expected in drawn.items():
        np.testing.assert_array_equal(replicates[metric], expected)
