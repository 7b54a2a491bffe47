"""The cost of a method in operations and memory: the same on every machine, every day."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

from anovl.clip import Images
from anovl.detector import Detector, Words


@dataclass(frozen=True)
class Cost:
    """Of one call: `flops`, and `peak_bytes`, the most that its tensors took at once.

    `flops` counts the multiplications and the additions of matrix products, convolutions and
    attention, forward and backward; the rest (normalisation, softmax, images) is below a few per
    cent. The model's own weights are not in `peak_bytes`. What is done outside torch costs nothing.
    """

    flops: int
    peak_bytes: int


def cost(detector: Detector, images: Images, class_name: Words) -> Cost:
    """Count what a detector does for images, with the prompts of the class name encoded before.

    Attention is counted as written, two matrix products and the weights between them in memory,
    though fused kernels need not keep the weights.

    >>> from PIL import Image
    >>> from anovl.baselines.controls import Centre
    >>> cost(Centre(32), Image.new("RGB", (32, 32)), "nut").flops
    0
    """
    detector.localize(images, class_name)
    return counted(lambda: detector.localize(images, class_name))


def counted(call: Callable[[], object]) -> Cost:
    """Count what a call does, whatever it is; see `cost`.

    >>> counted(lambda: torch.ones(3, 2) @ torch.ones(2, 4)).flops  # 2 · 3 · 2 · 4
    48
    """
    counter, memory = FlopCounterMode(display=False), _LiveTensors()
    with _plain_attention(), memory, counter:
        call()
    return Cost(counter.get_total_flops(), memory.peak)


class _LiveTensors(TorchDispatchMode):
    """Remembers each storage that an operation makes, for as long as something holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = {storage.cdata for storage, _ in _storages((args, kwargs))}
        result = func(*args, **kwargs)
        self._alive = {key: own for key, own in self._alive.items() if not own[0].expired()}
        for storage, size in _storages(result):
            if storage.cdata not in given:  # else a view, or written in place
                self._alive[storage.cdata] = storage, size
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result


def _storages(values: Any) -> Iterator[tuple[StorageWeakRef, int]]:
    for value in tree_iter(values):
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            yield StorageWeakRef(storage), storage.nbytes()


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention by matrix products that can be counted, not in one fused kernel."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
