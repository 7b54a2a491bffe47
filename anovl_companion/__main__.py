"""Make the companion: `python -m anovl_companion {reproduce,notebooks,run,card,train,bench,...}`.

Each command is a target of the Makefile, too; this works where there is no make.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anovl.cli import Parser, run_command
from anovl.cli.options import EXIT_CODES, Commands, name_list, say

MODELS = ("pocket", "pocket-2")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 where something differs, 2 for bad input, 130 when stopped."""
    parser = Parser(
        prog="python -m anovl_companion",
        description="Make and check what the companion holds: notebooks, figures, tables, models.",
        epilog=EXIT_CODES,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_notebook_commands(commands)
    add_train(commands)
    add_bench(commands)
    return run_command(parser, argv) or 0


def reproduce(options: argparse.Namespace) -> int:
    """Measure one category of the shared run anew, run the notebooks, and compare all of it."""
    from anovl_companion.run_notebooks import reproduce
    from anovl_companion.shared_run.make import check_runs

    differs = check_runs()
    print(f"The shared run {'is not' if differs else 'is'} as committed.", flush=True)
    return _report([*differs, *reproduce(options.notebooks)], "Everything is as committed.")


def notebooks(options: argparse.Namespace) -> None:
    """Run notebooks and keep what they show."""
    from anovl_companion.run_notebooks import run

    run(options.notebooks, measure=options.measure)


def exercises(options: argparse.Namespace) -> None:
    """Make the students' notebooks from the solved ones."""
    from anovl_companion.exercises import make_exercises

    make_exercises()


def shared_run(options: argparse.Namespace) -> None:
    """Measure the shared run of one pocket model, or of each that is here."""
    from anovl.models.pocket import shipped_here
    from anovl_companion.shared_run.make import make_run

    given = {"weights": options.weights, "target": options.target, "jobs": options.jobs}
    for name in [_model(options)] if _model(options) else shipped_here():
        run = make_run(name, options.out, **given)
        print(f"The shared run of {name} is in {run.path}")


def verify(options: argparse.Namespace) -> int:
    """Check figures and tables against their records."""
    from anovl_companion.records import verify

    return _report(verify(options.folder), f"{options.folder}: all is as it was recorded.")


def _report(problems: Sequence[str], all_is_well: str) -> int:
    for problem in problems:
        say(problem)
    if not problems:
        print(all_is_well)
    return int(bool(problems))


def train(options: argparse.Namespace) -> None:
    """Train the pocket model again from nothing."""
    import torch

    from anovl_companion.training.recipe import named_recipe
    from anovl_companion.training.train import keep_memory, train_pocket

    keep_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    out = train_pocket(
        options.out,
        recipe=named_recipe(options.recipe, seed=options.seed),
        resume=not options.fresh,
        device=options.device,
        arithmetic=options.arithmetic,
        workers=options.workers,
        snapshot_every=options.snapshot_every,
    )
    print(f"Trained model: {out}")


def card(options: argparse.Namespace) -> None:
    """Measure what the model card says, and print it."""
    from anovl_companion.training.card import make_card

    weights = {"name": _model(options), "weights": options.weights}
    print(make_card(options.out, **weights, jobs=options.jobs))


def _model(options: argparse.Namespace) -> str | None:
    if options.weights and not options.model:
        raise ValueError("--weights are of one model: give --model pocket or --model pocket-2, too")
    return options.model


def bench(options: argparse.Namespace) -> None:
    """Measure what things cost, and print it beside the targets."""
    from anovl_companion.benchmark.bench import bench

    bench(options)


def add_notebook_commands(commands: Commands) -> None:
    add = commands.add_parser
    command = add("reproduce", help="run the notebooks, compare all that they make")
    command.add_argument("notebooks", nargs="*", type=Path, help="default: all")
    command.set_defaults(command=reproduce)
    command = add("notebooks", help="run the notebooks, and keep what is new")
    command.add_argument("notebooks", nargs="*", type=Path, help="default: all")
    command.add_argument("--measure", action="store_true", help="write what each takes into it")
    command.set_defaults(command=notebooks)
    command = add("exercises", help="make the students' notebooks")
    command.set_defaults(command=exercises)
    command = add(
        "run",
        parents=[of_a_model()],
        help="measure the shared run",
        description="Measure every method and part on the pictures that notebooks speak of. A "
        "killed run goes on when the same command is started again.",
    )
    command.add_argument("--out", default=Path("runs/shared"), type=Path, metavar="DIR")
    command.add_argument("--target", type=Path, metavar="DIR", help="default: where it is read")
    command.set_defaults(command=shared_run, goes_on=True)
    command = add(
        "card",
        parents=[of_a_model()],
        help="measure what the model card says",
        description="Measure the bars of the model card over five seeds of scenes. Those of all "
        "models that ship are written into the card; others are printed. A killed run goes on.",
    )
    command.add_argument("--out", required=True, type=Path, metavar="DIR", help="for its runs")
    command.set_defaults(command=card, goes_on=True)
    command = add("verify", help="check figures and tables against their records")
    command.add_argument("folder", help="such as figures")
    command.set_defaults(command=verify)


def of_a_model() -> Parser:
    """The options of a command that measures trained pocket models."""
    parser = Parser(add_help=False)
    add = parser.add_argument
    add("--model", choices=MODELS, help="default: each that is here")
    add("--weights", type=Path, metavar="DIR", help="of a training instead of those that ship")
    add("--jobs", type=int, default=1, metavar="N", help="processes that share the categories (1)")
    return parser


def add_train(commands: Commands) -> None:
    command = commands.add_parser(
        "train",
        help="train the pocket model from nothing (about an hour and a half on 2 cores)",
        description="Train the pocket CLIP from nothing. A stopped or killed run goes on when the "
        "same command is started again. SCALING.md tells what each recipe takes.",
    )
    add = command.add_argument
    add("--out", required=True, metavar="DIR", help="folder for the model")
    add("--recipe", default="laptop", metavar="NAME", help="laptop or gpu (%(default)s)")
    add("--seed", type=int, default=0)
    add("--device", default="cpu", help="cpu (default) or cuda")
    add(
        "--arithmetic",
        choices=("float32", "bfloat16"),
        help="default: bfloat16 where the processor has matrix units for it",
    )
    add("--workers", type=int, default=1, help="processes that draw pictures (1)")
    add("--threads", type=int, metavar="N", help="of torch on a CPU (default: its own choice)")
    every = "write model, logs and checkpoint so often (60)"
    add("--snapshot-every", type=float, default=60.0, metavar="SECONDS", help=every)
    add("--fresh", action="store_true", help="begin anew, forget the checkpoint")
    command.set_defaults(command=train, goes_on=True)


def add_bench(commands: Commands) -> None:
    command = commands.add_parser(
        "bench",
        help="measure what things cost, beside the targets",
        description="Measure ratios side by side, medians over repetitions, peak memory, and how "
        "cost grows. Nothing is downloaded: models other than pocket have random weights.",
    )
    add = command.add_argument
    models = "pocket,ViT-B-16-plus-240"
    add("--model", type=name_list, default=models, metavar="NAMES", help="default: %(default)s")
    add("--quick", action="store_true", help="once, on few images: to see that it runs")
    add("--out", metavar="DIR", help="also save the tables and a figure, such as figures/bench")
    add("--device", default="cpu", help="cpu (default), cuda, mps")
    group = command.add_argument_group("rehearsal")
    add = group.add_argument
    full = "run the protocol of MVTec AD on pictures of full size instead, with the last model"
    add("--rehearsal", action="store_true", help=full)
    add("--images", type=int, metavar="N", help="of each category, 2 at least (as published)")
    add("--side", type=int, default=1024, metavar="N", help="of the pictures in pixels (1024)")
    add("--precision", metavar="NAME", help="of the two towers (float32)")
    command.set_defaults(command=bench)


if __name__ == "__main__":
    sys.exit(main())
