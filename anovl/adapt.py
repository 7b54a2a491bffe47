"""Test-time adaptation: a small adapter, trained on one image for a few steps, without labels.

The published loss asks three things of an image at once: be sure of every patch (low entropy),
call every patch of a noisy copy anomalous, and call every patch of the image itself normal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from anovl.maps import anomalous_probability, check_features
from anovl.prompts import TextFeatures

WEIGHT_DECAY = 0.01
TERMS = ("entropy", "noisy", "clean")

Readout = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class AdaptTrace:
    """What happened in an adaptation, step by step.

    `entropy`, `noisy`, `clean` and `total` are the terms of the loss before each update, each
    (B, steps), also those that `terms` left out of the total; `tokens` (B, steps + 1, *grid, D)
    are the adapted tokens, first those of the first adapter, then after every update; the last
    are those that `adapt` returns.
    """

    entropy: Tensor
    noisy: Tensor
    clean: Tensor
    total: Tensor
    tokens: Tensor


def adapt(
    patches: Tensor,
    text: TextFeatures,
    *,
    adapter: Literal["text", "linear"] = "text",
    steps: int = 5,
    lr: float = 1e-3,
    noise_std: float = 0.055,
    optimizer_state: Literal["reset", "kept"] = "reset",
    terms: Collection[str] = TERMS,
    seed: int = 0,
    noise: Tensor | None = None,
    init: tuple[Tensor, Tensor] | None = None,
    readout: Readout | None = None,
    return_trace: bool = False,
) -> Tensor | tuple[Tensor, AdaptTrace]:
    """Adapt the patches (B, *grid, D) of each image to itself; the same shape comes back, float32.

    Every image has its own adapter, trained alone: a batch gives what its images give one by one,
    in any order. All start from the same random adapter and meet the same noise, drawn from
    `seed` on the CPU (weight, bias, then the noise of each step). `noise` (B, steps, *grid, D),
    used as it is, and `init`, weights (B, P, D) and biases (B, P), replace these draws. P is the
    number of prompts for the "text" adapter, published for MVTec AD, and D for the "linear" one,
    published for VisA.

    - `steps`: updates by AdamW with learning rate `lr` and weight decay 0.01. With none, the
      answer is that of the random adapter, not the patches.
    - `noise_std`: of the Gaussian noise, in the units of the patches (their length is not 1).
    - `optimizer_state="kept"`: as published, the weights start anew for every image but AdamW's
      moments and step count go on from the image before, so that order matters.
    - `terms`: those of "entropy", "noisy" and "clean" that are minimised; published is all three.
    - `readout`: turns P(anomalous) (B, *grid) into the places (B, ...) that the loss looks at.
    - `return_trace`: return `(patches, AdaptTrace)`.

    >>> text = TextFeatures([[1, 0], [0, 1]], [[1, 0], [0, 1]], [False, True])
    >>> better, trace = adapt(torch.ones(3, 4, 4, 2), text, return_trace=True)
    >>> better.shape, trace.total.shape
    (torch.Size([3, 4, 4, 2]), torch.Size([3, 5]))

    Raises ValueError for shapes that do not fit, unknown options, NaN or infinity.
    Source: published code.
    """
    _check_options(adapter, optimizer_state, steps=steps, lr=lr, noise_std=noise_std, seed=seed)
    _check_terms(terms)
    _check_patches(patches, text)
    if init is not None and len(init) != 2:
        raise ValueError(f"init must be a pair (weights, biases); found {len(init)} things")
    with _fresh_gradients(patches.device):
        patches, text = _own(patches, patches.device), _own_text(text, patches.device)
        prompts = text.prompts if adapter == "text" else None
        outputs = patches.shape[-1] if prompts is None else len(prompts)
        drawn = _draw(patches.shape[1:], outputs, steps, noise_std, seed)
        starts = _starts(patches, drawn, init, noise)
        together = len(patches) if optimizer_state == "reset" else 1
        weight, bias = (torch.nn.Parameter(start[:together].clone()) for start in starts[:2])
        optimizer = torch.optim.AdamW([weight, bias], lr=lr, weight_decay=WEIGHT_DECAY)
        forward = partial(apply_adapter, weight=weight, bias=bias, prompts=prompts)
        probability = partial(_probability, text=text, readout=readout)
        loss = partial(tta_loss, terms=terms)
        results = []
        for images, *start, noises in _in_groups_of(together, patches, *starts):
            weight.data.copy_(start[0])
            bias.data.copy_(start[1])
            results.append(
                train(images, noises, forward, probability, loss, optimizer, return_trace)
            )
    tokens, losses = map(torch.cat, zip(*results, strict=True))
    adapted = _finite(tokens[:, -1], "the adapted patches")
    return (adapted, AdaptTrace(*losses.unbind(1), tokens)) if return_trace else adapted


def apply_adapter(
    patches: Tensor,
    weight: Tensor,
    bias: Tensor,
    prompts: Tensor | None = None,
) -> Tensor:
    """Mix each patch, half and half, with an answer to its direction; one adapter an image.

    `patches` (B, *grid, D), `weight` (B, P, D), `bias` (B, P). With `prompts` (P, D) this
    is the "text" adapter, x' = x/2 + tanh(W x/|x| + b) E / 2, whose answers are combinations of
    the prompts E; without, it is the "linear" one, x' = x/2 + (W x/|x| + b) / 2, with P = D.

    >>> patch = torch.tensor([[[3.0, 4.0]]])
    >>> apply_adapter(patch, torch.eye(2)[None], torch.zeros(1, 2))
    tensor([[[1.8000, 2.4000]]])

    Source: published code.
    """
    directions = F.normalize(patches, dim=-1).flatten(1, -2)
    answers = directions @ weight.mT + bias[:, None]
    if prompts is not None:
        answers = answers.tanh() @ prompts
    return (patches + answers.view_as(patches)) / 2


def tta_loss(clean: Tensor, noisy: Tensor, *, terms: Collection[str] = TERMS) -> tuple[Tensor, ...]:
    """The terms of the loss, (entropy, noisy, clean, total), each (B,), from P(anomalous) (B, ...).

    The entropy of the clean image, and half of two cross-entropies: the noisy copy against
    "anomalous", the clean image against "normal". All are means over the places of an image.
    The total is over `terms` alone.

    >>> half = torch.tensor([[0.5, 0.5]])
    >>> [round(term.item(), 3) for term in tta_loss(half, half)]
    [0.693, 0.693, 0.693, 1.386]

    Source: published code.
    """
    clean, noisy = clean.flatten(1), noisy.flatten(1)
    entropy = -(clean * clean.log() + (1 - clean) * (1 - clean).log()).mean(dim=1)
    noisy_is_anomalous = -noisy.log().mean(dim=1)
    clean_is_normal = -(1 - clean).log().mean(dim=1)
    use_entropy, use_noisy, use_clean = (float(term in terms) for term in TERMS)
    total = (
        use_entropy * entropy + (use_noisy * noisy_is_anomalous + use_clean * clean_is_normal) / 2
    )
    return entropy, noisy_is_anomalous, clean_is_normal, total


def train(
    patches: Tensor,
    noise: Tensor,
    adapter: Readout,
    probability: Readout,
    loss: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
    optimizer: torch.optim.Optimizer,
    keep_tokens: bool = False,
) -> tuple[Tensor, Tensor]:
    """Take one step for each noise in (B, steps, *grid, D): the heart of the adaptation.

    The losses of the images are summed, so that each adapter sees the gradient of its own image
    alone. Returns the last tokens (B, 1, *grid, D), or those of the first adapter and after every
    step (B, steps + 1, *grid, D) if `keep_tokens`, and the terms of the loss (B, 4, steps).
    """
    tokens, terms = [], noise.new_empty(len(noise), 4, noise.shape[1])
    for step in range(noise.shape[1]):
        clean, noisy = adapter(patches), adapter(patches + noise[:, step])
        losses = loss(probability(clean), probability(noisy))
        optimizer.zero_grad()
        losses[-1].sum().backward()
        optimizer.step()
        terms[..., step] = torch.stack(losses, dim=1).detach()
        if keep_tokens:
            tokens.append(clean.detach())
    tokens.append(adapter(patches).detach())
    return torch.stack(tokens, dim=1), terms


def _probability(tokens: Tensor, text: TextFeatures, readout: Readout | None) -> Tensor:
    values = anomalous_probability(tokens, text)
    if readout is None:
        return values
    places = readout(values)
    if places.shape[:1] != values.shape[:1]:
        raise ValueError(
            "readout must keep the images apart: "
            f"expected ({len(values)}, ...); found {tuple(places.shape)}"
        )
    return places


def _draw(
    shape: torch.Size, outputs: int, steps: int, noise_std: float, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A first weight (P, D) and bias (P,), and noise (steps, *grid, D), for any image."""
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(shape[-1])  # as torch starts a Linear layer of this width
    weight = torch.empty(outputs, shape[-1]).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(outputs).uniform_(-bound, bound, generator=generator)
    noise = torch.empty(steps, *shape)
    for one_step in noise:  # so that fewer steps meet the same noise
        one_step.normal_(std=noise_std, generator=generator)
    return weight, bias, noise


def _starts(
    patches: Tensor,
    drawn: tuple[Tensor, Tensor, Tensor],
    init: tuple[Tensor, Tensor] | None,
    noise: Tensor | None,
) -> list[Tensor]:
    """Weights (B, P, D), biases (B, P) and noise (B, steps, *grid, D): given, or drawn for all."""
    weights, biases = init or (None, None)
    given = {"init's weights": weights, "init's biases": biases, "noise": noise}
    starts = []
    for (name, value), same in zip(given.items(), drawn, strict=True):
        shape = (len(patches), *same.shape)
        if value is None:
            starts.append(same.to(patches.device).expand(shape))
        elif value.shape == shape:
            starts.append(_finite(_own(value, patches.device), name))
        else:
            raise ValueError(f"{name} must have shape {shape}; found {tuple(value.shape)}")
    return starts


def _check_options(adapter: str, optimizer_state: str, **numbers: float) -> None:
    if adapter not in ("text", "linear"):
        raise ValueError(f"adapter must be 'text' or 'linear'; found {adapter!r}")
    if optimizer_state not in ("reset", "kept"):
        raise ValueError(f"optimizer_state must be 'reset' or 'kept'; found {optimizer_state!r}")
    for name, value in numbers.items():
        if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a finite number from 0 on; found {value!r}")
        if name in ("steps", "seed") and not isinstance(value, int):
            raise ValueError(f"{name} must be a whole number; found {value!r}")


def _check_terms(terms: Collection[str]) -> None:
    if isinstance(terms, str) or not terms or not set(terms) <= set(TERMS):
        raise ValueError(f"terms must be one or more of {TERMS}, as a tuple; found {terms!r}")


def _check_patches(patches: Tensor, text: TextFeatures) -> None:
    if patches.ndim < 3 or 0 in patches.shape:
        raise ValueError(
            "patches must have shape (B, *grid, D), such as (B, h, w, D), "
            f"found {tuple(patches.shape)}"
        )
    check_features(patches, text)


@contextmanager
def _fresh_gradients(device: torch.device) -> Iterator[None]:
    """Gradients in float32, whatever mode the caller is in."""
    no_autocast = torch.autocast(device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), no_autocast:
        yield


def _own(values: Tensor, device: torch.device) -> Tensor:
    """A float32 copy that gradients may flow past, also of a tensor made in inference mode."""
    return values.detach().to(device, torch.float32).clone()


def _own_text(text: TextFeatures, device: torch.device) -> TextFeatures:
    prototypes, prompts = _own(text.prototypes, device), _own(text.prompts, device)
    return replace(text, prototypes=prototypes, prompts=prompts)


def _in_groups_of(count: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(tensor.split(count) for tensor in tensors), strict=True)


def _finite(values: Tensor, what: str) -> Tensor:
    if not torch.isfinite(values).all():
        raise ValueError(f"{what} hold NaN or infinity")
    return values
