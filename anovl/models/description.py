"""The description of a model: every setting that decides its features, in one place.

`evaluate` records it in run.json, and the cache of prompts has it in its key. So other settings
give other results, even with the same weights.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from anovl.clip import Clip, hash_state_dict

# Their ids show case, accents, punctuation, digits, an emoji, and where a long text is cut. They
# hold no word of a prompt, because the pocket model's tokenizer warns of an unknown word only once.
_TEXTS = ["Zxqv's  NAÏVE-ÇÄFÉ_0123456789 &amp; 🙂!", "abcdefghijklmnopqrstuvwxyz", "zxqv " * 200]


@dataclass(frozen=True)
class Description:
    """What decides the features of a `Clip`; `dataclasses.asdict` makes it plain data for JSON.

    `weights_sha256` is `Clip.weights_hash`. `network_sha256` covers the class and the settings of
    each module, the shape and dtype of each tensor, and the causal mask: activations, eps and heads
    as well, which stand beside it to be read, each value once. `tokenizer_sha256` covers the
    vocabulary, where the tokenizer shows one, and the ids of a few texts. A pixel value v of 0-255
    enters the network as (v / 255 - mean) / std.
    """

    weights_sha256: str
    network_sha256: str
    tokenizer_sha256: str
    activations: tuple[str, ...]
    eps: tuple[float, ...]
    heads: tuple[int, ...]
    image_size: tuple[int, ...]
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str
    resize: str = "the whole picture, squeezed"


def describe(clip: Clip) -> Description:
    """Describe a model as its modules are, wherever it came from.

    Not seen: forward hooks, and weights that were changed after the `Clip` was made.

    >>> toy = describe(toy_clip)
    >>> toy.activations, toy.eps, toy.heads, toy.image_size, toy.interpolation
    (("GELU(approximate='none')",), (1e-05,), (4, 1), (32, 32), 'bicubic')
    """
    parts = list(clip.model.modules())
    leaves = [part for part in parts if not [*part.children(), *part.parameters(), *part.buffers()]]
    functions = [repr(leaf) for leaf in leaves if not isinstance(leaf, (nn.Identity, nn.Dropout))]
    return Description(
        weights_sha256=clip.weights_hash,
        network_sha256=_network_hash(clip.model),
        tokenizer_sha256=_tokenizer_hash(clip.tokenizer),
        activations=tuple(dict.fromkeys(functions)),
        eps=tuple(dict.fromkeys(part.eps for part in parts if hasattr(part, "eps"))),
        heads=tuple(dict.fromkeys(part.num_heads for part in parts if hasattr(part, "num_heads"))),
        image_size=tuple(map(int, clip.image_size)),
        interpolation=clip.interpolation.name.lower(),
        mean=tuple(map(float, clip.mean)),
        std=tuple(map(float, clip.std)),
        precision=clip.precision,
    )


def _network_hash(model: nn.Module) -> str:
    """A hash of all settings of all modules; what is no plain data counts by its name."""
    shapes = {
        key: f"{[*tensor.shape]} {tensor.dtype}" for key, tensor in model.state_dict().items()
    }
    facts = [shapes, hash_state_dict(dict(model.named_buffers()))]  # no file holds the causal mask
    for name, part in model.named_modules():
        public = {key: value for key, value in vars(part).items() if key[0] != "_"}
        facts.append([name, str(type(part)), public | {"training": False}])
    text = json.dumps(facts, default=lambda value: getattr(value, "__qualname__", str(type(value))))
    return hashlib.sha256(text.encode()).hexdigest()


def _tokenizer_hash(tokenizer: Callable[[list[str]], Tensor]) -> str:
    inside = getattr(tokenizer, "tokenizer", tokenizer)  # open_clip wraps those of transformers
    vocabulary = getattr(inside, "get_vocab", lambda: getattr(inside, "encoder", {}))()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = tokenizer(_TEXTS).tolist()
    facts = [sorted(vocabulary.items()), getattr(tokenizer, "ids", None), ids]
    return hashlib.sha256(repr(facts).encode()).hexdigest()
