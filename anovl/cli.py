"""The command line: `python -m anovl {localize,evaluate,bench,download,...}`."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from pandas import DataFrame

    from anovl.clip import Clip
    from anovl.data.check import Summary
    from anovl.data.dataset import Dataset
    from anovl.detector import Detector

    Commands: TypeAlias = argparse._SubParsersAction

CACHE = "~/.cache/anovl"  # of the features of prompts
EXAMPLES = """examples:
  python -m anovl localize photo.jpg --object "metal nut"
  python -m anovl localize folder/ more.png --object bottle --tta --out maps
  python -m anovl evaluate --dataset pocket --methods clip,anovl,centre --out results/pocket
  python -m anovl data check my_images
  python -m anovl download visa --to data
  python -m anovl evaluate --dataset visa --data-root data/visa --out results/visa
  python -m anovl verify figures

`python -m anovl COMMAND --help` tells more. The model is the small one that is shipped, unless
--model and --weights name another, such as the paper's: ViT-B-16-plus-240, laion400m_e32.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 for a partial failure, 2 for bad input, 130 when stopped."""
    options = _parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
        try:
            return options.command(options)
        except (ValueError, TypeError, OSError) as error:
            _say(f"error: {error}")
            return 2
        except KeyboardInterrupt:
            _say("stopped; run the same command again to go on")
            return 130


def localize(options: argparse.Namespace) -> int:
    """Write a heat map for each image, and print the scores."""
    from anovl.reporting.localize import localize_files

    if not options.object.strip():
        raise ValueError('--object must name what the images show, such as --object "metal nut"')
    method = "anovl-tta" if options.tta else "anovl"
    detector = _detectors([method], options, tiles=options.tiles)[0]
    clip = (detector.detector if options.tiles else detector).clip
    _mention_unknown_words(clip, options.object)
    done, problems = localize_files(
        *(detector, options.images, options.object),
        **{name: getattr(options, name) for name in ("out", "scale", "pixel_range")},
    )
    if done:
        width = max(len(str(item.image)) for item in done)
        print(f"{'image':{width}}  score")
        for item in sorted(done, key=lambda item: -item.score):
            print(f"{item.image!s:{width}}  {item.score:.4f}")
        print(
            f"\nScores compare images of one object; there is no threshold that fits all.\n"
            f"Heat maps, raw maps and scores.csv: {options.out}"
        )
    for problem in problems:
        _say(f"error: {problem}")
    if problems and done:
        _say(f"{len(problems)} of {len(problems) + len(done)} could not be localized")
    return 0 if not problems else 1 if done else 2


def evaluate(options: argparse.Namespace) -> int:
    """Measure methods on a data set, and print the means over its categories."""
    from anovl.data import load_dataset
    from anovl.evaluation.harness import evaluate
    from anovl.evaluation.results import read_groups, read_timing, terminal_table
    from anovl.reporting.saving import caveat

    dataset = load_dataset(
        options.dataset,
        root=_at_any_worker(options.data_root) if options.dask else options.data_root,
        categories=options.categories,
        seed=options.seed,
        per_category=options.per_category,
        pixel_range=options.pixel_range,
        mask_values=options.mask_values,
    )
    published = options.protocol == "published"
    detectors = _detectors(
        options.methods,
        options,
        dataset=dataset.name if published else "",
        tiles=options.protocol == "tiles",
    )
    doubts = _summarised(dataset, size=options.size or _image_size(detectors)).doubts
    table = evaluate(
        *(dataset, detectors),
        **{
            name: getattr(options, name)
            for name in ("out", "size", "seed", "jobs", "dask", "threads")
        },
    )
    print(terminal_table(table[table["category"] == "mean"].merge(read_timing(options.out))))
    if len(dataset.groups) > 1:
        groups = read_groups(options.out)
        for group, categories in dataset.groups.items():
            print(f"\n{group}: {', '.join(categories)}")
            print(terminal_table(groups[groups["category"] == group]))
    print(f"\n{len(dataset.categories)} categories of {dataset.name}; percent; [95 % interval]")
    if text := caveat({"model": options.model, "dataset": dataset.name}):
        print(text[0].upper() + text[1:])
    print(
        f"Each category, and what made the numbers: {Path(options.out) / 'results.csv'}, run.json"
    )
    for doubt in doubts:
        _say(f"please check: {doubt}")
    return 0


def check_data(options: argparse.Namespace) -> int:
    """Say what a data set holds, what is not read and what looks wrong; 1 if a file is damaged."""
    from anovl.data import load_dataset

    dataset = load_dataset(
        options.dataset,
        root=options.folder,
        categories=options.categories,
        pixel_range=options.pixel_range,
        mask_values=options.mask_values,
    )
    doubts = _summarised(dataset, size=options.size, decode_images=True).doubts
    return int(any("cannot be read" in doubt.what for doubt in doubts))


def _summarised(
    dataset: Dataset, *, size: int | tuple[int, int] | None, **options: bool
) -> Summary:
    """Print what was understood of a data set; masks are not doubted again when they are read."""
    from anovl.data.check import summarise
    from anovl.masks import MaskWarning

    summary = summarise(dataset, size=(size, size) if isinstance(size, int) else size, **options)
    print(summary, end="\n\n", flush=True)
    warnings.simplefilter("ignore", MaskWarning)
    return summary


def _image_size(detectors: Sequence[Detector]) -> tuple[int, int] | None:
    """The size of the maps of the first detector, its own or that of the one inside it."""
    from anovl.maps import pair

    for detector in detectors:
        inside = getattr(detector, "detector", detector)
        return pair(getattr(inside, "clip", inside).image_size)
    return None


def bench(options: argparse.Namespace) -> int:
    """Measure what things cost, and print it beside the targets."""
    if options.rehearsal:
        return _rehearse(options)
    from anovl.benchmark.bench import bench, growth, limits
    from anovl.benchmark.precision import precision_differences
    from anovl.models.load import load_clip

    clips = [
        load_clip(name, weights=None if name == "pocket" else "random", device=options.device)
        for name in dict.fromkeys(options.model)
    ]
    if not clips:
        raise ValueError("--model must name at least one model, such as pocket")
    cost = bench(clips, quick=options.quick)
    print(cost.drop(columns="model").to_markdown(index=False, floatfmt=".3g"))
    print(f"\nModels, in this order: {', '.join(clip.name for clip in clips)}, and none.")
    for why in limits(cost):
        print(f"Missed: {why}")
    rounded = precision_differences(clips, quick=options.quick)
    print(f"\n{rounded.to_markdown(index=False, floatfmt='.4f')}")
    grown = growth(clips[0], quick=options.quick)
    print(f"\n{grown.drop(columns='model').to_markdown(index=False, floatfmt='.3g')}")
    if options.out:
        _save_bench(cost, rounded, grown, clips, Path(options.out), quick=options.quick)
    return 0


def _rehearse(options: argparse.Namespace) -> int:
    """Rehearse MVTec AD at full size, and print what each stage costs."""
    from tempfile import TemporaryDirectory

    from anovl.benchmark.bench import machine
    from anovl.benchmark.rehearsal import rehearse
    from anovl.models.load import load_clip
    from anovl.reporting.records import provenance
    from anovl.reporting.saving import save_table

    name, model = options.model[-1], {"device": options.device, "precision": options.precision}
    clip = load_clip(name, weights=None if name == "pocket" else "random", **model)
    with TemporaryDirectory() as folder:
        table = rehearse(clip, Path(folder), images=options.images, side=options.side, tell=_say)
    print(table.to_markdown(index=False, floatfmt=".3g"))
    print(f"\n{clip.name}, {clip.precision}, on {machine()['gpu'] or 'a CPU'}")
    if options.out:
        parameters = {"images": options.images, "side": options.side, **model}
        record = provenance(
            parameters=parameters, models={clip.name: clip.weights_hash}, machine=machine()
        )
        save_table(table, Path(options.out) / "rehearsal", provenance=record)
    return 0


def _save_bench(
    cost: DataFrame,
    rounded: DataFrame,
    grown: DataFrame,
    clips: Sequence[Clip],
    out: Path,
    *,
    quick: bool,
) -> None:
    from anovl.benchmark.bench import growth_figure, machine
    from anovl.reporting.records import provenance
    from anovl.reporting.saving import save_figure, save_table

    weights = {clip.name: clip.weights_hash for clip in clips}
    record = provenance(parameters={"quick": quick}, models=weights, machine=machine())
    save_table(cost, out / "cost", provenance=record)
    save_table(rounded, out / "precision", provenance=record)
    save_table(grown, out / "growth_table", provenance=record)
    save_figure(growth_figure(grown), out / "growth", provenance=record)
    print(f"\nTables and figure: {out}")


def export(options: argparse.Namespace) -> int:
    """Write AnoVL for one object to an ONNX file."""
    from anovl.models.export import export_onnx

    detector = replace(_detectors(["anovl"], options)[0], attention=options.attention)
    _mention_unknown_words(detector.clip, options.object)
    written = export_onnx(detector, options.object, options.to)
    height, width = detector.clip.image_size
    print(f"{written}, {written.stat().st_size / 1e6:.1f} MB")
    print(f"in: picture (B, 3, {height}, {width}), float32, RGB, 0 to 1, the whole image resized")
    print(f"out: map (B, {height}, {width}) and score (B,), higher where it looks more anomalous")
    return 0


def download(options: argparse.Namespace) -> int:
    """Fetch a published data set, or the paper's weights."""
    from anovl.data.download import download
    from anovl.models.weights import download_tinyclip, download_weights

    if options.name == "weights":
        fetch = download_tinyclip if options.model == "tinyclip" else download_weights
        fetch(options.to, url=options.url)
    else:
        download(options.name, options.to, url=options.url)
    return 0


def train_pocket(options: argparse.Namespace) -> int:
    """Train the pocket model again from nothing."""
    import torch

    from anovl.training.recipe import named_recipe
    from anovl.training.train import keep_memory, train_pocket

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
    from anovl.reporting.records import verify

    problems = verify(options.folder)
    for problem in problems:
        _say(problem)
    if problems:
        return 1
    print(f"{options.folder}: every figure and table is as it was recorded")
    return 0


def _say(text: str) -> None:
    print(f"anovl: {text}", file=sys.stderr)


def _mention_unknown_words(clip: Clip, name: str) -> None:
    """Say so when the pocket model, which knows few words, never saw the name of the object."""
    from anovl.models.pocket import unknown_words

    if unseen := unknown_words(clip, name):
        words = ", ".join(map(repr, unseen))
        _say(f"note: {clip.name} does not know {words}, and looks for damage on anything")


def _detectors(
    methods: Sequence[str], options: argparse.Namespace, *, dataset: str = "", tiles: bool = False
) -> list[Detector]:
    from anovl.baselines import make_detector, published_options
    from anovl.baselines.tiled import tile
    from anovl.evaluation.batch_size import default_batch_size
    from anovl.models.load import load_clip
    from anovl.models.text_cache import cached_encoder

    clip = load_clip(
        options.model,
        weights=options.weights,
        device=options.device,
        precision=options.precision,
        image_size=options.image_size,
        allow_download=options.allow_download,
    )
    detectors = [make_detector(name, clip, **published_options(name, dataset)) for name in methods]
    together = options.batch_size
    together = default_batch_size(clip) if together is None else together
    detectors = [_with(detector, batch_size=together) for detector in detectors]
    if options.cache:
        encode = cached_encoder(CACHE)
        detectors = [_with(detector, encode=encode) for detector in detectors]
    return [tile(detector) for detector in detectors] if tiles else detectors


def _with(detector: Detector, **options: Any) -> Detector:
    """The same detector, or the one inside it, with options that every `ClipDetector` has."""
    from anovl.baselines.controls import Shuffled
    from anovl.detector import ClipDetector

    if isinstance(detector, ClipDetector):
        return replace(detector, **options)
    if isinstance(detector, Shuffled):
        return replace(detector, detector=_with(detector.detector, **options))
    return detector


def _at_any_worker(folder: str | None) -> Path | None:
    """A folder by its whole path: workers may have been started anywhere."""
    return None if folder is None else Path(folder).expanduser().absolute()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m anovl",
        description="Zero-shot anomaly localization with CLIP: images and words go in, maps out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"anovl {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_localize(commands)
    _add_evaluate(commands)
    _add_bench(commands)
    _add_export(commands)
    _add_data(commands)
    _add_download(commands)
    _add_train_pocket(commands)
    _add_verify(commands)
    return parser


def _add_localize(commands: Commands) -> None:
    command = commands.add_parser(
        "localize",
        help="heat maps for your own images",
        description="Write a heat map beside each image, raw maps (.npy) and scores.csv.",
    )
    add = command.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files, or folders of images")
    add("--object", required=True, help='what they show: "metal nut", "wood", ...')
    add("--tta", action="store_true", help="adapt to each image at test time (5 steps)")
    add(
        "--tiles",
        action="store_true",
        help="look at large images piece by piece, at the model's resolution: one pass of the "
        "network a tile (36 for 1024 x 1024 pixels at 240), and the map as large as the image",
    )
    add("--scale", type=float, nargs=2, metavar=("LOW", "HIGH"), help="fix the colour scale")
    add("--out", default="localized", metavar="DIR", help="default: %(default)s")
    _add_reading(command, masks=False)
    _add_model(command)
    command.set_defaults(command=localize)


def _add_evaluate(commands: Commands) -> None:
    from anovl.baselines import METHODS
    from anovl.data import DATASETS

    methods, datasets = ",".join(METHODS), ", ".join(DATASETS)
    command = commands.add_parser(
        "evaluate",
        help="metrics of methods on a data set",
        description="Measure methods, and the controls they have to beat, on every category of a "
        "data set. A killed run goes on when it is started again.",
        epilog="Categories and methods can run in parallel: in processes of this machine (--jobs) "
        "or in the workers of a Dask cluster (--dask; needs pip install 'anovl[dask]'). They "
        "must see the data under the same path. SCALING.md: Slurm, several GPUs, memory.",
    )
    add = command.add_argument
    add("--dataset", default="pocket", metavar="NAME", help=f"{datasets} (default: %(default)s)")
    add("--data-root", metavar="DIR", help="the folder of a data set that is not generated")
    add("--methods", type=_names, default=methods, metavar="NAMES", help="default: %(default)s")
    add("--categories", type=_names, metavar="NAMES", help="default: all")
    add("--out", required=True, metavar="DIR", help="folder for the results")
    add("--size", type=int, metavar="N", help="maps of N x N pixels (default: as a method looks)")
    add(
        "--protocol",
        choices=("published", "plain", "tiles"),
        default="published",
        help="published (default): 22 views for the image scores of mvtec, two tiles and the "
        "linear adapter for visa; plain: one view of the whole image; tiles: large images piece by "
        "piece, as `localize --tiles` does (images of several sizes need --size)",
    )
    add("--seed", type=int, default=0, help="of generated images and of intervals")
    add("--per-category", type=int, default=20, metavar="N", help="images: N normal, N anomalous")
    add("--jobs", type=int, default=1, metavar="N", help="processes that share the work (1)")
    add("--threads", type=int, metavar="N", help="that read pictures (default: one a core)")
    add("--dask", metavar="ADDRESS", help="scheduler of a Dask cluster, such as tcp://host:8786")
    _add_reading(command)
    _add_model(command)
    command.set_defaults(command=evaluate)


def _add_bench(commands: Commands) -> None:
    command = commands.add_parser(
        "bench",
        help="what things cost, beside the targets",
        description="Measure ratios side by side, medians over repetitions, peak memory, and how "
        "cost grows. Nothing is downloaded: models other than pocket have random weights.",
    )
    add = command.add_argument
    models = "pocket,ViT-B-16-plus-240"
    add("--model", type=_names, default=models, metavar="NAMES", help="default: %(default)s")
    add("--quick", action="store_true", help="once, on few images: to see that it runs")
    add("--out", metavar="DIR", help="also save the tables and a figure, such as figures/bench")
    add("--device", default="cpu", help="cpu (default), cuda, mps")
    add(
        "--rehearsal",
        action="store_true",
        help="run the protocol of MVTec AD on pictures of full size instead, with the last model",
    )
    add("--images", type=int, metavar="N", help="of each category (default: as published)")
    add("--side", type=int, default=1024, metavar="N", help="of these pictures (%(default)s px)")
    add("--precision", default="float32", metavar="NAME", help="in the rehearsal (float32)")
    command.set_defaults(command=bench)


def _add_export(commands: Commands) -> None:
    command = commands.add_parser(
        "export",
        help="AnoVL for one object as an ONNX file",
        description="Write an ONNX file that takes a picture and gives a map and a score, with the "
        "words baked in: for ONNX Runtime, OpenVINO or a browser, as the docstring of "
        "anovl.models.export shows. Needs pip install 'anovl[export]', and up to a minute.",
    )
    add = command.add_argument
    add("--object", required=True, help='what the pictures will show: "metal nut", ...')
    add("--to", required=True, metavar="FILE.onnx")
    add("--attention", choices=("vv", "qk", "qq", "kk"), default="vv", help="default: %(default)s")
    _add_model(command)
    command.set_defaults(command=export)


def _add_data(commands: Commands) -> None:
    from anovl.data import DATASETS

    data = commands.add_parser("data", help="what a folder of images is understood as")
    command = data.add_subparsers(required=True, metavar="check").add_parser(
        "check",
        help="categories, images, masks, what is not read, and why",
        description="Read a data set as evaluate does, without a model, and say what it holds, "
        "which files are not read and why, and what looks wrong.",
    )
    add = command.add_argument
    add("folder", metavar="DIR", help="the folder of the data set")
    names = ", ".join(name for name in DATASETS if name not in ("photos", "pocket"))
    add("--dataset", default="folder", metavar="NAME", help=f"{names} (default: %(default)s)")
    add("--categories", type=_names, metavar="NAMES", help="default: all")
    add("--size", type=int, default=240, metavar="N", help="size of maps: N x N (%(default)s)")
    _add_reading(command)
    command.set_defaults(command=check_data)


def _add_reading(command: argparse.ArgumentParser, *, masks: bool = True) -> None:
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
            type=_numbers,
            metavar="N,N",
            help="which numbers of masks are defect (default: see read_mask)",
        )


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers with commas, such as 1,2; found {text!r}"
        ) from None


def _add_download(commands: Commands) -> None:
    from anovl.data.download import ARCHIVES

    command = commands.add_parser(
        "download",
        help="fetch a published data set or the paper's weights",
        description="Fetch, prove by SHA-256 and unpack. A broken download goes on when it is "
        "started again; an archive fetched by hand is taken when it lies in the folder.",
    )
    add = command.add_argument
    add("name", metavar="NAME", help=", ".join([*ARCHIVES, "weights"]))
    add("--to", required=True, metavar="DIR", help="folder for the archive and its content")
    add("--url", default="", help="another link to the same file")
    add(
        "--model",
        choices=("paper", "tinyclip"),
        default="paper",
        help="which weights: the paper's (default), or TinyCLIP, a small real CLIP (94 MB)",
    )
    command.set_defaults(command=download)


def _add_train_pocket(commands: Commands) -> None:
    from anovl.training.recipe import RECIPES

    command = commands.add_parser(
        "train-pocket",
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
    command.set_defaults(command=train_pocket)


def _add_verify(commands: Commands) -> None:
    command = commands.add_parser(
        "verify",
        help="check figures and tables against their records",
        description="Check every figure and table under a folder against its provenance record.",
    )
    command.add_argument("folder", help="such as figures")
    command.set_defaults(command=verify)


def _add_model(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--model", default="pocket", help="pocket (default), one of open_clip's, or hf:FOLDER")
    add("--weights", help="a file, or a tag such as laion400m_e32")
    add("--image-size", type=int, metavar="N", help="see N x N pixels (default: the model's own)")
    add("--allow-download", action="store_true", help="fetch missing weights")
    add("--device", default="cpu", help="cpu (default), cuda, mps")
    add(
        "--batch-size",
        type=int,
        metavar="N",
        help="images in the network together (default: 16; on cuda what fits into free memory)",
    )
    add(
        "--precision",
        default="float32",
        metavar="NAME",
        help="of the two towers: float32 (default), bfloat16 or float16; what is compared is "
        "float32 in any case",
    )
    add(
        "--no-cache",
        dest="cache",
        action="store_false",
        help=f"embed the prompts anew, and do not keep them in {CACHE}",
    )


def _names(text: str) -> list[str]:
    """Split a list given with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _version() -> str:
    try:
        return version("anovl")
    except PackageNotFoundError:
        return "(not installed: run `make setup`)"
