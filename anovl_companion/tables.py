"""Rows of tables: prompts, and means with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from pandas import DataFrame

from anovl.prompts import (
    ANOMALOUS_STATES,
    NORMAL_STATES,
    OBJECT_DOMAINS,
    TEMPLATES,
    TEXTURE_DOMAINS,
    TEXTURES,
)


class PromptParts(NamedTuple):
    """A state, a template, and the domain in the template."""

    state: str
    template: str
    domain: str


def prompt_parts(class_name: str) -> list[PromptParts]:
    """Return the parts of all prompts of `prompt_ensemble(class_name)`, in their order.

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


def means_of(table: DataFrame, metrics: Sequence[str], *, bounded: Sequence[str] = ()) -> DataFrame:
    """Return the means of `evaluate`'s table, one row a method, for some metrics.

    Those in `bounded` also have their 95 % interval, as text in per cent. An empty table
    is returned as it is.
    """
    if table.empty:
        return table
    means = table[table["level"] == "mean"]
    shown = means[["method", *metrics]].reset_index(drop=True)
    for metric in bounded:
        ends = means[[f"{metric}_lo", f"{metric}_hi"]].to_numpy()
        shown[f"{metric}, 95 % interval"] = [
            "–" if np.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f}" for low, high in ends
        ]
    return shown
