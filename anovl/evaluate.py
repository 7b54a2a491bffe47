"""Methods x categories -> one table: each pair is run once, kept, and found again after a kill."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from anovl.datasets import Dataset, Sample
from anovl.detector import Detector, Localization, Size
from anovl.metrics import (
    aupro,
    auroc,
    auroc_f1_ap,
    bootstrap_aupro,
    bootstrap_auroc,
    bootstrap_interval,
    position_debiased,
)
from anovl.runs import RunFolder, describe_run, write_atomically

if TYPE_CHECKING:
    from pandas import DataFrame
    from tqdm import tqdm

PIXEL = ("auroc_px", "auroc_px_debiased", "f1_px", "ap_px", "aupro")
IMAGE = ("auroc_sp", "f1_sp", "ap_sp")
HEADLINES = ("auroc_sp", "auroc_px_debiased", "aupro")
COLUMNS = (
    *("dataset", "category", "method", "n_images", "n_anomalous"),
    *(*PIXEL, *IMAGE, "ms_per_image"),
    *(f"{metric}_{end}" for metric in HEADLINES for end in ("lo", "hi")),
    "note",
)
_CHUNK = 32  # how many decoded images are in memory


def evaluate(
    dataset: Dataset,
    detectors: Sequence[Detector],
    *,
    out: str | Path,
    size: Size | None = None,
    seed: int = 0,
    resamples: int = 1000,
    progress: bool = True,
) -> DataFrame:
    """Run every detector on every category and return the table, one row for each pair.

    Metrics are fractions 0-1 over the pooled pixels (`_px`, `aupro`) or the images (`_sp`) of a
    category, normal ones included; `_lo` and `_hi` bound the 95 % bootstrap interval over images
    (`resamples`, `seed`). What cannot be measured is empty, and `note` says why. The row "mean" of
    a method averages its categories. Maps have the `size` (H, W), None for the size at which the
    method looks; masks are resized to it bilinearly and cut at > 0.5 (published code).
    `ms_per_image` is the time in `localize`, with the prompts already encoded.

    Writes `out`/results.csv, groups.csv if the data set has groups of categories (`read_groups`),
    and run.json with all that decided them. Each finished pair is kept in
    `out`/parts: a killed run goes on when it is called again, and ends with the same table.

    Raises ValueError for a data set without labels, for two detectors of one name, and when `out`
    holds a run that was decided otherwise.
    """
    _check(dataset, detectors)
    options = {"size": size, "seed": seed, "resamples": resamples}
    folder = RunFolder.claim(out, describe_run(dataset, detectors, **options))
    pairs = {
        f"{category}, {detector.name}": (category, detector)
        for category in dataset.categories
        for detector in detectors
    }
    todo = {name: pair for name, pair in pairs.items() if not folder.has(name)}
    images = sum(len(dataset.labels(category)) for category, _ in todo.values())
    with _progress_bar(images, shown=progress) as bar:
        for name, (category, detector) in todo.items():
            bar.set_description(name)
            folder.keep(name, _measured_pair(dataset, category, detector, bar=bar, **options))
    table = _table([folder.read(name) for name in pairs])
    write_atomically(folder.path / "results.csv", _csv(table))
    if dataset.groups:
        parts = [folder.read(name) for name in pairs]
        write_atomically(folder.path / "groups.csv", _csv(_group_means(parts, dataset.groups)))
    return table


def read_groups(out: str | Path) -> DataFrame:
    """Return groups.csv of a finished run: means of each method over groups of categories.

    The column `category` names the group, such as "seen" and "unseen" of the pocket world; all
    others are those of results.csv. Raises FileNotFoundError for a run without groups.
    """
    from pandas import read_csv

    path = Path(out) / "groups.csv"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: the run is unfinished, or has no groups")
    return read_csv(path, keep_default_na=True)


def mask_at(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a bool mask (H, W) bilinearly and cut it at > 0.5, as the published code does.

    >>> mask_at(np.array([[True, True, False, False]]), (1, 2))
    array([[ True, False]])
    """
    if mask.shape == shape:
        return mask
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.resize(shape[::-1], Image.Resampling.BILINEAR)) > 127.5


def _check(dataset: Dataset, detectors: Sequence[Detector]) -> None:
    names = [detector.name for detector in detectors]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"expected detectors with different names, found {names}")
    for category in dataset.categories:
        if None in dataset.labels(category):
            raise ValueError(
                f"the images of {category!r} have no labels, so nothing can be measured: sort them "
                "into test/good and test/<kind of defect>, or use localize"
            )


def _progress_bar(images: int, *, shown: bool) -> tqdm:
    from tqdm import tqdm

    return tqdm(total=images, unit="image", disable=None if shown else True, smoothing=0.1)


def _measured_pair(
    dataset: Dataset,
    category: str,
    detector: Detector,
    *,
    bar: tqdm,
    size: Size | None,
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """Return one finished pair: its row, and the bootstrap replicates for the row of means."""
    labels = np.array(dataset.labels(category))
    results, masks, seconds = _localized(dataset, category, detector, size=size, bar=bar)
    shapes = {result.map.shape for result in results}
    if len(shapes) > 1:
        raise ValueError(f"the maps of {category!r} have the shapes {sorted(shapes)}: give a size")
    values, replicates, note = _measured(
        np.stack([result.map for result in results]),
        np.array([result.score for result in results]),
        labels,
        masks,
        seed=[seed, zlib.crc32(category.encode())],
        resamples=resamples,
    )
    row = {
        **{"dataset": dataset.name, "category": category, "method": detector.name},
        **{"n_images": len(labels), "n_anomalous": int(labels.sum())},
        **values,
        **{"ms_per_image": 1000 * seconds / len(labels), "note": note},
    }
    return {"row": row, "replicates": {k: v.round(6).tolist() for k, v in replicates.items()}}


def _localized(
    dataset: Dataset, category: str, detector: Detector, *, size: Size | None, bar: tqdm
) -> tuple[list[Localization], list[np.ndarray | None], float]:
    """Run a detector on a category: its results, the masks at the maps' size, the seconds."""
    warm_up = [sample.image for sample in islice(dataset.samples(category), 2)]
    detector.localize(warm_up, category, size=size)
    n = len(dataset.labels(category))
    results, masks, seconds = [], [], 0.0
    for chunk in _chunks(dataset.samples(category), n if detector.whole_category else _CHUNK):
        start = time.perf_counter()
        new = detector.localize([sample.image for sample in chunk], category, size=size)
        seconds += time.perf_counter() - start
        for sample, result in zip(chunk, new, strict=True):
            results.append(result)
            masks.append(None if sample.mask is None else mask_at(sample.mask, result.map.shape))
        bar.update(len(chunk))
    return results, masks, seconds


def _chunks(samples: Iterator[Sample], n: int) -> Iterator[list[Sample]]:
    while chunk := list(islice(samples, n)):
        yield chunk


def _measured(
    maps: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    masks: Sequence[np.ndarray | None],
    *,
    seed: Sequence[int],
    resamples: int,
) -> tuple[dict[str, float], dict[str, np.ndarray], str]:
    """Return every metric that can be measured, replicates of the headlines, and what is amiss."""
    values, replicates, notes = dict.fromkeys((*PIXEL, *IMAGE), np.nan), {}, []
    draws = {"seed": seed, "resamples": resamples}
    if labels.any() and not labels.all():
        values.update(zip(IMAGE, auroc_f1_ap(scores, labels), strict=True))
        replicates["auroc_sp"] = bootstrap_auroc(scores, labels, **draws)
    else:
        notes.append(f"no {'normal' if labels.any() else 'defective'} images")
    if any(mask is None for mask in masks):
        notes.append("defects without masks")
    elif not (truth := np.stack(masks)).any():
        notes.append("no defect pixels at the maps' size" if labels.any() else "no defect pixels")
    else:
        triple = zip(("auroc_px", "f1_px", "ap_px"), auroc_f1_ap(maps, truth), strict=True)
        values.update(triple, aupro=aupro(maps, truth))
        replicates["aupro"] = bootstrap_aupro(maps, truth, **draws)
        if not labels.all():
            debiased = position_debiased(maps, labels)
            values["auroc_px_debiased"] = auroc(debiased, truth)
            replicates["auroc_px_debiased"] = bootstrap_auroc(debiased, truth, **draws)
    return values, replicates, "; ".join(notes)


def _table(parts: Sequence[dict[str, Any]]) -> DataFrame:
    """Lay finished pairs out as rows with their intervals, and add each method's row of means."""
    from pandas import DataFrame

    rows = [part["row"] | _intervals(part["replicates"]) for part in parts]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [part for part in parts if part["row"]["method"] == method]
        rows.append(_mean_row(own))
    return DataFrame(rows, columns=list(COLUMNS))


def _group_means(parts: Sequence[dict[str, Any]], groups: Mapping[str, Sequence[str]]) -> DataFrame:
    """Average each method over each group of categories."""
    from pandas import DataFrame

    rows = []
    for method in dict.fromkeys(part["row"]["method"] for part in parts):
        own = {p["row"]["category"]: p for p in parts if p["row"]["method"] == method}
        for group, members in groups.items():
            if found := [own[category] for category in members if category in own]:
                rows.append(_mean_row(found) | {"category": group})
    return DataFrame(rows, columns=list(COLUMNS))


def _csv(table: DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def _mean_row(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average one method's categories; of replicates, those of the same draw."""
    from pandas import DataFrame

    table = DataFrame([part["row"] for part in parts])
    row = table.iloc[0][["dataset", "method"]].to_dict() | {"category": "mean"}
    row |= {name: int(table[name].sum()) for name in ("n_images", "n_anomalous")}
    row |= table[[*PIXEL, *IMAGE, "ms_per_image"]].mean().to_dict()
    replicates = {
        metric: np.mean(
            [part["replicates"][metric] for part in parts if metric in part["replicates"]], axis=0
        )
        for metric in HEADLINES
        if any(metric in part["replicates"] for part in parts)
    }
    complete = sum(not note for note in table["note"])
    note = "" if complete == len(table) else f"{complete} of {len(table)} categories complete"
    return row | _intervals(replicates) | {"note": note}


def _intervals(replicates: dict[str, Any]) -> dict[str, float]:
    ends = ("lo", "hi")
    return {
        f"{metric}_{end}": bound
        for metric, drawn in replicates.items()
        for end, bound in zip(ends, bootstrap_interval(drawn), strict=True)
    }
