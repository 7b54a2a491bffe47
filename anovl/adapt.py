"""Test-time adaptation (TTA): a small adapter, trained on one image for a few steps (the paper).

The adapter changes the embeddings of the patches before they meet the prototypes; the image score
stays. No label is needed. Each step makes a noisy copy: the same embeddings with Gaussian noise
added. The loss asks three things at once: be sure of every patch, call every patch of the noisy
copy anomalous, and call every patch of the image itself normal, also those of a defect. With the
probability p of "anomalous" at each patch of the image, and p' at those of the noisy copy:

    loss = mean H(p) + (mean −log p' + mean −log(1 − p)) / 2       H(p) = −p log p − (1−p) log(1−p)

This is the published loss. The paper's abstract speaks of pseudo-labels; its code has none.

`train` is the loop: forward, loss, step. `adapt` draws what is random and calls it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from anovl.maps import anomalous_probability, check_features
from anovl.prompts import TextFeatures

WEIGHT_DECAY = 0.01
TERMS = ("entropy", "noisy", "clean")


@dataclass(frozen=True)
class TTA:
    """How to adapt at test time, with the published values but for `reset_optimizer`.

    - `adapter`: "text", published for MVTec AD, or "linear", published for VisA.
    - `steps`: updates by AdamW with learning rate `lr` and weight decay 0.01. With none, patches
      still go through the random first adapter: they do not come back as they were.
    - `noise_std`: of the Gaussian noise, in the units of the patches (their length is not 1).
    - `reset_optimizer`: True starts AdamW anew for every image. False is published: the weights
      start anew, but AdamW's moments and step count go on from the image before, so that the
      order of images matters.
    - `seed`: of the first adapter and the noise.

    >>> TTA(steps=10)
    TTA(adapter='text', steps=10, lr=0.001, noise_std=0.055, reset_optimizer=True, seed=0)

    Raises ValueError for an unknown option, or a value out of range.
    """

    adapter: Literal["text", "linear"] = "text"
    steps: int = 5
    lr: float = 1e-3
    noise_std: float = 0.055
    reset_optimizer: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.adapter not in ("text", "linear"):
            raise ValueError(f"adapter must be 'text' or 'linear'; found {self.adapter!r}")
        if not isinstance(self.reset_optimizer, bool):
            raise ValueError(
                f"reset_optimizer must be True or False; found {self.reset_optimizer!r}"
            )
        for name in ("steps", "lr", "noise_std", "seed"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number from 0 on; found {value!r}")
            if name in ("steps", "seed") and not isinstance(value, int):
                raise ValueError(f"{name} must be a whole number; found {value!r}")


class Loss(NamedTuple):
    """The terms of the loss and their total, each (B,): one number an image."""

    entropy: Tensor
    noisy: Tensor
    clean: Tensor
    total: Tensor


@dataclass(frozen=True, eq=False)
class AdaptTrace:
    """What happened in an adaptation, step by step.

    `entropy`, `noisy`, `clean` and `total` are the terms of the loss before each update, each
    (B, steps), also those that `terms` left out of the total; `tokens` (B, steps + 1, *grid, D)
    are the adapted patches, first those of the first adapter, then after every update; the last
    are those that `adapt` returns.
    """

    entropy: Tensor
    noisy: Tensor
    clean: Tensor
    total: Tensor
    tokens: Tensor


def train(
    x: Tensor,
    noise: Tensor,
    W: Tensor,
    b: Tensor,
    prompts: Tensor | None,
    p: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    terms: Collection[str] = TERMS,
    trace: list[tuple[Tensor, Loss]] | None = None,
) -> Tensor:
    """Train the adapters (W, b) of images x (B, *grid, D), one step for each noise.

    `noise` (B, steps, *grid, D), `W` (B, P, D), `b` (B, P), `prompts` as in `apply_adapter`; `p`
    gives P(anomalous) (B, ...) of adapted patches. Returns the patches (B, *grid, D) of the last
    adapter; a `trace` collects those before each step, and their loss.

    Source: published code.
    """
    for step in range(noise.shape[1]):
        clean = apply_adapter(x, W, b, prompts)  # (B, *grid, D)
        noisy = apply_adapter(x + noise[:, step], W, b, prompts)
        loss = tta_loss(p(clean), p(noisy), terms=terms)  # four terms, each (B,)
        optimizer.zero_grad()
        loss.total.sum().backward()  # a sum: each adapter sees the gradient of its own image alone
        optimizer.step()
        if trace is not None:
            trace.append((clean.detach(), Loss(*(term.detach() for term in loss))))
    return apply_adapter(x, W, b, prompts).detach()


def apply_adapter(x: Tensor, W: Tensor, b: Tensor, prompts: Tensor | None = None) -> Tensor:
    """Adapt patches x: the mean of each and of a layer's output for its direction, x/|x|.

        x' = x/2 + tanh(W x/|x| + b) E / 2      "text": a combination of the prompts E (P, D)
        x' = x/2 + (W x/|x| + b) / 2            "linear": without prompts, P = D

    `x` (B, *grid, D); `W` (B, P, D) and `b` (B, P) are one adapter an image; x' has the shape of x.

    >>> patch = torch.tensor([[[3.0, 4.0]]])
    >>> apply_adapter(patch, torch.eye(2)[None], torch.zeros(1, 2))
    tensor([[[1.8000, 2.4000]]])

    Source: published code.
    """
    directions = F.normalize(x, dim=-1).flatten(1, -2)  # (B, N, D)
    outputs = directions @ W.mT + b[:, None]  # (B, N, P)
    if prompts is not None:
        outputs = outputs.tanh() @ prompts  # (B, N, D)
    return (x + outputs.view_as(x)) / 2


def tta_loss(clean: Tensor, noisy: Tensor, *, terms: Collection[str] = TERMS) -> Loss:
    """The loss and its terms, each (B,), from P(anomalous) (B, ...) of the image and its copy.

        entropy = mean H(p),  noisy = mean −log p',  clean = mean −log(1 − p)
        total   = entropy + (noisy + clean) / 2         of those in `terms`

    Means are over the places of an image; logarithms are natural.

    >>> half = torch.tensor([[0.5, 0.5]])
    >>> [round(term.item(), 3) for term in tta_loss(half, half)]
    [0.693, 0.693, 0.693, 1.386]

    Source: published code.
    """
    p, p_noisy = clean.flatten(1), noisy.flatten(1)  # (B, places)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean(dim=1)
    noisy_is_anomalous = -p_noisy.log().mean(dim=1)
    clean_is_normal = -(1 - p).log().mean(dim=1)
    e, n, c = (float(term in terms) for term in TERMS)
    total = e * entropy + (n * noisy_is_anomalous + c * clean_is_normal) / 2
    return Loss(entropy, noisy_is_anomalous, clean_is_normal, total)


def adapt(
    patches: Tensor,
    text: TextFeatures,
    *,
    adapter: Literal["text", "linear"] = "text",
    steps: int = 5,
    lr: float = 1e-3,
    noise_std: float = 0.055,
    reset_optimizer: bool = True,
    terms: Collection[str] = TERMS,
    seed: int = 0,
    noise: Tensor | None = None,
    init: tuple[Tensor, Tensor] | None = None,
    readout: Callable[[Tensor], Tensor] | None = None,
    return_trace: bool = False,
) -> Tensor | tuple[Tensor, AdaptTrace]:
    """Adapt the patches (B, *grid, D) of each image to itself; the same shape comes back, float32.

    Unlike the published code, a batch gives what its images give one by one, in any order, unless
    `reset_optimizer=False`. Every image has its own adapter; all start from the same random one
    and meet the same noise. The options of `TTA` are explained there. Also:

    - `terms`: those of "entropy", "noisy" and "clean" that are minimised; published is all three.
    - `noise` (B, steps, *grid, D), used as it is, and `init`, weights (B, P, D) and biases (B, P),
      replace what `seed` draws. P is the number of prompts for "text", and D for "linear".
    - `readout`: turns P(anomalous) (B, *grid) into the values (B, ...) that the loss is taken of;
      published for VisA is `merge_grids`, the map of two tiles without its 3x3 mean.
    - `return_trace`: return `(patches, AdaptTrace)`.

    >>> text = TextFeatures([[1, 0], [0, 1]], [[1, 0], [0, 1]], [False, True])
    >>> better, trace = adapt(torch.ones(3, 4, 4, 2), text, return_trace=True)
    >>> better.shape, trace.total.shape
    (torch.Size([3, 4, 4, 2]), torch.Size([3, 5]))

    Raises ValueError for shapes that do not fit, unknown options, NaN or infinity.
    Source: published code.
    """
    tta = TTA(adapter, steps, lr, noise_std, reset_optimizer, seed)
    if isinstance(terms, str) or not terms or not set(terms) <= set(TERMS):
        raise ValueError(f"terms must be one or more of {TERMS}, as a tuple; found {terms!r}")
    if patches.ndim < 3 or 0 in patches.shape:
        expected = "patches must have shape (B, *grid, D), such as (B, h, w, D)"
        raise ValueError(f"{expected}; found {tuple(patches.shape)}")
    check_features(patches, text)
    with _with_gradients(patches.device):
        own = partial(_own, device=patches.device)
        x, prototypes = own(patches), own(text.prototypes)
        text = replace(text, prototypes=prototypes, prompts=own(text.prompts))
        prompts = text.prompts if adapter == "text" else None
        weights, biases, noises = _starts(x, prompts, tta, init, noise)
        group = len(x) if reset_optimizer else 1  # how many images go through AdamW at once
        W, b = (torch.nn.Parameter(start[:group].clone()) for start in (weights, biases))
        optimizer = torch.optim.AdamW([W, b], lr=lr, weight_decay=WEIGHT_DECAY)

        p = partial(_places, text=text, readout=readout)
        results, traces = [], []
        for i in range(0, len(x), group):
            at = slice(i, i + group)
            W.data.copy_(weights[at])
            b.data.copy_(biases[at])
            trace = [] if return_trace else None
            last = train(x[at], noises[at], W, b, prompts, p, optimizer, terms=terms, trace=trace)
            results.append(last)
            traces.append(trace)
    adapted = _finite(torch.cat(results), "the adapted patches")
    return (adapted, _joined(traces, results)) if return_trace else adapted


# Plumbing: what is drawn, what is checked, and the way around the caller's mode.


def _places(patches: Tensor, text: TextFeatures, readout: Callable | None) -> Tensor:
    """P(anomalous) of patches (B, *grid, D) as the loss takes it, (B, ...)."""
    p = anomalous_probability(patches, text)
    places = p if readout is None else readout(p)
    if places.shape[:1] != p.shape[:1]:
        raise ValueError(
            "readout must keep the images apart: "
            f"expected ({len(p)}, ...); found {tuple(places.shape)}"
        )
    return places


def _draw(shape: torch.Size, outputs: int, tta: TTA) -> tuple[Tensor, Tensor, Tensor]:
    """A first weight (P, D) and bias (P,), and noise (steps, *grid, D), for any image.

    Drawn on the CPU, in this order: the same on every machine.
    """
    generator = torch.Generator().manual_seed(tta.seed)
    bound = 1 / math.sqrt(shape[-1])  # as torch starts a Linear layer of this width
    weight = torch.empty(outputs, shape[-1]).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(outputs).uniform_(-bound, bound, generator=generator)
    noise = torch.empty(tta.steps, *shape)
    for one_step in noise:  # so that fewer steps meet the same noise
        one_step.normal_(std=tta.noise_std, generator=generator)
    return weight, bias, noise


def _starts(
    x: Tensor,
    prompts: Tensor | None,
    tta: TTA,
    init: tuple[Tensor, Tensor] | None,
    noise: Tensor | None,
) -> list[Tensor]:
    """Weights (B, P, D), biases (B, P) and noise (B, steps, *grid, D): given, or drawn for all."""
    if init is not None and len(init) != 2:
        raise ValueError(f"init must be a pair (weights, biases); found {len(init)} things")
    weights, biases = init or (None, None)
    given = {"init's weights": weights, "init's biases": biases, "noise": noise}
    drawn = _draw(x.shape[1:], x.shape[-1] if prompts is None else len(prompts), tta)
    starts = []
    for (name, value), same in zip(given.items(), drawn, strict=True):
        shape = (len(x), *same.shape)
        if value is None:
            starts.append(same.to(x.device).expand(shape))
        elif value.shape == shape:
            starts.append(_finite(_own(value, x.device), name))
        else:
            raise ValueError(f"{name} must have shape {shape}; found {tuple(value.shape)}")
    return starts


def _joined(traces: list[list[tuple[Tensor, Loss]]], results: list[Tensor]) -> AdaptTrace:
    """One trace of the traces of groups of images and of their results."""
    tokens, losses = [], []
    for trace, last in zip(traces, results, strict=True):
        tokens.append(torch.stack([*(before for before, _ in trace), last], dim=1))
        steps = [torch.stack(loss, dim=1) for _, loss in trace]  # each (B, 4)
        losses.append(torch.stack(steps, dim=2) if steps else last.new_empty(len(last), 4, 0))
    return AdaptTrace(*torch.cat(losses).unbind(1), torch.cat(tokens))


@contextmanager
def _with_gradients(device: torch.device) -> Iterator[None]:
    """Gradients in float32, whatever mode the caller is in."""
    no_autocast = torch.autocast(device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), no_autocast:
        yield


def _own(values: Tensor, device: torch.device) -> Tensor:
    """A float32 copy that gradients may flow past, also of a tensor made in inference mode."""
    return values.detach().to(device, torch.float32).clone()


def _finite(values: Tensor, what: str) -> Tensor:
    if not torch.isfinite(values).all():
        raise ValueError(f"{what} hold NaN or infinity")
    return values
