"""Names with commas, pairs of names, and a file of prompts."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError

import pytest

from anovl.cli.options import name_list
from anovl.cli.words import class_names, read_prompt_file
from anovl.prompts import TEMPLATES, prompt_ensemble

STATES = {"normal": ["intact {}"], "anomalous": ["broken {}", "{} with a crack"]}
MINE = {"states": STATES, "templates": ["a {domain} of the {}"], "domains": ["infrared image"]}


@pytest.fixture
def read(tmp_path):
    """A function: the lists of a file with this content."""

    def lists(content):
        path = tmp_path / "mine.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_prompt_file(path)

    return lists


def test_names_with_commas_stand_in_quotes():
    assert name_list('01, "a,b",02') == ["01", "a,b", "02"]
    assert class_names('"a,b=steel plate",02=x') == {"a,b": "steel plate", "02": "x"}


@pytest.mark.parametrize("names", ["01", "01=", "=cell", "01=a,01=b"])
def test_names_are_pairs(names):
    with pytest.raises(ArgumentTypeError, match=names):
        class_names(names)


def test_a_file_decides_all_prompts(read):
    found = prompt_ensemble("solar cell", **read(MINE))
    assert found.normal == ("an infrared image of the intact solar cell",)
    assert found.anomalous == (
        "an infrared image of the broken solar cell",
        "an infrared image of the solar cell with a crack",
    )


def test_what_a_file_lacks_is_the_papers(read):
    both, usual = prompt_ensemble("nut", **read({"states": STATES})), prompt_ensemble("nut")
    assert len(both.normal) == 3 * len(TEMPLATES)
    for given, other in (("normal", "anomalous"), ("anomalous", "normal")):
        found = prompt_ensemble("nut", **read({"states": {given: STATES[given]}}))
        assert getattr(found, given) == getattr(both, given)
        assert getattr(found, other) == getattr(usual, other)


@pytest.mark.parametrize(
    "content",
    [
        *("{", [], {}, {"template": ["{}"]}, {"states": ["a {}"]}, {"states": {}}),
        *({"level": "word"}, {"templates": "a {}"}),
        {"states": {"normal": ["{}"], "abnormal": ["{}"]}},
        {"states": {"normal": ["{}"], "anomalous": ["broken"]}},
        {"states": {"normal": [], "anomalous": ["{}"]}},
        {"templates": ["a {}"], "domains": ["scan"]},
    ],
)
def test_an_error_names_the_file(read, content):
    with pytest.raises(ValueError, match=r"mine\.json"):
        read(content)
