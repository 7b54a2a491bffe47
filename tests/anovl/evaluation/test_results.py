"""The table of results: names come back as they were, and empty cells have a reason."""

from __future__ import annotations

import unicodedata

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anovl.baselines.controls import Centre, DifferenceOfGaussians
from anovl.data import load_dataset
from anovl.evaluation.harness import evaluate
from anovl.evaluation.results import missing_numbers, read_groups, read_results, read_timing

NAMES = (
    *("mean", "nan", "NA", "None", "007", "1e5", "nut, bolt", 'a "nut"', "it's", "métal"),
    unicodedata.normalize("NFD", "écrou"),
)


@pytest.fixture
def odd_names(tmp_path):
    """Categories with names that a table may take for something else."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        mask = np.zeros((16, 16), dtype=np.uint8)
        mask[4:8, 4:8] = 255
        for folder in ("test/good", "test/spot", "ground_truth/spot"):
            path = tmp_path / "data" / name / folder / "0.png"
            path.parent.mkdir(parents=True)
            pixels = rng.integers(0, 100, (16, 16), dtype=np.uint8)
            Image.fromarray(mask if "truth" in folder else pixels).save(path)
    return load_dataset("folder", tmp_path / "data")


def test_names_come_back_as_they_went_in(odd_names, tmp_path):
    methods = [Centre(16), DifferenceOfGaussians(16)]
    table = evaluate(odd_names, methods, out=tmp_path / "out", resamples=5, progress=False)
    read, timing = read_results(tmp_path / "out"), read_timing(tmp_path / "out")
    pd.testing.assert_frame_equal(read, table, check_exact=False, atol=1e-6)
    for found in (read, timing):
        own = found[found["level"] == "category"]
        assert set(own["category"]) == set(NAMES) and len(own) == 2 * len(NAMES)
        assert list(found.loc[found["level"] == "mean", "method"]) == ["centre", "dog"]
    means = table[table["level"] == "mean"].set_index("method")
    own = table[table["level"] == "category"].groupby("method")["aupro"].mean()
    assert means.loc["dog", "aupro"] == pytest.approx(own["dog"])
    again = evaluate(odd_names, methods, out=tmp_path / "out", resamples=5, progress=False)
    pd.testing.assert_frame_equal(again, table)


def test_an_unfinished_run_has_no_tables(tmp_path):
    for read, name in ((read_results, "results"), (read_timing, "timing"), (read_groups, "groups")):
        with pytest.raises(FileNotFoundError, match=f"{name}.csv"):
            read(tmp_path)


def test_every_reason_for_empty_cells_is_named_with_its_categories():
    notes = ["no anomalous images; no defect pixels", "", "no defect pixels"]
    rows = {"level": ["category"] * 3, "category": [*"abc"], "note": notes}
    lines = ["no anomalous images: a", "no defect pixels: a, c"]
    assert missing_numbers(pd.DataFrame(rows)) == lines
