"""Your own images on disk -> maps, masks, panels and a table of scores, in one folder."""

from __future__ import annotations

import csv
import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from io import StringIO
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from anovl._shared.files import FULL, hash_file, write_atomically
from anovl._shared.messages import counted
from anovl.baselines.tiled import Tiled
from anovl.cli.image_files import ENDS, ImageFiles, identities, record_in
from anovl.cli.panels import Scale, draw_panel, scale_of_maps, scale_of_normal, shrink
from anovl.clip import Clip
from anovl.data.layout import RECORD
from anovl.detector import AnoVL, Detector, Localization, Words
from anovl.evaluation.threshold import CalibratedDetector, Level
from anovl.images import PixelRange, read_image
from anovl.prompts import PromptEnsemble


@dataclass(frozen=True)
class Localized:
    """The result for one image, and its files.

    `peak` is the highest value of its map; `alarm` is None without a level; `panel` and `mask_file`
    are None where none was written. `mark` is the area of the largest region of the mask, in
    patches of the network: below 1 it is smaller than the network can resolve.
    """

    image: Path
    score: float
    peak: float
    map_file: Path
    panel: Path | None
    alarm: bool | None = None
    mask_file: Path | None = None
    mark: float | None = None


def localize_files(
    detector: Detector | CalibratedDetector,
    sources: Sequence[str | Path],
    class_name: Words = "",
    *,
    out: str | Path,
    pixel_range: PixelRange | None = None,
    normal: Sequence[Path] = (),
    overwrite: bool = False,
    **options: Any,
) -> tuple[list[Localized], list[str]]:
    """Localize anomalies in files, folders and patterns such as "*.png"; write the results to OUT.

    A calibrated detector knows its `class_name`; another one needs it. OUT/NAME.npy is the map of
    an image (float32; stretch it over the image to align them), OUT/NAME.png a panel with the image
    beside its map, and with a level OUT/NAME.mask.png is white above the level. NAME holds the
    sub-folders of a folder, which are searched. OUT/scores.csv lists images, scores and alarms,
    OUT/localize.json images, files, words, pixel range and levels.
    All images have one range of pixel values: `pixel_range`, or that of the calibration, or the
    result of `pixel_range_of`. `options` are those of `localize_images`.

    OUT must be empty or hold a run on the same images, whose files are removed; with `overwrite` it
    may hold other files. No result replaces an image that is read or a file of `normal` (the normal
    images of a calibrated detector), or lies in their folders.

    Images that are normal ones as well are left out. Warns of them, of images that are far from
    square or too small for tiles, and of files with several pages. Returns the results and one
    sentence for each image that cannot be read. Raises ValueError for a source without images,
    another OUT, a class name that cannot be a prompt and a scale that does not rise; OSError where
    nothing can be written.
    """
    limits = pixel_range or getattr(detector, "pixel_range", None)
    files = ImageFiles.found(sources, normal, Path(out), overwrite=overwrite, pixel_range=limits)
    return localize_images(detector, files, class_name, **options)


def localize_images(
    detector: Detector | CalibratedDetector,
    files: ImageFiles,
    class_name: Words,
    *,
    scale: tuple[float, float] | None = None,
    panels: bool = True,
    batch_size: int = 16,
    known_anomalous: Mapping[str, Any] | None = None,
) -> tuple[list[Localized], list[str]]:
    """Localize in files that are found, and write the results to their folder.

    All panels share one printed colour scale: `scale` (low, high), or that of the normal images, or
    the range of all maps. With `panels=False` none are drawn. `known_anomalous`, how many of them
    are missed, is recorded.
    """
    shown = Scale(*scale, "scale: as asked for") if scale else None
    record: dict[str, Any] = {"words": class_name, "pixel_range": files.pixel_range}
    if isinstance(detector, CalibratedDetector):
        record |= record_of(detector) | {"known_anomalous": known_anomalous}
        detector.warn_unlike(files.made(files.images))
        inside, localize = detector.detector, detector.localize
        own = scale_of_normal(detector)
        shown = replace(own, low=shown.low, high=shown.high, says=shown.says) if shown else own
    else:
        inside, localize = detector, partial(detector.localize, class_name=class_name)
    record["normal"] = {str(path.resolve()): hash_file(path) for path in files.normal}
    files.warn_odd(inside if isinstance(inside, Tiled) else None)
    clip = getattr(getattr(inside, "detector", inside), "clip", None)
    patch = 1.0 if clip is None else float(np.prod(clip.image_size) / np.prod(clip.grid))
    writer, problems = Writer(files, record, shown, patch, panels), []
    try:
        for start in range(0, len(files.images), batch_size):
            images = {}
            for path in files.images[start : start + batch_size]:
                try:
                    images[path] = read_image(path, pixel_range=files.pixel_range)
                except (ValueError, OSError) as error:
                    problems.append(str(error))
            results = localize(list(images.values())) if images else []
            for (path, image), result in zip(images.items(), results, strict=True):
                writer.write(path, image, result)
        writer.finish()
    except OSError as error:
        if error.errno not in FULL:
            raise
        maps = f"{len(writer.done)} of {counted(len(files.images), 'map')} are in {files.out}"
        raise OSError(error.errno, f"{error.strerror}; {maps}, without scores.csv") from None
    return writer.done, problems


@dataclass
class Writer:
    """Writes the results of images to a folder: maps, masks, panels and tables.

    Panels without a `scale` wait for the range of all maps, reduced to their size: up to 1.2 MB an
    image. `record` goes into localize.json. `patch` is the area of a patch of the network, in
    pixels of a map.
    """

    files: ImageFiles
    record: Mapping[str, Any]
    scale: Scale | None
    patch: float
    panels: bool
    done: list[Localized] = field(default_factory=list)
    _low: float = np.inf
    _waiting: list[tuple[Any, ...]] = field(default_factory=list)

    def start(self, *, masks: bool) -> None:
        """Remove the files of a former run, and write localize.json."""
        out, images = self.files.out, identities(self.files.images)
        ends = list(compress(ENDS, [True, self.panels, masks]))
        files = [f"{self.files.names[path]}{end}" for path in self.files.images for end in ends]
        for former in (out / name for name in record_in(out / RECORD).get("files", [])):
            if former.parent.resolve().is_relative_to(out.resolve()):
                former.unlink(missing_ok=True)
        about = {"images": images, "files": [*files, "scores.csv"], **self.record}
        write_atomically(out / RECORD, json.dumps(about, indent=1, default=asdict))

    def write(self, path: Path, image: Image.Image, result: Localization) -> None:
        """Write the map of an image, its mask, and its panel if the scale is known.

        The first call also starts the folder, so that nothing is left behind by a refusal.
        """
        mask, name = getattr(result, "mask", None), self.files.names[path]
        if not self.done:
            self.start(masks=mask is not None)
        map_file, panel, mask_file = (self.files.out / f"{name}{end}" for end in ENDS)
        write_atomically(map_file, partial(np.save, arr=result.map))
        if mask is not None:
            write_atomically(mask_file, partial(Image.fromarray(mask).save, format="PNG"))
        item = Localized(
            path,
            result.score,
            float(result.map.max()),
            map_file,
            panel if self.panels else None,
            getattr(result, "alarm", None),
            None if mask is None else mask_file,
            None if mask is None else largest_region(mask) / self.patch,
        )
        self.done.append(item)
        self._low = min(self._low, float(result.map.min()))
        if self.panels:
            self._waiting.append((item, *shrink(image, result.map), mask))
        if self.scale:
            self._draw(self.scale)

    def finish(self) -> None:
        """Draw the panels that wait, and write scores.csv."""
        if not self.done:
            return
        if self._waiting:
            high = max(item.peak for item in self.done)
            self._draw(scale_of_maps(self._low, high, len(self.done)))
        writer = csv.writer(text := StringIO(), lineterminator="\n")
        writer.writerow(["image", "score", "map_peak", "alarm", "panel", "map", "mask"])
        for item in self.done:
            alarm = "" if item.alarm is None else int(item.alarm)
            files = (item.panel, item.map_file, item.mask_file)
            names = (file and file.relative_to(self.files.out).as_posix() for file in files)
            writer.writerow([item.image, f"{item.score:.6f}", f"{item.peak:.6f}", alarm, *names])
        write_atomically(self.files.out / "scores.csv", text.getvalue())

    def _draw(self, scale: Scale) -> None:
        quick = {"compress_level": 1, "compress_type": zlib.Z_RLE}  # most of its time
        for item, image, values, mask in self._waiting:
            numbers = {"score": item.score, "peak": item.peak, "alarm": item.alarm}
            panel = draw_panel(image, values, scale, name=item.image.name, mask=mask, **numbers)
            write_atomically(item.panel, partial(panel.save, format="PNG", **quick))
        self._waiting.clear()


def largest_region(mask: np.ndarray) -> int:
    """Pixels of the largest connected region of a mask (H, W) bool; 0 for an empty one.

    >>> largest_region(np.array([[1, 1, 0, 0], [0, 0, 0, 1]], dtype=bool))
    2
    """
    from scipy.ndimage import label

    regions, _ = label(mask)
    return int(np.bincount(regions.ravel())[1:].max(initial=0))


# A calibration in localize.json, and made again from it

FACTS = ("alarm_by", "levels", "scale", "normal_images", "map", "pixel_range")
"""What the metadata of an ONNX file hold of a record, each as JSON."""


def record_of(calibrated: CalibratedDetector) -> dict[str, Any]:
    """Describe a calibration in plain values, and in `Level`s; the mean map is in base64."""
    inside, mean = calibrated.detector, calibrated.mean_logit
    clip = getattr(getattr(inside, "detector", inside), "clip", None)
    return {
        "words": calibrated.class_name,
        "alarm_by": calibrated.alarm_by,
        "levels": {"score": calibrated.score_level, "map": calibrated.map_level},
        "scale": calibrated.scale,
        "normal_images": calibrated.n,
        "map": "as it is" if mean is None else "minus the mean map of normal images, in logits",
        "made_by": _made_by(inside, clip, calibrated.map_size),
        "mean_logit": mean if mean is None else b64encode(mean.numpy().astype("<f4")).decode(),
    }


def _made_by(detector: Detector, clip: Clip | None, size: tuple[int, int]) -> str:
    """Say what a map depends on beside image and words: method, model, weights, size."""
    model, weights = (getattr(clip, name, "") for name in ("name", "weights_hash"))
    method = f"{type(detector).__name__} ({detector.name})"
    return f"{method} with {model}, weights {weights:.12}, maps of {size[0]} x {size[1]}"


def calibrated_again(record: dict[str, Any], detector: AnoVL, path: str) -> CalibratedDetector:
    """Make a recorded calibration again; raise ValueError for another method, model or size."""
    size = detector.clip.image_size
    if (asked := _made_by(detector, detector.clip, size)) != record["made_by"]:
        raise ValueError(
            f"{path} is of {record['made_by']}, and asked for is {asked}. Give the same --model, "
            "--weights and --image-size; pca-normal, --tta and --tiles cannot be exported"
        )
    words, mean = record["words"], record["mean_logit"]
    if mean is not None:
        mean = torch.from_numpy(np.frombuffer(b64decode(mean), "<f4").reshape(size).copy())
    levels = {f"{by}_level": level and Level(**level) for by, level in record["levels"].items()}
    return CalibratedDetector(
        detector,
        PromptEnsemble(**words) if isinstance(words, dict) else words,
        n=record["normal_images"],
        **levels,
        alarm_by=record["alarm_by"],
        mean_logit=mean,
        map_size=size,
        scale=tuple(record["scale"]),
    )
