"""`anovl localize`: maps, scores and alarms for your own images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from anovl.cli.options import (
    add_model,
    add_reading,
    add_words,
    make_detectors,
    say,
    words_from_options,
)

if TYPE_CHECKING:
    from anovl.cli.options import Commands


def localize(options: argparse.Namespace) -> int:
    """Write a heat map for each image, and print the scores."""
    from anovl.data.check import one_prompt
    from anovl.reporting.localize import localize_files

    if not options.object.strip():
        raise ValueError('--object must name what the images show, such as --object "metal nut"')
    method = "anovl-tta" if options.tta else "anovl"
    detector = make_detectors([method], options, tiles=options.tiles)[0]
    words = words_from_options(options, options.object)
    print(f'one prompt: "{one_prompt(words)}"', end="\n\n", flush=True)
    done, problems = localize_files(
        *(detector, options.images, words),
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
        say(f"error: {problem}")
    if problems and done:
        say(f"{len(problems)} of {len(problems) + len(done)} could not be localized")
    return 0 if not problems else 1 if done else 2


def add_localize(commands: Commands) -> None:
    command = commands.add_parser(
        "localize",
        help="heat maps for your own images",
        description="Write a heat map beside each image, raw maps (.npy) and scores.csv.",
    )
    add = command.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files, or folders of images")
    add("--object", required=True, help='what they show: "metal nut", "wood", ...')
    add_words(command)
    add("--tta", action="store_true", help="adapt to each image at test time (5 steps)")
    add(
        "--tiles",
        action="store_true",
        help="look at large images piece by piece, at the model's resolution: one pass of the "
        "network a tile (36 for 1024 x 1024 pixels at 240), and the map as large as the image",
    )
    add("--scale", type=float, nargs=2, metavar=("LOW", "HIGH"), help="fix the colour scale")
    add("--out", default="localized", metavar="DIR", help="default: %(default)s")
    add_reading(command, masks=False)
    add_model(command)
    command.set_defaults(command=localize)
