"""`anovl_companion bench`: what things cost."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anovl.cli.options import name_list, say

if TYPE_CHECKING:
    from pandas import DataFrame

    from anovl.cli.options import Commands
    from anovl.clip import Clip


def bench(options: argparse.Namespace) -> int:
    """Measure what things cost, and print it beside the targets."""
    if options.rehearsal:
        return _rehearse(options)
    from anovl.models.load import load_clip
    from anovl_companion.benchmark.bench import bench, growth, limits
    from anovl_companion.benchmark.precision import precision_differences

    clips = [
        load_clip(name, weights=None if name == "pocket" else "random", device=options.device)
        for name in dict.fromkeys(options.model)
    ]
    if not clips:
        raise ValueError("--model must name at least one model, such as pocket")
    cost = bench(clips, quick=options.quick)
    print(f"{_printed(cost)}\n")
    if options.quick:
        print("Once, on few images: this shows that it runs. Its numbers say nothing of targets.")
    for why in limits(cost) if not options.quick else ():
        print(f"Target missed: {why}")
    rounded = precision_differences(clips, quick=options.quick)
    print(f"\n{_printed(rounded, digits='.4f')}")
    grown = growth(clips[0], quick=options.quick)
    print(f"\n{_printed(grown)}")
    if options.out:
        _save_bench(cost, rounded, grown, clips, Path(options.out), quick=options.quick)
    return 0


def _printed(table: DataFrame, *, digits: str = ".3g") -> str:
    """A table as Markdown, its gaps a dash as in the saved ones."""
    gaps = table.astype(object).where(table.notna(), None)
    return gaps.to_markdown(index=False, floatfmt=digits, missingval="–")


def _save_bench(
    cost: DataFrame,
    rounded: DataFrame,
    grown: DataFrame,
    clips: Sequence[Clip],
    out: Path,
    *,
    quick: bool,
) -> None:
    from anovl_companion.benchmark.bench import growth_figure, machine
    from anovl_companion.records import provenance
    from anovl_companion.saving import save_figure, save_table

    weights = {clip.name: clip.weights_hash for clip in clips}
    record = provenance(parameters={"quick": quick}, models=weights, machine=machine())
    save_table(cost, out / "cost", provenance=record)
    save_table(rounded, out / "precision", provenance=record)
    save_table(grown, out / "growth_table", provenance=record)
    save_figure(growth_figure(grown), out / "growth", provenance=record)
    print(f"\nTables and figure: {out}")


def _rehearse(options: argparse.Namespace) -> int:
    """Rehearse MVTec AD at full size, and print what each stage costs."""
    from tempfile import TemporaryDirectory

    from anovl.models.load import load_clip
    from anovl_companion.benchmark.bench import machine
    from anovl_companion.benchmark.rehearsal import check_counts, rehearse
    from anovl_companion.records import provenance
    from anovl_companion.saving import save_table

    name, side = options.model[-1], 1024 if options.side is None else options.side
    check_counts(options.images, side)
    model = {"device": options.device, "precision": options.precision or "float32"}
    clip = load_clip(name, weights=None if name == "pocket" else "random", **model)
    with TemporaryDirectory() as folder:
        table = rehearse(clip, Path(folder), images=options.images, side=side, tell=say)
    print(_printed(table))
    print(f"\n{clip.name}, {clip.precision}, on {machine()['gpu'] or 'a CPU'}")
    if options.out:
        parameters = {"images": options.images, "side": side, **model}
        record = provenance(
            parameters=parameters, models={clip.name: clip.weights_hash}, machine=machine()
        )
        save_table(table, Path(options.out) / "rehearsal", provenance=record)
    return 0


def add_bench(commands: Commands) -> None:
    command = commands.add_parser(
        "bench",
        help="what things cost, beside the targets",
        description="Measure ratios side by side, medians over repetitions, peak memory, and how "
        "cost grows. Nothing is downloaded: models other than pocket have random weights.",
    )
    add = command.add_argument
    models = "pocket,ViT-B-16-plus-240"
    add("--model", type=name_list, default=models, metavar="NAMES", help="default: %(default)s")
    add("--quick", action="store_true", help="once, on few images: to see that it runs")
    add("--out", metavar="DIR", help="also save the tables and a figure, such as figures/bench")
    add("--device", default="cpu", help="cpu (default), cuda, mps")
    add(
        "--rehearsal",
        action="store_true",
        help="run the protocol of MVTec AD on pictures of full size instead, with the last model",
    )
    add("--images", type=int, metavar="N", help="of each category, 2 at least (as published)")
    add("--side", type=int, metavar="N", help="of these pictures, 16 at least (1024 px)")
    add("--precision", metavar="NAME", help="in the rehearsal (float32)")
    command.set_defaults(command=bench)
