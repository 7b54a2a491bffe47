"""The words: states x templates x domains → an ensemble of prompts → two text prototypes (paper).

A prompt is built from the inside out. A *state* ("damaged {}") is put around the class name, a
*template* ("a cropped {domain} of a {}") around that, and a *domain* ("industrial photo") says
what kind of picture it is. Seven of the states are normal and seven anomalous: with 22 templates
and three domains, 462 prompts each. The text tower embeds them all; the mean of the normal ones
is one prototype, that of the anomalous ones the other. The lists are the published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from anovl.clip import Clip, encode_text

NORMAL_STATES = (
    "normal {}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ANOMALOUS_STATES = (
    "damaged {}",
    "abnormal {}",
    "imperfect {}",
    "blemished {}",
    "{} with flaw",
    "{} with defect",
    "{} with damage",
)

# `*` stands for two articles, one after the other; which comes first varies, as published.
_TEMPLATES = (
    ("a cropped {domain} of * {}", "the", "a"),
    ("a close-up {domain} of * {}", "a", "the"),
    ("a bright {domain} of * {}", "a", "the"),
    ("a dark {domain} of * {}", "the", "a"),
    ("a jpeg corrupted {domain} of * {}", "a", "the"),
    ("a blurry {domain} of * {}", "the", "a"),
    ("a {domain} of * {}", "a", "the"),
    ("a {domain} of * small {}", "a", "the"),
    ("a {domain} of * large {}", "a", "the"),
    ("a {domain} of * {} for visual inspection", "the", "a"),
    ("a {domain} of * {} for anomaly detection", "the", "a"),
)
TEMPLATES = tuple(text.replace("*", article) for text, *both in _TEMPLATES for article in both)

OBJECT_DOMAINS = ("industrial photo", "industrial image", "manufacturing image")
TEXTURE_DOMAINS = ("industrial photo", "textural photo", "surface picture")
TEXTURES = frozenset({"carpet", "leather", "grid", "tile", "wood"})

_PLAIN_NAMES = {"macaroni1": "macaroni", "macaroni2": "macaroni"}

Level: TypeAlias = Literal["word", "states", "templates", "domains"]
Surface: TypeAlias = Literal["object", "texture"]
PROMPT_LEVELS: tuple[Level, ...] = get_args(Level)

_REMEMBERED: WeakKeyDictionary[Clip, dict[tuple, TextFeatures]] = WeakKeyDictionary()
_MOST_REMEMBERED = 64  # ensembles of one Clip: of 924 prompts and 640 numbers each, 150 MB


@dataclass(frozen=True)
class PromptEnsemble:
    """The prompts that describe a normal and an anomalous thing, ready for the text tower.

    >>> mine = PromptEnsemble(("a healthy leaf",), ("a sick leaf", "a torn leaf"), "leaf")
    >>> len(mine)
    3

    Raises ValueError if either list is empty or holds something that is not a text.
    """

    normal: tuple[str, ...]
    anomalous: tuple[str, ...]
    class_name: str = "custom"

    def __post_init__(self) -> None:
        for state in ("normal", "anomalous"):
            prompts = _texts(getattr(self, state), f"the {state} prompts")
            object.__setattr__(self, state, prompts)

    def __len__(self) -> int:
        return len(self.normal) + len(self.anomalous)


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """The embedded prompts of one class name: everything that the image side needs to know.

    Shapes: `prototypes` (2, D), row 0 normal and row 1 anomalous; `prompts` (P, D), one row a
    prompt; `is_anomalous` (P,) bool, which prompts are anomalous. All rows have length one.
    Tensors, arrays and lists are taken; all become float32 tensors.

    >>> text = TextFeatures([[1, 0], [0, 1]], [[1, 0], [0, 1]], [False, True])
    >>> text.prototypes.shape
    torch.Size([2, 2])

    Raises ValueError for wrong shapes, rows that are not unit vectors, NaN or infinity.
    """

    prototypes: Tensor
    prompts: Tensor
    is_anomalous: Tensor

    def __post_init__(self) -> None:
        prototypes = _unit_rows(self.prototypes, "prototypes")
        prompts = _unit_rows(self.prompts, "prompts")
        is_anomalous = torch.as_tensor(self.is_anomalous)
        if len(prototypes) != 2:
            raise ValueError(
                "prototypes must have two rows, normal then anomalous: "
                f"expected (2, D); found {tuple(prototypes.shape)}"
            )
        if prompts.shape[1] != prototypes.shape[1]:
            raise ValueError(
                f"prompts have width {prompts.shape[1]} but prototypes {prototypes.shape[1]}: "
                "both must come from the same text tower"
            )
        if is_anomalous.dtype != torch.bool or is_anomalous.shape != prompts.shape[:1]:
            raise ValueError(
                f"is_anomalous must hold one bool a prompt: expected bool ({len(prompts)},), "
                f"found {is_anomalous.dtype} {tuple(is_anomalous.shape)}"
            )
        for entry, value in zip(fields(self), (prototypes, prompts, is_anomalous), strict=True):
            object.__setattr__(self, entry.name, value)


def prompt_ensemble(
    class_name: str,
    *,
    level: Level = "domains",
    surface: Surface | None = None,
    states: tuple[Sequence[str], Sequence[str]] | None = None,
    templates: Sequence[str] | None = None,
    domains: Sequence[str] | None = None,
) -> PromptEnsemble:
    """Every prompt for one class name: for each domain and template, each state of the thing.

    Each `level` adds one idea to the one before:

    - "word": one normal and one anomalous state, "normal bottle" / "damaged bottle";
    - "states": seven of each, "bottle without flaw", …;
    - "templates": those in 22 templates, "a cropped photo of the bottle without flaw", …;
    - "domains": those in the three domains of the paper, 2 x 462 prompts (the default).

    `surface` picks the domains, "object" or "texture"; None decides by the name: the five
    textures of MVTec AD (carpet, leather, grid, tile, wood) are textures, all else objects.
    Your own `states` (a pair: normal, anomalous), `templates` or `domains` replace those of
    the level. States and templates mark the place of the class name by `{}`; a template with
    `{domain}` is repeated for each domain, and its "a {domain}" becomes "an" before a vowel.
    Names go in as they are written ("metal_nut"), but VisA's macaroni1 and macaroni2 are macaroni.

    >>> bottle = prompt_ensemble("bottle")
    >>> len(bottle.normal), bottle.normal[1]
    (462, 'a cropped industrial photo of the flawless bottle')
    >>> prompt_ensemble("bottle", level="word").anomalous
    ('damaged bottle',)

    Raises ValueError for an empty name or list, a missing `{}`, or an unknown level or surface.
    Source: published code; in the paper, "domain-aware" prompts.
    """
    (class_name,) = _texts([class_name], "the class name")
    word = _PLAIN_NAMES.get(class_name, class_name)
    check_level(level, surface)
    texture = word.lower() in TEXTURES if surface is None else surface == "texture"
    if states is None:
        count = 1 if level == "word" else None
        states = NORMAL_STATES[:count], ANOMALOUS_STATES[:count]
    if templates is None:
        templates = ("{}",) if level in ("word", "states") else TEMPLATES
    if domains is None:
        domains = TEXTURE_DOMAINS if texture else OBJECT_DOMAINS
        domains = ("photo",) if level == "templates" else domains
    normal, anomalous = _state_lists(states)
    templates, domains = _patterns(templates, "templates"), _texts(domains, "the domains")
    # a template without {domain} comes once
    filled = dict.fromkeys(_fill(text, domain) for domain in domains for text in templates)

    def prompts(states: Sequence[str]) -> tuple[str, ...]:
        return tuple(f.replace("{}", s.replace("{}", word)) for f in filled for s in states)

    return PromptEnsemble(prompts(normal), prompts(anomalous), class_name)


def encode_prompts(
    clip: Clip,
    prompts: PromptEnsemble | str,
    *,
    normalize_first: bool = False,
    embed: Callable[[Clip, Sequence[str]], Tensor] | None = None,
) -> TextFeatures:
    """Embed an ensemble (or the published one of a class name) and average it to two prototypes.

    The prototypes are normalised after averaging, see `average_prompts`. `embed` may stand in for
    `encode_text`, with the same answer: `anovl.models.text_cache` has one that reads from disk.

    What was embedded is remembered for as long as its `Clip` lives (the last 64 ensembles): a
    second call returns the very same tensors, so do not write into them. A `Clip` is one set of
    weights: whoever changes them makes a new one.

    >>> import open_clip
    >>> vision = dict(image_size=32, patch_size=16, width=64, layers=1)
    >>> model = open_clip.CLIP(8, vision, dict(width=64, heads=1, layers=1))
    >>> clip = Clip(model, open_clip.tokenize, image_size=32)
    >>> text = encode_prompts(clip, prompt_ensemble("bottle", level="states"))
    >>> text.prototypes.shape, text.prompts.shape
    (torch.Size([2, 8]), torch.Size([14, 8]))

    Raises ValueError for a bad name, or anything else that is not an ensemble.
    Source: published code.
    """
    if isinstance(prompts, str):
        prompts = prompt_ensemble(prompts)
    if not isinstance(prompts, PromptEnsemble):
        raise ValueError(
            "encode_prompts takes a class name or a PromptEnsemble, "
            f"found {type(prompts).__name__}: build one with prompt_ensemble(class_name)"
        )
    remembered = _REMEMBERED.setdefault(clip, {})
    key = (prompts.normal, prompts.anomalous, normalize_first, clip.device)
    if key not in remembered:
        embeddings = (embed or encode_text)(clip, [*prompts.normal, *prompts.anomalous])  # (P, D)
        is_anomalous = torch.arange(len(prompts)) >= len(prompts.normal)
        text = average_prompts(embeddings, is_anomalous, normalize_first=normalize_first)
        if len(remembered) >= _MOST_REMEMBERED:
            del remembered[next(iter(remembered))]
        remembered[key] = text
    return remembered[key]


def average_prompts(
    embeddings: Tensor, is_anomalous: Tensor, *, normalize_first: bool = False
) -> TextFeatures:
    """Average embeddings (P, D) to two prototypes, which are normalised after averaging only.

        prototype = m / |m|,  m = mean of the normal, or of the anomalous, embeddings

    `embeddings` are as the tower gives them, and `is_anomalous` (P,) says which mean each belongs
    to. `normalize_first` scales them to length one before the mean, as many other methods do. The
    rows of `prompts` have length one either way.

    >>> embeddings = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 1.0]])
    >>> average_prompts(embeddings, torch.tensor([False, False, True])).prototypes
    tensor([[0.6000, 0.8000],
            [0.0000, 1.0000]])

    Raises ValueError unless there are prompts of both kinds, or as `TextFeatures` does.
    Source: published code (`normalize_first=False`).
    """
    is_anomalous = is_anomalous.to(embeddings.device)
    if is_anomalous.all() or not is_anomalous.any():
        missing = "normal" if is_anomalous.all() else "anomalous"
        raise ValueError(f"there is no {missing} prompt to average: keep at least one of each")
    embeddings = embeddings.float()
    unit = F.normalize(embeddings, dim=-1)
    averaged = unit if normalize_first else embeddings
    means = torch.stack([averaged[~is_anomalous].mean(dim=0), averaged[is_anomalous].mean(dim=0)])
    return TextFeatures(F.normalize(means, dim=-1), unit, is_anomalous)


def check_level(level: str, surface: str | None = None) -> None:
    """Raise ValueError unless `prompt_ensemble` knows this level and this surface."""
    if level not in PROMPT_LEVELS:
        raise ValueError(f"level must be one of {', '.join(PROMPT_LEVELS)}; found {level!r}")
    if surface not in ("object", "texture", None):
        raise ValueError(f"surface must be 'object', 'texture' or None; found {surface!r}")


def _fill(template: str, domain: str) -> str:
    article = "an" if domain[:1].lower() in ("a", "e", "i", "o", "u") else "a"
    return template.replace("a {domain}", f"{article} {domain}").replace("{domain}", domain)


def _state_lists(states: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if isinstance(states, str) or not isinstance(states, Sequence) or len(states) != 2:
        raise ValueError(
            "states must be a pair of lists, (normal, anomalous), "
            f"such as (['intact {{}}'], ['broken {{}}']); found {states!r}"
        )
    return _patterns(states[0], "normal states"), _patterns(states[1], "anomalous states")


def _texts(values: object, what: str) -> tuple[str, ...]:
    """The values as a tuple of non-empty texts, or a ValueError that names `what`."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"{what} must be a list of texts; found {values!r}")
    if not values:
        raise ValueError(f"{what} are empty: give at least one text")
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{what} must be words; found {value!r}")
    return tuple(value.strip() for value in values)


def _patterns(values: object, what: str) -> tuple[str, ...]:
    """Texts with one `{}` for the class name, and no brace that would stay in a prompt."""
    patterns = _texts(values, f"the {what}")
    for pattern in patterns:
        if pattern.count("{}") != 1:
            raise ValueError(
                f"each of the {what} needs exactly one {{}} where the class name goes, "
                f"as in 'a photo of a {{}}'; found {pattern!r}"
            )
        allowed = ("{}", "{domain}") if what == "templates" else ("{}",)
        rest = pattern
        for placeholder in allowed:
            rest = rest.replace(placeholder, "")
        if "{" in rest or "}" in rest:
            raise ValueError(f"{pattern!r} holds a placeholder other than {' and '.join(allowed)}")
    return patterns


def _unit_rows(values: object, what: str) -> Tensor:
    """The values as float32 (N, D) with rows of length one, or a ValueError that names them."""
    rows = torch.as_tensor(values).float()
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"{what} must have shape (rows, D); found {tuple(rows.shape)}")
    if not torch.isfinite(rows).all():
        raise ValueError(f"{what} hold NaN or infinity: look at the weights of the text tower")
    if not torch.allclose(rows.norm(dim=1), rows.new_ones(()), atol=1e-3):
        raise ValueError(
            f"{what} must have rows of length 1: use torch.nn.functional.normalize(x, dim=-1)"
        )
    return rows
