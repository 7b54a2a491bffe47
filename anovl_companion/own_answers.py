"""Notebook A2: own pictures judged category by category, and what is shown and said of them.

Numbers in tables and sentences are made here, so that each can be tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from anovl import AnoVL, Dataset
from anovl.cli.alarms import about_misses, promise
from anovl.cli.localize_files import Localized, localize_files
from anovl.detector import Detector
from anovl.evaluation.misses import catches
from anovl.evaluation.threshold import CalibratedDetector, Level, images_needed
from anovl_companion.charts import SMALL, TRUTH
from anovl_companion.figures import PAGE, house_style
from anovl_companion.notebook import Notebook
from anovl_companion.own_images import OwnPictures, calibrated, lay_out, own_dataset

RANKS = (0, 0.25, 0.5, 0.75, 1)  # of the scores of the pictures that are shown


@dataclass(frozen=True, eq=False)
class Judged:
    """One category: its pictures, the detector with its level, and what it found in each of them.

    `problems` has a sentence for each file that cannot be read.
    """

    pictures: OwnPictures
    detector: Detector | CalibratedDetector
    found: list[Localized]
    problems: list[str]

    @property
    def level(self) -> Level | None:
        """The level of image scores, where there are enough normal pictures for it."""
        is_calibrated = isinstance(self.detector, CalibratedDetector)
        return self.detector.level if is_calibrated else None

    def table(self) -> DataFrame:
        """List files with `score` and `alarm`, the highest score first; "" without a level."""
        words = {None: "", True: "yes", False: "no"}
        alarms = [words[one.alarm] for one in self.found]
        columns = {"file": self.pictures.names, "score": [one.score for one in self.found]}
        table = DataFrame({**columns, "alarm": alarms})
        table = table.sort_values("score", ascending=False, ignore_index=True)
        return table.assign(score=table["score"].map("{:.4f}".format))

    def said(self, false_alarms: float) -> str:
        """Say what the level promises, and which alarms are seen; or why there is none."""
        normal, name = self.pictures.normal, self.pictures.category
        if self.level is None:
            return (
                f"{name}: no level. At most {false_alarms:.1%} false alarms need "
                f"{images_needed(false_alarms)} normal pictures; found {len(normal)} "
                f"({self.pictures.source}). Alarms are not measured: the scores are an order alone."
            )
        alarms = np.array([one.alarm for one in self.found], dtype=bool)
        counts = [f"all pictures: {_share(alarms)}"]
        for label, what in enumerate(("normal", "anomalous")):
            if (own := self.pictures.labelled(label)).any():
                counts.append(f"{what} ones: {_share(alarms[own])}")
        if len(counts) == 1:
            counts.append("false alarms and misses are not measured, without labels")
        return (
            f"{name}: {len(normal)} normal pictures ({self.pictures.source}) set the level, "
            f"{self.level.value:.4f}.\nPromise: {promise(self.level)}\n"
            f"Alarms among {'; '.join(counts)}."
        )

    def missed(self) -> str:
        """Say how many anomalous pictures raise no alarm, as `localize --known-anomalous` does."""
        anomalous, name = self.pictures.images(1), self.pictures.category
        if self.level is None or not anomalous:
            why = "there is no level" if self.level is None else "no picture is labelled anomalous"
            return f"{name}: what is missed is not measured ({why})."
        known = catches(self.detector, anomalous)
        return f"{name}:" + "\n".join(about_misses(known, self.detector))


class OwnNotebook(Notebook):
    """Notebook A2: its data are the pictures of `OwnParameters`, not those of the shared run."""

    @cached_property
    def data(self) -> Dataset:
        """The own pictures: one category of a drawn set, or all of a folder."""
        return own_dataset(self.p)

    @cached_property
    def disk(self) -> TemporaryDirectory:
        """A folder for files that nobody needs afterwards."""
        return TemporaryDirectory()

    @cached_property
    def own(self) -> list[Judged]:
        """All categories, judged. Maps and panels of own files lie in `A2_localized`."""
        return [self._judge(category) for category in self.data.categories]

    def _judge(self, category: str) -> Judged:
        disk, is_own = Path(self.disk.name), self.data.root is not None
        pictures = lay_out(self.data, category, disk / "photos", self.p)
        detector = calibrated(AnoVL(self.clip), pictures, self.p.false_alarms)
        found, problems = localize_files(
            *(detector, pictures.files, pictures.words),
            out=(self.folder if is_own else disk) / "A2_localized" / category,
            pixel_range=pictures.pixel_range,
            panels=is_own,
        )
        if not found:
            raise ValueError(f"no picture of {category!r} can be read: {problems[0]}")
        return Judged(pictures.only([one.image for one in found]), detector, found, problems)


def five_pictures(own: Judged) -> Figure:
    """Draw five pictures by rank of their scores, with their maps and what the level says."""
    order = np.argsort([one.score for one in own.found], kind="stable")
    places = dict.fromkeys(round(rank * (len(order) - 1)) for rank in RANKS)
    chosen = [order[place] for place in places]
    maps = [np.load(own.found[i].map_file) for i in chosen]
    low, high = getattr(own.detector, "scale", (np.min(maps), np.max(maps)))
    limit = own.detector.map_level.value if own.level else np.inf
    with matplotlib.rc_context({**house_style(), **SMALL}):
        fig = Figure(figsize=(PAGE, 3.9), layout="constrained")
        columns = fig.subplots(2, len(RANKS)).T
        for ax in columns.flat:
            ax.set_axis_off()
        for (above, below), i, values in zip(columns, chosen, maps, strict=False):
            image, mask = own.pictures.entries[i].load()
            extent = (0, image.width, image.height, 0)
            above.imshow(image)
            below.imshow(values, extent=extent, vmin=low, vmax=high, aspect="auto")
            lines = {"levels": [0.5], "extent": (0, image.width, 0, image.height)}
            if (values > limit).any():
                below.contour(values > limit, colors="white", linewidths=1, **lines)
            if mask is not None and mask.any():
                above.contour(mask, colors=TRUTH, linewidths=1, **lines)
            alarm = {None: "", True: "\nALARM", False: "\nno alarm"}[own.found[i].alarm]
            above.set_title(f"score {own.found[i].score:.4f}{alarm}")
            below.set_title(f"map peak {own.found[i].peak:.2f}")
        alarms = "no level, so no alarms"
        if own.level:
            raised = sum(bool(one.alarm) for one in own.found)
            alarms = f"above {own.level.value:.4f}, {raised} of {len(own.found)} raise an alarm"
        title = f"{own.pictures.class_name}: {alarms}"
        fig.suptitle(title, x=0.01, ha="left", fontsize=11)
        note = "Pictures: the lowest score, three between by rank, the highest. "
        note += "Blue: the true defect.\nWhite: where a map is above the level of maps"
        note += f", {limit:.2f}." if own.level else ", which is not set."
        fig.supxlabel(note, fontsize=9, x=0.01, ha="left")
    return fig


def _share(flags: np.ndarray) -> str:
    """
    >>> _share(np.array([True, False, False]))
    '1 of 3 (33%)'
    """
    return f"{flags.sum()} of {len(flags)} ({flags.mean():.0%})"
