"""What a run of other pictures lacks is said to be unmeasured; a shipped run must have it."""

from __future__ import annotations

import pytest

from anovl_companion.notebook import Notebook, Parameters
from anovl_companion.run_charts.notebook_03 import naming


class RunWithoutTables:
    def value(self, *of, **where):
        raise KeyError("words")

    gain = value


def notebook_of(dataset, tmp_path, runs):
    parameters = Parameters("pocket", "", dataset, "", str(tmp_path), "cpu", 0, True)
    nb = Notebook(parameters, tmp_path, (), ("words",))
    nb.__dict__["runs"] = runs
    return nb


@pytest.mark.parametrize("runs", [[], [RunWithoutTables()]])
def test_a_run_without_a_table_is_said_to_be_unmeasured(tmp_path, runs):
    nb = notebook_of("folder", tmp_path, runs)
    assert "not measured" in nb.finding("03-not").data
    assert "not measured" in nb.chart(naming).texts[0].get_text()


def test_a_shipped_run_must_have_its_tables(tmp_path):
    nb = notebook_of("pocket", tmp_path, [RunWithoutTables()])
    with pytest.raises(KeyError, match="words"):
        nb.finding("03-not")
    with pytest.raises(KeyError, match="words"):
        nb.chart(naming)
