"""A file of prompts: what it says is used, and what is wrong in it is said."""

from __future__ import annotations

import json

import pytest

from anovl.cli.prompt_file import read_prompt_file
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


def test_a_file_decides_all_prompts(tmp_path):
    found = prompt_ensemble("solar cell", **read_prompt_file(write(tmp_path, MINE)))
    assert found.normal == ("an infrared image of the intact solar cell",)
    assert found.anomalous == (
        "an infrared image of the broken solar cell",
        "an infrared image of the solar cell with a crack",
    )


def test_what_a_file_lacks_is_the_papers(tmp_path):
    found = prompt_ensemble("nut", **read_prompt_file(write(tmp_path, {"states": MINE["states"]})))
    assert len(found.normal) == 3 * len(TEMPLATES)
    assert found.normal[0] == "a cropped industrial photo of the intact nut"


@pytest.mark.parametrize(("given", "other"), [("normal", "anomalous"), ("anomalous", "normal")])
def test_one_list_of_states_leaves_the_other_to_the_paper(tmp_path, given, other):
    file = write(tmp_path, {"states": {given: MINE["states"][given]}})
    found = prompt_ensemble("nut", **read_prompt_file(file))
    both = prompt_ensemble("nut", **read_prompt_file(write(tmp_path, {"states": MINE["states"]})))
    assert getattr(found, given) == getattr(both, given)
    assert getattr(found, other) == getattr(prompt_ensemble("nut"), other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON: .*line 1"),
        ([], "expected an object with states, templates, domains"),
        ({}, "expected an object"),
        ({"template": ["{}"]}, "Did you mean 'templates'"),
        ({"states": ["a {}"]}, 'two lists, "normal" and "anomalous"'),
        ({"states": {}}, 'two lists, "normal" and "anomalous"'),
        ({"states": {"normal": ["{}"], "abnormal": ["{}"]}}, 'two lists, "normal" and "anomalous"'),
        ({"states": {"normal": ["{}"], "anomalous": ["broken"]}}, "exactly one {} .* 'broken'"),
        ({"states": {"normal": [], "anomalous": ["{}"]}}, "the normal states are empty"),
        ({"templates": "a {}"}, "the templates must be a list"),
        ({"templates": ["a {}"], "domains": ["scan"]}, "no template says {domain}"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"mine\.json.*{message}"):
        read_prompt_file(write(tmp_path, content))


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*mine\.json with prompts"):
        read_prompt_file(tmp_path / "mine.json")
