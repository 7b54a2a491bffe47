"""Your own images on disk -> raw maps, a panel beside each image, alarms, and a table of scores."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import compress
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from anovl._shared.files import (
    FULL,
    DiskFullError,
    also_among,
    copies,
    write_atomically,
)
from anovl._shared.messages import counted
from anovl.baselines.tiled import Tiled
from anovl.cli.localized_files import (
    Localized,
    scale_of,
    write_map,
    write_panel,
    write_scores,
)
from anovl.cli.localized_folder import (
    ENDS,
    RECORD,
    check_out,
    output_names,
    record_in,
    run_of,
)
from anovl.cli.marks import patch_area
from anovl.cli.panels import Scale
from anovl.cli.picture_files import image_paths
from anovl.detector import Detector, Localization, Words
from anovl.evaluation.pairs import prepare
from anovl.evaluation.threshold import CalibratedDetector
from anovl.images import (
    PixelRange,
    check_pixel_range,
    is_far_from_square,
    pixel_range_of,
    read_header,
    read_image,
)

Look: TypeAlias = Callable[[list[Image.Image]], Sequence[Localization]]


def localize_files(
    detector: Detector | CalibratedDetector,
    sources: Sequence[str | Path],
    class_name: Words = "",
    *,
    out: str | Path,
    scale: tuple[float, float] | None = None,
    panels: bool = True,
    pixel_range: PixelRange | None = None,
    batch_size: int = 16,
    normal: Sequence[Path] = (),
) -> tuple[list[Localized], list[str]]:
    """Localize what is anomalous in files, folders and patterns such as "*.png"; write it to OUT.

    A calibrated detector knows its `class_name`; another one needs it. For each image it writes
    OUT/NAME.npy, the map (float32; stretch it over the image to align them); with `panels`
    OUT/NAME.png, the image beside its map; with a level OUT/NAME.mask.png, white above the level.
    All panels share one colour scale and print it: `scale` (low, high), or that of the normal
    images, or the range of all maps of the call. OUT/scores.csv lists images, scores and alarms.
    All images have one range of pixel values: `pixel_range`, or that of the calibration, or what
    `pixel_range_of` finds.

    OUT/localize.json says which images and files these are, the words, the range of pixel values
    and, if there are any, the levels. A run on the same images makes OUT anew: what the one before
    it wrote is removed.

    `normal` are the files of the normal images of a calibrated detector. Returns what was localized
    and, in words, what could not be read: one bad image does not stop the others. Nothing that was
    read, no file of `normal`, and no file of another run is ever replaced, and OUT is no folder of
    such images: the next run would read its results. Warns of images that are normal ones as well,
    that are far from square or too small for tiles. Raises
    ValueError for such an OUT, for a class name that cannot be a prompt and for a scale that does
    not rise, and DiskFullError, with what is kept.
    """
    out, (paths, problems) = Path(out), image_paths(sources)
    fixed = None if scale is None else Scale(*scale, "scale: as asked for")
    names = output_names(paths)
    run = run_of(paths) | {"words": getattr(detector, "class_name", class_name)}
    calibrated = detector if isinstance(detector, CalibratedDetector) else None
    written = [True, panels, calibrated is not None and calibrated.map_level is not None]
    files = [f"{name}{end}" for name in names.values() for end in compress(ENDS, written)]
    run |= {"files": [*files, "scores.csv"]}
    check_out(out, run, [*paths, *normal])
    done: list[Localized] = []
    if not paths:
        return done, problems
    if pixel_range is None:
        known = calibrated.pixel_range if calibrated else None
        pixel_range = known or pixel_range_of([*paths, *normal])
    check_pixel_range(pixel_range)
    run |= {"pixel_range": pixel_range}
    inside = calibrated.detector if calibrated else detector
    _mention_odd(paths, normal, inside if isinstance(inside, Tiled) else None)
    if calibrated:
        calibrated.mention_unlike(paths)
        levels = {"score": calibrated.score_level, "map": calibrated.map_level}
        run |= {"alarm_by": calibrated.alarm_by, "levels": levels}
    look, patch = _looking(detector, class_name), patch_area(detector)
    low, high = np.inf, -np.inf
    for name in record_in(out).get("files", []):
        (out / Path(name).name).unlink(missing_ok=True)
    with _saying_what_is_kept(out, done, len(paths)):
        write_atomically(out / RECORD, json.dumps(run, indent=1, default=asdict))
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            for path, found in _localized(look, batch, pixel_range, problems):
                low, high = min(low, found.map.min()), max(high, found.map.max())
                done.append(write_map(path, found, out / names[path], panels=panels, patch=patch))
        if panels and done:
            shown = fixed or scale_of(detector, low, high, len(done))
            for item in done:
                write_panel(item, shown, pixel_range)
        write_scores(out / "scores.csv", done)
    return done, problems


@contextmanager
def _saying_what_is_kept(out: Path, done: Sequence[Localized], count: int) -> Iterator[None]:
    """Turn the error of a full disk into one that says how many of `count` images are done."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        drawn = sum(item.panel is not None and item.panel.is_file() for item in done)
        panels = f" and panels of {drawn}" if drawn else ""
        raise DiskFullError(
            error.errno,
            f"the disk is full ({os.strerror(error.errno)}); maps of {len(done)} of "
            f"{counted(count, 'image')}{panels} are kept in {out}, without scores.csv: free some "
            "space, and run the same command again; it begins anew",
        ) from None


def _looking(detector: Detector | CalibratedDetector, class_name: Words) -> Look:
    """A function from images to results, with the prompts already encoded."""
    if isinstance(detector, CalibratedDetector):
        return detector.localize
    prepare(detector, class_name)
    return lambda images: detector.localize(images, class_name)


def _localized(
    look: Look, paths: Sequence[Path], pixel_range: PixelRange | None, problems: list[str]
) -> Iterator[tuple[Path, Localization]]:
    """Yield the results of a batch; if one of its images is bad, go through them one by one."""
    try:
        images = [read_image(path, pixel_range=pixel_range) for path in paths]
        yield from zip(paths, look(images), strict=True)
    except (ValueError, OSError) as error:
        if len(paths) == 1:
            problems.append(str(error))
        else:
            for path in paths:
                yield from _localized(look, [path], pixel_range, problems)


def _mention_odd(paths: Sequence[Path], normal: Sequence[Path], tiled: Tiled | None) -> None:
    """Warn of pictures of which something is not seen, or about which a level says nothing.

    Tiles are not squeezed; of small pictures they show no more than there is without.
    """
    known = also_among(paths, normal)
    found: dict[str, list[Path]] = {}
    for path in paths:
        if path in known:
            what = "among the normal images as well (as they are, or equal byte by byte), and"
            what += " compared with themselves"
            found.setdefault(f"{what}; a level says nothing about them", []).append(path)
        try:
            header = read_header(path)
        except (ValueError, OSError):  # it is named when it is read
            continue
        if tiled and not tiled.gains(header.size):
            what = f"too small for tiles of {tiled.side} x {tiled.side} pixels, which show little "
            what += "or nothing more than the whole picture at once, and less of what lies around"
            found.setdefault(f"{what}; leave --tiles out", []).append(path)
        if not tiled and is_far_from_square(header.size):
            what = "far from square, and squeezed to a square; cut such images into tiles"
            found.setdefault(f"{what} to keep what is small", []).append(path)
    for what, odd in found.items():
        n = f"{len(odd)} of {counted(len(paths), 'image')}"
        warnings.warn(f"{n}: {what} ({odd[0]})", stacklevel=3)
    if spare := [path for alike in copies(normal) for path in alike[1:]]:
        warnings.warn(
            f"{len(spare)} of {counted(len(normal), 'normal image')}: copies of others, byte by "
            f"byte; a level set by copies promises too much, leave them out ({spare[0]})",
            stacklevel=3,
        )
