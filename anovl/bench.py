"""What things cost, as ratios: each thing beside what it is compared with, in turns, in one run.

Seconds depend on the machine, and on what else it does; ratios much less. Each row has its target,
and says whether it is met here. Nothing is downloaded: other models than pocket have random
weights, which cost what real ones do.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from anovl.attention import encode_images
from anovl.baselines import METHODS, make_detector
from anovl.clip import Clip
from anovl.datasets import load_dataset
from anovl.detector import AnoVL
from anovl.evaluate import evaluate
from anovl.metrics import aupro
from anovl.prompts import PROMPT_LEVELS, PromptEnsemble, encode_prompts, prompt_ensemble
from anovl.views import augmented_views

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

COLUMNS = ("model", "what", "unit", "target", "measured", "met", "ms", "beside_ms", "peak_mb")
GROWTH_COLUMNS = ("model", "axis", "value", "ms", "peak_mb")
Task = Callable[[], Any]


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
    repetitions: int = 5


def bench(clips: Sequence[Clip], *, quick: bool = False) -> DataFrame:
    """Measure every comparison for every model: one row each, with target and measured value.

    Medians over 5 repetitions (3 of a whole pass; 1 when `quick`, on fewer images), task and
    comparison in turns after a warm-up. `ms` and `beside_ms` are milliseconds; `peak_mb` is how
    much memory (MB) the task needs beyond what is there before: of the GPU, or of the process on
    Linux, else empty.
    """
    from pandas import DataFrame

    rows = []
    with TemporaryDirectory() as folder:
        for clip in clips:
            comparisons = [*_of_network(clip, quick), _of_pass(clip, Path(folder), quick)]
            rows += [_row(clip.name, one, quick=quick, clip=clip) for one in comparisons]
    rows += [_row("-", one, quick=quick) for one in _of_metrics(quick)]
    return DataFrame(rows, columns=list(COLUMNS))


def growth(clip: Clip, *, quick: bool = False) -> DataFrame:
    """Measure how time (ms) and memory (MB) grow: with image size, prompts, images and methods."""
    from pandas import DataFrame

    rows = []
    for axis, value, task in _growing(clip, quick):
        seconds, peak = _timed(task, repetitions=1 if quick else 3, clip=clip)
        rows.append((clip.name, axis, value, 1000 * seconds, peak))
    return DataFrame(rows, columns=list(GROWTH_COLUMNS))


def growth_figure(table: DataFrame) -> Figure:
    """Draw a table of `growth`: time above, memory below, one column for each axis."""
    import matplotlib
    from matplotlib.figure import Figure

    from anovl.figures import PAGE, house_style

    axes_names = list(dict.fromkeys(table["axis"]))
    with matplotlib.rc_context(house_style()):
        fig = Figure(figsize=(PAGE, 3.8), layout="constrained")
        axes = fig.subplots(2, len(axes_names), sharex="col")
        for column, axis in enumerate(axes_names):
            part = table[table["axis"] == axis]
            for ax, quantity in zip(axes[:, column], ("ms", "peak_mb"), strict=True):
                if axis == "method":
                    ax.bar(part["value"], part[quantity])
                    ax.tick_params(axis="x", rotation=90)
                else:
                    ax.plot(part["value"].astype(int), part[quantity], marker="o")
                ax.set_ylim(bottom=0)
            axes[1, column].set_xlabel(axis)
        axes[0, 0].set_ylabel("time (ms)")
        axes[1, 0].set_ylabel("more memory (MB)")
    return fig


def machine() -> dict[str, Any]:
    """Return what a timing depends on: processor, its cores, threads of torch, and the GPU."""
    import platform

    from joblib import cpu_count

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    cores = {"cores": cpu_count(), "torch_threads": torch.get_num_threads()}
    return {"processor": platform.machine(), **cores, "gpu": gpu}


# What is compared


def _of_network(clip: Clip, quick: bool) -> Iterator[Comparison]:
    batch = _pixels(clip, 2 if quick else 16)
    detector = AnoVL(clip, level="states" if quick else "domains", tta=True)
    words = prompt_ensemble("bottle", level=detector.level)
    detector.text("bottle")

    @torch.inference_mode()
    def plain() -> None:
        clip.model.encode_image(batch.to(clip.device))

    def views_at_once() -> None:
        encode_images(clip, augmented_views(batch[:1].to(clip.device))[0], batch_size=22)

    def views_one_by_one() -> None:
        for view in augmented_views(batch[:1].to(clip.device))[0]:
            encode_images(clip, view[None])

    yield Comparison("both paths / encode_image", "x as long", 1.15, _encode(clip, batch), plain)
    yield Comparison(
        *("22 views at once / one by one", "x as long", 1.0, views_at_once, views_one_by_one)
    )
    length = clip.tokenizer(["a nut"]).shape[1]
    yield Comparison(
        f"{len(words)} prompts, cut / all {length} tokens",
        *("x faster", 4.0 if length >= 77 else np.nan),
        *(partial(_fresh_text, clip, words), partial(_whole_text, clip, words)),
    )
    yield Comparison(
        f"AnoVL+TTA, batch of {len(batch)} / encode_image",
        *("x as long", 1.5, lambda: detector.localize(batch, "bottle"), plain),
    )


def _of_pass(clip: Clip, folder: Path, quick: bool) -> Comparison:
    """A whole pass, with reading, decoding and all metrics, beside the detector's work alone."""
    images, categories = (2, 1) if quick else (40, 2)
    root = folder / f"{clip.grid} {clip.embed_dim}"
    for number in range(categories):
        _write_category(root / f"nut {number}", images=images)
    dataset, detector = load_dataset("folder", root=root), AnoVL(clip, level="states")
    pictures = {
        category: [sample.image for sample in dataset.samples(category)]
        for category in dataset.categories
    }

    def whole() -> None:
        with TemporaryDirectory() as out:
            evaluate(dataset, [detector], out=out, progress=False)

    def alone() -> None:
        for category, own in pictures.items():
            detector.localize(own, category)

    return Comparison(
        "data set pass / detector alone", "x as long", 1.1, whole, alone, repetitions=3
    )


def _of_metrics(quick: bool) -> Iterator[Comparison]:
    side, few, many = (48, 4, 4) if quick else (240, 8, 150)
    maps, masks = _maps(many, side)
    yield Comparison(
        *("AUPRO, exact / 200 thresholds, regions labelled at each", "x faster", 20.0),
        lambda: aupro(maps[:few], masks[:few]),
        lambda: aupro_by_thresholds(maps[:few], masks[:few]),
    )
    what = f"AUPRO of {many} maps of {side} x {side} px"
    yield Comparison(what, "s", 2.0, lambda: aupro(maps, masks))


def aupro_by_thresholds(
    maps: np.ndarray, masks: np.ndarray, *, thresholds: int = 200, fpr_limit: float = 0.3
) -> float:
    """AUPRO as it is usually computed, to be compared with: `thresholds` levels, one by one.

    At each, the regions of every mask are found again; the curve is cut at the last false positive
    rate below `fpr_limit` and divided by it.
    """
    from skimage.measure import label, regionprops

    points = []
    for threshold in np.linspace(maps.min(), maps.max(), thresholds):
        found = maps > threshold
        overlaps = [
            found[i][tuple(region.coords.T)].mean()
            for i, mask in enumerate(masks)
            for region in regionprops(label(mask))
        ]
        points.append((found[~masks].mean(), np.mean(overlaps)))
    x, y = np.array(sorted(point for point in points if point[0] < fpr_limit)).T
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum() / x.max())


def _growing(clip: Clip, quick: bool) -> Iterator[tuple[str, int | str, Task]]:
    """Tasks one at a time: axis, value on it, and what to do."""
    for grid in (4, 8) if quick else (7, 14, 21, 28):
        other = _with_grid(clip, grid)
        yield "image side (px)", other.image_size[0], _encode(other, _pixels(other, 4))
    for level in PROMPT_LEVELS[: 2 if quick else None]:
        words = prompt_ensemble("bottle", level=level)
        yield "prompts", len(words), partial(_fresh_text, clip, words)
    for count in (1, 2) if quick else (1, 4, 16, 64):
        yield "images", count, _encode(clip, _pixels(clip, count))
    pictures = [_picture(seed, clip.image_size) for seed in range(2 if quick else 8)]
    for name in METHODS:
        method = make_detector(name, clip, **({} if name in _WORDLESS else {"level": "states"}))
        yield "method", name, partial(method.localize, pictures, "bottle")


# How it is measured


def _row(name: str, one: Comparison, *, quick: bool, clip: Clip | None = None) -> dict[str, Any]:
    seconds, beside, ratios, peak = [], [], [], 0.0
    for repetition in range(1 + (1 if quick else one.repetitions)):  # the first is a warm-up
        own, memory = _timed(one.task, clip=clip)
        other = _timed(one.beside, clip=clip)[0] if one.beside else np.nan
        if repetition:
            seconds.append(own)
            beside.append(other)
            ratios.append({"x as long": own / other, "x faster": other / own}.get(one.unit, own))
            peak = max(peak, memory)
    measured = statistics.median(ratios)
    kept = measured >= one.target if one.unit == "x faster" else measured <= one.target
    return {
        **{"model": name, "what": one.what, "unit": one.unit, "target": one.target},
        **{"measured": measured, "met": "-" if np.isnan(one.target) else "yes" if kept else "no"},
        **{"ms": 1000 * statistics.median(seconds), "beside_ms": 1000 * statistics.median(beside)},
        **{"peak_mb": peak},
    }


def _timed(task: Task, *, repetitions: int = 1, clip: Clip | None = None) -> tuple[float, float]:
    """The median seconds of a task, and the most memory in MB that it needed beyond before."""
    on_gpu = clip is not None and clip.device.type == "cuda"
    seconds = []
    with _peak_memory(on_gpu) as peak:
        for _ in range(repetitions):
            start = time.perf_counter()
            task()
            if on_gpu:
                torch.cuda.synchronize(clip.device)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), peak[0]


@contextmanager
def _peak_memory(on_gpu: bool) -> Iterator[list[float]]:
    """A list whose one number is, in the end, how far memory rose in MB; NaN if none can tell."""
    result = [np.nan]
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield result
        result[0] = (torch.cuda.max_memory_allocated() - before) / 2**20
        return
    before, highest, done = _resident_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            highest[0] = max(highest[0], _resident_mb() - before)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield result
    finally:
        done.set()
        thread.join()
    result[0] = np.nan if np.isnan(before) else highest[0]


def _resident_mb() -> float:
    """Memory of this process in MB, as Linux tells it; NaN elsewhere."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return np.nan
    import resource

    return pages * resource.getpagesize() / 2**20


# What it is measured on

_WORDLESS = ("centre", "outlier", "dog")


def _encode(clip: Clip, pixels: torch.Tensor) -> Task:
    return partial(encode_images, clip, pixels)


def _fresh_text(clip: Clip, words: PromptEnsemble) -> None:
    encode_prompts(replace(clip), words)  # a copy has nothing remembered


@torch.inference_mode()
def _whole_text(clip: Clip, words: PromptEnsemble) -> None:
    """Every prompt at the full length of the text tower, one state after the other."""
    for prompts in (words.normal, words.abnormal):
        for batch in clip.tokenizer(list(prompts)).to(clip.device).split(256):
            clip.model.encode_text(batch)


def _with_grid(clip: Clip, side: int) -> Clip:
    """The same image tower for another number of patches, its places interpolated."""
    from copy import deepcopy

    from torch.nn.functional import interpolate

    model, patch = deepcopy(clip.model), clip.model.visual.patch_size[0]
    visual = model.visual
    cls, places = visual.positional_embedding.detach().split([1, clip.grid[0] * clip.grid[1]])
    grid = places.T.reshape(1, -1, *clip.grid)
    resized = interpolate(grid, size=(side, side), mode="bilinear")[0].flatten(1).T
    visual.positional_embedding = torch.nn.Parameter(torch.cat([cls, resized]))
    visual.grid_size, visual.image_size = (side, side), (side * patch, side * patch)
    return Clip(model, clip.tokenizer, image_size=side * patch, name=clip.name)


def _pixels(clip: Clip, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, *clip.image_size, generator=generator).clamp(-2, 2)


def _picture(seed: int, size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _maps(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps (n, H, W) float32, and masks of which two in three hold some defects."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.standard_normal((count, side, side)), (0, side / 40, side / 40))
    masks = smooth > np.quantile(smooth, 0.97)
    masks[::3] = False
    noise = gaussian_filter(rng.standard_normal(smooth.shape), (0, side / 80, side / 80))
    return (smooth / smooth.std() + noise / noise.std()).astype(np.float32), masks


def _write_category(root: Path, *, images: int, side: int = 512) -> None:
    """A category on disk, half of it with a defect: PNG files of photographic size."""
    if root.exists():
        return
    _, masks = _maps(2, side)
    for number in range(images):
        kind = "good" if number % 2 else "cut"
        path = root / "test" / kind / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _picture(number, (side // 8, side // 8)).resize((side, side)).save(path)
        if kind == "cut":
            mask = root / "ground_truth/cut" / f"{number:03d}_mask.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(masks[1].astype(np.uint8) * 255).save(mask)
