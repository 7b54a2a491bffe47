"""Your own images on disk -> raw maps, a panel beside each image, alarms, and a table of scores."""

from __future__ import annotations

import csv
import glob
import json
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from io import StringIO
from itertools import chain, compress, count
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from anovl._shared.files import also_among, check_results, copies, write_atomically
from anovl._shared.messages import counted
from anovl.detector import Detector, Localization, Words
from anovl.evaluation.threshold import CalibratedDetector, CalibratedLocalization
from anovl.images import (
    check_pixel_range,
    is_far_from_square,
    is_image_file,
    list_images,
    pixel_range_of,
    read_image,
)
from anovl.reporting.panels import Scale, draw_panel
from anovl.stored import PixelRange, decode

RECORD = "localize.json"  # in OUT: which images its files belong to, and the words
_ENDS = (".npy", ".png", ".mask.png")  # of a map, its panel, and what lies above the level

Look: TypeAlias = Callable[[list[Image.Image]], Sequence[Localization]]


@dataclass(frozen=True)
class Localized:
    """One image that was localized: its file, what was said of it, and what was written for it.

    `peak` is the highest value of its map; `alarm` is None where there is no level; `panel` and
    `mask_file` are None where none was asked for.
    """

    image: Path
    score: float
    peak: float
    map_file: Path
    panel: Path | None
    alarm: bool | None = None
    mask_file: Path | None = None


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
    that are far from square, and of files with several pages. Raises ValueError for such an OUT,
    for a class name that cannot be a prompt and for a scale that does not rise.
    """
    out, (paths, problems) = Path(out), image_paths(sources)
    fixed = None if scale is None else Scale(*scale, "scale: as asked for")
    names = _output_names(paths)
    run = _run_of(paths) | {"words": getattr(detector, "class_name", class_name)}
    calibrated = detector if isinstance(detector, CalibratedDetector) else None
    written = [True, panels, calibrated is not None and calibrated.map_level is not None]
    files = [f"{name}{end}" for name in names.values() for end in compress(_ENDS, written)]
    run |= {"files": [*files, "scores.csv"]}
    _check_out(out, run, [*paths, *normal])
    done: list[Localized] = []
    if not paths:
        return done, problems
    if pixel_range is None:
        known = calibrated.pixel_range if calibrated else None
        pixel_range = known or pixel_range_of([*paths, *normal])
    check_pixel_range(pixel_range)
    run |= {"pixel_range": pixel_range}
    _mention_odd(paths, normal)
    if calibrated:
        calibrated.mention_unlike(paths)
        levels = {"score": calibrated.score_level, "map": calibrated.map_level}
        run |= {"alarm_by": calibrated.alarm_by, "levels": levels}
    look = _looking(detector, class_name)
    low, high = np.inf, -np.inf
    for name in _record_in(out).get("files", []):
        (out / Path(name).name).unlink(missing_ok=True)
    write_atomically(out / RECORD, json.dumps(run, indent=1, default=asdict))
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        for path, found in _localized(look, batch, pixel_range, problems):
            low, high = min(low, found.map.min()), max(high, found.map.max())
            done.append(_write(path, found, out / names[path], panels=panels))
    if panels and done:
        shown = fixed or _scale_of(detector, low, high, len(done))
        for item in done:
            _draw(item, shown, pixel_range)
    _write_scores(out / "scores.csv", done)
    return done, problems


def next_folder(name: str, paths: Sequence[Path]) -> Path:
    """The first of NAME, NAME-2, ... that is free, or that holds a run on these very images."""
    run = _run_of(paths)
    for number in count(1):
        folder = Path(name if number == 1 else f"{name}-{number}")
        if not folder.exists() or _is_of(folder, run):
            return folder


def _run_of(paths: Sequence[Path]) -> dict[str, Any]:
    """What tells a run from others: the images that it reads."""
    return {"images": sorted({str(path.resolve()) for path in paths})}


def _looking(detector: Detector | CalibratedDetector, class_name: Words) -> Look:
    """A function from images to results, with the prompts already encoded."""
    if isinstance(detector, CalibratedDetector):
        return detector.localize
    detector.prepare(class_name)
    return lambda images: detector.localize(images, class_name)


def image_paths(sources: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """Return the images that files, folders and patterns stand for, and what is wrong with them."""
    paths, problems = [], []
    for source in sources:
        matches = [source] if Path(source).exists() else sorted(glob.glob(str(source)))
        if not matches and any(sign in str(source) for sign in "*?["):
            problems.append(_without_match(str(source)))
            continue
        for path in map(Path, matches or [source]):
            try:
                paths += list_images(path) if path.is_dir() else [path]
            except ValueError as error:
                problems.append(str(error))
    return list(dict.fromkeys(paths)), problems


def mention_folders(sources: Sequence[str | Path]) -> None:
    """Warn of pictures in sub-folders of the folders that are given: those are not looked at."""
    folders = [path for path in map(Path, sources) if path.is_dir()]
    for folder in folders:
        others = (path for path in folder.iterdir() if path.is_dir() and path not in folders)
        unused = [path for path in others if not (path / RECORD).is_file()]
        if below := [file for path in unused for file in path.iterdir() if is_image_file(file)]:
            names = ", ".join(sorted({path.parent.name for path in below})[:8])
            warnings.warn(
                f"{counted(len(below), 'picture')} in sub-folders of {folder} ({names}), not "
                "looked at: give these folders as well",
                stacklevel=2,
            )


def _without_match(pattern: str) -> str:
    """Say that a pattern matches nothing, and what its folder holds instead."""
    folder = Path(pattern).parent
    said = f"the pattern {pattern!r} matches nothing"
    if not folder.is_dir():
        return f"{said}: there is no folder {folder}"
    names = Counter(path.suffix or "no suffix" for path in folder.iterdir() if path.is_file())
    held = ", ".join(f"{name} ({n})" for name, n in names.most_common(8)) or "no files"
    return f"{said}; {folder} holds {held}"


def _output_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Name results after their files; where names clash, after their folders too.

    Names that differ in case alone clash as well, because on many disks they are one file; and so
    do those of which one result would be called as another.

    >>> list(_output_names([Path("good/000.png"), Path("crack/000.png"), Path("a.png")]).values())
    ['good-000', 'crack-000', 'a']
    >>> list(_output_names([Path("a.png"), Path("A.mask.png")]).values())
    ['a', 'A.mask-2']
    """
    stems = Counter(path.stem.casefold() for path in paths)
    taken: set[str] = set()
    names = {}
    for path in paths:
        clash = stems[path.stem.casefold()] > 1
        wanted = f"{path.absolute().parent.name}-{path.stem}" if clash else path.stem
        for name in chain([wanted], (f"{wanted}-{n}" for n in count(2))):
            files = {f"{name}{end}".casefold() for end in _ENDS}
            if not files & taken:
                break
        taken |= files
        names[path] = name
    return names


def _check_out(out: Path, run: dict[str, Any], read: Iterable[Path]) -> None:
    """Raise ValueError, before anything is written, where a file would be lost."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder for the heat maps")

    def foreign() -> str:
        if _is_of(out, run):
            return ""
        is_run = (out / RECORD).is_file()
        return "belongs to a run on other images" if is_run else "is not of a run"

    files = [out / name for name in (*run["files"], RECORD)]
    check_results(files, read=read, foreign=foreign)


def _record_in(out: Path) -> dict[str, Any]:
    """What is known of the run in a folder; nothing where there is none."""
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_of(out: Path, run: Mapping[str, Any]) -> bool:
    """Tell whether a folder's run read the same images: other words may replace its results."""
    return _record_in(out).get("images") == run["images"]


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


def _mention_odd(paths: Sequence[Path], normal: Sequence[Path]) -> None:
    """Warn of pictures of which something is not seen, or about which a level says nothing."""
    known = also_among(paths, normal)
    found: dict[str, list[Path]] = {}
    for path in paths:
        if path in known:
            what = "among the normal images as well (as they are, or equal byte by byte), and"
            what += " compared with themselves"
            found.setdefault(f"{what}; a level says nothing about them", []).append(path)
        try:
            stored = decode(path, pixels=False)
        except (ValueError, OSError):  # it is named when it is read
            continue
        if is_far_from_square(stored.image.size):
            what = "far from square, and squeezed to a square; cut such images into tiles"
            found.setdefault(f"{what} to keep what is small", []).append(path)
        if stored.pages > 1:
            what = "several pages or frames, of which the first is read"
            found.setdefault(what, []).append(path)
    for what, odd in found.items():
        n = f"{len(odd)} of {counted(len(paths), 'image')}"
        warnings.warn(f"{n}: {what} ({odd[0]})", stacklevel=3)
    if spare := [path for alike in copies(normal) for path in alike[1:]]:
        warnings.warn(
            f"{len(spare)} of {counted(len(normal), 'normal image')}: copies of others, byte by "
            f"byte; a level set by copies promises too much, leave them out ({spare[0]})",
            stacklevel=3,
        )


def _write(image: Path, found: Localization, stem: Path, *, panels: bool) -> Localized:
    """Write a map and, if there is a level, what lies above it."""
    map_file, panel, mask_file = (stem.with_name(stem.name + end) for end in _ENDS)
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
    )


def _scale_of(
    detector: Detector | CalibratedDetector, low: float, high: float, count: int
) -> Scale:
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


def _draw(item: Localized, scale: Scale, pixel_range: PixelRange | None) -> None:
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


def _write_scores(path: Path, done: Sequence[Localized]) -> None:
    writer = csv.writer(text := StringIO(), lineterminator="\n")
    writer.writerow(["image", "score", "map_peak", "alarm", "panel", "map", "mask"])
    for item in done:
        alarm = "" if item.alarm is None else int(item.alarm)
        files = (item.panel, item.map_file, item.mask_file)
        shown = ("" if one is None else one.name for one in files)
        writer.writerow([item.image, f"{item.score:.6f}", f"{item.peak:.6f}", alarm, *shown])
    write_atomically(path, text.getvalue())
