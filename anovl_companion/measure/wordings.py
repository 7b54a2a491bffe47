"""The words of the prompts changed one thing at a time, and the precision of the maps."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

import numpy as np
import torch

from anovl.maps import image_scores
from anovl.prompts import (
    ANOMALOUS_STATES,
    NORMAL_STATES,
    OBJECT_DOMAINS,
    PROMPT_LEVELS,
    TEXTURE_DOMAINS,
    TEXTURES,
    PromptEnsemble,
    encode_prompts,
    prompt_ensemble,
)
from anovl.world.captions import HELD_OUT, STRANGE_WORDS
from anovl.world.scenes import SEEN, UNSEEN
from anovl_companion.measure.ablation import maps_of
from anovl_companion.measure.category import Category, Variant

ALL = "domains"
"""The variant with all published words."""
SPAN = 0.02
"""What the published scores of a data set span."""
NEGATED = tuple(f"not {state}" for state in ANOMALOUS_STATES)


def wordings(category: str) -> dict[str, PromptEnsemble]:
    """Ensembles for a class name, by what is changed in the published words.

    >>> words = wordings("wood")
    >>> words["name: wrong"].class_name, len(words["domains"]), words["word"].anomalous
    ('screw', 924, ('damaged wood',))
    """
    texture = category in TEXTURES
    found = {level: prompt_ensemble(category, level=level) for level in PROMPT_LEVELS}
    other = "object" if texture else "texture"
    found["domains of the other surface"] = prompt_ensemble(category, surface=other)
    for domain in dict.fromkeys((*OBJECT_DOMAINS, *TEXTURE_DOMAINS)):
        found[f"domain: {domain}"] = prompt_ensemble(category, domains=[domain])
    for normal, anomalous in zip(NORMAL_STATES, ANOMALOUS_STATES, strict=True):
        state = anomalous.replace("{}", "").strip()
        words = prompt_ensemble(category, states=((normal,), (anomalous,)))
        found[f"state: {state}"] = words
    held_out = HELD_OUT["normal"], HELD_OUT["abnormal"]
    found["held-out states"] = prompt_ensemble(category, states=held_out)
    found["normal is 'not anomalous'"] = prompt_ensemble(
        category, states=(NEGATED, ANOMALOUS_STATES)
    )
    names = {"generic": "surface" if texture else "object", "unknown": STRANGE_WORDS[0]}
    names["wrong"] = _another(category)
    for kind, name in names.items():
        surface = "texture" if texture else "object"
        found[f"name: {kind}"] = prompt_ensemble(name, surface=surface)
    found["name: none"] = without_name(found[ALL], category)
    return found


def _another(name: str) -> str:
    """The name of another thing: ten places further in the pocket world."""
    names = (*SEEN, *UNSEEN)
    return names[(names.index(name) + 10) % len(names)] if name in names else names[0]


def without_name(words: PromptEnsemble, name: str) -> PromptEnsemble:
    """The same prompts without the class name.

    >>> without_name(PromptEnsemble(("a normal nut",), ("the nut with damage",)), "nut").anomalous
    ('the with damage',)
    """
    normal, anomalous = (
        tuple(re.sub(f" ?{re.escape(name)}", "", text).strip() for text in texts)
        for texts in (words.normal, words.anomalous)
    )
    return PromptEnsemble(normal, anomalous, words.class_name)


def word_variants(category: Category) -> Iterator[Variant]:
    """Yield v-v maps and image scores by each of the `wordings`, then maps of less precision."""
    images = category.encoded()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some words are strange to the model on purpose
        texts = {
            name: encode_prompts(category.clip, words)
            for name, words in wordings(category.words.class_name).items()
        }
        texts["normalised before the mean"] = encode_prompts(
            category.clip, category.words, normalize_first=True
        )
    for name, text in texts.items():
        scores = image_scores(images.cls, text).cpu().numpy()
        yield Variant(name, maps_of(images, text), scores)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        maps = rounded(squeezed(maps_of(images, texts[ALL])), dtype)
        name = f"span of {SPAN}, {str(dtype).partition('.')[2]}"
        yield Variant(name, maps, facts={"levels": float(len(np.unique(maps)))})


def squeezed(maps: np.ndarray) -> np.ndarray:
    """Maps stretched or squeezed around one half to the published `SPAN`; no order changes.

    >>> squeezed(np.array([0.4, 0.5, 0.6])).round(3)
    array([0.49, 0.5 , 0.51])
    """
    low, high = maps.min(), maps.max()
    return 0.5 + SPAN * ((maps.astype(np.float64) - low) / (high - low) - 0.5)


def rounded(maps: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Maps as numbers of another precision hold them.

    >>> len(np.unique(rounded(np.linspace(0.49, 0.51, 1000), torch.bfloat16)))
    9
    """
    return torch.from_numpy(maps).to(dtype).double().numpy()
