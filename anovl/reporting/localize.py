"""Your own images on disk -> a heat map beside each, raw maps, and a table of scores."""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import numpy as np

from anovl.detector import AnoVL, Localization
from anovl.images import (
    has_deep_pictures,
    is_far_from_square,
    list_images,
    pixel_range_of,
    read_image,
)
from anovl.stored import PixelRange, decode

_SHOWN_PIXELS = 1024  # the longer side of an image in its panel


@dataclass(frozen=True)
class Localized:
    """One image that was localized: its file, its score, and what was written for it."""

    image: Path
    score: float
    map_file: Path
    panel: Path


def localize_files(
    detector: AnoVL,
    sources: Sequence[str | Path],
    category: str,
    *,
    out: str | Path,
    scale: tuple[float, float] | None = None,
    pixel_range: PixelRange | None = None,
    batch_size: int = 16,
) -> tuple[list[Localized], list[str]]:
    """Localize what is anomalous in files and folders of images, and write what was found.

    For each image: OUT/NAME.npy, the map as the method gives it (float32; stretch it over the image
    to align them), and OUT/NAME.png, the image beside its map. All panels share one colour scale,
    `scale` (low, high) or the range of all maps of the call, and print it: a scale for each image
    would make every normal one look anomalous. OUT/scores.csv lists images and scores. All images
    have one range of pixel values, `pixel_range` or what `pixel_range_of` finds.

    Returns what was localized and, in words, what could not be read: one bad image does not stop
    the others. Raises ValueError for a category that cannot be a prompt, for a scale that does not
    rise, and when `out` is a file.
    """
    out = Path(out)
    if scale is not None and not scale[0] < scale[1]:
        raise ValueError(f"the scale must rise, low before high; found {scale[0]} and {scale[1]}")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder for the heat maps")
    detector.text(category)
    paths, problems = _image_paths(sources)
    names = _output_names(paths)
    if pixel_range is None:
        pixel_range = pixel_range_of(paths)
    elif not has_deep_pictures(paths):
        raise ValueError(
            "a pixel range is for pictures of more than 8 bits, and there are none: leave "
            "--pixel-range (pixel_range=) out"
        )
    _mention_shapes(paths)
    done, low, high = [], np.inf, -np.inf
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        for path, found in _localized(detector, batch, category, pixel_range, problems):
            low, high = min(low, found.map.min()), max(high, found.map.max())
            map_file = out / f"{names[path]}.npy"
            out.mkdir(parents=True, exist_ok=True)
            np.save(map_file, found.map)
            done.append(Localized(path, found.score, map_file, map_file.with_suffix(".png")))
    for item in done:
        _draw_panel(item, *(scale or (low, high)), pixel_range)
    if done:
        _write_scores(out / "scores.csv", done)
    return done, problems


def _image_paths(sources: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """Return the images that files and folders stand for, and what is wrong with folders."""
    paths, problems = [], []
    for source in map(Path, sources):
        try:
            paths += list_images(source) if source.is_dir() else [source]
        except ValueError as error:
            problems.append(str(error))
    return list(dict.fromkeys(paths)), problems


def _output_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Name results after their files; where names clash, after their folders too.

    >>> list(_output_names([Path("good/000.png"), Path("crack/000.png"), Path("a.png")]).values())
    ['good-000', 'crack-000', 'a']
    """
    stems = Counter(path.stem for path in paths)
    owner: dict[str, Path] = {}
    for path in paths:
        folder = f"{path.absolute().parent.name}-" if stems[path.stem] > 1 else ""
        wanted = f"{folder}{path.stem}"
        others = (f"{wanted}-{n}" for n in count(2))
        owner[next(name for name in chain([wanted], others) if name not in owner)] = path
    return {path: name for name, path in owner.items()}


def _localized(
    detector: AnoVL,
    paths: Sequence[Path],
    category: str,
    pixel_range: PixelRange | None,
    problems: list[str],
) -> Iterator[tuple[Path, Localization]]:
    """Yield the results of a batch; if one of its images is bad, go through them one by one."""
    try:
        images = [read_image(path, pixel_range=pixel_range) for path in paths]
        yield from zip(paths, detector.localize(images, category), strict=True)
    except (ValueError, OSError) as error:
        if len(paths) == 1:
            problems.append(str(error))
        else:
            for path in paths:
                yield from _localized(detector, [path], category, pixel_range, problems)


def _mention_shapes(paths: Sequence[Path]) -> None:
    """Warn of pictures that lose much when they are squeezed to a square."""
    far = []
    for path in paths:
        try:
            stored = decode(path, pixels=False)
        except (ValueError, OSError):  # it is named when it is read
            continue
        if is_far_from_square(stored.image.size):
            far.append(path)
    if far:
        warnings.warn(
            f"{len(far)} of {len(paths)} images are far from square, and are squeezed to a square: "
            f"cut them into tiles to keep what is small ({far[0]})",
            stacklevel=3,
        )


def _draw_panel(item: Localized, low: float, high: float, pixel_range: PixelRange | None) -> None:
    from anovl.reporting.figures import heatmap_panels

    image = read_image(item.image, pixel_range=pixel_range)
    image.thumbnail((_SHOWN_PIXELS, _SHOWN_PIXELS))
    values = np.load(item.map_file)[None]
    figure = heatmap_panels([image], values, scores=[item.score], vmin=low, vmax=high)
    figure.savefig(item.panel, dpi=150)


def _write_scores(path: Path, done: Sequence[Localized]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "score", "panel", "map"])
        writer.writerows([x.image, f"{x.score:.6f}", x.panel.name, x.map_file.name] for x in done)
