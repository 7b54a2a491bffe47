"""`anovl localize`: maps, scores and alarms for your own images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anovl._shared.messages import counted, one_line, said_range
from anovl.cli.localize_answer import print_answer
from anovl.cli.options import add_model, add_reading, make_detectors, say
from anovl.cli.words import add_words, words_count, words_from_options

if TYPE_CHECKING:
    from PIL import Image

    from anovl.baselines.pca_normal import PcaNormal
    from anovl.cli.options import Commands
    from anovl.detector import Detector, Words
    from anovl.evaluation.threshold import CalibratedDetector
    from anovl.images import PixelRange

METHODS = ("anovl", "pca-normal")
_NEED_NORMAL = ("false_alarms", "alarm_by", "no_subtract")


def localize(options: argparse.Namespace) -> int:
    """Write a map for each image, print the scores and, with normal images, the alarms."""
    from anovl.cli.localize_files import localize_files
    from anovl.cli.localized_folder import next_folder
    from anovl.cli.picture_files import image_paths, mention_folders
    from anovl.data.check import one_prompt
    from anovl.images import check_pixel_range, pixel_range_of
    from anovl.models.pocket import expectation

    has_words = _check(options)
    paths, problems = image_paths(options.images)
    if not paths:
        raise ValueError("; ".join(problems))
    normal, bad = image_paths(options.normal or [])
    if options.normal and not normal:
        raise ValueError(bad[0] if bad else f"no images in {', '.join(options.normal)}")
    mention_folders([*options.images, *(options.normal or [])])
    check_pixel_range(options.pixel_range)
    pixel_range = options.pixel_range or pixel_range_of([*paths, *normal])
    detector = make_detectors(
        ["anovl-tta" if options.tta else options.method], options, tiles=options.tiles
    )[0]
    clip = (detector.detector if options.tiles else detector).clip
    if note := expectation(clip):
        say(f"note: {note}")
    words = words_from_options(options, options.object) if has_words else ""
    if has_words:
        print(one_line(f'one prompt: "{one_prompt(words)}"'))
    if pixel_range:
        print(said_range(*pixel_range))
    print(flush=True)
    out = next_folder("localized", paths) if options.out is None else Path(options.out)
    if normal:
        detector, unread = _calibrated(detector, normal, words, pixel_range, options)
        bad += unread
    done, unread = localize_files(
        detector,
        paths,
        words,
        out=out,
        scale=options.scale,
        panels=not options.no_panels,
        pixel_range=pixel_range,
        normal=normal,
    )
    problems += unread
    if done:
        print_answer(done, detector if normal else None)
        kinds = {"panels": done[0].panel, "masks": done[0].mask_file}
        kinds = [kind for kind, file in kinds.items() if file is not None]
        print(f"{', '.join(['Maps', *kinds])} and scores.csv: {out}")
    for problem in [*problems, *bad]:
        say(f"error: {problem}")
    if problems and done:
        say(f"{len(problems)} of {len(problems) + len(done)} could not be localized")
    if bad:
        say(f"{counted(len(bad), 'file')} of --normal could not be read, and set no level")
    return (1 if done else 2) if problems or bad else 0


def _check(options: argparse.Namespace) -> bool:
    """Refuse what cannot act, with the reason; tell whether words are used."""
    if not options.normal:
        typed = [name for name in _NEED_NORMAL if getattr(options, name)]
        typed = [f"--{name.replace('_', '-')}" for name in typed]
        if options.method == "pca-normal":
            typed.append("--method pca-normal")
        if typed:
            raise ValueError(f"{', '.join(typed)} needs normal images: add --normal DIR")
    has_words = words_count(options, [options.method])
    if has_words and not (options.object or "").strip():
        raise ValueError('--object must name what the images show, such as --object "metal nut"')
    if options.method == "pca-normal" and (options.tta or options.tiles):
        raise ValueError("pca-normal knows no words: --tta and --tiles do not apply to it")
    if options.no_panels and options.scale:
        raise ValueError("--scale is for panels, and --no-panels leaves them out: drop one")
    return has_words


def _calibrated(
    detector: Detector,
    normal: Sequence[Path],
    words: Words,
    pixel_range: PixelRange | None,
    options: argparse.Namespace,
) -> tuple[CalibratedDetector, list[str]]:
    """Bind the detector to the normal images that can be read; return what is wrong with others.

    Those that pca-normal is fitted to set no level.
    """
    from dataclasses import replace

    from anovl.evaluation.alike import how_made
    from anovl.evaluation.threshold import calibrate
    from anovl.images import read_image

    images, problems, subtract = [], [], not options.no_subtract
    for path in normal:
        try:
            images.append(read_image(path, pixel_range=pixel_range))
        except (ValueError, OSError) as error:
            problems.append(str(error))
    if not images:
        raise ValueError(problems[0])
    if options.method == "pca-normal":
        (detector, images), subtract = _fitted(detector, images, options.false_alarms), False
    calibrated = calibrate(
        detector,
        images,
        words,
        false_alarms=options.false_alarms,
        alarm_by=options.alarm_by or "score",
        subtract=subtract,
        pixel_range=pixel_range,
    )
    return replace(calibrated, made=how_made(normal)), problems


def _fitted(
    detector: PcaNormal, normal: Sequence[Image.Image], rate: float | None
) -> tuple[PcaNormal, Sequence[Image.Image]]:
    """Fit pca-normal to a part of the normal images, and return the others: they set the level."""
    from anovl.baselines.pca_normal import normal_needed
    from anovl.evaluation.threshold import images_needed

    fitted, others = detector.fitted_to_half(normal)
    parts = f"{len(normal) - len(others)} for the fit and {len(others)} for the level"
    least = 2 if rate is None else images_needed(rate)
    if len(others) < least:
        needed = normal_needed(least)
        promise = "" if rate is None else f", for at most {rate:.3g} false alarms,"
        raise ValueError(
            f"pca-normal{promise} needs at least {needed} normal images: {needed - least} for the "
            f"fit and {least} for the level; found {len(normal)}, {parts}"
        )
    print(f"pca-normal: of {len(normal)} normal images, {parts}")
    return fitted, others


def add_localize(commands: Commands) -> None:
    command = commands.add_parser(
        "localize",
        help="maps, and with normal images alarms, for your own images",
        description="Write the map of each image (.npy), a panel that shows it (.png), and "
        "scores.csv. With --normal, images of the same object without anomalies, it also says "
        "which images are anomalous, with a promise about false alarms.",
    )
    add = command.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files, folders of images, or patterns (*.png)")
    add("--object", help='what they show: "metal nut", "wood", ... (needed, but by pca-normal)')
    add_words(command)
    add(
        "--normal",
        nargs="+",
        metavar="DIR",
        help="normal images of it, at best 19 or more (pca-normal: 31 or more)",
    )
    add(
        "--false-alarms",
        type=float,
        metavar="RATE",
        help="at most so many normal images raise an alarm (default: 0.05 if there are 19 normal "
        "images; RATE needs 1/RATE - 1, and pca-normal as many again, at most 12, for its fit)",
    )
    add(
        "--alarm-by",
        choices=("score", "map"),
        help="what is compared with the level: the image score (default) or the peak of the map",
    )
    add("--no-subtract", action="store_true", help="leave the mean map of normal images in")
    add(
        "--method",
        choices=METHODS,
        default=METHODS[0],
        help="pca-normal: no words (--object, --surface, --prompts); half of the --normal images, "
        "at most 12, are for its fit, the others set the level",
    )
    add("--tta", action="store_true", help="adapt to each image at test time (5 steps)")
    add(
        "--tiles",
        action="store_true",
        help="look at large images piece by piece, at the model's resolution: one pass of the "
        "network a tile (36 for 1024 x 1024 pixels at 240), and the map as large as the image",
    )
    add("--scale", type=float, nargs=2, metavar=("LOW", "HIGH"), help="fix the colour scale")
    add("--no-panels", action="store_true", help="write maps and scores only")
    add("--out", metavar="DIR", help="default: localized, or the next free localized-2, ...")
    add_reading(command, masks=False)
    add_model(command)
    command.set_defaults(command=localize)
