"""A rehearsal at full size: what MVTec AD costs with the paper's model, before either is at hand.

Pictures as large and as many as the published ones, random weights in a checkpoint file, and the
ordinary command line: all but the numbers in the table is as it will be.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from anovl._shared.files import write_atomically
from anovl.adapt import adapt
from anovl.attention import encode_images
from anovl.clip import Clip, preprocess
from anovl.data import load_dataset
from anovl.data.published import MVTEC_AD
from anovl.evaluation.metrics import pixel_metrics
from anovl.images import read_image
from anovl.maps import anomaly_maps
from anovl.prompts import encode_prompts, prompt_ensemble
from anovl.protocols import VIEW_NAMES, augmented_views
from anovl_companion.benchmark.materials import random_maps

if TYPE_CHECKING:
    from pandas import DataFrame

METHODS = ("anovl", "anovl-tta")


def check_counts(images: int | None, side: int) -> None:
    """Raise ValueError for fewer than 2 images, None for as published, or a side below 16."""
    if images is not None and images < 2:
        raise ValueError(
            "--images (images=) must be at least 2 of each category, a normal and an anomalous "
            f"one; found {images}"
        )
    if side < 16:
        raise ValueError(f"--side (side=) must be at least 16 pixels; found {side}")


def write_mvtec(root: Path, *, images: int | None = None, side: int = 1024) -> int:
    """Write a data set in MVTec AD's layout, unless it is there, and return its number of pictures.

    Each category has as many test pictures as published, or `images`, half of them anomalous, of
    `side` pixels. They are one noisy drawing, shifted, and their masks; three categories are grey,
    as published. Raises ValueError for fewer than 2 images, or a side below 16.
    """
    check_counts(images, side)
    drawing, masks = _drawing(side)
    total = 0
    for category, published in MVTEC_AD.items():
        counts = published if images is None else (images - images // 2, images // 2)
        grey = category in ("grid", "screw", "zipper")
        for kind, count in zip(("good", "cut"), counts, strict=True):
            for number in range(count):
                shift, name = 37 * (total + number), f"{number:03d}"
                picture = np.roll(drawing, shift, axis=1)
                picture = picture.mean(axis=2).astype(np.uint8) if grey else picture
                _save(picture, root / category / "test" / kind / f"{name}.png")
                if kind == "cut":
                    mask = np.roll(masks, shift, axis=1)
                    _save(mask, root / category / "ground_truth/cut" / f"{name}_mask.png")
            total += count
    return total


def rehearse(
    clip: Clip,
    folder: Path,
    *,
    images: int | None = None,
    side: int = 1024,
    tell: Callable[[str], None] = print,
) -> DataFrame:
    """Run the published protocol of MVTec AD on fake pictures; return what each stage costs.

    One row a stage, in milliseconds an image: those of reading by one thread, those of methods
    alone, one after the other; of the words of a category an image's share. The last rows are the
    whole command, the same for both methods together, and the network alone, with 22 passes an
    image: the limit that the hardware sets.

    Raises ValueError for fewer than 2 images or a side below 16, OSError where the command fails.
    """
    from pandas import DataFrame

    check_counts(images, side)
    data, out = folder / f"mvtec {images or 'published'} {side}", folder / "results"
    tell(f"writing {data}")
    count = write_mvtec(data, images=images, side=side)
    given = ["--data-root", str(data), "--methods", ",".join(METHODS), "--out", str(out)]
    given += _model_options(clip, folder)
    tell(f"evaluating {', '.join(METHODS)} on {count} pictures")
    start = time.perf_counter()
    _evaluate(given)
    whole = 1000 * (time.perf_counter() - start) / count
    rows = [(name, 1000 * seconds) for name, seconds in _stages(clip, data)]
    words = prompt_ensemble("bottle")
    _, seconds = _timed(clip, count / len(MVTEC_AD), lambda: encode_prompts(replace(clip), words))
    rows.append((f"words, {len(words)} prompts a category", 1000 * seconds))
    network = len(VIEW_NAMES) * dict(rows)["network, one view"]
    rows += [("all: the command, both methods", whole), ("limit: 22 views in the network", network)]
    table = DataFrame(rows, columns=["stage", "ms_per_image"])
    return table.assign(images_per_second=1000 / table["ms_per_image"])


def _evaluate(given: Sequence[str]) -> None:
    """Run `anovl evaluate` on the fake data; what it prints is shown only where it fails."""
    command = ["-m", "anovl", "evaluate", "--dataset", "mvtec", *given]
    done = subprocess.run([sys.executable, "-W", "ignore", *command], stdout=subprocess.PIPE)
    if done.returncode:
        sys.stderr.write(done.stdout.decode(errors="replace"))
        raise OSError(
            f"the command of the rehearsal failed (exit code {done.returncode}; what it says "
            f"stands above): python {shlex.join(command)}"
        )


def _stages(clip: Clip, data: Path, *, few: int = 8) -> Iterator[tuple[str, float]]:
    """Time each stage on its own for a few pictures: its name and seconds an image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are fewer pictures than published
        dataset = load_dataset("mvtec", root=data, categories=["bottle"])
    paths = [sample.path for sample in dataset.samples("bottle")][:few]
    timed = partial(_timed, clip, len(paths))
    pictures, seconds = timed(lambda: [read_image(path) for path in paths])
    yield "decode", seconds
    pixels, seconds = timed(lambda: preprocess(clip, pictures))
    yield "resize", seconds
    features, seconds = timed(lambda: encode_images(clip, pixels))
    yield "network, one view", seconds
    views, seconds = timed(lambda: augmented_views(pixels.to(clip.device)))
    yield "views, made", seconds
    others = views[:, 1:].flatten(0, 1)
    _, seconds = timed(lambda: encode_images(clip, others, attention="qk"))
    yield "views, 21 in the network", seconds
    text = encode_prompts(clip, prompt_ensemble("bottle"))
    _, seconds = timed(lambda: adapt(features.patches, text))
    yield "test-time adaptation", seconds
    side = pictures[0].height
    _, seconds = timed(lambda: anomaly_maps(features.patches, text, size=side).cpu())
    yield f"upsampling to {side} x {side}", seconds
    maps = random_maps(len(paths), clip.image_size[0])
    yield "pixel metrics, AUPRO among them", timed(lambda: pixel_metrics(*maps))[1]


def _timed(clip: Clip, count: float, task: Callable[[], Any]) -> tuple[Any, float]:
    """What a task returns the second time, and its seconds an image."""
    task()
    start = time.perf_counter()
    result = task()
    if clip.device.type == "cuda":
        torch.cuda.synchronize(clip.device)
    return result, (time.perf_counter() - start) / count


def _model_options(clip: Clip, folder: Path) -> list[str]:
    """The options of the command line for this model; random weights go into a file."""
    name = clip.name.partition(" [")[0]
    options = ["--model", name, "--device", str(clip.device), "--precision", clip.precision]
    if name == "pocket":
        return options
    weights = folder / f"{name}.pt"
    if not weights.exists():
        write_atomically(weights, partial(torch.save, clip.model.state_dict()))
    return [*options, "--weights", str(weights)]


def _drawing(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture (side, side, 3) of smooth patches and fine noise, and a mask (side, side)."""
    smooth, masks = random_maps(3, side)
    smooth = (smooth - smooth.min()) / np.ptp(smooth) * 200
    noise = np.random.default_rng(0).integers(0, 40, smooth.shape)
    mask = masks.any(axis=0)
    return (smooth + noise).transpose(1, 2, 0).astype(np.uint8), mask.astype(np.uint8) * 255


def _save(pixels: np.ndarray, path: Path) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
