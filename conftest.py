"""`toy_clip` and `toy_text`, the model and the text of the examples in docstrings."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest


@cache
def _toy_clip() -> Any:
    """A random CLIP: 32 px, patches of 16 px (2 x 2), 2 blocks, 4 heads, embedding 8."""
    import open_clip

    import anovl

    vision = {"image_size": 32, "patch_size": 16, "width": 64, "head_width": 16, "layers": 2}
    model = open_clip.CLIP(8, vision, {"width": 64, "heads": 1, "layers": 1})
    return anovl.Clip(model, open_clip.tokenize, image_size=32, name="toy")


@pytest.fixture(autouse=True)
def _names_of_examples(request, doctest_namespace):
    if isinstance(request.node, pytest.DoctestItem):
        import torch

        from anovl.prompts import TextFeatures

        text = TextFeatures(
            torch.eye(2), torch.eye(2), [False, True]
        )  # normal (1, 0), anomalous (0, 1)
        doctest_namespace |= {"torch": torch, "toy_clip": _toy_clip(), "toy_text": text}
