"""Save the maps of `evaluate`, and their overlays, in the folders of the data set."""

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

_HEADROOM = 1.6  # the bright end, as a multiple of the way from the normal median to the maximum


@dataclass(frozen=True)
class SavedMaps:
    """A folder of maps, for `evaluate(..., save_maps=SavedMaps("out/maps"))`.

    ROOT/METHOD/PICTURE.npy is the map (float32) and ROOT/METHOD/PICTURE.png its overlay, where
    PICTURE is the path of the picture below the data set's root, without its suffix.
    ROOT/METHOD/CATEGORY.scale.json holds the colour scale of the overlays, one for a category: from
    the median of the maps of its normal pictures to above their highest value; without normal
    pictures, the range of all maps.
    """

    root: Path

    def files(self, dataset: Dataset, category: str, method: str) -> list[Path]:
        """The files of one category and method."""
        stems = self.stems(dataset, category, method)
        files = [Path(f"{stem}{end}") for stem in stems for end in (".npy", ".png")]
        return [*files, self._scale_file(category, method)]

    def save(
        self, dataset: Dataset, category: str, method: str, maps: Mapping[int, np.ndarray]
    ) -> None:
        """Save maps by the numbers of their samples; each file is whole or not there."""
        if not maps:
            return
        labels = dataset.labels(category)
        low, high = colour_range(list(maps.values()), [labels[place] for place in maps])
        stems, reads = self.stems(dataset, category, method), dataset.reads(category)
        for place, values in maps.items():
            panel = overlay(reads[place]().image, values, vmin=low, vmax=high)
            write_atomically(Path(f"{stems[place]}.npy"), partial(np.save, arr=values))
            write_atomically(Path(f"{stems[place]}.png"), partial(panel.save, format="PNG"))
        record = {"low": low, "high": high}
        write_atomically(self._scale_file(category, method), json.dumps(record))

    def stems(self, dataset: Dataset, category: str, method: str) -> list[Path]:
        """The files of each sample, without their suffixes."""
        root, folder = dataset.root, self._folder(method)
        inside = [
            entry.path.relative_to(root)
            if root and entry.path.is_relative_to(root)
            else Path(category, "test", entry.kind, entry.path.name)
            for entry in dataset.entries(category)
        ]
        times = Counter(path.with_suffix("") for path in inside)
        return [
            folder / (path if times[path.with_suffix("")] > 1 else path.with_suffix(""))
            for path in inside
        ]

    def _folder(self, method: str) -> Path:
        return Path(self.root) / quote(method.split(" (")[0], safe=" ")

    def _scale_file(self, category: str, method: str) -> Path:
        return self._folder(method) / f"{quote(category, safe=' ')}.scale.json"


def colour_range(maps: Sequence[np.ndarray], labels: Sequence[int | None]) -> tuple[float, float]:
    """The range (low, high) of a category's colours, from the maps of its normal pictures.

    >>> colour_range([np.array([0.2, 0.2, 0.4]), np.array([0.1, 0.9])], [0, 1])
    (0.2, 0.52)
    """
    normal = [values for values, label in zip(maps, labels, strict=True) if label == 0]
    if normal:
        low = float(np.median(np.stack(normal)))
        high = low + _HEADROOM * (max(float(values.max()) for values in normal) - low)
    else:
        low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
    return round(low, 6), round(max(high, low + 1e-6), 6)
