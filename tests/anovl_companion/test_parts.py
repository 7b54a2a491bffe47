"""The parts of prompts put together give the prompts, in their order."""

from __future__ import annotations

import pytest

from anovl.prompts import prompt_ensemble
from anovl_companion.parts import prompt_parts


@pytest.mark.parametrize("class_name", ["nut", "carpet", "artichoke"])
def test_parts_put_together_are_the_prompts(class_name):
    ensemble = prompt_ensemble(class_name)
    rendered = tuple(
        template.replace("{domain}", domain).replace("{}", state.replace("{}", class_name))
        for state, template, domain in prompt_parts(class_name)
    )
    fixed = tuple(text.replace("a industrial", "an industrial") for text in rendered)
    assert fixed == (*ensemble.normal, *ensemble.anomalous)
