"""Sentences that several wings say in the same words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence


def unknown(what: str, name: str, known: Sequence[str] | Mapping) -> str:
    """Say that a name is unknown, which one might be meant, and which there are.

    >>> unknown("category", "brik", ["brick", "coins"])
    "unknown category: 'brik'. Did you mean 'brick'? Known are: brick, coins."
    """
    near = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what}: {name!r}.{hint} Known are: {', '.join(known)}."
