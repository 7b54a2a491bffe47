"""Options that several commands have, and the model that they stand for."""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from anovl._shared.messages import one_line

if TYPE_CHECKING:
    from anovl.clip import Clip
    from anovl.detector import Detector
    from anovl.masks import MaskValues

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
CACHE = "~/.cache/anovl"  # for the features of prompts
EXIT_CODES = (
    "Exit code: 0 all is done, 1 all but some images (named at the end), 2 something is wrong and "
    "has to be changed, 130 stopped."
)


def say(text: str) -> None:
    """Print one line to stderr."""
    print(f"anovl: {one_line(text)}", file=sys.stderr)


def load_model(options: argparse.Namespace) -> tuple[Clip, dict[str, Any]]:
    """Load the model of the options; return it, and the options for its detectors."""
    from anovl.models.load import load_clip
    from anovl.models.text_cache import cached_encoder

    clip = load_clip(
        options.model,
        weights=options.weights,
        device=options.device or "cpu",
        precision=getattr(options, "precision", None) or "float32",
        image_size=options.image_size,
        allow_download=options.allow_download,
    )
    own: dict[str, Any] = {}
    if (batch_size := getattr(options, "batch_size", None)) is not None:
        own["batch_size"] = batch_size
    if not options.no_cache:
        own["encode"] = cached_encoder(CACHE)
    return clip, own


def with_options(detector: Detector, **options: Any) -> Detector:
    """Set the options that a detector, or the one inside `Shuffled`, has; ignore the others."""
    from anovl.baselines.controls import Shuffled

    if isinstance(detector, Shuffled):
        return replace(detector, detector=with_options(detector.detector, **options))
    own = {field.name for field in fields(detector)}
    return replace(detector, **{name: value for name, value in options.items() if name in own})


def add_data(command: argparse.ArgumentParser, *, default: str) -> argparse._ArgumentGroup:
    """Add options for the data set, its categories, and how its files are read."""
    from anovl.data import DATASETS

    group = command.add_argument_group("data")
    add = group.add_argument
    names = ", ".join(DATASETS)
    add("--dataset", default=default, metavar="NAME", help=f"{names} (default: %(default)s)")
    add("--categories", type=name_list, metavar="NAMES", help='default: all; "a,b" is one name')
    add_pixel_range(group)
    says = "the values of anomalies in masks; dark: those below half (default: the bright ones)"
    add("--mask-values", type=mask_values, metavar="N,N|dark", help=says)
    return group


def add_pixel_range(group: argparse._ActionsContainer) -> None:
    """Add the option for images of more than 8 bits."""
    says = "values of black and white in images of more than 8 bits (default: their bit depth)"
    group.add_argument("--pixel-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help=says)


def add_words(group: argparse._ActionsContainer) -> None:
    """Add options for the words around a class name."""
    says = "a surface, such as cloth or tile: prompts say textural photo, surface picture"
    group.add_argument("--surface", action="store_true", help=says)
    group.add_argument(
        "--prompts",
        type=path_text,
        metavar="FILE.json",
        help='{"states": {"normal": ["intact {}"], "anomalous": ["{} with a crack"]}, "templates": '
        '["a {domain} of the {}"], "domains": ["industrial image"]}, or parts of it. Choose words '
        "on other images than those that you judge",
    )


def path_text(text: str) -> str:
    """Refuse an empty path, which would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, found nothing: is a variable not set?")
    return text


def mask_values(text: str) -> MaskValues:
    from anovl.masks import DARK

    try:
        return DARK if text == DARK else [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers with commas, such as 1,2, or {DARK}; found {text!r}"
        ) from None


def add_model(command: argparse.ArgumentParser, *, exported: bool = False) -> None:
    """Add options for the model and its computation; `exported`: without batches and precision."""
    add = command.add_argument_group("model").add_argument
    add("--model", default="pocket", help="pocket (default), a name of open_clip, or hf:FOLDER")
    add("--weights", type=path_text, help="a file, or a tag such as laion400m_e32")
    add("--image-size", type=int, metavar="N", help="see N x N pixels (default: the model's own)")
    add("--allow-download", action="store_true", help="download missing weights")
    add("--device", metavar="NAME", help="cpu (default), cuda, mps")
    add("--no-cache", action="store_true", help=f"do not keep the features of prompts in {CACHE}")
    if exported:
        return
    add("--batch-size", type=int, metavar="N", help="on a GPU (16; evaluate: by its free memory)")
    says = "of both encoders: float32 (default), bfloat16, float16"
    add("--precision", metavar="NAME", help=says)


def name_list(text: str) -> list[str]:
    """Split a list at its commas; a name with a comma stands in double quotes.

    >>> name_list('nut, "left,right"')
    ['nut', 'left,right']
    """
    names = next(csv.reader([text], skipinitialspace=True), [])
    return [name.strip() for name in names if name.strip()]
