"""Options that several commands have, and what they stand for."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from anovl._shared.messages import one_line

if TYPE_CHECKING:
    from anovl.detector import Detector
    from anovl.masks import MaskValues

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
CACHE = "~/.cache/anovl"  # of the features of prompts
EXIT_CODES = (
    "Exit code: 0 all is done, 1 all but some images (named at the end), 2 something is wrong and "
    "has to be changed, 130 stopped."
)


def say(text: str) -> None:
    print(f"anovl: {one_line(text)}", file=sys.stderr)


def make_detectors(
    methods: Sequence[str], options: argparse.Namespace, *, dataset: str = "", tiles: bool = False
) -> list[Detector]:
    from anovl.baselines import make_detector, published_options
    from anovl.baselines.tiled import tile
    from anovl.evaluation.reading import default_batch_size
    from anovl.models.load import load_clip
    from anovl.models.text_cache import cached_encoder

    if options.model == "pocket" or (options.weights and Path(options.weights).exists()):
        refuse_idle(options, ["allow_download"], "on weights that are here")
    clip = load_clip(
        options.model,
        weights=options.weights,
        device=options.device or "cpu",
        precision=getattr(options, "precision", None) or "float32",
        image_size=options.image_size,
        allow_download=options.allow_download,
    )
    together = getattr(options, "batch_size", None)
    own: dict[str, Any] = {"batch_size": default_batch_size(clip) if together is None else together}
    if getattr(options, "surface", False):
        own["surface"] = "texture"
    if not options.no_cache:
        own["encode"] = cached_encoder(CACHE)
    detectors = [
        with_options(make_detector(name, clip, **published_options(name, dataset)), **own)
        for name in methods
    ]
    return [tile(detector) for detector in detectors] if tiles else detectors


def refuse_idle(options: argparse.Namespace, idle: Sequence[str], why: str) -> None:
    """Raise ValueError for the first of some options that was given; not given is None or False."""
    for name in idle:
        if getattr(options, name, None) not in (None, False):
            raise ValueError(f"--{name.replace('_', '-')} has no effect {why}: leave it out")


def at_any_worker(folder: str | None) -> Path | None:
    """A folder by its whole path: workers may have been started anywhere."""
    return None if folder is None else Path(folder).expanduser().absolute()


def with_options(detector: Detector, **options: Any) -> Detector:
    """The same detector, or the one inside it, with those of these options that it has."""
    from anovl.baselines.controls import Shuffled

    if isinstance(detector, Shuffled):
        return replace(detector, detector=with_options(detector.detector, **options))
    own = {field.name for field in fields(detector)}
    return replace(detector, **{name: given for name, given in options.items() if name in own})


def add_data(command: argparse.ArgumentParser, *, default: str, generated: bool = True) -> None:
    """Which data set, which of its categories, and how its files are read."""
    from anovl.data import DATASETS

    add = command.add_argument
    names = ", ".join(name for name in DATASETS if generated or name not in ("photos", "pocket"))
    add("--dataset", default=default, metavar="NAME", help=f"{names} (default: %(default)s)")
    add("--categories", type=name_list, metavar="NAMES", help='default: all; "a,b" is one name')
    add_reading(command)


def add_reading(command: argparse.ArgumentParser, *, masks: bool = True) -> None:
    add = command.add_argument
    add(
        "--pixel-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="black and white of pictures of more than 8 bits (default: as they say, or the "
        "smallest usual depth that holds them all)",
    )
    if masks:
        add(
            "--mask-values",
            type=mask_values,
            metavar="N,N|dark",
            help="which numbers of masks are defect, exactly; or dark: masks are inverted, what is "
            "below half of full scale is defect (default: what is not black, of many grey levels "
            "those from half of full scale on)",
        )


def mask_values(text: str) -> MaskValues:
    from anovl.masks import DARK

    try:
        return DARK if text == DARK else [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers with commas, such as 1,2, or {DARK}; found {text!r}"
        ) from None


def add_model(command: argparse.ArgumentParser) -> None:
    """Which model, and how it computes."""
    add = command.add_argument
    add_weights(command)
    add(
        "--batch-size",
        type=int,
        metavar="N",
        help="images in the network together (default: 16; on cuda what fits into free memory)",
    )
    add(
        "--precision",
        metavar="NAME",
        help="of the two towers: float32 (default), bfloat16 or float16; what is compared is "
        "float32 in any case",
    )


def add_weights(command: argparse.ArgumentParser) -> None:
    """Which model, on which device."""
    add = command.add_argument
    add("--model", default="pocket", help="pocket (default), one of open_clip's, or hf:FOLDER")
    add("--weights", help="a file, or a tag such as laion400m_e32")
    add("--image-size", type=int, metavar="N", help="see N x N pixels (default: the model's own)")
    add("--allow-download", action="store_true", help="fetch missing weights")
    add("--device", metavar="NAME", help="cpu (default), cuda, mps")
    add(
        "--no-cache",
        action="store_true",
        help=f"embed the prompts anew, and do not keep them in {CACHE}",
    )


def name_list(text: str) -> list[str]:
    """Split a list given with commas; a name that has one stands in double quotes.

    >>> name_list('nut, "left,right"')
    ['nut', 'left,right']
    """
    return [name.strip() for name in split_list(text) if name.strip()]


def split_list(text: str) -> list[str]:
    """Split a list given with commas as it stands; a part that has one stands in double quotes."""
    return next(csv.reader([text], skipinitialspace=True), [])
