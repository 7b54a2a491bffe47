"""Tables say what was measured: nothing is lost, and what is unknown is a gap."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from anovl.data import DATASETS
from anovl.data.published import LICENCES
from anovl.evaluation.results import COLUMNS
from anovl.models.weights import TERMS
from anovl_companion.tables import means_of


@pytest.mark.parametrize("name", sorted({*DATASETS, *TERMS} - {"folder", "photos", "pocket"}))
def test_the_licences_in_the_readme_are_those_that_the_program_knows(name):
    data = (Path(__file__).parents[2] / "DATA.md").read_text(encoding="utf-8")
    if name in TERMS:
        licence, page = TERMS[name]
        row = f"| `{name}` | weights | {licence} | {page} |  |"
    else:
        own = LICENCES[name]
        row = f"| `{name}` | {own.title} | {own.licence} | {own.page} | {own.read} |"
    assert row in data.splitlines(), "DATA.md: put this row into the table of licences"


def test_means_have_their_intervals_and_gaps_stay_gaps():
    rows = [
        {"level": "category", "method": "anovl", "aupro": 0.9},
        {"level": "mean", "method": "anovl", "aupro": 0.5, "aupro_lo": 0.4, "aupro_hi": 0.61},
        {"level": "mean", "method": "clip"},
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    shown = means_of(table, ["aupro"], bounded=["aupro"])
    assert shown["method"].tolist() == ["anovl", "clip"]
    assert shown["aupro, 95 % interval"].tolist() == ["40.0 to 61.0", "–"]
