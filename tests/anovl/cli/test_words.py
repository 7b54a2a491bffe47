"""Names with commas, pairs of names, and a file of prompts."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError

import pytest

from anovl.cli.options import name_list
from anovl.cli.words import class_names, read_prompt_file
from anovl.prompts import TEMPLATES, prompt_ensemble

MINE = {
    "states": {"normal": ["intact {}"], "anomalous": ["broken {}", "{} with a crack"]},
    "templates": ["a {domain} of the {}"],
    "domains": ["infrared image"],
}


def write(folder, content):
    path = folder / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_names_with_commas_stand_in_quotes():
    assert name_list('01, "a,b",02') == ["01", "a,b", "02"]
    assert class_names('"a,b=steel plate",02=x') == {"a,b": "steel plate", "02": "x"}


@pytest.mark.parametrize("names", ["01", "01=", "=cell", "01=a,01=b"])
def test_names_are_pairs(names):
    with pytest.raises(ArgumentTypeError, match=names):
        class_names(names)


def test_a_file_decides_all_prompts(tmp_path):
    found = prompt_ensemble("solar cell", **read_prompt_file(write(tmp_path, MINE)))
    assert found.normal == ("an infrared image of the intact solar cell",)
    assert found.anomalous == (
        "an infrared image of the broken solar cell",
        "an infrared image of the solar cell with a crack",
    )


def test_what_a_file_lacks_is_the_papers(tmp_path):
    both = prompt_ensemble("nut", **read_prompt_file(write(tmp_path, {"states": MINE["states"]})))
    assert len(both.normal) == 3 * len(TEMPLATES)
    assert both.normal[0] == "a cropped industrial photo of the intact nut"
    for given, other in (("normal", "anomalous"), ("anomalous", "normal")):
        file = write(tmp_path, {"states": {given: MINE["states"][given]}})
        found = prompt_ensemble("nut", **read_prompt_file(file))
        assert getattr(found, given) == getattr(both, given)
        assert getattr(found, other) == getattr(prompt_ensemble("nut"), other)


@pytest.mark.parametrize(
    "content",
    [
        *("{", [], {}, {"template": ["{}"]}, {"states": ["a {}"]}, {"states": {}}),
        {"states": {"normal": ["{}"], "abnormal": ["{}"]}},
        {"states": {"normal": ["{}"], "anomalous": ["broken"]}},
        {"states": {"normal": [], "anomalous": ["{}"]}},
        {"templates": "a {}"},
        {"templates": ["a {}"], "domains": ["scan"]},
    ],
)
def test_an_error_names_the_file(tmp_path, content):
    with pytest.raises(ValueError, match=r"mine\.json"):
        read_prompt_file(write(tmp_path, content))
    with pytest.raises(FileNotFoundError, match=r"no\.json"):
        read_prompt_file(tmp_path / "no.json")
