"""Pieces of messages that several packages use."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say that a name is unknown, which one might be meant, and which there are.

    >>> unknown("category", "brik", ["brick", "coins"])
    "unknown category: 'brik'. Did you mean 'brick'? Known are: brick, coins."
    """
    known = list(known)
    hint = "".join(f" Did you mean {close!r}?" for close in near(name, known))
    return f"unknown {what}: {name!r}.{hint} Known are: {', '.join(known)}."


def counted(n: int, noun: str) -> str:
    """Write a number with its noun, in the singular or the plural.

    >>> counted(1, "normal image"), counted(0, "normal image"), counted(15, "category")
    ('1 normal image', '0 normal images', '15 categories')
    """
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{n} {noun if n == 1 else many}"


def one_line(text: str) -> str:
    """Escape characters that break a line or are invisible, as in a name of a file.

    >>> print(one_line("ä nut\\n.png"))
    ä nut\\n.png
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def said_range(low: float, high: float) -> str:
    """Say which pixel values of pictures of more than 8 bits are black and white."""
    return f"pixel values from {low:g} (black) to {high:g} (white)"


def near(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Return up to `count` known names with a similar spelling; case is ignored.

    >>> near("vit-b-61", ["RN50", "ViT-B-16", "ViT-B-32"], 2)
    ['ViT-B-16', 'ViT-B-32']
    """
    spelt = {one.lower(): one for one in known}
    return [spelt[one] for one in difflib.get_close_matches(str(name).lower(), spelt, n=count)]
