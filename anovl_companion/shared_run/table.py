"""One table of a shared run, read back: variants of one kind, measured on the same pictures."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pandas import DataFrame, Series, concat, read_csv

from anovl._shared.messages import unknown
from anovl.evaluation.compare import Scores
from anovl.evaluation.results import HEADLINES, IMAGE, PIXEL, read_results
from anovl_companion.measure.single_pictures import NEAR
from anovl_companion.shared_run.compact import UNIT

METHODS_TABLE = "methods"
_AS_WRITTEN = ("score", "distance")


@dataclass(frozen=True)
class Table:
    """Three files in the folder of a run, written as `compact` says.

    The table "methods" has the names results.csv, images.csv and replicates.csv. `groups` are sets
    of categories.
    """

    folder: Path
    name: str
    groups: Mapping[str, Sequence[str]]

    @cached_property
    def rows(self) -> DataFrame:
        """Metrics, one row a category and variant."""
        if self.name != METHODS_TABLE:
            return read_csv(self.folder / f"{self.name}.csv")
        table = read_results(self.folder).query("level == 'category'")
        return table[["category", "method", *PIXEL, *IMAGE]].rename(columns={"method": "variant"})

    @cached_property
    def variants(self) -> dict[str, str]:
        """The names in the files by short names: "pca-normal" says in them what it has seen."""
        names = dict.fromkeys(self.rows["variant"])
        return {name.split(" (")[0]: name for name in names}

    def images(self) -> DataFrame:
        """Return the values of each image by each variant, one row an image and variant."""
        columns = [name for name in self._images if " " not in name]
        facts = self._images[columns]
        column = "method" if self.name == METHODS_TABLE else "variant"
        parts = [
            facts.assign(**{column: name}, **self._values(name)) for name in self.variants.values()
        ]
        return concat(parts, ignore_index=True)

    def scores(self, variant: str, group: str | None = None) -> Scores:
        """Return how one variant did: pooled metrics, and means over single pictures.

        What could not be measured, such as AUPRO without masks, is NaN, and has no replicates.

        Raises KeyError for a variant or a group that is not there.
        """
        name, chosen, inside = self._name(variant), self._chosen(group), self._inside(group)
        rows = self.rows[(self.rows["variant"] == name) & self.rows["category"].isin(inside)]
        rows = rows.drop(columns="variant").set_index("category")
        sizes, drawn = [len(self.groups[one]) for one in chosen], {}
        for metric in HEADLINES:
            own = [self._replicates.get(f"{metric} {one} {name}") for one in chosen]
            if all(one is not None for one in own):
                drawn[metric] = np.average(own, axis=0, weights=sizes)
        means, more = self._of_single_pictures(name, inside)
        return Scores(rows.join(means).to_dict("index"), drawn | more)

    def within(self, variant: str, group: str | None = None) -> np.ndarray:
        """Return the AUROC of the own pixels of each anomalous picture; KeyError as `scores`."""
        name = self._name(variant)
        inside = self._images["category"].isin(self._inside(group))
        return self._values(name)["auroc_px"][inside].dropna().to_numpy()

    def _name(self, variant: str) -> str:
        if variant not in self.variants:
            raise KeyError(unknown(f"variant in {self.name!r}", variant, self.variants))
        return self.variants[variant]

    def _chosen(self, group: str | None) -> list[str]:
        if group is not None and group not in self.groups:
            raise KeyError(unknown("group", group, self.groups))
        return list(self.groups) if group is None else [group]

    def _inside(self, group: str | None) -> list[str]:
        return [category for one in self._chosen(group) for category in self.groups[one]]

    def _of_single_pictures(
        self, name: str, categories: Sequence[str]
    ) -> tuple[DataFrame, dict[str, np.ndarray]]:
        """Means over the anomalous pictures of each category, and their bootstrap replicates."""
        values = self._values(name)
        within, distance = values.pop("auroc_px"), values.pop("distance", None)
        values.pop("score", None)
        if distance is not None:
            values = {"on_defect": distance == 0, "near_defect": distance <= NEAR} | values
        found = DataFrame({"within": within} | values).astype(float)[within.notna()]
        resamples, means, drawn = len(next(iter(self._replicates.values()), ())), {}, []
        for category, own in found.groupby(self._images["category"]):
            if category in categories:
                rng = np.random.default_rng([0, zlib.crc32(category.encode())])
                places = rng.integers(len(own), size=(resamples, len(own)))
                means[category] = own.mean()
                drawn.append(own.to_numpy()[places].mean(axis=1))
        replicates = np.mean(drawn, axis=0).T if drawn else ()  # (values, resamples)
        return DataFrame(means, index=found.columns).T, dict(zip(found, replicates, strict=False))

    def _values(self, name: str) -> dict[str, Series]:
        """The columns of one variant in the table of pictures."""
        own = {}
        for column in self._images:
            value, _, of = column.partition(" ")
            if of == name:
                scale = 1.0 if value in _AS_WRITTEN else UNIT
                own[value] = scale * self._images[column]
        return own

    @cached_property
    def _images(self) -> DataFrame:
        table = read_csv(self._file("images"), dtype={"image": str})
        table = split(table)
        return table.assign(area=UNIT * table["area"]) if "area" in table else table

    @cached_property
    def _replicates(self) -> dict[str, np.ndarray]:
        columns = split(read_csv(self._file("replicates")))
        return {name: UNIT * own.to_numpy(float) for name, own in columns.items()}

    def _file(self, kind: str) -> Path:
        of = "" if self.name == METHODS_TABLE else f"{self.name}."
        return self.folder / f"{of}{kind}.csv"


def split(table: DataFrame) -> DataFrame:
    """Columns by their names; one column with names joined by | is that of each of them.

    >>> split(DataFrame({"a|b": [1], "c": [2]})).to_dict("records")
    [{'a': 1, 'b': 1, 'c': 2}]
    """
    return DataFrame({name: table[head] for head in table for name in head.split("|")})
