"""Read images in threads, ahead of the methods: each file once, at the size that methods use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anovl.baselines.controls import ModelFree, Shuffled
from anovl.baselines.pca_normal import PcaNormal
from anovl.clip import Clip, preprocess
from anovl.data.dataset import Sample
from anovl.detector import AnoVL, ClipDetector, Detector
from anovl.maps import Size, as_size
from anovl.masks import mask_at
from anovl.protocols import fit_short_side

CHUNK = 16  # images that are localized together, or a whole number of batches
AHEAD = 2  # chunks that are read while one is localized
MOST_ON_A_GPU = 256

Shape: TypeAlias = tuple[int, int]
Form: TypeAlias = tuple[str, Any]
"""The input of a method: "pixels" for a `Clip`, a "size", a "short side", or the "picture"."""
MaskAt: TypeAlias = Callable[[Shape], np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some images of a category in each form that a method needs, and their masks.

    `masks` return the mask of an image at a shape (H, W), or None. `features` are features that one
    method has encoded, for other methods on the same images.
    """

    images: Mapping[Form, Tensor | list[Image.Image]]
    masks: Sequence[MaskAt]
    features: dict[Hashable, Any] = field(default_factory=dict)


def read_ahead(
    chunks: Iterable[Sequence[Callable[[], tuple]]], pool: ThreadPoolExecutor
) -> Iterator[Chunk]:
    """Yield chunks in their order, from functions that read an image; `AHEAD` more are being read.

    An error of a function is raised when its chunk is due.
    """
    waiting: deque[Future[Chunk]] = deque()
    for reads in chunks:
        images = [pool.submit(read) for read in reads]
        waiting.append(pool.submit(_together, images))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def chunks_of(
    reads: Sequence[Callable[[], Sample]], detectors: Sequence[Detector], size: Size | None
) -> list[list[Callable[[], tuple]]]:
    """Split a category into chunks of whole batches: for each image a function that reads it.

    Masks are resized to `size`, or to the size of the input where it is None.
    """
    shape = None if size is None else as_size(size)
    forms = {form_of(detector) for detector in detectors}
    batch = max(getattr(detector, "batch_size", 1) for detector in detectors)
    step = -(-CHUNK // batch) * batch
    tasks = [partial(_read, read, forms, shape) for read in reads]
    return [tasks[start : start + step] for start in range(0, len(tasks), step)]


def joined(chunks: Iterable[Chunk], form: Form) -> Chunk:
    """Join chunks into one, with the images in one form."""
    chunks = list(chunks)
    parts = [chunk.images[form] for chunk in chunks]
    images = torch.cat(parts) if isinstance(parts[0], Tensor) else [*chain(*parts)]
    return Chunk({form: images}, [mask for chunk in chunks for mask in chunk.masks])


def form_of(detector: Detector) -> Form:
    """Return the form into which a method converts an image first, so that threads can do it."""
    if isinstance(detector, Shuffled):
        return form_of(detector.detector)
    if isinstance(detector, ModelFree):
        return "size", as_size(detector.image_size)
    if isinstance(detector, AnoVL) and detector.tiles:
        return "short side", (detector.clip.image_size[0], detector.clip.interpolation)
    if isinstance(detector, (ClipDetector, PcaNormal)):
        return "pixels", detector.clip
    return "picture", None


def in_form(picture: Image.Image, form: Form) -> Image.Image | Tensor:
    """Convert an image into a form; a method gives the same result for it.

    >>> in_form(Image.new("RGB", (1000, 600)), ("short side", (240,))).size
    (400, 240)
    """
    kind, value = form
    if kind == "pixels":
        return preprocess(value, picture)[0]
    if kind == "size":
        return picture.resize(value[::-1], Image.Resampling.BICUBIC)
    return fit_short_side(picture, *value) if kind == "short side" else picture


def _read(
    read: Callable[[], Sample], forms: Iterable[Form], shape: Shape | None
) -> tuple[dict[Form, Image.Image | Tensor], MaskAt]:
    """Read an image and its mask, and resize both."""
    sample = read()
    images = {form: in_form(sample.image, form) for form in forms}
    mask = cache(lambda shape: None if sample.mask is None else mask_at(sample.mask, shape))
    for image in images.values():
        mask(shape or (image.size[::-1] if isinstance(image, Image.Image) else image.shape[1:]))
    return images, mask


def _together(reading: Sequence[Future[tuple]]) -> Chunk:
    """Wait for images, and collect them in a chunk."""
    read, masks = zip(*(future.result() for future in reading), strict=True)
    images = {form: [one[form] for one in read] for form in read[0]}
    for (kind, value), own in images.items():
        if kind == "pixels":
            pixels = torch.stack(own)  # pinned memory is copied to a GPU several times as fast
            images[kind, value] = pixels.pin_memory() if value.device.type == "cuda" else pixels
    return Chunk(images, masks)


def default_batch_size(clip: Clip, *, free: int | None = None) -> int:
    """Return a batch size for a model: 16, or on CUDA the power of two that fits into free memory.

    `free` are bytes of memory of the GPU, None to ask it; half of them stay free. An image counts
    with its 22 views in float32, twice, and with 24 values a token and channel.
    """
    if free is None:
        if clip.device.type != "cuda":
            return CHUNK  # more is no faster on a CPU
        free = torch.cuda.mem_get_info(clip.device)[0]
    height, width = clip.image_size
    rows, columns = clip.grid
    tokens = (1 + rows * columns) * clip.model.visual.conv1.out_channels
    each = 4 * (2 * 22 * 3 * height * width + 24 * tokens)
    fits = max(1, free // 2 // each)
    return min(MOST_ON_A_GPU, 1 << (fits.bit_length() - 1))
