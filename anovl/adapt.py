"""Test-time adaptation (TTA): one image trains a small adapter for a few steps (the paper).

The adapter changes the patch tokens before they meet the text prototypes; the image score stays.
Each step makes a noisy copy: the same tokens plus Gaussian noise. The loss, without labels, has
three terms: be sure of every patch, call every patch of the noisy copy anomalous and every patch of
the image normal, defects included. With the probability p of "anomalous" at a patch, and p' in the
noisy copy:

    loss = mean H(p) − (mean log p' + mean log(1 − p)) / 2        H(p) = −p log p − (1−p) log(1−p)

This is the published loss; the pseudo-labels of the paper's abstract are not in its code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from anovl.maps import check_features, cosines
from anovl.prompts import TextFeatures

WEIGHT_DECAY = 0.01
TERMS = ("entropy", "noisy", "clean")


@dataclass(frozen=True)
class TTA:
    """The options of test-time adaptation; defaults are published, except `reset_optimizer`.

    - `adapter`: "text" (published for MVTec AD) or "linear" (published for VisA).
    - `steps`: AdamW updates with learning rate `lr` and weight decay 0.01. With 0 steps, the random
      initial adapter still changes the tokens.
    - `noise_std`: of the noise, in the units of the tokens (not of length 1).
    - `reset_optimizer`: a new AdamW for every image. Published is False: AdamW's moments and step
      count go on, so that the order of images matters.
    - `seed`: of the initial adapter and the noise.

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
            raise ValueError(f"reset_optimizer must be a bool; found {self.reset_optimizer!r}")
        for name in ("steps", "lr", "noise_std", "seed"):
            kind = int if name in ("steps", "seed") else (int, float)
            if not isinstance(value := getattr(self, name), kind) or not 0 <= value < math.inf:
                whole = "whole" if kind is int else "finite"
                raise ValueError(f"{name} must be a {whole} number from 0 on; found {value!r}")


class Loss(NamedTuple):
    """The loss terms and their total, each (B,)."""

    entropy: Tensor
    noisy: Tensor
    clean: Tensor
    total: Tensor


@dataclass(frozen=True, eq=False)
class AdaptTrace:
    """Loss terms (B, steps) before each update, and adapted tokens (B, steps + 1, *grid, D).

    `*grid` is (h, w), with tiles (2, h, w). The first tokens are those before any update.
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
    probability: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    terms: Collection[str] = TERMS,
    trace: list[tuple[Tensor, Loss]] | None = None,
) -> Tensor:
    """Train the adapters (W, b) of images x (B, *grid, D), one step per noise.

    `noise` (B, steps, *grid, D); `W`, `b` and `prompts` as in `apply_adapter`; `probability`
    turns adapted tokens into P(anomalous) (B, ...). Returns the tokens of the last adapter. The
    list `trace` collects the tokens before each step, and their loss.

    Source: published code.
    """
    for step in range(noise.shape[1]):
        adapted = apply_adapter(x, W, b, prompts)  # (B, *grid, D)
        adapted_noisy = apply_adapter(x + noise[:, step], W, b, prompts)
        loss = tta_loss(probability(adapted), probability(adapted_noisy), terms=terms)
        optimizer.zero_grad()
        loss.total.sum().backward()  # a sum: each adapter sees the gradient of its own image alone
        optimizer.step()
        if trace is not None:
            trace.append((adapted.detach(), Loss(*(term.detach() for term in loss))))
    return apply_adapter(x, W, b, prompts).detach()


def apply_adapter(x: Tensor, W: Tensor, b: Tensor, prompts: Tensor | None = None) -> Tensor:
    """Adapt tokens x: average each with a layer's output for its direction x/|x|.

        x' = x/2 + tanh(W x/|x| + b) E / 2      "text": a combination of the prompts E (P, D)
        x' = x/2 + (W x/|x| + b) / 2            "linear": without prompts, P = D

    `W` (B, P, D) and `b` (B, P) are one adapter per image; x and x' are (B, *grid, D).

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


def tta_loss(p: Tensor, p_noisy: Tensor, *, terms: Collection[str] = TERMS) -> Loss:
    """Compute the loss (B,) and its terms from P(anomalous) of the image and of its noisy copy.

        entropy = mean H(p),  noisy = −mean log p_noisy,  clean = −mean log(1 − p)
        total   = entropy + (noisy + clean) / 2         of those in `terms`

    `p` and `p_noisy` are (B, ...); means are over patches; logarithms are natural.

    >>> half = torch.tensor([[0.5, 0.5]])
    >>> [round(term.item(), 3) for term in tta_loss(half, half)]
    [0.693, 0.693, 0.693, 1.386]

    Source: published code.
    """
    p, p_noisy = p.flatten(1), p_noisy.flatten(1)  # (B, patches)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean(dim=1)
    noisy = -p_noisy.log().mean(dim=1)
    clean = -(1 - p).log().mean(dim=1)
    e, n, c = (float(term in terms) for term in TERMS)
    return Loss(entropy, noisy, clean, e * entropy + (n * noisy + c * clean) / 2)


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
    """Adapt the patch tokens (B, *grid, D) of each image to itself; same shape, float32.

    Every image has its own adapter, with the same random start and the same noise: a batch gives
    what its images give one by one (unless `reset_optimizer=False`). See `TTA`, and:

    - `terms`: the loss terms to minimise, some of `TERMS`; published: all three.
    - `noise` (B, steps, *grid, D) and `init`, weights (B, P, D) and biases (B, P), replace random
      draws. P is the number of prompts for "text", and D for "linear".
    - `readout`: turns P(anomalous) (B, *grid) into the values (B, ...) in the loss. Published for
      VisA: pixels of the merged tiles, by `protocols.merge_grids` without smoothing.
    - `return_trace`: return `(patches, AdaptTrace)`.

    >>> better, trace = adapt(torch.ones(3, 4, 4, 2), toy_text, return_trace=True)
    >>> better.shape, trace.total.shape
    (torch.Size([3, 4, 4, 2]), torch.Size([3, 5]))

    Raises ValueError for wrong shapes, unknown options, NaN or infinity.
    Source: published code.
    """
    tta = TTA(adapter, steps, lr, noise_std, reset_optimizer, seed)
    if isinstance(terms, str) or not terms or not set(terms) <= set(TERMS):
        raise ValueError(f"terms must be one or more of {TERMS}, as a tuple; found {terms!r}")
    if patches.ndim < 3 or 0 in patches.shape:
        raise ValueError(f"patches must have shape (B, *grid, D); found {tuple(patches.shape)}")
    check_features(patches, text)
    with _gradients(patches.device):
        x, prompts = _copy(patches, patches.device), _copy(text.prompts, patches.device)
        text = TextFeatures(_copy(text.prototypes, patches.device), prompts, text.is_anomalous)
        prompts = prompts if adapter == "text" else None
        weights, biases, noises = _start(x, prompts, tta, init, noise)

        def probability(tokens: Tensor) -> Tensor:
            grid = cosines(tokens, text).softmax(dim=-1)[..., 1]  # (B, *grid)
            values = grid if readout is None else readout(grid)
            if len(values) != len(grid):
                raise ValueError(f"readout must give (B, ...); found {tuple(values.shape)}")
            return values

        # Weights start anew for every image. With reset_optimizer=False, AdamW's moments go on.
        group = len(x) if reset_optimizer else 1
        W, b = (torch.nn.Parameter(first[:group].clone()) for first in (weights, biases))
        optimizer = torch.optim.AdamW([W, b], lr=lr, weight_decay=WEIGHT_DECAY)
        adapted, traces = [], []
        for i in range(0, len(x), group):
            at, trace = slice(i, i + group), [] if return_trace else None
            W.data.copy_(weights[at])
            b.data.copy_(biases[at])
            known = prompts, probability, optimizer
            last = train(x[at], noises[at], W, b, *known, terms=terms, trace=trace)
            adapted.append(last)
            traces.append(_trace(trace, last) if return_trace else None)
    tokens = torch.cat(adapted)
    if not torch.isfinite(tokens).all():
        raise ValueError("the adapted patches hold NaN or infinity: check lr, init and noise")
    if not return_trace:
        return tokens
    return tokens, AdaptTrace(*(torch.cat(values) for values in zip(*traces, strict=True)))


# Plumbing: random draws, the trace, and the caller's autograd mode.


def _start(
    x: Tensor,
    prompts: Tensor | None,
    tta: TTA,
    init: tuple[Tensor, Tensor] | None,
    noise: Tensor | None,
) -> list[Tensor]:
    """Weights (B, P, D), biases (B, P), noise (B, steps, *grid, D): given, or the same for all."""
    weights, biases = init or (None, None)
    given = weights, biases, noise
    drawn = _draw(x.shape[1:], x.shape[-1] if prompts is None else len(prompts), tta)
    start = []
    for name, value, default in zip(("weights", "biases", "noise"), given, drawn, strict=True):
        shape = (len(x), *default.shape)
        if value is not None and value.shape != shape:
            raise ValueError(f"the {name} must have shape {shape}; found {tuple(value.shape)}")
        default = default.to(x.device).expand(shape)
        start.append(default if value is None else _copy(value, x.device))
    return start


def _draw(shape: torch.Size, outputs: int, tta: TTA) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a weight (P, D), a bias (P,) and noise (steps, *grid, D), on the CPU in this order."""
    generator = torch.Generator().manual_seed(tta.seed)
    bound = 1 / math.sqrt(shape[-1])  # as torch starts a Linear layer of this width
    weight = torch.empty(outputs, shape[-1]).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(outputs).uniform_(-bound, bound, generator=generator)
    noise = torch.empty(tta.steps, *shape)
    for one_step in noise:  # fewer steps get the same noise
        one_step.normal_(std=tta.noise_std, generator=generator)
    return weight, bias, noise


def _trace(steps: list[tuple[Tensor, Loss]], last: Tensor) -> list[Tensor]:
    """The fields of an `AdaptTrace` for the images of one group."""
    tokens = torch.stack([*(before for before, _ in steps), last], dim=1)
    terms = [torch.stack(loss) for _, loss in steps]  # each (4, B)
    losses = torch.stack(terms, dim=2) if terms else last.new_empty(4, len(last), 0)
    return [*losses, tokens]


@contextmanager
def _gradients(device: torch.device) -> Iterator[None]:
    """Gradients in float32, whatever mode the caller is in."""
    no_autocast = torch.autocast(device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), no_autocast:
        yield


def _copy(values: Tensor, device: torch.device) -> Tensor:
    """A float32 copy: autograd refuses tensors made in inference mode."""
    return values.detach().to(device, torch.float32).clone()
