"""What things cost, as ratios: each thing beside what it is compared with, in turns, in one run.

Seconds depend on the machine, and on what else it does; ratios much less. Each row has its target,
says whether it is met here and, where operations can be counted, what ratio they alone explain at
one speed: a target beyond that asks for fewer operations, or for faster ones. Nothing is
downloaded: other models than pocket have random weights, which cost what real ones do. What is
measured is in `workloads`.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from anovl.clip import Clip
from anovl_companion.benchmark import workloads
from anovl_companion.benchmark.cost import Cost, counted
from anovl_companion.benchmark.workloads import PASS, PASS_WITHOUT_NETWORK, Comparison, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

COLUMNS = (
    *("model", "what", "unit", "target", "measured", "met"),
    *("arithmetic", "ms", "beside_ms", "peak_mb"),
)
GROWTH_COLUMNS = ("model", "axis", "value", "ms", "peak_mb")


def bench(clips: Sequence[Clip], *, quick: bool = False) -> DataFrame:
    """Measure every comparison for every model: one row each, with target and measured value.

    Task and comparison run in turns after a warm-up, 3 times or until both have taken 2 seconds
    (less often if they take minutes; once when `quick`, on fewer images). `ms` and `beside_ms` are
    the medians in milliseconds, `measured` is their ratio, and `arithmetic` the ratio of counted
    operations. `peak_mb` is the most memory (MB) that the task needs beyond the weights: of the GPU
    or, on a CPU, the peak of its tensors, attention as written, and that of its arrays, added up.
    """
    from pandas import DataFrame

    rows = []
    with TemporaryDirectory() as folder:
        for clip in clips:
            comparisons = (
                *workloads.of_encoder(clip, quick),
                *workloads.of_words(clip, quick),
                *workloads.of_adaptation(clip, quick),
                *workloads.of_pass(clip, Path(folder), quick),
            )
            rows += [_row(clip.name, one, quick=quick, clip=clip) for one in comparisons]
        alone = (
            workloads.of_reading(Path(folder), quick),
            *workloads.of_metrics(quick),
            workloads.of_drawing(quick),
        )
        rows += [_row("-", one, quick=quick) for one in alone]
    return DataFrame(rows, columns=list(COLUMNS))


def limits(table: DataFrame) -> list[str]:
    """Say of each missed target of `bench` why it was not reached, if that is known.

    Either its counted operations alone are beyond the target, or a pass without a network, which
    only reads and measures, takes so long that it cannot all go on beside the network.
    """
    alone = table[table["what"] == PASS_WITHOUT_NETWORK].set_index("model")["measured"]
    said = []
    for row in table[table["met"] == "no"].itertuples():
        beyond = (
            row.arithmetic < row.target if row.unit == "x faster" else row.arithmetic > row.target
        )
        reading = alone.get(row.model, np.nan) if row.what == PASS else np.nan
        if beyond:
            why = f"its counted operations alone make {row.arithmetic:.2f} {row.unit} at equal "
            why += "speed, so it takes fewer or faster operations to meet it"
        elif reading > row.target:
            why = f"reading and measuring alone take {reading:.2f} x as long as the network"
        elif reading > row.target - 1:
            why = f"reading and measuring take {reading:.2f} x as long as the network, and cost no "
            why += "time only where cores are idle"
        else:
            why = "nothing that is counted explains it; run it again on an idle machine"
        said.append(f"{_compared(row)}: {why}.")
    return said


def _compared(row: Any) -> str:
    what = row.what if row.model == "-" else f"{row.model}, {row.what}"
    bound = "at least" if row.unit == "x faster" else "at most"
    return f"{what}: {row.measured:.2f} {row.unit}, and the target is {bound} {row.target:.3g}"


def growth(clip: Clip, *, quick: bool = False) -> DataFrame:
    """Measure how time (ms) and memory (MB) grow: with image size, prompts, images and methods."""
    from pandas import DataFrame

    rows = []
    for axis, value, task in workloads.growing(clip, quick):
        _, peak = _counted(task, clip)
        seconds = statistics.median(_seconds(task, clip) for _ in range(1 if quick else 3))
        rows.append((clip.name, axis, value, 1000 * seconds, peak))
    return DataFrame(rows, columns=list(GROWTH_COLUMNS))


def growth_figure(table: DataFrame) -> Figure:
    """Draw a table of `growth`: time above, memory below, one column for each axis."""
    import matplotlib
    from matplotlib.figure import Figure

    from anovl_companion.figures import PAGE, house_style

    axes_names = list(dict.fromkeys(table["axis"]))
    with matplotlib.rc_context(house_style()):
        fig = Figure(figsize=(PAGE, 3.8), layout="constrained")
        axes = fig.subplots(2, len(axes_names), sharex="col")
        for column, axis in enumerate(axes_names):
            part = table[table["axis"] == axis]
            for ax, quantity in zip(axes[:, column], ("ms", "peak_mb"), strict=True):
                if axis == "method":
                    ax.bar(part["value"], part[quantity])
                    ax.tick_params(axis="x", rotation=90, labelsize=6)
                else:
                    ax.plot(part["value"].astype(int), part[quantity], marker="o")
                ax.set_ylim(bottom=0)
            axes[1, column].set_xlabel(axis)
        axes[0, 0].set_ylabel("time (ms)")
        axes[1, 0].set_ylabel("memory (MB)")
    return fig


def machine() -> dict[str, Any]:
    """Return what a timing depends on: processor, its cores, threads of torch, and the GPU."""
    import platform

    from joblib import cpu_count

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    cores = {"cores": cpu_count(), "torch_threads": torch.get_num_threads()}
    return {"processor": platform.machine(), **cores, "gpu": gpu}


def _row(name: str, one: Comparison, *, quick: bool, clip: Clip | None = None) -> dict[str, Any]:
    own_cost, peak = _counted(one.task, clip)
    other_cost = counted(one.beside) if one.beside and one.counted else None
    if one.beside and not one.counted:
        one.beside()
    own, other = _in_turns(one, clip, quick=quick)
    measured = _ratio(one.unit, own, other)
    met = measured >= one.target if one.unit == "x faster" else measured <= one.target
    counts = other_cost is not None
    arithmetic = _ratio(one.unit, own_cost.flops, other_cost.flops) if counts else np.nan
    return {
        **{"model": name, "what": one.what, "unit": one.unit, "target": one.target},
        **{"measured": measured, "met": "-" if np.isnan(one.target) else "yes" if met else "no"},
        **{"arithmetic": arithmetic, "ms": 1000 * own, "beside_ms": 1000 * other, "peak_mb": peak},
    }


def _in_turns(one: Comparison, clip: Clip | None, *, quick: bool) -> tuple[float, float]:
    """The median seconds of a task and of what it is compared with; NaN without that."""
    own, other = [], []
    while not own or (not quick and (len(own) < one.repetitions or _short(own, other))):
        own.append(_seconds(one.task, clip))
        other.append(_seconds(one.beside, clip) if one.beside else np.nan)
    return statistics.median(own), statistics.median(other)


def _short(own: list[float], other: list[float]) -> bool:
    return min(sum(own), np.nansum(other) or np.inf) < 2 and len(own) < 25


def _ratio(unit: str, own: float, other: float) -> float:
    return {"x as long": own / other, "x faster": other / own}.get(unit, own)


def _seconds(task: Task, clip: Clip | None) -> float:
    start = time.perf_counter()
    task()
    if _on_gpu(clip):
        torch.cuda.synchronize(clip.device)
    elif clip is not None and clip.device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - start


def _counted(task: Task, clip: Clip | None) -> tuple[Cost, float]:
    """What a task costs, and the most memory in MB that it holds; also its warm-up."""
    if _on_gpu(clip):
        before = torch.cuda.memory_allocated(clip.device)
        torch.cuda.reset_peak_memory_stats(clip.device)
        task()
        peak = torch.cuda.max_memory_allocated(clip.device) - before
        return counted(task), peak / 2**20
    counted(lambda: torch.ones(2, 2) @ torch.ones(2, 2))  # what counting imports is no one's cost
    tracemalloc.start()
    try:
        cost = counted(task)
        arrays = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return cost, (cost.peak_bytes + arrays) / 2**20


def _on_gpu(clip: Clip | None) -> bool:
    return clip is not None and clip.device.type == "cuda"
