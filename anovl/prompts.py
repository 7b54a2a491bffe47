"""States x templates x domains → a prompt ensemble → two text prototypes (the paper's words).

A prompt has three parts: a *state* ("damaged {}") around the class name, a *template* ("a cropped
{domain} of a {}") around that, and a *domain* ("industrial photo"). Seven states of each class, 22
templates and three domains give 462 prompts each. The means of the normal and of the anomalous
text embeddings are the prototypes. All lists are published.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
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

# `*` stands for two articles in turn; their order varies, as published.
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

_CACHE: WeakKeyDictionary[Clip, dict[tuple, TextFeatures]] = WeakKeyDictionary()
_CACHE_SIZE = 64  # ensembles per Clip; with 924 prompts of 640 numbers each, 150 MB


@dataclass(frozen=True)
class PromptEnsemble:
    """The prompts for a normal and for an anomalous thing, ready for the text tower.

    >>> mine = PromptEnsemble(("a healthy leaf",), ("a sick leaf", "a torn leaf"), "leaf")
    >>> len(mine)
    3

    Raises ValueError unless both are lists of texts.
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

    @property
    def example(self) -> str:
        """An anomalous prompt: the first that the published words for objects lack, or the first.

        >>> prompt_ensemble("nut").example, prompt_ensemble("leather").example[:24]
        ('a cropped industrial photo of the damaged nut', 'a cropped textural photo')
        """
        usual = set(prompt_ensemble(self.class_name, surface="object").anomalous)
        return next((prompt for prompt in self.anomalous if prompt not in usual), self.anomalous[0])


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """The embedded prompts of one class name.

    `prototypes` (2, D), row 0 normal and row 1 anomalous; `prompts` (P, D), which the text adapter
    of `adapt` combines; `is_anomalous` (P,) bool. Rows have length 1. Tensors, arrays and lists all
    become float32 tensors.

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
        if len(prototypes) != 2 or prompts.shape[1] != prototypes.shape[1]:
            raise ValueError(
                "prototypes must be (2, D) and prompts (P, D); "
                f"found {tuple(prototypes.shape)} and {tuple(prompts.shape)}"
            )
        if is_anomalous.dtype != torch.bool or is_anomalous.shape != prompts.shape[:1]:
            raise ValueError(
                f"is_anomalous must be bool ({len(prompts)},), one for each prompt; "
                f"found {is_anomalous.dtype} {tuple(is_anomalous.shape)}"
            )
        object.__setattr__(self, "prototypes", prototypes)
        object.__setattr__(self, "prompts", prompts)
        object.__setattr__(self, "is_anomalous", is_anomalous)


def prompt_ensemble(
    class_name: str,
    *,
    level: Level = "domains",
    surface: Surface | None = None,
    states: tuple[Sequence[str], Sequence[str]] | None = None,
    templates: Sequence[str] | None = None,
    domains: Sequence[str] | None = None,
) -> PromptEnsemble:
    """Build the prompts for one class name: each state in each template and domain.

    Each `level` adds one idea to the one before:

    - "word": one state of each kind, "normal bottle" / "damaged bottle";
    - "states": seven, "bottle without flaw", …;
    - "templates": in 22 templates, "a cropped photo of the bottle without flaw", …;
    - "domains": in three domains, 2 x 462 prompts (the paper's).

    `surface`, "object" or "texture", picks the domains; None decides by the name (`TEXTURES`). Your
    own `states` (a pair: normal, anomalous), `templates` or `domains` replace those of the level.
    `{}` marks the place of the class name; a template with `{domain}` is repeated for each domain,
    and "a {domain}" becomes "an" before a vowel. Names are used as written ("metal_nut"), except
    VisA's macaroni1 and macaroni2, which become macaroni.

    >>> bottle = prompt_ensemble("bottle")
    >>> len(bottle.normal), bottle.normal[1]
    (462, 'a cropped industrial photo of the flawless bottle')
    >>> prompt_ensemble("bottle", level="word").anomalous
    ('damaged bottle',)

    Raises ValueError for an empty name or list, a missing `{}`, or an unknown level or surface.
    Source: published code ("domain-aware" prompts).
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
    if domains is None:  # templates without {domain} ignore them
        domains = TEXTURE_DOMAINS if texture else OBJECT_DOMAINS
        domains = ("photo",) if level == "templates" else domains
    if isinstance(states, str) or len(states) != 2:
        raise ValueError(f"states must be a pair of lists, (normal, anomalous); found {states!r}")
    templates, domains = _patterns(templates, "templates"), _texts(domains, "the domains")
    normal, anomalous = (
        _prompts(word, _patterns(own, f"{kind} states"), templates, domains)
        for kind, own in zip(("normal", "anomalous"), states, strict=True)
    )
    return PromptEnsemble(normal, anomalous, class_name)


def encode_prompts(
    clip: Clip,
    prompts: PromptEnsemble | str,
    *,
    normalize_first: bool = False,
    embed: Callable[[Clip, Sequence[str]], Tensor] | None = None,
) -> TextFeatures:
    """Encode an ensemble, or the published one of a class name, as two prototypes.

    `embed` replaces `encode_text`, such as the disk cache of `anovl.models.text_cache`. Results are
    cached while the `Clip` lives: do not write into them, and make a new `Clip` for new weights.

    >>> text = encode_prompts(toy_clip, prompt_ensemble("bottle", level="states"))
    >>> text.prototypes.shape, text.prompts.shape
    (torch.Size([2, 8]), torch.Size([14, 8]))

    Raises ValueError for a bad name, or what is neither a name nor an ensemble.
    Source: published code.
    """
    if isinstance(prompts, str):
        prompts = prompt_ensemble(prompts)
    if not isinstance(prompts, PromptEnsemble):
        what = type(prompts).__name__
        raise ValueError(f"expected a class name or a PromptEnsemble; found {what}")
    cache = _CACHE.setdefault(clip, {})
    key = (prompts.normal, prompts.anomalous, normalize_first, clip.device)
    if key not in cache:
        embeddings = (embed or encode_text)(clip, [*prompts.normal, *prompts.anomalous])  # (P, D)
        is_anomalous = torch.arange(len(prompts)) >= len(prompts.normal)
        text = average_prompts(embeddings, is_anomalous, normalize_first=normalize_first)
        if len(cache) >= _CACHE_SIZE:
            del cache[next(iter(cache))]
        cache[key] = text
    return cache[key]


def average_prompts(
    embeddings: Tensor, is_anomalous: Tensor, *, normalize_first: bool = False
) -> TextFeatures:
    """Average text embeddings (P, D) to two prototypes; normalise after averaging only.

        prototype = m / |m|,  m = mean of the normal, or of the anomalous, embeddings

    `is_anomalous` (P,) says which mean an embedding belongs to. `normalize_first` also scales each
    embedding to length 1 before the mean, as many other methods do.

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
        raise ValueError(f"there is no {missing} prompt to average")
    embeddings = embeddings.float()
    unit = F.normalize(embeddings, dim=-1)
    averaged = unit if normalize_first else embeddings
    means = torch.stack([averaged[~is_anomalous].mean(dim=0), averaged[is_anomalous].mean(dim=0)])
    return TextFeatures(F.normalize(means, dim=-1), unit, is_anomalous)


def check_level(level: str, surface: str | None = None) -> None:
    """Raise ValueError for an unknown level or surface."""
    if level not in PROMPT_LEVELS:
        raise ValueError(f"level must be one of {', '.join(PROMPT_LEVELS)}; found {level!r}")
    if surface not in ("object", "texture", None):
        raise ValueError(f"surface must be 'object', 'texture' or None; found {surface!r}")


@lru_cache(maxsize=256)  # a detector asks again for every batch of images
def _prompts(
    word: str, states: tuple[str, ...], templates: tuple[str, ...], domains: tuple[str, ...]
) -> tuple[str, ...]:
    """Fill the templates with each domain and state; templates without domain come once."""
    filled = dict.fromkeys(_with_domain(text, domain) for domain in domains for text in templates)
    return tuple(
        text.replace("{}", state.replace("{}", word)) for text in filled for state in states
    )


def _with_domain(template: str, domain: str) -> str:
    article = "an" if domain[:1].lower() in ("a", "e", "i", "o", "u") else "a"
    return template.replace("a {domain}", f"{article} {domain}").replace("{domain}", domain)


def _texts(values: object, what: str) -> tuple[str, ...]:
    """The values as a tuple of texts; ValueError unless there is one and none is empty."""
    texts = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else ()
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{what} must be one or more texts, none empty; found {values!r:.200}")
    return tuple(text.strip() for text in texts)


def _patterns(values: object, what: str) -> tuple[str, ...]:
    """Texts with one `{}` for the class name, and no other braces."""
    patterns = _texts(values, f"the {what}")
    for pattern in patterns:
        rest = pattern.replace("{}", "", 1)
        rest = rest.replace("{domain}", "") if what == "templates" else rest
        if "{}" not in pattern or "{" in rest or "}" in rest:
            allowed = ", besides {domain}" if what == "templates" else ""
            raise ValueError(
                f"the {what} need one {{}} each for the class name and no other braces{allowed}; "
                f"found {pattern!r}"
            )
    return patterns


def _unit_rows(values: object, what: str) -> Tensor:
    """The values as float32 (N, D); ValueError unless they are finite with rows of length 1."""
    rows = torch.as_tensor(values).float()
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"{what} must have shape (rows, D); found {tuple(rows.shape)}")
    if not torch.isfinite(rows).all():
        raise ValueError(f"{what} hold NaN or infinity: check the weights of the text tower")
    if not torch.allclose(rows.norm(dim=1), rows.new_ones(()), atol=1e-3):
        raise ValueError(
            f"{what} must have rows of length 1: use torch.nn.functional.normalize(x, dim=-1)"
        )
    return rows
