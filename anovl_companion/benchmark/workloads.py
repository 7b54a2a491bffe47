"""What the benchmark measures: tasks, and what each is compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel

import anovl
from anovl import Clip, Dataset, PromptEnsemble, encode_images
from anovl.baselines import CONTROLS, METHODS, make_detector
from anovl.baselines.controls import Centre
from anovl.clip import Images, as_list, inference_context
from anovl.detector import Detector, Localization, Words
from anovl.evaluation.harness import evaluate
from anovl.maps import Size, as_size
from anovl.models.pocket import build_model, load_tokenizer
from anovl.prompts import PROMPT_LEVELS
from anovl_companion.benchmark.materials import (
    aupro_by_thresholds,
    random_maps,
    random_pixels,
    with_grid,
    write_category,
)
from anovl_companion.training.batches import Batches
from anovl_companion.training.recipe import Recipe
from anovl_companion.training.step import backward, faster_arithmetic

Task = Callable[[], Any]
LONGER, FASTER, SECONDS = "x as long", "x faster", "s"
NONE = float("nan")  # no target


@dataclass(frozen=True)
class Comparison:
    """A task, what it is compared with, and the target for the ratio of their times.

    `unit` is "x as long" (at most the target), "x faster" (at least the target), or "s" (the
    task's own seconds, at most the target). Without a target the ratio is only shown.
    """

    what: str
    unit: str
    target: float
    task: Task
    beside: Task | None = None


def of_network(clip: Clip, quick: bool) -> Iterator[Comparison]:
    """Both paths, prompts and adaptation, beside one plain pass or the published procedure."""
    batch, level = random_pixels(clip, 2 if quick else 16), "states" if quick else "domains"
    plain, both = partial(plain_pass, clip, batch), partial(encode_images, clip, batch)
    unfused = sdpa_kernel(SDPBackend.MATH)(both)
    half = partial(encode_images, replace(clip, precision="bfloat16"), batch)
    model = deepcopy(clip.model).to(memory_format=torch.channels_last)
    channels_last = partial(encode_images, replace(clip, model=model), batch)
    views = anovl.augmented_views(batch[:1].to(clip.device))[0]
    at_once, one_by_one = (partial(encode_images, clip, views, batch_size=n) for n in (22, 1))
    yield Comparison("both paths / encode_image", LONGER, 1.10, both, plain)
    yield Comparison("both paths, bfloat16 / float32", LONGER, NONE, half, both)
    yield Comparison("both paths, fused attention / two products", LONGER, NONE, both, unfused)
    yield Comparison("both paths, channels last / first", LONGER, NONE, channels_last, both)
    yield Comparison("22 views at once / one by one", LONGER, 1.0, at_once, one_by_one)

    words, length = anovl.prompt_ensemble("bottle", level=level), clip.tokenizer("nut").shape[1]
    cut, whole = partial(fresh_text, clip, words), partial(whole_text, clip, words)
    target = 4.0 if length >= 77 else NONE
    yield Comparison(f"{len(words)} prompts, cut / all {length} tokens", FASTER, target, cut, whole)

    anovl.encode_prompts(clip, words)  # from now on in the cache
    adapted = partial(anovl.AnoVL(clip, level=level, tta=True).localize, batch, "bottle")
    name = f"AnoVL+TTA, batch of {len(batch)} / encode_image"
    yield Comparison(name, LONGER, 1.5, adapted, plain)


def of_pass(clip: Clip, folder: Path, quick: bool) -> Iterator[Comparison]:
    """A whole pass, with reading, decoding and all metrics, beside the detector's work alone."""
    for name in ("nut",) if quick else ("nut", "bolt"):  # words that the pocket model knows
        write_category(folder / "pass" / name, images=2 if quick else 40)
    write_category(folder / "few" / "nut", images=4)
    data, few = (anovl.load_dataset("folder", folder / name) for name in ("pass", "few"))
    detector = anovl.AnoVL(clip, level="states")
    pictures = {name: [sample.image for sample in data.samples(name)] for name in data.categories}

    def alone() -> None:
        for category, images in pictures.items():
            detector.localize(images, category)

    whole, without = (partial(evaluated, data, one) for one in (detector, Centre(clip.image_size)))
    pair = [make_detector(name, clip, views=22) for name in ("anovl", "anovl-tta")]
    both, one = partial(evaluated, few, *pair), partial(evaluated, few, pair[0])
    yield Comparison("data set pass / detector alone", LONGER, 1.1, whole, alone)
    name = "data set pass without a network / detector alone"
    yield Comparison(name, LONGER, NONE, without, alone)
    yield Comparison("anovl and anovl-tta / anovl, 22 views", LONGER, 1.15, both, one)


class Waiting(Centre):
    """In place of a network on another device: it waits 20 ms a picture, and needs no processor."""

    name = "waiting"

    def localize(
        self, images: Images, class_name: Words, *, size: Size | None = None
    ) -> list[Localization]:
        pictures = as_list(images)
        time.sleep(0.02 * len(pictures))
        return [self.answer] * len(pictures)

    @cached_property
    def answer(self) -> Localization:
        """The map of every picture."""
        return super().localize(Image.new("RGB", as_size(self.image_size)), "")[0]


def of_reading(folder: Path, quick: bool) -> Comparison:
    """The pipeline with a network that waits, beside the longer of waiting and of reading."""
    categories, images = (2, 2) if quick else (6, 48)
    for number in range(categories):
        write_category(folder / f"large/nut {number}", images=images, side=900)
    data, network = anovl.load_dataset("folder", folder / "large"), Waiting(240)
    entries = [entry for category in data.categories for entry in data.entries(category)]

    def read_by_two() -> list[Any]:
        with ThreadPoolExecutor(max_workers=2) as pool:
            return list(pool.map(lambda entry: entry.load()[0].resize((240, 240)), entries))

    start = time.perf_counter()
    wait = partial(network.localize, read_by_two(), "nut")
    reading = time.perf_counter() - start
    what = f"{categories} x {images} pictures of 900 x 900 px, two threads, 20 ms of network each"
    what += " / the larger of network and half of reading"
    longer = read_by_two if reading > 0.02 * len(entries) else wait
    return Comparison(what, LONGER, 1.2, partial(evaluated, data, network, threads=2), longer)


def of_no_model(folder: Path, quick: bool) -> Iterator[Comparison]:
    """Reading, exact AUPRO beside the usual way and by itself, and drawing for the training."""
    yield of_reading(folder, quick)
    side, few, many = (48, 4, 4) if quick else (240, 8, 150)
    maps, masks = random_maps(many, side)
    exact = partial(anovl.aupro, maps[:few], masks[:few])
    usual = partial(aupro_by_thresholds, maps[:few], masks[:few])
    name = "AUPRO, exact / 200 thresholds, regions labelled at each"
    yield Comparison(name, FASTER, 20.0, exact, usual)
    name = f"AUPRO of {many} maps of {side} x {side} px"
    yield Comparison(name, SECONDS, 2.0, partial(anovl.aupro, maps, masks))
    count, full = (4, 64) if quick else (60, 1024)
    large = [np.concatenate(count // 4 * [part]) for part in random_maps(4, full)]
    name = f"AUPRO of {count} maps of {full} x {full} px"
    yield Comparison(name, SECONDS, 6.0, partial(anovl.aupro, *large))

    recipe, steps = Recipe(twins=2) if quick else Recipe(), 1 if quick else 5
    batches, count = Batches(recipe, load_tokenizer()), recipe.pictures * steps
    first = recipe.easy_steps  # from there on anomalies have their usual size
    name = f"{count} pictures of the pocket training, drawn by one process"
    draw = partial(map, batches.__getitem__, range(first, first + steps))
    yield Comparison(name, SECONDS, count / 300, lambda: list(draw()))
    model, whole = build_model(batches.tokenizer.vocab_size), batches[recipe.steps_close]
    step = partial(backward, model, whole, faster_arithmetic(torch.device("cpu")))
    plain = partial(step, embed=lambda visual, images, corners: visual(images))
    yield Comparison("gradients of a training step / by the plain model", FASTER, 1.2, step, plain)


def growing(clip: Clip, quick: bool) -> Iterator[tuple[str, int | str, Task]]:
    """Tasks one at a time: axis, value on it, and what to do."""
    for grid in (4, 8) if quick else (7, 14, 21, 28):
        other = with_grid(clip, grid)
        side, task = other.image_size[0], partial(encode_images, other, random_pixels(other, 4))
        yield "image side (px)", side, task
    for level in PROMPT_LEVELS[: 2 if quick else None]:
        words = anovl.prompt_ensemble("bottle", level=level)
        yield "prompts", len(words), partial(fresh_text, clip, words)
    for count in (1, 2) if quick else (1, 4, 16, 64):
        yield "images", count, partial(encode_images, clip, random_pixels(clip, count))
    drawn = anovl.load_dataset("photos", categories=["brick"], per_category=1 if quick else 4)
    pictures = [sample.image for sample in drawn.samples("brick")]
    for name in METHODS:
        wordless = name in CONTROLS and name != "shuffled"
        method = make_detector(name, clip, **({} if wordless else {"level": "states"}))
        yield "method", name, partial(method.localize, pictures, "bottle")


@torch.inference_mode()
def plain_pass(clip: Clip, batch: torch.Tensor) -> None:
    """The image tower as open_clip runs it."""
    with inference_context(clip):
        clip.model.encode_image(batch.to(clip.device))


def evaluated(dataset: Dataset, *detectors: Detector, threads: int | None = None) -> None:
    """Run `evaluate` in a temporary folder."""
    with TemporaryDirectory() as out:
        evaluate(dataset, detectors, out=out, progress=False, threads=threads)


def fresh_text(clip: Clip, words: PromptEnsemble) -> None:
    """Encode prompts without the cache: a copy of a `Clip` has none yet."""
    anovl.encode_prompts(replace(clip), words)


@torch.inference_mode()
def whole_text(clip: Clip, words: PromptEnsemble) -> None:
    """Encode every prompt at the full length of the text tower, one state after the other."""
    with inference_context(clip):
        for prompts in (words.normal, words.anomalous):
            for batch in clip.tokenizer(list(prompts)).to(clip.device).split(256):
                clip.model.encode_text(batch)
