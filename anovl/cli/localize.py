"""`anovl localize`: maps, scores and alarms for your own images."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anovl._shared.messages import one_line, said_range
from anovl.cli import options as cli

if TYPE_CHECKING:
    from anovl.cli.image_files import ImageFiles
    from anovl.detector import Detector, Words
    from anovl.evaluation.threshold import CalibratedDetector


def localize(options: argparse.Namespace) -> int:
    """Write a map for each image, print the scores and, with normal images, the alarms."""
    from anovl.cli.alarms import print_localized
    from anovl.cli.localize_files import localize_images
    from anovl.evaluation.misses import catches

    _refuse_contradictions(options)
    files, known = _files(options)
    detector, words = _detector(options)
    if files.pixel_range:
        print(said_range(*files.pixel_range))
    print(flush=True)
    found = []
    if files.normal:
        detector = _calibrated(detector, files, words, options)
        found = catches(detector, known) if known else []
    missed = {one.alarm_by: {"missed": one.missed, "of": len(one.caught)} for one in found}
    done, problems = localize_images(
        *(detector, files, words),
        scale=options.scale,
        panels=not options.no_panels,
        known_anomalous=missed,
    )
    if done:
        print_localized(done, detector if files.normal else None, found)
        print(f"Results, listed in scores.csv: {files.out}")
    for problem in problems:
        cli.say(f"error: {problem}")
    if problems and done:
        cli.say(f"{len(problems)} of {len(files.images)} could not be localized")
    return (1 if done else 2) if problems else 0


def _refuse_contradictions(options: argparse.Namespace) -> None:
    is_pca = options.method == "pca-normal"
    if is_pca and (options.tta or options.tiles):
        raise ValueError("pca-normal has neither --tta nor --tiles: leave them out")
    asked = (is_pca, options.false_alarms is not None, options.known_anomalous, options.alarm_by)
    if not options.normal and any(asked):
        raise ValueError(
            "pca-normal and the options of alarms (--false-alarms, --alarm-by, --known-anomalous) "
            "need normal images: add --normal DIR"
        )
    if not is_pca and not (options.object or "").strip():
        raise ValueError('--object must name what the images show, such as --object "metal nut"')


def _files(options: argparse.Namespace) -> tuple[ImageFiles, list[Path]]:
    """Find the images; return those that are known to be anomalous apart."""
    from anovl._shared.files import also_among
    from anovl.cli.image_files import ImageFiles, image_paths

    normal, known = options.normal or [], image_paths(options.known_anomalous or [])
    if both := also_among(known, image_paths(normal)):
        raise ValueError(
            f"{len(both)} of {len(known)} images in --known-anomalous are in --normal too "
            f"({min(both)}): leave them out of one"
        )
    files = ImageFiles.found(
        *(options.images, [*normal, *known], Path(options.out)),
        overwrite=options.overwrite,
        pixel_range=options.pixel_range,
    )
    others = set(known)
    return replace(files, normal=[path for path in files.normal if path not in others]), known


def _detector(options: argparse.Namespace) -> tuple[Detector, Words]:
    """Load the model, and say what to expect of it and one prompt."""
    from anovl.baselines.pca_normal import KNOWN, PcaNormal
    from anovl.baselines.tiled import Tiled
    from anovl.cli.words import prompts_of
    from anovl.detector import AnoVL
    from anovl.models.pocket import expectation
    from anovl.prompts import prompt_ensemble

    is_pca, has_own = options.method == "pca-normal", options.surface or options.prompts
    if not is_pca:
        prompts = prompts_of(options) if has_own else prompt_ensemble(options.object)
    clip, own = cli.load_model(options)
    if note := expectation(clip):
        cli.say(f"note: {KNOWN if is_pca else note}")
    if is_pca:
        return cli.with_options(PcaNormal(clip), **own), ""
    print(one_line(f'one prompt: "{prompts.example}"'))
    detector = AnoVL(clip, tta=options.tta, **own)
    return Tiled(detector) if options.tiles else detector, prompts if has_own else options.object


def _calibrated(
    detector: Detector, files: ImageFiles, words: Words, options: argparse.Namespace
) -> CalibratedDetector:
    """Calibrate on normal images; those to which pca-normal is fitted set no level."""
    from anovl.evaluation.threshold import calibrate
    from anovl.images import read_image

    images = [read_image(path, pixel_range=files.pixel_range) for path in files.normal]
    is_pca = options.method == "pca-normal"
    if is_pca:
        detector, others = detector.fitted_to_half(images)
        parts = f"{len(images) - len(others)} for the fit and {len(others)} for the level"
        print(f"pca-normal: of {len(images)} normal images, {parts}", flush=True)
        images = others
    calibrated = calibrate(
        *(detector, images, words),
        false_alarms=options.false_alarms,
        alarm_by=options.alarm_by or "score",
        subtract=not (options.no_subtract or is_pca),
        pixel_range=files.pixel_range,
    )
    return replace(calibrated, made=files.made(files.normal))


def add_localize(commands: cli.Commands) -> None:
    command = commands.add_parser(
        "localize",
        help="maps, and with normal images alarms, for your own images",
        description="Write a map (.npy) and a panel (.png) of each image, and scores.csv. With "
        "normal images of the same object it raises alarms, at a bounded rate of false alarms.",
    )
    add = command.add_argument
    add("images", nargs="+", type=cli.path_text, metavar="IMAGE", help="files, folders, patterns")
    words = command.add_argument_group("words (all methods but pca-normal)")
    words.add_argument("--object", help='the object in the images: "metal nut", "wood", ...')
    cli.add_words(words)
    add = command.add_argument_group("alarms (with --normal)").add_argument
    add("--normal", nargs="+", type=cli.path_text, metavar="DIR", help="normal images, at best 39")
    says = "of normal images that may raise one: 0.05, which needs 19 of them (1/RATE - 1)"
    add("--false-alarms", type=float, metavar="RATE", help=says)
    says = "the image score (default), the peak of the map, or either (2/RATE - 1 normal images)"
    add("--alarm-by", choices=("score", "map", "either"), help=says)
    says = "images known to be anomalous: how many the alarms miss. They are not judged as new"
    add("--known-anomalous", nargs="+", type=cli.path_text, metavar="DIR", help=says)
    add("--no-subtract", action="store_true", help="do not subtract the mean map of normal images")
    add = command.add_argument_group("method").add_argument
    says = "pca-normal uses no words; it is fitted to half of the --normal images, at most 12"
    add("--method", choices=("anovl", "pca-normal"), default="anovl", help=says)
    add("--tta", action="store_true", help="adapt to each image at test time (5 steps)")
    says = "large images in tiles of the model's size (36 for 1024 x 1024 pixels at 240)"
    add("--tiles", action="store_true", help=says)
    add = command.add_argument_group("results").add_argument
    add(
        "--out", type=cli.path_text, default="localized", metavar="DIR", help="default: %(default)s"
    )
    add("--overwrite", action="store_true", help="replace other results in --out")
    add("--scale", type=float, nargs=2, metavar=("LOW", "HIGH"), help="colour scale of all panels")
    add("--no-panels", action="store_true", help="write maps and scores only")
    cli.add_pixel_range(command)
    cli.add_model(command)
    command.set_defaults(command=localize)
