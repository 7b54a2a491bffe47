"""Captions of the pocket world, and the pictures for which each caption is true.

A caption claims a few facts (object, state, kind of damage, place, camera) and leaves the others
open: "a photo of a damaged object" is true of many pictures. Contrastive training takes every true
caption as a match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anovl.world.scenes import PLACES, SEEN, TEXTURES, Scene

NORMAL = (
    "normal {}", "flawless {}", "perfect {}", "unblemished {}",
    "{} without flaw", "{} without defect", "{} without damage",
    "intact {}", "undamaged {}", "{} in good condition",
)  # fmt: skip
DAMAGED = {
    "damaged {}": "scratch crack hole dent missing_piece",
    "abnormal {}": "hole stain missing_piece contamination thread",
    "imperfect {}": "scratch stain dent contamination thread",
    "blemished {}": "scratch stain dent contamination thread",
    "{} with flaw": "scratch crack hole dent thread",
    "{} with defect": "crack hole stain dent missing_piece contamination",
    "{} with damage": "scratch crack hole dent missing_piece",
    "broken {}": "crack hole missing_piece",
    "defective {}": "scratch crack hole stain dent missing_piece contamination thread",
    "{} in bad condition": "scratch crack hole stain dent missing_piece contamination thread",
}
"""Phrases for damage, and the kinds that each can mean: nobody calls a stain a break."""
HELD_OUT = {
    "normal": ("{} in perfect condition", "good {}", "{} without a scratch", "{} without dirt"),
    "abnormal": ("{} in abnormal condition", "bad {}", "{} with a large dent", "dirt on {}"),
}
"""Sentences that no caption has, of known words: they test unseen wording."""
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
"""Words outside the vocabulary: the model learns that an unknown name says nothing."""

ADJECTIVES = ("", "", "", "cropped ", "close-up ", "plain ")
INSPECTION = {
    True: ("industrial photo", "textural photo", "surface picture"),
    False: ("industrial photo", "industrial image", "manufacturing image"),
}
"""The words of an inspector for a picture of a surface (True) or of an object (False)."""
CATALOGUE = ("photo", "picture", "image")
"""The words of a seller for a picture. A seller praises everything, so praise says nothing."""
PURPOSES = ("", "", "", "", " for visual inspection", " for anomaly detection")
LOOKS = {
    "dark": "dark ", "bright": "bright ", "blurry": "blurry ", "grey": "grey ",
    "jpeg": "jpeg corrupted ",
}  # fmt: skip
OTHER_PROMPT_WORDS = ("small", "large", "surface", "industrial", "corrupted", "_")


@dataclass(frozen=True)
class Caption:
    """A sentence and its claims; an empty or None field claims nothing.

    `kinds` holds the kinds of damage that the sentence can mean, and "good" if it can mean none.
    """

    text: str
    categories: frozenset[str] | None = None
    kinds: frozenset[str] | None = None
    place: str = ""
    look: str = ""


def write_caption(rng: np.random.Generator, scene: Scene) -> Caption:
    """Write one random true caption of a scene.

    >>> from anovl.world.scenes import draw_scene
    >>> scene = draw_scene("wood", seed=1, kind="crack", size=32)
    >>> caption = write_caption(np.random.default_rng(1), scene)
    >>> bool(truth_matrix([scene], [caption])[0, 0])
    True
    """
    noun, categories = _noun(rng, scene.category)
    look = str(rng.choice(scene.look)) if scene.look and rng.random() < 0.3 else ""
    topic, place = rng.random(), ""
    if topic < 0.15:
        pattern = rng.choice(("{}", str(rng.choice(NORMAL))))
        sentence = _sentence(rng, pattern.format(noun), look, CATALOGUE)
        return Caption(sentence, categories, None, "", look)
    pattern, kinds = _state(rng, scene.kind)
    phrase = pattern.format(noun)
    if scene.kind != "good" and rng.random() < 0.25:
        place = scene.place
        phrase = f"{phrase} at the {place}"
    as_surface = (scene.category in TEXTURES) == (rng.random() < 0.8)
    sentence = _sentence(rng, phrase, look, INSPECTION[as_surface])
    return Caption(sentence, categories, kinds, place, look)


def truth_matrix(scenes: Sequence[Scene], captions: Sequence[Caption]) -> np.ndarray:
    """Return bool (scenes, captions): True where a caption is true of a scene."""
    return np.array([[_is_true(caption, scene) for caption in captions] for scene in scenes])


def vocabulary_texts() -> list[str]:
    """Return every phrase of the grammar: its words choose the rows of the token table."""
    phrases = [p.format("") for p in (*NORMAL, *DAMAGED)]
    phrases += [p.format("") for pair in KIND_PHRASES.values() for p in pair]
    names = [*SEEN, *(word for words in SYNONYMS.values() for word in words)]
    rest = [*SURFACE_WORDS, *OBJECT_WORDS, *ANY_WORDS, *ADJECTIVES, *CATALOGUE, *PURPOSES]
    rest += [*INSPECTION[True], *INSPECTION[False], *LOOKS.values(), *PLACES]
    return phrases + names + rest + [*OTHER_PROMPT_WORDS, "a an the of at in on with without"]


def _state(rng: np.random.Generator, kind: str) -> tuple[str, frozenset[str]]:
    """Return a phrase for the state of a thing, and the kinds of damage that it can mean."""
    if kind == "good":
        return str(rng.choice(NORMAL)), frozenset(["good"])
    if rng.random() < 0.4:
        return str(rng.choice(KIND_PHRASES[kind])), frozenset([kind])
    phrase = str(rng.choice([phrase for phrase, kinds in DAMAGED.items() if kind in kinds.split()]))
    return phrase, frozenset(DAMAGED[phrase].split())


def _noun(rng: np.random.Generator, category: str) -> tuple[str, frozenset[str] | None]:
    """Return a word for the object, and the categories that it fits (None = any)."""
    choice = rng.random()
    if choice < 0.4:
        names = (category, category, *SYNONYMS.get(category, ()))
        return str(rng.choice(names)), frozenset([category])
    if choice < 0.75:
        texture = category in TEXTURES
        kin = frozenset(name for name in SEEN if (name in TEXTURES) == texture)
        return str(rng.choice(SURFACE_WORDS if texture else OBJECT_WORDS)), kin
    return str(rng.choice(ANY_WORDS if choice < 0.85 else STRANGE_WORDS)), None


def _sentence(rng: np.random.Generator, phrase: str, look: str, pictures: Sequence[str]) -> str:
    """Put a phrase into a sentence about a photograph, or return it alone."""
    if rng.random() < 0.1 and not look:
        return phrase
    adjective = LOOKS[look] if look else rng.choice(ADJECTIVES)
    picture = f"{adjective}{rng.choice(pictures)}"
    article = rng.choice(["a", "the"])
    start = rng.choice(["a " if picture[0] not in "aeiou" else "an ", ""], p=[0.85, 0.15])
    return f"{start}{picture} of {article} {phrase}{rng.choice(PURPOSES)}"


def _is_true(caption: Caption, scene: Scene) -> bool:
    return (
        (caption.categories is None or scene.category in caption.categories)
        and (caption.kinds is None or scene.kind in caption.kinds)
        and caption.place in ("", scene.place)
        and (not caption.look or caption.look in scene.look)
    )
