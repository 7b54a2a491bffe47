"""Options that several commands have, and what they stand for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from anovl.clip import Clip
    from anovl.detector import Detector


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
CACHE = "~/.cache/anovl"  # of the features of prompts


EXIT_CODES = (
    "Exit code: 0 all is done, 1 all but some images (named at the end), 2 something is wrong and "
    "has to be changed, 130 stopped."
)


def say(text: str) -> None:
    print(f"anovl: {text}", file=sys.stderr)


def mention_unknown_words(clip: Clip, name: str) -> None:
    """Say so when the pocket model, which knows few words, never saw the name of the object."""
    from anovl.models.pocket import unknown_words

    if unseen := unknown_words(clip, name):
        words = ", ".join(map(repr, unseen))
        say(f"note: {clip.name} does not know {words}, and looks for damage on anything")


def make_detectors(
    methods: Sequence[str], options: argparse.Namespace, *, dataset: str = "", tiles: bool = False
) -> list[Detector]:
    from anovl.baselines import make_detector, published_options
    from anovl.baselines.tiled import tile
    from anovl.evaluation.batch_size import default_batch_size
    from anovl.models.load import load_clip
    from anovl.models.text_cache import cached_encoder

    if options.model == "pocket" or (options.weights and Path(options.weights).exists()):
        refuse_idle(options, ["allow_download"], "on weights that are here")
    clip = load_clip(
        options.model,
        weights=options.weights,
        device=options.device or "cpu",
        precision=options.precision or "float32",
        image_size=options.image_size,
        allow_download=options.allow_download,
    )
    detectors = [make_detector(name, clip, **published_options(name, dataset)) for name in methods]
    together = options.batch_size
    together = default_batch_size(clip) if together is None else together
    detectors = [with_encoder(detector, batch_size=together) for detector in detectors]
    if not options.no_cache:
        encode = cached_encoder(CACHE)
        detectors = [with_encoder(detector, encode=encode) for detector in detectors]
    return [tile(detector) for detector in detectors] if tiles else detectors


def refuse_idle(options: argparse.Namespace, idle: Sequence[str], why: str) -> None:
    """Raise ValueError for the first of some options that was given; not given is None or False."""
    for name in idle:
        if getattr(options, name) not in (None, False):
            raise ValueError(f"--{name.replace('_', '-')} has no effect {why}: leave it out")


def at_any_worker(folder: str | None) -> Path | None:
    """A folder by its whole path: workers may have been started anywhere."""
    return None if folder is None else Path(folder).expanduser().absolute()


def with_encoder(detector: Detector, **options: Any) -> Detector:
    """The same detector, or the one inside it, with options that every `ClipDetector` has."""
    from anovl.baselines.controls import Shuffled
    from anovl.detector import ClipDetector

    if isinstance(detector, ClipDetector):
        return replace(detector, **options)
    if isinstance(detector, Shuffled):
        return replace(detector, detector=with_encoder(detector.detector, **options))
    return detector


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
            type=number_list,
            metavar="N,N",
            help="which numbers of masks are defect (default: see read_mask)",
        )


def number_list(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers with commas, such as 1,2; found {text!r}"
        ) from None


def add_model(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--model", default="pocket", help="pocket (default), one of open_clip's, or hf:FOLDER")
    add("--weights", help="a file, or a tag such as laion400m_e32")
    add("--image-size", type=int, metavar="N", help="see N x N pixels (default: the model's own)")
    add("--allow-download", action="store_true", help="fetch missing weights")
    add("--device", metavar="NAME", help="cpu (default), cuda, mps")
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
    add(
        "--no-cache",
        action="store_true",
        help=f"embed the prompts anew, and do not keep them in {CACHE}",
    )


def name_list(text: str) -> list[str]:
    """Split a list given with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
