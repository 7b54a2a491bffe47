"""What the benchmark measures: tasks, and what each is compared with."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from anovl.attention import encode_images
from anovl.baselines import METHODS, make_detector
from anovl.baselines.controls import Centre
from anovl.clip import Clip, inference_context
from anovl.data import load_dataset
from anovl.data.dataset import Dataset
from anovl.detector import AnoVL, Detector
from anovl.evaluation.harness import evaluate
from anovl.evaluation.metrics import aupro
from anovl.evaluation.reading import form_of, in_form
from anovl.prompts import PROMPT_LEVELS, PromptEnsemble, encode_prompts, prompt_ensemble
from anovl.protocols import augmented_views
from anovl_companion.benchmark.materials import (
    Waiting,
    aupro_by_thresholds,
    picture,
    pixels,
    random_maps,
    with_grid,
    write_category,
)

Task = Callable[[], Any]
PASS = "data set pass / detector alone"
PASS_WITHOUT_NETWORK = "data set pass without a network / detector alone"
_WORDLESS = ("centre", "outlier", "dog", "brightness")


@dataclass(frozen=True)
class Comparison:
    """A task, what it is compared with, and the target for the ratio of their times.

    `unit` is "x as long" (at most the target), "x faster" (at least the target), or "s" (the
    task's own seconds, at most the target). Without a target the ratio is only shown. `counted`
    says that all work is torch's, so that its operations can be counted.
    """

    what: str
    unit: str
    target: float
    task: Task
    beside: Task | None = None
    repetitions: int = 3
    counted: bool = True


def of_encoder(clip: Clip, quick: bool) -> Iterator[Comparison]:
    """Both paths, and the choices inside them, beside one plain pass of the image tower."""
    batch = pixels(clip, 2 if quick else 16)
    both = encode(clip, batch)

    def plain_attention() -> None:
        with sdpa_kernel(SDPBackend.MATH):
            both()

    def views_at_once() -> None:
        encode_images(clip, augmented_views(batch[:1].to(clip.device))[0], batch_size=22)

    def views_one_by_one() -> None:
        for view in augmented_views(batch[:1].to(clip.device))[0]:
            encode_images(clip, view[None])

    yield Comparison("both paths / encode_image", "x as long", 1.10, both, plain_pass(clip, batch))
    yield Comparison(
        "both paths, bfloat16 / float32",
        *("x as long", np.nan),
        *(encode(replace(clip, precision=name), batch) for name in ("bfloat16", "float32")),
    )
    yield Comparison(
        "both paths, fused attention / two products", "x as long", np.nan, both, plain_attention
    )
    yield Comparison(
        "both paths, channels last / first",
        *("x as long", np.nan, encode(_channels_last(clip), batch), both),
    )
    yield Comparison(
        *("22 views at once / one by one", "x as long", 1.0, views_at_once, views_one_by_one)
    )


def of_words(clip: Clip, quick: bool) -> Iterator[Comparison]:
    """The prompts of a category, the first time, beside the published procedure."""
    words = prompt_ensemble("bottle", level="states" if quick else "domains")
    length = clip.tokenizer(["a nut"]).shape[1]
    yield Comparison(
        f"{len(words)} prompts, cut / all {length} tokens",
        *("x faster", 4.0 if length >= 77 else np.nan),
        *(partial(_fresh_text, clip, words), partial(_whole_text, clip, words)),
        repetitions=1,
    )


def of_adaptation(clip: Clip, quick: bool) -> Iterator[Comparison]:
    """The whole method with test-time adaptation, beside one plain pass."""
    batch = pixels(clip, 2 if quick else 16)
    detector = AnoVL(clip, level="states" if quick else "domains", tta=True)
    detector.text("bottle")
    yield Comparison(
        f"AnoVL+TTA, batch of {len(batch)} / encode_image",
        *("x as long", 1.5, partial(detector.localize, batch, "bottle"), plain_pass(clip, batch)),
    )


def of_pass(clip: Clip, folder: Path, quick: bool) -> Iterator[Comparison]:
    """A whole pass, with reading, decoding and all metrics, beside the detector's work alone."""
    images, categories = (2, 1) if quick else (40, 2)
    root = folder / f"{clip.grid} {clip.embed_dim}"
    for name in ("nut", "bolt")[:categories]:  # words that the pocket model knows
        write_category(root / name, images=images)
    dataset, detector = load_dataset("folder", root=root), AnoVL(clip, level="states")
    pictures = {
        category: [sample.image for sample in dataset.samples(category)]
        for category in dataset.categories
    }

    def alone() -> None:
        for category, own in pictures.items():
            detector.localize(own, category)

    once = {"repetitions": 2, "counted": False}
    whole = partial(_evaluated, dataset, detector)
    yield Comparison(PASS, "x as long", 1.1, whole, alone, **once)
    without = partial(_evaluated, dataset, Centre(clip.image_size))
    yield Comparison(PASS_WITHOUT_NETWORK, "x as long", np.nan, without, alone, **once)
    write_category(folder / "few/nut", images=2 if quick else 4)
    few = load_dataset("folder", root=folder / "few")
    pair = [make_detector(name, clip, views=22) for name in ("anovl", "anovl-tta")]
    for method in pair:
        method.text("nut")
    yield Comparison(
        "anovl and anovl-tta / anovl, 22 views",
        *("x as long", 1.15, partial(_evaluated, few, *pair), partial(_evaluated, few, pair[0])),
        **once,
    )


def of_reading(folder: Path, quick: bool) -> Comparison:
    """The pipeline with a network that waits, beside the larger of waiting and half of reading."""
    categories, images, network = *((2, 2) if quick else (6, 48)), Waiting(240)
    write_category(folder / "large/nut 0", images=images, side=900)
    for number in range(1, categories):
        copytree(folder / "large/nut 0", folder / f"large/nut {number}", dirs_exist_ok=True)
    dataset, count = load_dataset("folder", root=folder / "large"), categories * images
    reads = [read for category in dataset.categories for read in dataset.reads(category)]
    form = form_of(network)
    pictures = [in_form(read().image, form) for read in reads]

    def wait() -> None:
        network.localize(pictures, "nut")

    def read_by_two() -> None:
        with ThreadPoolExecutor(max_workers=2) as pool:
            deque(pool.map(lambda read: in_form(read().image, form), reads), maxlen=0)

    start = time.perf_counter()
    read_by_two()
    longer = read_by_two if time.perf_counter() - start > network.seconds * count else wait
    what = f"{categories} x {images} pictures of 900 x 900 px, two threads, 20 ms of network each"
    what += " / the larger of network and half of reading"
    whole = partial(_evaluated, dataset, network, threads=2)
    return Comparison(what, "x as long", 1.2, whole, longer, counted=False)


def of_drawing(quick: bool) -> Comparison:
    """Pictures of the pocket world as its training takes them, by one process."""
    from anovl.models.pocket import load_pocket
    from anovl_companion.training.batches import Batches
    from anovl_companion.training.recipe import Recipe

    recipe = Recipe(twins=2) if quick else Recipe()
    data, steps = Batches(recipe, load_pocket()[1]), 1 if quick else 5
    count, first = 2 * recipe.categories * recipe.twins * steps, recipe.easy_steps

    def draw() -> None:
        for step in range(steps):
            data[first + step]

    what = f"{count} pictures of the pocket training, drawn by one process"
    return Comparison(what, "s", count / 300, draw, counted=False)


def of_metrics(quick: bool) -> Iterator[Comparison]:
    """Exact AUPRO beside the usual way, and by itself."""
    side, few, many = (48, 4, 4) if quick else (240, 8, 150)
    maps, masks = random_maps(many, side)
    yield Comparison(
        *("AUPRO, exact / 200 thresholds, regions labelled at each", "x faster", 20.0),
        lambda: aupro(maps[:few], masks[:few]),
        lambda: aupro_by_thresholds(maps[:few], masks[:few]),
        counted=False,
    )
    what = f"AUPRO of {many} maps of {side} x {side} px"
    yield Comparison(what, "s", 2.0, lambda: aupro(maps, masks), counted=False)
    count, full = (4, 64) if quick else (60, 1024)
    large = [np.concatenate(count // 4 * [part]) for part in random_maps(4, full)]
    what = f"AUPRO of {count} maps of {full} x {full} px"
    yield Comparison(what, "s", 6.0, lambda: aupro(*large), counted=False)


def growing(clip: Clip, quick: bool) -> Iterator[tuple[str, int | str, Task]]:
    """Tasks one at a time: axis, value on it, and what to do."""
    for grid in (4, 8) if quick else (7, 14, 21, 28):
        other = with_grid(clip, grid)
        yield "image side (px)", other.image_size[0], encode(other, pixels(other, 4))
    for level in PROMPT_LEVELS[: 2 if quick else None]:
        words = prompt_ensemble("bottle", level=level)
        yield "prompts", len(words), partial(_fresh_text, clip, words)
    for count in (1, 2) if quick else (1, 4, 16, 64):
        yield "images", count, encode(clip, pixels(clip, count))
    pictures = [picture(seed, clip.image_size) for seed in range(2 if quick else 8)]
    for name in METHODS:
        method = make_detector(name, clip, **({} if name in _WORDLESS else {"level": "states"}))
        yield "method", name, partial(method.localize, pictures, "bottle")


def encode(clip: Clip, batch: torch.Tensor) -> Task:
    """Both paths of the image tower."""
    return partial(encode_images, clip, batch)


def plain_pass(clip: Clip, batch: torch.Tensor) -> Task:
    """The image tower as open_clip runs it."""

    @torch.inference_mode()
    def run() -> None:
        with inference_context(clip):
            clip.model.encode_image(batch.to(clip.device))

    return run


def _channels_last(clip: Clip) -> Clip:
    from copy import deepcopy

    return replace(clip, model=deepcopy(clip.model).to(memory_format=torch.channels_last))


def _evaluated(dataset: Dataset, *detectors: Detector, threads: int | None = None) -> None:
    with TemporaryDirectory() as out:
        evaluate(dataset, detectors, out=out, progress=False, threads=threads)


def _fresh_text(clip: Clip, words: PromptEnsemble) -> None:
    encode_prompts(replace(clip), words)  # a copy has nothing remembered


@torch.inference_mode()
def _whole_text(clip: Clip, words: PromptEnsemble) -> None:
    """Every prompt at the full length of the text tower, one state after the other."""
    with inference_context(clip):
        for prompts in (words.normal, words.anomalous):
            for batch in clip.tokenizer(list(prompts)).to(clip.device).split(256):
                clip.model.encode_text(batch)
