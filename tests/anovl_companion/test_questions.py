"""Questions: data with one right answer, and the HTML that hides it."""

from __future__ import annotations

import pytest

from anovl_companion.questions import ask, questions


def test_the_answer_is_folded_away_and_text_is_escaped():
    html = ask("02-rows")
    before, _, after = html.partition("<details>")
    assert "scratch patch" in before and "so metal gets the weight" not in before
    assert "<strong>b.</strong>" in after and "so metal gets the weight" in after
    assert "<p><strong>Predict.</strong>" in before


@pytest.mark.parametrize("name", questions())
def test_every_question_has_options_an_answer_and_a_misconception(name):
    one = questions()[name]
    assert 2 <= len(one.options) <= 4 and len(set(one.options)) == len(one.options)
    assert one.question.endswith("?") and one.because.endswith(".") and one.misconception


def test_an_unknown_name_is_named():
    with pytest.raises(ValueError, match=r"02-row.*02-rows"):
        ask("02-row")
