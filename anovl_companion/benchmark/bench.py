"""What things cost, as ratios: each task beside another one, in turns, in one run.

Seconds depend on the machine, and on what else it does; ratios much less. Each row has its target,
says whether it is met here and, where operations can be counted, the ratio of operations: a target
beyond that ratio asks for fewer operations, or for faster ones. Nothing is downloaded: models other
than pocket have random weights, which cost what real ones do.
"""

from __future__ import annotations

import argparse
import os
import platform
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from pandas import DataFrame, concat

import anovl
from anovl import Clip
from anovl.baselines import make_detector
from anovl.evaluation.harness import evaluate
from anovl.evaluation.results import IMAGE, PIXEL
from anovl_companion.benchmark import workloads
from anovl_companion.benchmark.cost import counted
from anovl_companion.benchmark.rehearsal import rehearse, seconds
from anovl_companion.benchmark.workloads import Comparison, Task
from anovl_companion.figures import PAGE, house_style
from anovl_companion.records import provenance
from anovl_companion.saving import save_figure, save_table


def bench(options: argparse.Namespace) -> None:
    """Measure what things cost, or rehearse; print the tables, and save them under `--out`."""
    if not options.rehearsal and (options.images or options.precision):
        raise ValueError("--images, --side and --precision go with --rehearsal: leave them out")
    model = {"device": options.device, "precision": options.precision or "float32"}
    clips = [
        anovl.load_clip(name, weights=None if name == "pocket" else "random", **model)
        for name in (options.model[-1:] if options.rehearsal else options.model)
    ]
    if options.rehearsal:
        size = {"images": options.images, "side": options.side}
        with TemporaryDirectory() as folder:
            tables = {"rehearsal": rehearse(clips[0], Path(folder), **size)}
    else:
        size = {"quick": options.quick}
        tables = {"cost": costs(clips, **size), "precision": precision_differences(clips, **size)}
        tables["growth_table"] = growth(clips[0], **size)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "gpu": gpu}
    machine["torch_threads"] = torch.get_num_threads()
    models = {clip.name: clip.weights_hash for clip in clips}
    record = provenance(parameters={**size, **model}, models=models, machine=machine)
    with TemporaryDirectory() as folder:
        out = Path(options.out or folder)
        for name, table in tables.items():
            print(save_table(table, out / name, provenance=record))
        if "growth_table" in tables:
            save_figure(growth_figure(tables["growth_table"]), out / "growth", provenance=record)


def costs(clips: Sequence[Clip], *, quick: bool = False) -> DataFrame:
    """Measure every comparison for every model: one row each, with target and measured value.

    `ms` and `beside_ms` are the medians in milliseconds of a task and of what it is compared with,
    `measured` is their ratio, and `arithmetic` the ratio of counted operations. `peak_mb` is the
    most memory (MB) that the task needs beyond the weights. `quick` runs each once, on few images.
    """
    with TemporaryDirectory() as temporary:
        rows, folder = [], Path(temporary)
        for clip in clips:
            for one in workloads.of_network(clip, quick):
                rows.append(_row(clip.name, one, quick=quick, in_torch=True))
            for one in workloads.of_pass(clip, folder, quick):
                rows.append(_row(clip.name, one, quick=quick))
        rows += [_row("-", one, quick=quick) for one in workloads.of_no_model(folder, quick)]
    return DataFrame(rows)


def _row(name: str, one: Comparison, *, quick: bool, in_torch: bool = False) -> dict[str, Any]:
    """Measure one row; only work that is all torch's has its operations counted."""
    flops, peak = count(one.task)
    other_flops, _ = count(one.beside) if one.beside else (np.nan, 0)
    rounds: list[tuple[float, float]] = []
    while not rounds or not (quick or _are_enough(rounds)):
        rounds.append((seconds(one.task), seconds(one.beside) if one.beside else np.nan))
    own, other = np.median(rounds, axis=0)
    faster = one.unit == workloads.FASTER
    measured = own if one.unit == workloads.SECONDS else other / own if faster else own / other
    arithmetic = np.nan
    if in_torch:
        arithmetic = other_flops / flops if faster else flops / other_flops
    met = measured >= one.target if faster else measured <= one.target
    return {
        **{"model": name, "what": one.what, "unit": one.unit, "target": one.target},
        **{"measured": measured, "met": "-" if np.isnan(one.target) else "yes" if met else "no"},
        "arithmetic": arithmetic,
        **{"ms": 1000 * own, "beside_ms": 1000 * other, "peak_mb": peak},
    }


def _are_enough(rounds: Sequence[tuple[float, float]]) -> bool:
    """Three rounds, or until both tasks have taken 2 seconds; fewer of those that take minutes."""
    spent = np.sum(rounds, axis=0)
    long = len(rounds) >= 3 and np.nanmin(spent) >= 2
    return long or np.nansum(spent) > 60 or len(rounds) == 25


def count(task: Task) -> tuple[float, float]:
    """Return a task's operations and the most memory in MB that it holds; also its warm-up.

    Memory is the peak of tensors, attention as written, and the peak of arrays, added up.
    """
    counted(lambda: torch.ones(2, 2) @ torch.ones(2, 2))  # its own imports do not count
    tracemalloc.start()
    try:
        cost = counted(task)
        arrays = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return cost.flops, (cost.peak_bytes + arrays) / 2**20


def precision_differences(clips: Sequence[Clip], *, quick: bool = False) -> DataFrame:
    """Measure anovl and anovl-tta in float32 and in bfloat16: means of metrics, fractions 0-1.

    One row for each model, method and metric, on pictures of the pocket world (two categories of
    16, `quick`: one of 4); `difference` is bfloat16 less float32. A random model shows what
    rounding does to the order of its scores, and nothing else.
    """
    categories, each = (["wood"], 2) if quick else (["wood", "tile"], 8)
    dataset = anovl.load_dataset("pocket", categories=categories, per_category=each)
    tables: list[DataFrame] = []
    for clip in clips:
        table = DataFrame()
        for name in ("float32", "bfloat16"):
            rounded = replace(clip, precision=name)
            detectors = [make_detector(method, rounded) for method in ("anovl", "anovl-tta")]
            with TemporaryDirectory() as out:
                means = evaluate(dataset, detectors, out=out, resamples=1, progress=False)
            long = means.query("level == 'mean'").melt("method", [*PIXEL, *IMAGE], "metric")
            table[["method", "metric", name]] = long
        table.insert(0, "model", clip.name)
        tables.append(table.assign(difference=table["bfloat16"] - table["float32"]))
    return concat(tables, ignore_index=True)


def growth(clip: Clip, *, quick: bool = False) -> DataFrame:
    """Measure how time (ms) and memory (MB) grow: with image size, prompts, images and methods."""
    rows = []
    for axis, value, task in workloads.growing(clip, quick):
        _, peak = count(task)
        spent = np.median([seconds(task) for _ in range(1 if quick else 3)])
        rows.append((clip.name, axis, value, 1000 * spent, peak))
    return DataFrame(rows, columns=["model", "axis", "value", "ms", "peak_mb"])


def growth_figure(table: DataFrame) -> Figure:
    """Draw a table of `growth`: time above, memory below, one column for each axis."""
    parts = dict(list(table.groupby("axis", sort=False)))
    with matplotlib.rc_context(house_style()):
        fig = Figure(figsize=(PAGE, 3.8), layout="constrained")
        axes = fig.subplots(2, len(parts), sharex="col", squeeze=False)
        for (above, below), (axis, part) in zip(axes.T, parts.items(), strict=True):
            above.bar(part["value"].astype(str), part["ms"])
            below.bar(part["value"].astype(str), part["peak_mb"])
            below.tick_params(axis="x", rotation=90, labelsize=6)
            below.set_xlabel(axis)
        axes[0, 0].set_ylabel("time (ms)")
        axes[1, 0].set_ylabel("memory (MB)")
    return fig
