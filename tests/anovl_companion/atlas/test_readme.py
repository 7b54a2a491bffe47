"""README.md says what the table holds and what was measured, by the command and not by hand."""

from __future__ import annotations

import pytest
from pandas import read_csv

from anovl_companion.atlas import __main__ as command
from anovl_companion.atlas.contradictions import MEASURED, contradictions
from anovl_companion.atlas.table import numbers


@pytest.fixture(name="readme")
def its_copy(tmp_path, monkeypatch):
    path = tmp_path / "README.md"
    path.write_text(command.README.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(command, "README", path)
    return path


def test_it_is_what_the_command_writes(readme):
    before, table = readme.read_text(encoding="utf-8"), numbers()
    command.write_readme(table, contradictions(table))
    assert readme.read_text(encoding="utf-8") == before


def test_it_counts_the_rows(readme):
    table = numbers()
    less = table[table["dataset"] != "btad"]
    command.write_readme(less, contradictions(less))
    text = readme.read_text(encoding="utf-8")
    assert f"{len(less):,} published numbers" in text and "btad 2" not in text
    assert f"mvtec {(table['dataset'] == 'mvtec').sum()};" in text
    assert "## Licence" in text  # what people wrote stays


def test_a_lost_place_is_named_and_nothing_is_lost(readme):
    text = readme.read_text(encoding="utf-8").replace("<!-- end of effects -->", "")
    readme.write_text(text, encoding="utf-8")
    table = numbers()
    with pytest.raises(ValueError, match="effects"):
        command.write_readme(table, contradictions(table))
    assert readme.read_text(encoding="utf-8") == text


def test_what_its_words_say_of_the_effects_is_so():
    points = read_csv(MEASURED).query("effect == '200 thresholds'")
    of_thresholds = points.set_index("maps")
    spiky, smooth = of_thresholds.loc["anovl x 100"], of_thresholds.loc["anovl"]
    assert spiky["percent"] == smooth["percent"]  # the order is the same
    assert spiky["percent_other"] < spiky["percent"] / 2
    assert abs(smooth["points"]) < 1
