"""Maps of an evaluation on disk, raw and laid over their pictures, in the data set's own tree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np

from anovl._shared.files import write_atomically
from anovl.cli.panels import overlay
from anovl.data.dataset import Dataset

_HEADROOM = 1.6  # the bright end, as a multiple of the way from the normal median to their highest


@dataclass(frozen=True)
class SavedMaps:
    """A folder of maps, for `evaluate(..., save_maps=SavedMaps("out/maps"))`.

    ROOT/METHOD/PICTURE.npy is the map (float32) and ROOT/METHOD/PICTURE.png its overlay, where
    PICTURE is the path of the picture below the data set's root, without its suffix.
    ROOT/METHOD/CATEGORY.scale.json holds the colour scale of the overlays, one for all pictures of
    a category: from the median of the maps of its normal pictures to a little above their highest
    value; without normal pictures, the range of all.
    """

    root: Path

    def files(self, dataset: Dataset, category: str, method: str) -> list[Path]:
        stems = self.stems(dataset, category, method)
        files = [_with(stem, end) for stem in stems for end in (".npy", ".png")]
        return [*files, self._scale_file(category, method)]

    def save(
        self, dataset: Dataset, category: str, method: str, maps: Mapping[int, np.ndarray]
    ) -> None:
        """Save maps by the places of their samples; each file is whole or not there."""
        if not maps:
            return
        labels = dataset.labels(category)
        low, high = scale_of(list(maps.values()), [labels[place] for place in maps])
        stems, reads = self.stems(dataset, category, method), dataset.reads(category)
        for place, values in maps.items():
            panel = overlay(reads[place]().image, values, vmin=low, vmax=high)
            write_atomically(_with(stems[place], ".npy"), partial(np.save, arr=values))
            write_atomically(_with(stems[place], ".png"), partial(panel.save, format="PNG"))
        record = {"low": low, "high": high}
        write_atomically(self._scale_file(category, method), json.dumps(record))

    def stems(self, dataset: Dataset, category: str, method: str) -> list[Path]:
        """Where the files of each sample lie, without their suffixes."""
        entries = dataset.entries(category)
        inside = [
            entry.path.relative_to(dataset.root)
            if dataset.root and entry.path.is_relative_to(dataset.root)
            else Path(category, "test", entry.kind, entry.path.name)
            for entry in entries
        ]
        times = Counter(path.with_suffix("") for path in inside)
        folder = self._folder(method)
        return [
            folder / (path if times[path.with_suffix("")] > 1 else path.with_suffix(""))
            for path in inside
        ]

    def _folder(self, method: str) -> Path:
        return Path(self.root) / quote(method.split(" (")[0], safe=" ")

    def _scale_file(self, category: str, method: str) -> Path:
        return self._folder(method) / f"{quote(category, safe=' ')}.scale.json"


def scale_of(maps: Sequence[np.ndarray], labels: Sequence[int | None]) -> tuple[float, float]:
    """Return (low, high) of the colours of a category's maps, decided by its normal pictures.

    >>> scale_of([np.array([0.2, 0.2, 0.4]), np.array([0.1, 0.9])], [0, 1])
    (0.2, 0.52)
    """
    normal = [values for values, label in zip(maps, labels, strict=True) if label == 0]
    if normal:
        low = float(np.median(np.stack(normal)))
        high = low + _HEADROOM * (max(float(values.max()) for values in normal) - low)
    else:
        low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
    return round(low, 6), round(max(high, low + 1e-6), 6)


def _with(stem: Path, end: str) -> Path:
    return stem.with_name(stem.name + end)
