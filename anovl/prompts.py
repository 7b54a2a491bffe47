"""Words: states x templates x domains -> an ensemble of prompts -> two text prototypes.

The lists are those of the published code. A prompt is built from the inside out: a *state*
("damaged {}") is put around the name of the thing, a *template* ("a cropped {domain} of a {}")
around that, and a *domain* ("industrial photo") says what kind of picture it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from anovl.clip import Clip, encode_text
from anovl.models.text_cache import cached_tensors

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

# Each frame is used with both articles; which comes first varies, as in the published lists.
_FRAMES = (
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
TEMPLATES = tuple(frame.replace("*", article) for frame, *both in _FRAMES for article in both)

OBJECT_DOMAINS = ("industrial photo", "industrial image", "manufacturing image")
TEXTURE_DOMAINS = ("industrial photo", "textural photo", "surface picture")
TEXTURES = frozenset({"carpet", "leather", "grid", "tile", "wood"})

_PLAIN_NAMES = {"macaroni1": "macaroni", "macaroni2": "macaroni"}

Level: TypeAlias = Literal["word", "states", "templates", "domains"]
Surface: TypeAlias = Literal["object", "texture"]
PROMPT_LEVELS: tuple[Level, ...] = get_args(Level)

_REMEMBERED: WeakKeyDictionary[Clip, dict[tuple, TextFeatures]] = WeakKeyDictionary()
_MOST_REMEMBERED = 64  # ensembles of one Clip: of 924 prompts and 640 numbers each, 150 MB


class PromptParts(NamedTuple):
    """What one prompt is made of: a state in a template, and its domain ("" if it names none).

    >>> PromptParts("damaged {}", "an old {domain} of the {}", "industrial photo").around("nut")
    'an old industrial photo of the damaged nut'
    """

    state: str
    template: str
    domain: str

    def around(self, thing: str) -> str:
        """Put the parts around the name of a thing: the prompt."""
        frame = _framed(self.template, self.domain)
        return frame.replace("{}", self.state.replace("{}", thing))


@dataclass(frozen=True)
class PromptEnsemble:
    """The prompts that describe a normal and an anomalous thing, ready for the text tower.

    `parts` says what each is made of, the normal ones first, as the rows of `TextFeatures.prompts`
    are ordered; `prompt_ensemble` knows them, of prompts by hand there are none.

    >>> mine = PromptEnsemble(("a healthy leaf",), ("a sick leaf", "a torn leaf"), "leaf")
    >>> len(mine)
    3

    Raises ValueError if either list is empty or holds something that is not a text, or if there
    are parts of more or fewer prompts.
    """

    normal: tuple[str, ...]
    anomalous: tuple[str, ...]
    name: str = "custom"
    parts: tuple[PromptParts, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        for state in ("normal", "anomalous"):
            prompts = _texts(getattr(self, state), f"the {state} prompts")
            object.__setattr__(self, state, prompts)
        if self.parts and len(self.parts) != len(self):
            raise ValueError(
                f"expected parts of each of the {len(self)} prompts, normal then anomalous; "
                f"found {len(self.parts)}: leave them out if they are not known"
            )

    def __len__(self) -> int:
        return len(self.normal) + len(self.anomalous)


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """What the text tower says of one category: everything that the image side needs to know.

    Shapes: `prototypes` (2, D), row 0 normal and row 1 anomalous; `prompts` (P, D), one row a
    prompt; `is_anomalous` (P,) bool, the state of each prompt. All rows have length one.
    Tensors, arrays and lists are taken; floats are kept as float32.

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
    name: str,
    *,
    level: Level = "domains",
    surface: Surface | None = None,
    states: tuple[Sequence[str], Sequence[str]] | None = None,
    templates: Sequence[str] | None = None,
    domains: Sequence[str] | None = None,
) -> PromptEnsemble:
    """Every prompt for one category: for each domain and template, each state of the thing.

    `level` climbs a ladder, one idea a rung:

    - "word": one state in each list and nothing around it, "normal bottle" / "damaged bottle";
    - "states": the seven states of each list, "bottle without flaw", ...;
    - "templates": those in 22 templates, "a cropped photo of the bottle without flaw", ...;
    - "domains": those in the three domains of the paper, 462 prompts a state (the default).

    `surface` picks the domains, "object" or "texture"; None decides by the name: the five
    textures of MVTec AD (carpet, leather, grid, tile, wood) are textures, all else objects.
    Your own `states` (a pair: normal, anomalous), `templates` or `domains` replace those of
    the level. States and templates mark the place of the thing by `{}`; a template with
    `{domain}` is repeated for each domain, and its "a {domain}" becomes "an" before a vowel.
    Names go in as they are written ("metal_nut"), but macaroni1 and macaroni2 are macaroni.

    >>> bottle = prompt_ensemble("bottle")
    >>> len(bottle.normal), bottle.normal[1]
    (462, 'a cropped industrial photo of the flawless bottle')
    >>> bottle.parts[1].state, bottle.parts[1].template
    ('flawless {}', 'a cropped {domain} of the {}')
    >>> prompt_ensemble("bottle", level="word").anomalous
    ('damaged bottle',)

    Raises ValueError for an empty name or list, a missing `{}`, or an unknown level or surface.
    Source: published code; in the paper, "domain-aware" prompts.
    """
    (name,) = _texts([name], "the name of the category")
    thing = _PLAIN_NAMES.get(name, name)
    level_states, level_templates, level_domains = _rung(level, _surface(thing, surface))
    normal, anomalous = _pair(states) if states is not None else level_states
    templates = _patterns(level_templates if templates is None else templates, "templates")
    domains = _texts(level_domains if domains is None else domains, "the domains")
    frames: dict[str, tuple[str, str]] = {}
    for domain in domains:
        for template in templates:
            named = domain if "{domain}" in template else ""
            frames.setdefault(_framed(template, named), (template, named))

    def compose(patterns: Sequence[str], what: str) -> tuple[PromptParts, ...]:
        checked = _patterns(patterns, what)
        return tuple(PromptParts(state, *frame) for frame in frames.values() for state in checked)

    parts = compose(normal, "normal states"), compose(anomalous, "anomalous states")
    texts = (tuple(part.around(thing) for part in of_state) for of_state in parts)
    return PromptEnsemble(*texts, name, sum(parts, ()))


def encode_prompts(
    clip: Clip,
    prompts: PromptEnsemble | str,
    *,
    normalize_first: bool = False,
    cache: str | Path | None = None,
) -> TextFeatures:
    """Embed an ensemble (or the published one of a category name) and average it by state.

    What was embedded is remembered for as long as its `Clip` lives (the last 64 ensembles), so
    several detectors share it, and it is the very tensor that a first call returns. A `Clip` is one
    set of weights: whoever changes them makes a new one. For the average see `average_prompts`.

    With a folder as `cache` it is also kept on disk, for the next program: a file's name is a hash
    of the weights, of the model's structure, precision and device, of the tokens of the prompts,
    and of the code. Files
    may be deleted at any time; one that cannot be read is made again, and a folder that cannot be
    written to is said in a warning.

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
            "encode_prompts takes a category name or a PromptEnsemble, "
            f"found {type(prompts).__name__}: build one with prompt_ensemble(name)"
        )
    remembered = _REMEMBERED.setdefault(clip, {})
    key = (prompts.normal, prompts.anomalous, normalize_first, clip.device)
    if key not in remembered:
        if cache is None:
            text = _encoded(clip, prompts, normalize_first)
        else:
            text = _kept(clip, prompts, normalize_first, cache)
        if len(remembered) >= _MOST_REMEMBERED:
            del remembered[next(iter(remembered))]
        remembered[key] = text
    return remembered[key]


def _encoded(clip: Clip, prompts: PromptEnsemble, normalize_first: bool) -> TextFeatures:
    embeddings = encode_text(clip, [*prompts.normal, *prompts.anomalous])
    is_anomalous = torch.arange(len(prompts)) >= len(prompts.normal)
    return average_prompts(embeddings, is_anomalous, normalize_first=normalize_first)


def _kept(
    clip: Clip, prompts: PromptEnsemble, normalize_first: bool, folder: str | Path
) -> TextFeatures:
    """The same from a file, whose name is a hash of all that decides what is in it."""
    from anovl._shared.code import code_hash

    facts = [clip.name, clip.weights_hash, repr(clip.model), clip.model.visual.conv1.weight.dtype]
    facts += [clip.precision, clip.device.type, torch.__version__]
    facts += [code_hash("import anovl.prompts"), normalize_first, len(prompts.normal)]
    digest = hashlib.sha256("\n".join(map(str, facts)).encode())
    digest.update(clip.tokenizer([*prompts.normal, *prompts.anomalous]).numpy().tobytes())

    def make() -> dict[str, Tensor]:
        return vars(_encoded(clip, prompts, normalize_first))

    tensors = cached_tensors(folder, digest.hexdigest(), make)
    return TextFeatures(**{name: value.to(clip.device) for name, value in tensors.items()})


def average_prompts(
    embeddings: Tensor, is_anomalous: Tensor, *, normalize_first: bool = False
) -> TextFeatures:
    """Average the embeddings (P, D) of prompts by their state (P,) into the two prototypes.

    A prototype is the mean of the embeddings as the tower gives them, then scaled to length one;
    `normalize_first` scales each embedding before the mean instead, as many other methods do.
    The rows of `prompts` are scaled one by one either way. Leave rows out to see what they did.

    >>> embeddings = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 1.0]])
    >>> average_prompts(embeddings, torch.tensor([False, False, True])).prototypes
    tensor([[0.6000, 0.8000],
            [0.0000, 1.0000]])

    Raises ValueError if a state has no prompt, or as `TextFeatures` does.
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


def _rung(level: str, surface: str) -> tuple[tuple, tuple[str, ...], tuple[str, ...]]:
    """States, templates and domains of one level of the ladder."""
    domains = TEXTURE_DOMAINS if surface == "texture" else OBJECT_DOMAINS
    both = (NORMAL_STATES, ANOMALOUS_STATES)
    rungs = {
        "word": ((NORMAL_STATES[:1], ANOMALOUS_STATES[:1]), ("{}",), domains),
        "states": (both, ("{}",), domains),
        "templates": (both, TEMPLATES, ("photo",)),
        "domains": (both, TEMPLATES, domains),
    }
    if level not in rungs:
        raise ValueError(f"level must be one of {', '.join(PROMPT_LEVELS)}; found {level!r}")
    return rungs[level]


def _surface(name: str, surface: str | None) -> str:
    if surface is None:
        return "texture" if name.lower() in TEXTURES else "object"
    if surface not in ("object", "texture"):
        raise ValueError(f"surface must be 'object', 'texture' or None; found {surface!r}")
    return surface


def _framed(template: str, domain: str) -> str:
    article = "an" if domain[:1].lower() in ("a", "e", "i", "o", "u") else "a"
    return template.replace("a {domain}", f"{article} {domain}").replace("{domain}", domain)


def _pair(states: object) -> tuple[Sequence[str], Sequence[str]]:
    if isinstance(states, str) or not isinstance(states, Sequence) or len(states) != 2:
        raise ValueError(
            "states must be a pair of lists, (normal, anomalous), "
            f"such as (['intact {{}}'], ['broken {{}}']); found {states!r}"
        )
    return states[0], states[1]


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
    """Texts with one `{}` for the thing, and no brace that would survive into a prompt."""
    patterns = _texts(values, f"the {what}")
    for pattern in patterns:
        if pattern.count("{}") != 1:
            raise ValueError(
                f"each of the {what} needs exactly one {{}} where the thing goes, "
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
