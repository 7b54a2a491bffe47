"""The command line: `python -m anovl {localize,evaluate,data check,export,download}`."""

from __future__ import annotations

import argparse
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

from anovl._shared.files import FULL
from anovl._shared.messages import near
from anovl.cli.evaluate import add_data_check, add_evaluate
from anovl.cli.export_download import add_download, add_export
from anovl.cli.localize import add_localize
from anovl.cli.options import EXIT_CODES, say

EXAMPLES = """examples:
  python -m anovl localize photo.jpg --object "metal nut"
  python -m anovl evaluate --dataset pocket --methods clip,anovl,centre --out results/pocket
  python -m anovl data check my_images
  python -m anovl download visa --to data
  python -m anovl evaluate --dataset visa --data-root data/visa --out results/visa

`python -m anovl COMMAND --help` lists the options. The default model is the small pocket model;
--model and --weights choose another, such as the paper's: ViT-B-16-plus-240, laion400m_e32.
"""
COMMANDS = {
    "localize": add_localize,
    "evaluate": add_evaluate,
    "export": add_export,
    "data": add_data_check,
    "download": add_download,
}
MOVED = {"train-pocket": "train", "bench": "bench", "verify": "verify"}
"""Former commands, and their names in `python -m anovl_companion`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 for a partial failure, 2 for bad input, 130 when stopped."""
    arguments = sys.argv[1:] if argv is None else argv
    if new := MOVED.get(arguments[0] if arguments else ""):
        say(f"error: this command is now `python -m anovl_companion {new}`, in the repository")
        return 2
    return run_command(_parser(arguments[0] if arguments else ""), arguments)


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse and run a command; turn errors into one sentence and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that a terminal cannot show stops nothing
            stream.reconfigure(errors="backslashreplace")
    with suppress(ValueError):  # in another thread: the main one decides
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # schedulers of clusters send it
    options = parser.parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
        try:
            return options.command(options)
        except (ValueError, TypeError, OSError) as error:
            say(f"error: {_sentence(error)}")
            return 2
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            helps = "a smaller --batch-size, --precision bfloat16 or fewer --jobs"
            say(f"error: out of memory; finished results are kept. What helps: {helps}")
            return 2
        except KeyboardInterrupt:
            then = "to go on" if getattr(options, "goes_on", False) else "to begin anew"
            say(f"stopped; run the same command again {then}")
            return 130


def _sentence(error: Exception) -> str:
    if not isinstance(error, OSError) or error.errno not in FULL:
        return str(error)
    full = f"the disk is full ({error.strerror}); finished results are kept"
    return f"{full}: free some space, and run the same command again"


class Parser(argparse.ArgumentParser):
    """A parser where each command names the options that it does not know, and a similar one."""

    def parse_known_args(self, *args: Any, **options: Any) -> tuple[argparse.Namespace, list[str]]:
        found, unknown = super().parse_known_args(*args, **options)
        if unknown:
            meant = near(unknown[0].partition("=")[0], self._option_string_actions)
            hint = f"; did you mean {meant[0]}?" if meant else ""
            self.error(f"unknown: {' '.join(unknown)}{hint}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print one line, without the list of all options."""
        say(f"error: {message} (options: {self.prog} --help)")
        self.exit(2)


def _is_out_of_memory(error: Exception) -> bool:
    """Tell so of numpy, and of torch on a CPU, a GPU or a Mac."""
    says = ("out of memory", "not enough memory", "allocate memory")
    return isinstance(error, MemoryError) or any(what in str(error).lower() for what in says)


def _parser(asked: str) -> argparse.ArgumentParser:
    """The parser of the command that is asked for; of all commands where none is."""
    parser = Parser(
        prog="python -m anovl",
        description="Zero-shot anomaly localization with CLIP: images and words go in, maps out.",
        epilog=f"{EXAMPLES}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"anovl {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in [asked] if asked in COMMANDS else COMMANDS:
        COMMANDS[name](commands)
    return parser


def _version() -> str:
    try:
        return version("anovl")
    except PackageNotFoundError:
        return "(not installed: run `make setup`)"
