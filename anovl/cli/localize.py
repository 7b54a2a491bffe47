"""`anovl localize`: maps, scores and alarms for your own images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anovl._shared.messages import counted, one_line, said_range
from anovl.cli.options import add_model, add_pixel_range, clip_of, make_detectors, path_text, say
from anovl.cli.words import add_words, prompts_of

if TYPE_CHECKING:
    from PIL import Image

    from anovl.cli.options import Commands
    from anovl.detector import Detector, Words
    from anovl.evaluation.threshold import CalibratedDetector
    from anovl.images import PixelRange


def localize(options: argparse.Namespace) -> int:
    """Write a map for each image, print the scores and, with normal images, the alarms."""
    from anovl.cli.answers import print_localized
    from anovl.cli.image_files import ImageFiles, check_out, image_paths, warn_passed_over
    from anovl.cli.localize_files import localize_images, read_each
    from anovl.images import check_pixel_range

    _refuse_contradictions(options)
    check_pixel_range(options.pixel_range)
    paths, problems = image_paths(options.images)
    normal, unread = image_paths(options.normal or [])
    if not paths or (options.normal and not normal):
        raise ValueError("; ".join(problems if not paths else unread))
    out = Path(options.out)
    check_out(out, paths, normal, overwrite=options.overwrite)
    warn_passed_over([*options.images, *(options.normal or [])])
    files = ImageFiles.opened(paths, normal)
    pixel_range = options.pixel_range or files.pixel_range()
    detector, words = _detector(options)
    if pixel_range:
        print(said_range(*pixel_range))
    print(flush=True)
    if normal:
        images, more = read_each(normal, pixel_range)
        unread += more
        if not images:
            raise ValueError("; ".join(unread))
        for problem in unread:
            say(f"error: {problem}")
        detector = _calibrated(detector, list(images.values()), words, pixel_range, options)
        detector = replace(detector, made=files.made(normal))
    done, more = localize_images(
        *(detector, files, words, out),
        **{"pixel_range": pixel_range, "scale": options.scale, "panels": not options.no_panels},
    )
    problems += more
    if done:
        print_localized(done, detector if normal else None)
        kinds = ["Maps", *["panels"] * bool(done[0].panel), *["masks"] * bool(done[0].mask_file)]
        print(f"{', '.join(kinds)} and scores.csv: {out}")
    for problem in problems:
        say(f"error: {problem}")
    if problems and done:
        say(f"{len(problems)} of {len(problems) + len(done)} could not be localized")
    if unread:
        say(f"{counted(len(unread), 'file')} of --normal could not be read, and set no level")
    return (1 if done else 2) if problems or unread else 0


def _refuse_contradictions(options: argparse.Namespace) -> None:
    is_pca = options.method == "pca-normal"
    if is_pca and (options.tta or options.tiles):
        raise ValueError("pca-normal has neither --tta nor --tiles: leave them out")
    if not options.normal and (is_pca or options.false_alarms is not None):
        raise ValueError("--false-alarms and pca-normal need normal images: add --normal DIR")


def _detector(options: argparse.Namespace) -> tuple[Detector, Words]:
    """Load the model, and say what to expect of it and one prompt."""
    from anovl.data.check import one_prompt
    from anovl.models.pocket import expectation

    words = "" if options.method == "pca-normal" else prompts_of(options)
    method = "anovl-tta" if options.tta else options.method
    [detector] = make_detectors([method], options, tiles=options.tiles)
    if note := expectation(clip_of(detector)):
        say(f"note: {note}")
    if words:
        print(one_line(f'one prompt: "{one_prompt(words)}"'))
    return detector, words


def _calibrated(
    detector: Detector,
    images: Sequence[Image.Image],
    words: Words,
    pixel_range: PixelRange | None,
    options: argparse.Namespace,
) -> CalibratedDetector:
    """Calibrate on normal images; those to which pca-normal is fitted set no level."""
    from anovl.evaluation.threshold import calibrate

    is_pca = options.method == "pca-normal"
    if is_pca:
        detector, others = detector.fitted_to_half(images)
        parts = f"{len(images) - len(others)} for the fit and {len(others)} for the level"
        print(f"pca-normal: of {len(images)} normal images, {parts}", flush=True)
        images = others
    return calibrate(
        *(detector, images, words),
        false_alarms=options.false_alarms,
        alarm_by=options.alarm_by,
        subtract=not (options.no_subtract or is_pca),
        pixel_range=pixel_range,
    )


def add_localize(commands: Commands) -> None:
    command = commands.add_parser(
        "localize",
        help="maps, and with normal images alarms, for your own images",
        description="Write a map (.npy) and a panel (.png) of each image, and scores.csv. With "
        "normal images of the same object it raises alarms, at a bounded rate of false alarms.",
    )
    add = command.add_argument
    add("images", nargs="+", type=path_text, metavar="IMAGE", help="files, folders, patterns")
    words = command.add_argument_group("words (all methods but pca-normal)")
    words.add_argument("--object", help='the object in the images: "metal nut", "wood", ...')
    add_words(words)
    add = command.add_argument_group("alarms (with --normal)").add_argument
    add("--normal", nargs="+", type=path_text, metavar="DIR", help="normal images, at best 19")
    add(
        "--false-alarms",
        type=float,
        metavar="RATE",
        help="at most this rate of normal images raises an alarm; needs 1/RATE - 1 normal images "
        "(default: 0.05 if there are 19, else no alarms)",
    )
    by = ("score", "map")
    add("--alarm-by", choices=by, default=by[0], help="the image score, or the peak of the map")
    add("--no-subtract", action="store_true", help="do not subtract the mean map of normal images")
    add = command.add_argument_group("method").add_argument
    add(
        "--method",
        choices=("anovl", "pca-normal"),
        default="anovl",
        help="pca-normal uses no words; it is fitted to half of the --normal images, at most 12",
    )
    add("--tta", action="store_true", help="adapt to each image at test time (5 steps)")
    add(
        "--tiles",
        action="store_true",
        help="large images in tiles of the model's size, one pass of the network each (36 for "
        "1024 x 1024 pixels at 240); the map is as large as the image",
    )
    add = command.add_argument_group("results").add_argument
    add("--out", type=path_text, default="localized", metavar="DIR", help="default: %(default)s")
    add("--overwrite", action="store_true", help="replace other results in --out")
    add("--scale", type=float, nargs=2, metavar=("LOW", "HIGH"), help="colour scale of all panels")
    add("--no-panels", action="store_true", help="write maps and scores only")
    add_pixel_range(command)
    add_model(command)
    command.set_defaults(command=localize)
