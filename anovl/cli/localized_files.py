"""What is written of an image that was localized: map, mask, panel, and its row in scores.csv."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
from PIL import Image

from anovl._shared.files import write_atomically
from anovl.cli.localized_folder import ENDS
from anovl.cli.marks import largest_region
from anovl.cli.panels import Scale, draw_panel
from anovl.detector import Detector, Localization
from anovl.evaluation.threshold import CalibratedDetector, CalibratedLocalization
from anovl.images import PixelRange, read_image


@dataclass(frozen=True)
class Localized:
    """One image that was localized: its file, what was said of it, and what was written for it.

    `peak` is the highest value of its map; `alarm` is None where there is no level; `panel` and
    `mask_file` are None where none was asked for. `mark` is the largest region of the mask, in
    patches of the network: below 1 it is smaller than what the network tells apart.
    """

    image: Path
    score: float
    peak: float
    map_file: Path
    panel: Path | None
    alarm: bool | None = None
    mask_file: Path | None = None
    mark: float | None = None


def write_map(
    image: Path, found: Localization, stem: Path, *, panels: bool, patch: float
) -> Localized:
    """Write a map and, if there is a level, what lies above it."""
    map_file, panel, mask_file = (stem.with_name(stem.name + end) for end in ENDS)
    write_atomically(map_file, partial(np.save, arr=found.map))
    mask = getattr(found, "mask", None)
    if mask is not None:
        write_atomically(mask_file, partial(Image.fromarray(mask).save, format="PNG"))
    return Localized(
        image,
        found.score,
        float(found.map.max()),
        map_file,
        panel if panels else None,
        found.alarm if isinstance(found, CalibratedLocalization) else None,
        None if mask is None else mask_file,
        None if mask is None else largest_region(mask) / patch,
    )


def scale_of(detector: Detector | CalibratedDetector, low: float, high: float, count: int) -> Scale:
    """The colours of all panels of a call: those of the normal images, where there are any."""
    if not isinstance(detector, CalibratedDetector):
        these = "this picture" if count == 1 else f"these {count} pictures"
        high = max(high, np.nextafter(low, np.inf))
        return Scale(low, high, f"scale: {these} only; P near ½ is usual")
    level = detector.map_level
    says = f"scale: {detector.n} normal pictures; dark: below their median"
    if level is None:
        return Scale(*detector.scale, says)
    return Scale(
        *detector.scale,
        says,
        level=level.value,
        level_says=(
            *("in maps; promise: at", f"most {100 * level.false_alarms:.3g} % of normal"),
            *("pictures reach above",),
        ),
        score_level=detector.score_level.value,
        alarm_by=detector.alarm_by,
    )


def write_panel(item: Localized, scale: Scale, pixel_range: PixelRange | None) -> None:
    mask = None if item.mask_file is None else np.asarray(Image.open(item.mask_file))
    panel = draw_panel(
        read_image(item.image, pixel_range=pixel_range),
        np.load(item.map_file),
        scale,
        score=item.score,
        alarm=item.alarm,
        mask=mask,
    )
    quick = {"compress_level": 1, "compress_type": zlib.Z_RLE}  # most of its time
    write_atomically(item.panel, partial(panel.save, format="PNG", **quick))


def write_scores(path: Path, done: Sequence[Localized]) -> None:
    writer = csv.writer(text := StringIO(), lineterminator="\n")
    writer.writerow(["image", "score", "map_peak", "alarm", "panel", "map", "mask"])
    for item in done:
        alarm = "" if item.alarm is None else int(item.alarm)
        files = (item.panel, item.map_file, item.mask_file)
        shown = ("" if one is None else one.name for one in files)
        writer.writerow([item.image, f"{item.score:.6f}", f"{item.peak:.6f}", alarm, *shown])
    write_atomically(path, text.getvalue())
