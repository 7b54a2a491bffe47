"""`anovl evaluate` and `anovl data check`: methods on a data set, and what a folder holds."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anovl.cli import options as cli
from anovl.cli.words import class_names, reworded

if TYPE_CHECKING:
    from anovl.data.check import Summary
    from anovl.data.dataset import Dataset


def evaluate(options: argparse.Namespace) -> int:
    """Measure methods on a data set, and print means, and categories where they are few."""
    from anovl.baselines import WORDLESS, make_detector, published_options
    from anovl.baselines.tiled import tile
    from anovl.cli.answers import print_results
    from anovl.cli.saved_maps import SavedMaps
    from anovl.evaluation.compare import run_record
    from anovl.evaluation.harness import evaluate
    from anovl.evaluation.reading import default_batch_size
    from anovl.models.pocket import expectation

    dataset = reworded(_dataset(options), options)
    published = dataset.name if options.protocol in (None, "published") else ""
    clip, own = cli.load_model(options)
    if clip.device.type == "cuda":
        own = {"batch_size": default_batch_size(clip)} | own
    detectors = [
        cli.with_options(make_detector(name, clip, **published_options(name, published)), **own)
        for name in options.methods
    ]
    if options.protocol == "tiles":
        detectors = list(map(tile, detectors))
    has_words = not set(options.methods) <= set(WORDLESS)
    _summarised(dataset, size=options.size or clip.image_size, prompts=has_words)
    if has_words:
        _warn_words(dataset, clip.tokenizer)
    if has_words and dataset.name not in ("pocket", "photos") and (note := expectation(clip)):
        cli.say(f"note: {note}")
    maps = SavedMaps(Path(options.out).absolute() / "maps") if options.save_maps else None
    names = ("out", "size", "seed", "jobs", "dask", "threads", "skip_unreadable")
    given = {name: getattr(options, name) for name in names}
    table = evaluate(dataset, detectors, save_maps=maps, **given)
    print_results(table, dataset, options)
    return int("skipped" in run_record(options.out))


def _dataset(options: argparse.Namespace) -> Dataset:
    """Load the data set of the options."""
    from anovl.data import load_dataset

    root = options.data_root
    if options.dask and root:  # workers may have been started in any folder
        root = Path(root).expanduser().absolute()
    return load_dataset(
        options.dataset,
        root=root,
        categories=options.categories,
        seed=options.seed,
        per_category=options.per_category,
        pixel_range=options.pixel_range,
        mask_values=options.mask_values,
    )


def check_data(options: argparse.Namespace) -> int:
    """Print the content of a data set, unread files and doubts; return 1 if a file is damaged."""
    from anovl.models.pocket import load_tokenizer

    dataset = _dataset(options)
    doubts = _summarised(dataset, size=options.size, decode_images=True).doubts
    _warn_words(dataset, load_tokenizer())
    return int(any("cannot be read" in doubt.what for doubt in doubts))


def _summarised(dataset: Dataset, *, size: int | tuple[int, int], **options: bool) -> Summary:
    """Print the content of a data set; masks are not doubted again when they are read."""
    from anovl.data.check import summarise
    from anovl.maps import as_size
    from anovl.masks import MaskWarning

    summary = summarise(dataset, size=as_size(size), **options)
    print(summary, end="\n\n", flush=True)
    warnings.simplefilter("ignore", MaskWarning)
    return summary


def _warn_words(dataset: Dataset, tokenizer: Callable[[list[str]], Any]) -> None:
    """Name folders that are used as class names, and words that the pocket model never saw."""
    from anovl.prompts import prompt_ensemble

    unsaid = [category for category in dataset.categories if category not in dataset.words]
    if dataset.name == "folder" and unsaid:
        others = f'--names {unsaid[0]}="metal plate",…'
        print(f"Names of folders are used as words: {', '.join(unsaid)}. Others: {others}\n")
    for category in dataset.categories:
        words = dataset.prompts(category)
        ensemble = prompt_ensemble(words) if isinstance(words, str) else words
        tokenizer([*ensemble.normal, *ensemble.anomalous])  # the tokenizer warns


def add_evaluate(commands: cli.Commands) -> None:
    from anovl.baselines import METHODS

    command = commands.add_parser(
        "evaluate",
        help="metrics of methods on a data set",
        description="Measure methods, and the controls that they must beat, on each category of a "
        "data set. A killed run goes on when it is started again.",
        epilog="SCALING.md tells about processes, Slurm, Dask, several GPUs and memory. "
        + cli.EXIT_CODES,
    )
    add = command.add_argument
    methods = ",".join(METHODS)
    add(
        "--methods",
        type=cli.name_list,
        default=methods,
        metavar="NAMES",
        help="default: %(default)s",
    )
    add("--out", required=True, type=cli.path_text, metavar="DIR", help="folder for the results")
    add("--seed", type=int, default=0, help="of generated or drawn images, and of intervals")
    add("--size", type=int, metavar="N", help="maps of N x N pixels (default: the method's size)")
    says = "published (default): 22 views for scores of mvtec, two tiles for visa; plain: one view"
    add("--protocol", choices=("published", "plain", "tiles"), help=says)
    add("--save-maps", action="store_true", help="write maps (.npy) to OUT/maps/METHOD")
    group = cli.add_data(command, default="pocket")
    add = group.add_argument
    add("--data-root", type=cli.path_text, metavar="DIR", help="the folder of a data set of files")
    says = "N normal and N anomalous images, drawn by --seed (default: 20 generated, all files)"
    add("--per-category", type=int, metavar="N", help=says)
    add("--skip-unreadable", action="store_true", help="measure without unreadable images")
    group = command.add_argument_group("words (for methods that use any)")
    says = 'class names of categories: 01="metal plate",02=screw,…'
    group.add_argument("--names", type=class_names, metavar="CATEGORY=WORDS,…", help=says)
    group.add_argument("--object", metavar="WORDS", help="the class name of a single category")
    cli.add_words(group)
    add = command.add_argument_group("processes (either --jobs or --dask)").add_argument
    add("--jobs", type=int, default=1, metavar="N", help="processes that share the work (1)")
    add("--threads", type=int, metavar="N", help="threads that read images (default: one a core)")
    add("--dask", metavar="ADDRESS", help="scheduler of a Dask cluster, such as tcp://host:8786")
    cli.add_model(command)
    command.set_defaults(command=evaluate, goes_on=True)


def add_data_check(commands: cli.Commands) -> None:
    data = commands.add_parser("data", help="what a folder of images holds")
    command = data.add_subparsers(required=True, metavar="check").add_parser(
        "check",
        help="categories, images and masks, unread files and why",
        description="Read a data set as evaluate does, without a model. Print what it holds, "
        "files that are not read and why, and doubts.",
    )
    add = command.add_argument
    add("data_root", type=cli.path_text, metavar="DIR", help="the folder of the data set")
    add("--size", type=int, default=240, metavar="N", help="maps of N x N pixels (%(default)s)")
    cli.add_data(command, default="folder")
    command.set_defaults(command=check_data, seed=0, per_category=None, dask=None)
