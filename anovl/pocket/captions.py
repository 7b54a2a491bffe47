"""Captions of the pocket world, and which of them are true of which picture.

A caption states a few things (object, state, kind of damage, place, look) and leaves the others
open, so "a photo of a damaged object" is true of many pictures. Contrastive training takes every
true caption as a match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anovl.pocket.images import PLACES, SEEN, TEXTURES, Scene

NORMAL = (
    "normal {}", "flawless {}", "perfect {}", "unblemished {}",
    "{} without flaw", "{} without defect", "{} without damage",
    "intact {}", "undamaged {}", "{} in good condition",
)  # fmt: skip
DAMAGED = (
    "damaged {}", "abnormal {}", "imperfect {}", "blemished {}",
    "{} with flaw", "{} with defect", "{} with damage",
    "broken {}", "defective {}", "{} in bad condition",
)  # fmt: skip
KIND_PHRASES = {
    "scratch": ("{} with a scratch", "scratched {}"),
    "crack": ("{} with a crack", "cracked {}"),
    "hole": ("{} with a hole", "torn {}"),
    "stain": ("{} with a stain", "stained {}"),
    "dent": ("{} with a dent", "dented {}"),
    "missing_piece": ("{} with a missing piece", "chipped {}"),
    "contamination": ("{} with dirt", "contaminated {}"),
    "thread": ("{} with a thread", "{} with a foreign fibre"),
}
SYNONYMS = {
    "carpet": ("rug",), "wood": ("wooden board",), "leather": ("hide",), "tile": ("tiled floor",),
    "grid": ("wire mesh",), "fabric": ("woven cloth",), "metal plate": ("brushed metal",),
    "bottle": ("bottle mouth",), "metal nut": ("hexagonal nut",), "pill": ("tablet",),
    "capsule": ("medicine",), "screw": ("bolt",), "circuit board": ("electronics",),
    "hazelnut": ("nut shell",), "biscuit": ("cookie",),
}  # fmt: skip
SURFACE_WORDS = ("surface", "material", "texture")
OBJECT_WORDS = ("object", "part", "product", "item")
ANY_WORDS = ("sample", "thing")
STRANGE_WORDS = ("gizmo", "doohickey", "whatsit")
"""Words kept out of the vocabulary: they teach the model that an unknown name says nothing."""

ADJECTIVES = ("", "", "", "cropped ", "close-up ", "plain ")
PICTURES = (
    "photo", "picture", "image", "industrial photo", "industrial image", "manufacturing image",
    "textural photo", "surface picture",
)  # fmt: skip
PURPOSES = ("", "", "", "", " for visual inspection", " for anomaly detection")
LOOKS = {
    "dark": "dark ", "bright": "bright ", "blurry": "blurry ", "grey": "grey ",
    "jpeg": "jpeg corrupted ",
}  # fmt: skip
OTHER_PROMPT_WORDS = ("small", "large", "surface", "industrial", "corrupted", "_")


@dataclass(frozen=True)
class Caption:
    """A sentence and what it claims; an empty or None field claims nothing."""

    text: str
    categories: frozenset[str] | None = None
    damaged: bool | None = None
    kind: str = ""
    place: str = ""
    look: str = ""


def write_caption(rng: np.random.Generator, scene: Scene) -> Caption:
    """Write one random true caption of a scene.

    >>> from anovl.pocket.images import draw_scene
    >>> scene = draw_scene("wood", seed=1, kind="crack", size=32)
    >>> caption = write_caption(np.random.default_rng(1), scene)
    >>> bool(truth_matrix([scene], [caption])[0, 0])
    True
    """
    noun, categories = _noun(rng, scene.category)
    damaged = scene.kind != "good"
    kind = place = ""
    topic = rng.random()
    if topic < 0.12:
        phrase, state = noun, None
    elif damaged and topic < 0.45:
        phrase, state, kind = rng.choice(KIND_PHRASES[scene.kind]).format(noun), True, scene.kind
    else:
        phrase, state = rng.choice(DAMAGED if damaged else NORMAL).format(noun), damaged
    if damaged and state and rng.random() < 0.15:
        place = scene.place
        phrase = f"{phrase} at the {place}"
    look = str(rng.choice(scene.look)) if scene.look and rng.random() < 0.3 else ""
    return Caption(_sentence(rng, phrase, look), categories, state, kind, place, look)


def truth_matrix(scenes: Sequence[Scene], captions: Sequence[Caption]) -> np.ndarray:
    """Which caption is true of which scene: bool (scenes, captions)."""
    return np.array([[_is_true(caption, scene) for caption in captions] for scene in scenes])


def vocabulary_texts() -> list[str]:
    """Every phrase the grammar can use, for choosing the rows of the token table."""
    phrases = [p.format("") for p in (*NORMAL, *DAMAGED)]
    phrases += [p.format("") for pair in KIND_PHRASES.values() for p in pair]
    names = [*SEEN, *(word for words in SYNONYMS.values() for word in words)]
    rest = [*SURFACE_WORDS, *OBJECT_WORDS, *ANY_WORDS, *ADJECTIVES, *PICTURES, *PURPOSES]
    rest += [*LOOKS.values(), *PLACES, *OTHER_PROMPT_WORDS, "a an the of at in on with without"]
    return phrases + names + rest


def _noun(rng: np.random.Generator, category: str) -> tuple[str, frozenset[str] | None]:
    """A word for the object, and the categories that it fits (None = any)."""
    choice = rng.random()
    if choice < 0.45:
        names = (category, category, *SYNONYMS.get(category, ()))
        return str(rng.choice(names)), frozenset([category])
    if choice < 0.8:
        texture = category in TEXTURES
        kin = frozenset(name for name in SEEN if (name in TEXTURES) == texture)
        return str(rng.choice(SURFACE_WORDS if texture else OBJECT_WORDS)), kin
    return str(rng.choice(ANY_WORDS if choice < 0.88 else STRANGE_WORDS)), None


def _sentence(rng: np.random.Generator, phrase: str, look: str) -> str:
    """Put a phrase into a photographic sentence."""
    if rng.random() < 0.12 and not look:
        return phrase
    adjective = LOOKS[look] if look else rng.choice(ADJECTIVES)
    picture = f"{adjective}{rng.choice(PICTURES)}"
    article = rng.choice(["a", "the"])
    start = rng.choice(["a " if picture[0] not in "aeiou" else "an ", ""], p=[0.85, 0.15])
    return f"{start}{picture} of {article} {phrase}{rng.choice(PURPOSES)}"


def _is_true(caption: Caption, scene: Scene) -> bool:
    return (
        (caption.categories is None or scene.category in caption.categories)
        and (caption.damaged is None or caption.damaged == (scene.kind != "good"))
        and caption.kind in ("", scene.kind)
        and caption.place in ("", scene.place)
        and (not caption.look or caption.look in scene.look)
    )
