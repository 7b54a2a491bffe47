"""Findings: estimates as words, sentences with their numbers, and conditions that can fail."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from anovl_companion.findings import FINDINGS, Estimate, Finding, state
from anovl_companion.shared_run.reader import shared_runs

GAIN = Finding(
    says="It gains {gain:points}.",
    numbers=lambda run: {"gain": run.gain},
    holds=lambda n: n["gain"].verdict == "above",
    again="{gain:points}",
    otherwise="The gain is {gain:points} ({gain:word}).",
    real_clip="More.",
    refuted_by="a row",
)


def run(*gain: float, name: str = "pocket") -> SimpleNamespace:
    return SimpleNamespace(gain=Estimate(*gain), path=SimpleNamespace(name=name))


def test_a_finding_is_said_with_the_numbers_of_every_model():
    said = state(GAIN, [run(0.1, 0.05, 0.15), run(0.2, 0.1, 0.3, name="second")], is_shipped=True)
    assert said == (
        "It gains +10.0 points [+5.0 to +15.0]. "
        "Trained again with another seed: +20.0 points [+10.0 to +30.0]."
    )


@pytest.mark.parametrize("low", [0.001, -0.1])  # within the margin of reproduction; below zero
def test_a_finding_that_one_model_refutes_is_an_error_that_names_the_model(low):
    runs = [run(0.1, 0.05, 0.15), run(0.2, low, 0.3, name="second")]
    with pytest.raises(AssertionError, match="second"):
        state(GAIN, runs, is_shipped=True)


def test_elsewhere_it_says_what_was_found():
    assert state(GAIN, [run(-0.1, -0.2, -0.05)], is_shipped=False) == (
        "The gain is -10.0 points [-20.0 to -5.0] (below)."
    )
    assert state(GAIN, [], is_shipped=False) == "The gain is not measured (not measured)."


def test_estimates_without_an_interval_have_none():
    assert f"{Estimate(0.5):interval}" == "0.50"
    assert Estimate(0.0, -0.02, 0.01).verdict == "not told apart"
    assert Estimate(math.nan).verdict == "not measured"


@pytest.mark.parametrize("name", FINDINGS)
def test_every_finding_holds_on_every_model_that_ships_and_has_all_its_parts(name):
    finding, runs = FINDINGS[name], shared_runs()
    assert runs
    said = state(finding, runs, is_shipped=True)
    assert "not measured" not in said and "nan" not in said
    assert all(vars(replace(finding)).values())
    state(finding, runs[:1], is_shipped=False)
    state(finding, [], is_shipped=False)
