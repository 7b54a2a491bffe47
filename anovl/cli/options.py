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
    from anovl.data.dataset import Dataset
    from anovl.detector import Detector
    from anovl.masks import MaskValues
    from anovl.prompts import PromptEnsemble


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
    together = options.batch_size
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


def words_count(options: argparse.Namespace, methods: Sequence[str]) -> bool:
    """Tell whether any method uses words; where none does, refuse the options that give some."""
    from anovl.baselines import WORDLESS

    if not methods or not set(methods) <= set(WORDLESS):
        return True
    idle = ["object", "names", "surface", "prompts", "no_cache"]
    refuse_idle(options, idle, f"on {', '.join(methods)}, which use no words")
    return False


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


def add_words(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--surface",
        action="store_true",
        help="it is a surface, such as cloth or tile: prompts say textural photo, surface picture",
    )
    add(
        "--prompts",
        metavar="FILE.json",
        help='your own words: {"states": {"normal": ["intact {}"], "anomalous": ["{} with a crack"]'
        '}, "templates": ["a {domain} of the {}"], "domains": ["industrial image"]}; what is left '
        "out stays the paper's. Choose them on other pictures than those that are judged",
    )


def words_from_options(options: argparse.Namespace, class_name: str) -> str | PromptEnsemble:
    """Return what a detector takes for a thing: its name, or prompts where options ask for them."""
    from anovl.prompts import prompt_ensemble

    if not (lists := _prompt_lists(options)) and not options.surface:
        return class_name
    surface = "texture" if options.surface else None
    return prompt_ensemble(class_name, surface=surface, **lists)


def reworded(dataset: Dataset, options: argparse.Namespace) -> Dataset:
    """Return a data set with the words of --names, --object, --surface and --prompts."""
    from anovl.data.published import Words

    lists, given = _prompt_lists(options), _class_names(dataset, options)
    words = {}
    for category in dataset.categories:
        own = dataset.words.get(category, Words(category))
        asked = Words(given.get(category, own.class_name), own.surface)
        asked = asked._replace(surface="texture") if options.surface else asked
        if asked != own:
            words[category] = asked
    return dataset.with_words(words, lists) if words or lists else dataset


def _class_names(dataset: Dataset, options: argparse.Namespace) -> dict[str, str]:
    """The class names that --names or --object give to categories."""
    from anovl.data.dataset import select

    categories = dataset.categories
    if options.object is None:
        names = options.names or {}
        select(list(names) or None, categories, f"category of {dataset.name} in --names")
        return names
    if options.names:
        raise ValueError("--object and --names say the same thing: leave one of them out")
    if not options.object.strip():
        raise ValueError('--object must name what the images show, such as --object "metal nut"')
    if len(categories) > 1:
        raise ValueError(
            f"--object names the thing of one category, and there are {len(categories)}: use "
            f'--names {categories[0]}="{options.object}",…, or choose one with --categories'
        )
    return {categories[0]: options.object}


def _prompt_lists(options: argparse.Namespace) -> dict[str, Any]:
    from anovl.reporting.words import read_prompt_file

    if options.prompts is None:
        return {}
    lists = read_prompt_file(options.prompts)
    if options.surface and "domains" in lists:
        raise ValueError(
            f"--surface stands for domains, and {options.prompts} has its own: "
            "leave one of them out"
        )
    return lists


def class_names(text: str) -> dict[str, str]:
    """Split `01=metal plate,02=screw` into words by category; quotes as in `name_list`."""
    pairs = [tuple(map(str.strip, part.partition("=")[::2])) for part in _split(text)]
    if not all(category and words for category, words in pairs):
        raise argparse.ArgumentTypeError(
            'expected CATEGORY=WORDS with commas, such as 01="metal plate",02=screw; '
            f"found {text!r}"
        )
    if len(dict(pairs)) < len(pairs):
        raise argparse.ArgumentTypeError(f"a category is named twice in {text!r}")
    return dict(pairs)


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
    """Split a list given with commas; a name that has one stands in double quotes.

    >>> name_list('nut, "left,right"')
    ['nut', 'left,right']
    """
    return [name.strip() for name in _split(text) if name.strip()]


def _split(text: str) -> list[str]:
    return next(csv.reader([text], skipinitialspace=True), [])
