"""What each prompt of an ensemble is made of, so that a notebook can group prompts by it."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from anovl.prompts import (
    ANOMALOUS_STATES,
    NORMAL_STATES,
    OBJECT_DOMAINS,
    TEMPLATES,
    TEXTURE_DOMAINS,
    TEXTURES,
)


class PromptParts(NamedTuple):
    """A state in a template, and the domain of that."""

    state: str
    template: str
    domain: str


def prompt_parts(class_name: str) -> list[PromptParts]:
    """The parts of all prompts of `prompt_ensemble(class_name)`, normal then anomalous, in order.

    >>> prompt_parts("bottle")[1]
    PromptParts(state='flawless {}', template='a cropped {domain} of the {}',
                domain='industrial photo')
    """
    domains = TEXTURE_DOMAINS if class_name in TEXTURES else OBJECT_DOMAINS
    return [
        PromptParts(state, template, domain)
        for states in (NORMAL_STATES, ANOMALOUS_STATES)
        for domain, template, state in product(domains, TEMPLATES, states)
    ]
