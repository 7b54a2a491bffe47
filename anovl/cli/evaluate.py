"""`anovl evaluate` and `anovl data check`: methods on a data set; what a folder holds."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anovl.cli.evaluate_answer import print_results
from anovl.cli.options import (
    EXIT_CODES,
    add_data,
    add_model,
    at_any_worker,
    make_detectors,
    name_list,
    refuse_idle,
    say,
)
from anovl.cli.words import add_words, class_names, reworded, words_count

if TYPE_CHECKING:
    from anovl.cli.options import Commands
    from anovl.clip import Clip
    from anovl.data.check import Summary
    from anovl.data.dataset import Dataset
    from anovl.detector import Detector


def evaluate(options: argparse.Namespace) -> int:
    """Measure methods on a data set, and print means, and categories where they are few."""
    from anovl.cli.saved_maps import SavedMaps
    from anovl.evaluation.compare import run_record
    from anovl.evaluation.harness import evaluate

    has_words = words_count(options, options.methods)
    dataset = _dataset(options)
    detectors = _detectors(options, dataset)
    size = _image_size(detectors) if options.size is None else options.size
    doubts = _summarised(dataset, size=size, prompts=has_words).doubts
    if has_words:
        _mention_words(dataset)
        for clip in {id(clip): clip for clip in map(_clip, detectors) if clip}.values():
            _name_unknown_words(dataset, clip.tokenizer)
    _mention_expectation(dataset, detectors)
    maps = SavedMaps(Path(options.out).absolute() / "maps") if options.save_maps else None
    names = ("out", "size", "seed", "jobs", "dask", "threads", "skip_unreadable")
    given = {name: getattr(options, name) for name in names}
    table = evaluate(dataset, detectors, save_maps=maps, **given)
    print_results(table, dataset, options)
    for doubt in doubts:
        say(f"please check: {doubt}")
    return int("skipped" in run_record(options.out))


def _dataset(options: argparse.Namespace) -> Dataset:
    """The data set that is asked for, with its words."""
    from anovl.data import load_dataset

    dataset = load_dataset(
        options.dataset,
        root=at_any_worker(options.data_root) if options.dask else options.data_root,
        categories=options.categories,
        seed=options.seed,
        per_category=options.per_category,
        pixel_range=options.pixel_range,
        mask_values=options.mask_values,
    )
    return reworded(dataset, options)


def _detectors(options: argparse.Namespace, dataset: Dataset) -> list[Detector]:
    """The methods that are asked for, by the protocol that is asked for."""
    from anovl.evaluation.run_folder import clips_of

    published = options.protocol in (None, "published")
    if dataset.name not in ("mvtec", "visa") and published:
        refuse_idle(options, ["protocol"], f"with {dataset.name}, of which none was published")
    detectors = make_detectors(
        options.methods,
        options,
        dataset=dataset.name if published else "",
        tiles=options.protocol == "tiles",
    )
    if not any(map(clips_of, detectors)):
        idle = ["batch_size", "precision", "device"]
        refuse_idle(options, idle, f"on {', '.join(options.methods)}, which have no network")
    return detectors


def check_data(options: argparse.Namespace) -> int:
    """Say what a data set holds, what is not read and what looks wrong; 1 if a file is damaged."""
    from anovl.data import load_dataset
    from anovl.models.pocket import load_tokenizer

    dataset = load_dataset(
        options.dataset,
        root=options.folder,
        categories=options.categories,
        pixel_range=options.pixel_range,
        mask_values=options.mask_values,
    )
    doubts = _summarised(dataset, size=options.size, decode_images=True).doubts
    _name_unknown_words(dataset, load_tokenizer())
    return int(any("cannot be read" in doubt.what for doubt in doubts))


def _summarised(
    dataset: Dataset, *, size: int | tuple[int, int] | None, **options: bool
) -> Summary:
    """Print what was understood of a data set; masks are not doubted again when they are read."""
    from anovl.data.check import summarise
    from anovl.maps import as_size
    from anovl.masks import MaskWarning

    summary = summarise(dataset, size=None if size is None else as_size(size), **options)
    print(summary, end="\n\n", flush=True)
    warnings.simplefilter("ignore", MaskWarning)
    return summary


def _mention_words(dataset: Dataset) -> None:
    """Say where names of folders are used as words."""
    unsaid = [category for category in dataset.categories if category not in dataset.words]
    if dataset.name == "folder" and unsaid:
        others = (
            '--object "metal plate"'
            if len(dataset.categories) == 1
            else (f'--names {unsaid[0]}="metal plate",…')
        )
        print(f"Prompts use the folder's name as words: {', '.join(unsaid)}. Others: {others}\n")


def _name_unknown_words(dataset: Dataset, tokenizer: Callable[[list[str]], Any]) -> None:
    """Let a tokenizer see all prompts: the pocket model's warns of words that it never saw."""
    from anovl.prompts import prompt_ensemble

    for category in dataset.categories:
        words = dataset.prompts(category)
        ensemble = prompt_ensemble(words) if isinstance(words, str) else words
        tokenizer([*ensemble.normal, *ensemble.anomalous])


def _clip(detector: Detector) -> Clip | None:
    """The model of a detector, or of the one inside it; None for one without."""
    inside = getattr(detector, "detector", None)
    return getattr(detector, "clip", None) if inside is None else _clip(inside)


def _mention_expectation(dataset: Dataset, detectors: Sequence[Detector]) -> None:
    """Say what to expect of the pocket model, where it is to look at real pictures."""
    from anovl.models.pocket import expectation

    clip = next(filter(None, map(_clip, detectors)), None)
    if (
        dataset.name not in ("pocket", "photos")
        and clip is not None
        and (note := expectation(clip))
    ):
        say(f"note: {note}")


def _image_size(detectors: Sequence[Detector]) -> tuple[int, int] | None:
    """The size of the maps of the first detector, its own or that of the one inside it."""
    from anovl.maps import as_size

    for detector in detectors:
        inside = getattr(detector, "detector", detector)
        return as_size(getattr(inside, "clip", inside).image_size)
    return None


def add_evaluate(commands: Commands) -> None:
    from anovl.baselines import METHODS

    methods = ",".join(METHODS)
    command = commands.add_parser(
        "evaluate",
        help="metrics of methods on a data set",
        description="Measure methods, and the controls they have to beat, on every category of a "
        "data set. A killed run goes on when it is started again.",
        epilog="Categories and methods can run in parallel: in processes of this machine (--jobs) "
        "or in the workers of a Dask cluster (--dask; needs pip install -e '.[dask]' in "
        "the checkout). They must see the data under the same path. SCALING.md: Slurm, several "
        "GPUs, memory. " + EXIT_CODES,
    )
    add = command.add_argument
    add_data(command, default="pocket")
    add("--data-root", metavar="DIR", help="the folder of a data set that is not generated")
    add("--methods", type=name_list, default=methods, metavar="NAMES", help="default: %(default)s")
    add("--out", required=True, metavar="DIR", help="folder for the results")
    add("--size", type=int, metavar="N", help="maps of N x N pixels (default: as a method looks)")
    add(
        "--protocol",
        choices=("published", "plain", "tiles"),
        help="published (default): 22 views for the image scores of mvtec, two tiles and the "
        "linear adapter for visa; plain: one view of the whole image; tiles: large images piece by "
        "piece, as `localize --tiles` does (images of several sizes need --size)",
    )
    add("--seed", type=int, default=0, help="of generated or drawn images, and of intervals")
    add(
        "--per-category",
        type=int,
        metavar="N",
        help="N normal and N anomalous images of each category, or all it has, drawn by --seed "
        "(default: 20 of a generated set, all of others)",
    )
    add("--jobs", type=int, default=1, metavar="N", help="processes that share the work (1)")
    add("--threads", type=int, metavar="N", help="that read pictures (default: one a core)")
    add("--dask", metavar="ADDRESS", help="scheduler of a Dask cluster, such as tcp://host:8786")
    add(
        "--save-maps",
        action="store_true",
        help="also write each map (.npy) and its overlay to OUT/maps/METHOD, in the data set's own "
        "tree (about 0.3 MB a picture and method)",
    )
    add(
        "--skip-unreadable",
        action="store_true",
        help="leave out images that cannot be read, and name them (default: an error before any "
        "work); all files are read once more for it",
    )
    add(
        "--names",
        type=class_names,
        metavar="CATEGORY=WORDS,…",
        help='what prompts call categories whose names are no words: 01="metal plate",02=screw,…',
    )
    add(
        "--object",
        metavar="WORDS",
        help="the same for one category (words: for methods that use any)",
    )
    add_words(command)
    add_model(command)
    command.set_defaults(command=evaluate, goes_on=True)


def add_data_check(commands: Commands) -> None:
    data = commands.add_parser("data", help="what a folder of images is understood as")
    command = data.add_subparsers(required=True, metavar="check").add_parser(
        "check",
        help="categories, images, masks, what is not read, and why",
        description="Read a data set as evaluate does, without a model, and say what it holds, "
        "which files are not read and why, and what looks wrong.",
    )
    add = command.add_argument
    add("folder", metavar="DIR", help="the folder of the data set")
    add_data(command, default="folder", generated=False)
    add("--size", type=int, default=240, metavar="N", help="size of maps: N x N (%(default)s)")
    command.set_defaults(command=check_data)
