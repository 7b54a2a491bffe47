"""Make the companion: `python -m anovl_companion {reproduce,run,train,bench,verify,...}`.

Each is a target of the Makefile, too; this works where there is no make.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anovl.cli import Parser, run_command
from anovl.cli.options import EXIT_CODES, Commands, say
from anovl_companion.benchmark.command import add_bench
from anovl_companion.training.recipe import RECIPES, named_recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 where something differs, 2 for bad input, 130 when stopped."""
    parser = Parser(
        prog="python -m anovl_companion",
        description="Make and check what the companion holds: notebooks, figures, tables, models.",
        epilog=EXIT_CODES,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_notebook_commands(commands)
    add_run(commands)
    add_train(commands)
    add_bench(commands)
    add_verify(commands)
    return run_command(parser, argv)


def reproduce(options: argparse.Namespace) -> int:
    """Measure one category of the shared run anew, run the notebooks, and compare all of it."""
    from anovl_companion.run_notebooks import reproduce
    from anovl_companion.shared_run.make import check_runs

    found = check_runs()
    print(f"The shared run: {found}", flush=True)
    found += reproduce(options.notebooks)
    print(f"\n{found}")
    return int(bool(found.differs))


def notebooks(options: argparse.Namespace) -> int:
    """Run notebooks and keep what they show."""
    from anovl_companion.run_notebooks import run

    run(options.notebooks, measure=options.measure)
    return 0


def exercises(options: argparse.Namespace) -> int:
    """Make the students' notebooks from the solved ones."""
    from anovl_companion.exercises import make_exercises

    make_exercises()
    return 0


def shared_run(options: argparse.Namespace) -> int:
    """Measure the shared run of each pocket model that is here."""
    from anovl_companion.shared_run.make import make_runs

    make_runs(Path(options.out))
    return 0


def train(options: argparse.Namespace) -> int:
    """Train the pocket model again from nothing."""
    import torch

    from anovl_companion.training.train import keep_memory, train_pocket

    keep_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    written = train_pocket(
        options.out,
        recipe=named_recipe(options.recipe, seed=options.seed),
        resume=not options.fresh,
        **{name: getattr(options, name) for name in ("device", "workers", "snapshot_every")},
    )
    print(f"Trained model: {written}")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Check figures and tables against their records."""
    from anovl_companion.records import verify

    problems = verify(options.folder)
    for problem in problems:
        say(problem)
    if problems:
        return 1
    print(f"{options.folder}: every figure and table is as it was recorded")
    return 0


def add_train(commands: Commands) -> None:
    command = commands.add_parser(
        "train",
        help="train the pocket model from nothing (about an hour and a half on 2 cores)",
        description="Train the pocket CLIP from nothing. A stopped or killed run goes on when the "
        "same command is started again. SCALING.md tells what each recipe takes.",
    )
    add = command.add_argument
    add("--out", required=True, metavar="DIR", help="folder for the model")
    add("--recipe", default="laptop", metavar="NAME", help=f"{', '.join(RECIPES)} (%(default)s)")
    add("--seed", type=int, default=0)
    add("--device", default="cpu", help="cpu (default) or cuda")
    add("--workers", type=int, default=1, help="processes that draw pictures (1)")
    add("--threads", type=int, metavar="N", help="of torch on a CPU (default: its own choice)")
    add(
        "--snapshot-every",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="write model, logs and checkpoint so often (60)",
    )
    add("--fresh", action="store_true", help="begin anew, forget the checkpoint")
    command.set_defaults(command=train, goes_on=True)


def add_verify(commands: Commands) -> None:
    command = commands.add_parser(
        "verify",
        help="check figures and tables against their records",
        description="Check every figure and table under a folder against its provenance record.",
    )
    command.add_argument("folder", help="such as figures")
    command.set_defaults(command=verify)


def add_notebook_commands(commands: Commands) -> None:
    command = commands.add_parser("reproduce", help="run the notebooks; compare all that they make")
    command.add_argument("notebooks", nargs="*", type=Path, help="default: all")
    command.set_defaults(command=reproduce)
    command = commands.add_parser("notebooks", help="run the notebooks, and keep what is new")
    command.add_argument("notebooks", nargs="*", type=Path, help="default: all")
    command.add_argument("--measure", action="store_true", help="write what each takes into it")
    command.set_defaults(command=notebooks)
    command = commands.add_parser("exercises", help="make the students' notebooks")
    command.set_defaults(command=exercises)


def add_run(commands: Commands) -> None:
    command = commands.add_parser("run", help="measure the shared run")
    command.add_argument("--out", default="runs/shared", metavar="DIR", help="default: %(default)s")
    command.set_defaults(command=shared_run, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
