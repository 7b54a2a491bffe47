"""The command line: `python -m anovl {localize,evaluate,data check,export,download}`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from anovl._shared.files import FULL, DiskFullError
from anovl._shared.messages import near
from anovl.cli.evaluate import add_data_check, add_evaluate
from anovl.cli.localize import add_localize
from anovl.cli.more import add_download, add_export
from anovl.cli.options import EXIT_CODES, say

EXAMPLES = """examples:
  python -m anovl localize photo.jpg --object "metal nut"
  python -m anovl localize folder/ more.png --object bottle --tta --out maps
  python -m anovl evaluate --dataset pocket --methods clip,anovl,centre --out results/pocket
  python -m anovl data check my_images
  python -m anovl download visa --to data
  python -m anovl evaluate --dataset visa --data-root data/visa --out results/visa

`python -m anovl COMMAND --help` tells more. The model is the small one that is shipped, unless
--model and --weights name another, such as the paper's: ViT-B-16-plus-240, laion400m_e32.
"""

MOVED = {
    "train-pocket": "python -m anovl_companion train",
    "bench": "python -m anovl_companion bench",
    "verify": "python -m anovl_companion verify",
}
"""What took the place of former commands."""

_PATHS = ("images", "normal", "folder", "data_root", "out", "to", "weights", "prompts")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 for a partial failure, 2 for bad input, 130 when stopped."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in MOVED:
        say(f"error: {arguments[0]} has moved: {MOVED[arguments[0]]} (in the repository)")
        return 2
    return run_command(_parser(), argv)


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse and run a command, and turn what goes wrong into one sentence and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that a terminal cannot show stops nothing
            stream.reconfigure(errors="backslashreplace")
    options = parser.parse_args(argv)
    with _stopped_by_sigterm_too(), warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
        try:
            return options.command(options)
        except (ValueError, TypeError, OSError) as error:
            full = isinstance(error, OSError) and error.errno in FULL
            say(f"error: {_what_is_kept(error, options) if full else error}")
            return 2
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            say(f"error: out of memory; what is finished is kept. {_what_helps(options)}")
            return 2
        except KeyboardInterrupt:
            then = "to go on" if getattr(options, "goes_on", False) else "to begin anew"
            say(f"stopped; run the same command again {then}")
            return 130


@contextmanager
def _stopped_by_sigterm_too() -> Iterator[None]:
    """Take SIGTERM, which the scheduler of a cluster sends, for Ctrl-C."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _what_is_kept(error: OSError, options: argparse.Namespace) -> str:
    if isinstance(error, DiskFullError):
        return error.strerror
    out = getattr(options, "out", None)
    where = f" in {out}" if out else ""
    return (
        f"the disk is full ({os.strerror(error.errno)}); what is finished is kept{where}: "
        "free some space, and run the same command again"
    )


class Parser(argparse.ArgumentParser):
    """Each command names what it does not know itself, and the option that may be meant.

    An empty path is refused: it would be the current folder.
    """

    def parse_known_args(self, *args: Any, **options: Any) -> tuple[argparse.Namespace, list[str]]:
        found, unknown = super().parse_known_args(*args, **options)
        if unknown:
            meant = near(unknown[0].partition("=")[0], self._option_string_actions)
            hint = f"; did you mean {meant[0]}?" if meant else ""
            self.error(f"unknown: {' '.join(unknown)}{hint}")
        for action in self._actions:
            value = getattr(found, action.dest, None)
            if action.dest in _PATHS and "" in (value if isinstance(value, list) else [value]):
                said = "expected a file or a folder; found nothing: is a variable not set?"
                self.error(str(argparse.ArgumentError(action, said)))
        return found, unknown


def _is_out_of_memory(error: Exception) -> bool:
    """Tell so of numpy, and of torch on a CPU, a GPU or a Mac."""
    says = ("out of memory", "not enough memory", "allocate memory")
    return isinstance(error, MemoryError) or any(what in str(error).lower() for what in says)


def _what_helps(options: argparse.Namespace) -> str:
    helps = {
        "batch_size": "a smaller --batch-size (1 at least)",
        "precision": "--precision bfloat16",
        "jobs": "fewer --jobs",
    }
    known = [what for option, what in helps.items() if hasattr(options, option)]
    return f"What helps: {', or '.join(known or ['a machine with more memory'])}"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m anovl",
        description="Zero-shot anomaly localization with CLIP: images and words go in, maps out.",
        epilog=f"{EXAMPLES}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"anovl {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_localize(commands)
    add_evaluate(commands)
    add_export(commands)
    add_data_check(commands)
    add_download(commands)
    return parser


def _version() -> str:
    try:
        return version("anovl")
    except PackageNotFoundError:
        return "(not installed: run `make setup`)"
