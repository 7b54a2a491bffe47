"""A rehearsal at full size: what MVTec AD costs with the paper's model, before either is at hand.

Pictures as large and as many as the published ones, random weights in a checkpoint file, and the
ordinary command line: all but the numbers in the table is as it will be.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pandas import DataFrame

import anovl
from anovl import Clip
from anovl.data.published import MVTEC_AD
from anovl.evaluation.metrics import pixel_metrics
from anovl.protocols import VIEW_NAMES
from anovl_companion.benchmark.materials import random_maps, write_category

REHEARSED = "anovl,anovl-tta"


def rehearse(clip: Clip, folder: Path, *, images: int | None = None, side: int = 1024) -> DataFrame:
    """Run the published protocol of MVTec AD on fake pictures; return what each stage costs.

    A category has as many pictures as published, or `images`, half of them anomalous, of `side`
    pixels. One row a stage, in milliseconds an image: those of reading by one thread, those of
    methods alone, one after the other; of the words of a category an image's share. The last rows
    are the whole command, the same for both methods together, and the network alone, with 22 passes
    an image: the limit that the hardware sets.

    Raises ValueError for fewer than 2 images or a side below 16, OSError where the command fails.
    """
    if (images is not None and images < 2) or side < 16:
        raise ValueError(
            "--images must be at least 2 of each category, a normal and an anomalous one, and "
            f"--side at least 16 pixels; found {images} and {side}"
        )
    counts = {name: images or sum(published) for name, published in MVTEC_AD.items()}
    for name, count in counts.items():
        write_category(folder / "mvtec" / name, images=count, side=side)
    total = sum(counts.values())
    print(f"evaluating {REHEARSED} on {total} pictures", file=sys.stderr)
    start = time.perf_counter()
    evaluate_by_command(clip, folder)
    whole = 1000 * (time.perf_counter() - start) / total
    stages = time_stages(clip, folder / "mvtec/bottle/test", of_category=total / len(counts))
    stages["all: the command, both methods"] = whole
    stages["limit: 22 views in the network"] = len(VIEW_NAMES) * stages["network, one view"]
    table = DataFrame(list(stages.items()), columns=["stage", "ms_per_image"])
    return table.assign(images_per_second=1000 / table["ms_per_image"])


def evaluate_by_command(clip: Clip, folder: Path) -> None:
    """Run `anovl evaluate` on the fake data; random weights go into a file."""
    model = clip.name.partition(" [")[0]
    command = [sys.executable, "-W", "ignore", "-m", "anovl", "evaluate", "--dataset", "mvtec"]
    command += ["--data-root", str(folder / "mvtec"), "--out", str(folder / "results")]
    command += ["--methods", REHEARSED, "--model", model]
    command += ["--device", str(clip.device), "--precision", clip.precision]
    if model != "pocket":
        weights = folder / f"{model}.pt"
        torch.save(clip.model.state_dict(), weights)
        command += ["--weights", str(weights)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(f"`anovl evaluate` failed with exit code {done.returncode}: see above")


def time_stages(clip: Clip, folder: Path, *, of_category: float) -> dict[str, float]:
    """Time each stage on its own for up to 8 pictures of a folder: milliseconds an image.

    `of_category` images share the words of their category.
    """
    paths, stages = sorted(folder.rglob("*.png"))[:8], {}

    def timed(stage: str, task: Callable[[], Any], images: float = len(paths)) -> Any:
        """Return what a task returns, and time its second run."""
        result = task()
        stages[stage] = 1000 * seconds(task) / images
        return result

    words, maps = anovl.prompt_ensemble("bottle"), random_maps(len(paths), clip.image_size[0])
    pictures = timed("decode", lambda: [anovl.read_image(path) for path in paths])
    pixels = timed("resize", lambda: anovl.preprocess(clip, pictures))
    features = timed("network, one view", lambda: anovl.encode_images(clip, pixels))
    views = timed("views, made", lambda: anovl.augmented_views(pixels.to(clip.device)))
    others = views[:, 1:].flatten(0, 1)
    timed("views, 21 in the network", lambda: anovl.encode_images(clip, others, attention="qk"))
    text, patches, side = anovl.encode_prompts(clip, words), features.patches, pictures[0].height
    timed("test-time adaptation", lambda: anovl.adapt(patches, text))
    upsampled = f"upsampling to {side} x {side}"
    timed(upsampled, lambda: anovl.anomaly_maps(patches, text, size=side).cpu())
    timed("pixel metrics, AUPRO among them", lambda: pixel_metrics(*maps))
    prompts = f"words, {len(words)} prompts a category"
    timed(prompts, lambda: anovl.encode_prompts(replace(clip), words), of_category)
    return stages


def seconds(task: Callable[[], Any]) -> float:
    """Time one run of a task, until a GPU has finished."""
    start = time.perf_counter()
    task()
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter() - start
