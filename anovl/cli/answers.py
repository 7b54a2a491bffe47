"""Sentences about results: scores and alarms of `localize`, tables and notes of `evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import ceil, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anovl._shared.messages import counted, one_line

if TYPE_CHECKING:
    from pandas import DataFrame

    from anovl.cli.localize_files import Localized
    from anovl.data.dataset import Dataset
    from anovl.evaluation.threshold import CalibratedDetector, Level

MOST_CATEGORIES = 10  # that are printed one by one
SAME_IMAGE_SCORE = ("clip", "anovl", "anovl-tta")
MARKS = {
    "coin": "not better than chance: the interval holds 50",
    "reversed": "low values mark anomalies: the whole interval of a control is below 50",
    "below": "worse than chance: the whole interval is below 50",
}
"""What stands beside an AUROC in the printed table, and its meaning."""


# Levels and alarms


def promise(level: Level) -> str:
    """Say what rate of false alarms a level promises, on average and for an unlucky set.

    >>> from anovl.evaluation.threshold import Level
    >>> print(promise(Level(0.54, n=19, false_alarms=0.05)))
    at most 5% of normal images raise an alarm, on average over such sets of 19 normal images
    (expected: 5.0%). For 1 in 20 such sets the true rate is above 14.6%.
    """
    return (
        f"at most {100 * level.false_alarms:.3g}% of normal images raise an alarm, on average over "
        f"such sets of {level.n} normal images\n(expected: {level.expected:.1%}). "
        f"For 1 in 20 such sets the true rate is above {level.rate_95:.1%}."
    )


def print_localized(done: Sequence[Localized], calibrated: CalibratedDetector | None) -> None:
    """Print images by their scores, the alarms, and the promise of the level."""
    by_map = calibrated is not None and calibrated.alarm_by == "map"
    rows = [
        (
            item.peak if by_map else item.score,
            one_line(str(item.image)),
            "  alarm" * bool(item.alarm),
        )
        for item in done
    ]
    width = max(len(name) for _, name, _ in rows)
    print(f"{'image':{width}}  {'map peak' if by_map else 'score'}")
    for value, name, mark in sorted(rows, key=lambda row: -row[0]):
        print(f"{name:{width}}  {value:.4f}{mark}")
    print()
    if calibrated is None:
        print("Scores compare images of one object. Normal images of it set a level: --normal DIR.")
    elif calibrated.level is None:
        print(_missing_level(calibrated.n))
    else:
        print("\n".join(_about_alarms(done, calibrated)))


def _missing_level(n: int) -> str:
    from anovl.evaluation.threshold import FALSE_ALARMS, images_needed

    needed = images_needed(FALSE_ALARMS)
    return (
        f"No level: at most {FALSE_ALARMS:.0%} false alarms need {needed} normal images; found {n}."
        f" These allow --false-alarms {ceil(100 / (n + 1)) / 100}.\n"
        "They set the colour scale, and maps are compared with them."
    )


def _about_alarms(done: Sequence[Localized], calibrated: CalibratedDetector) -> Iterator[str]:
    alarms = [item for item in done if item.alarm]
    names = {"score": "image score", "map": "peak of the map"}
    own = names.pop(calibrated.alarm_by)
    [(option, other)] = names.items()
    yield (
        f"Alarms: {len(alarms)} of {counted(len(done), 'image')} (highest first). Their {own} is "
        f"above the level, {calibrated.level.value:.4f}."
    )
    yield f"The promise of the level: {promise(calibrated.level)}"
    yield (
        f"It holds for the {own}; the {other} (--alarm-by {option}) has a level of its own. Alarms "
        "of either one would come\nat up to twice the rate."
    )
    yield f"Masks hold the pixels above the level of maps, {calibrated.map_level.value:.4f}."
    empty = sum(item.mark == 0 for item in alarms)
    tiny = sum(0 < item.mark < 1 for item in alarms)
    for count, kind in ((empty, "an empty mask"), (tiny, "marks smaller than one patch only")):
        if count:
            yield f"{count} of {counted(len(alarms), 'alarm')}: {kind}."
    if empty or tiny:
        shown = "image" if alarms[0].panel is None else "panel"
        yield f"There the map does not show where the anomaly is: look at the {shown} yourself."


# Tables and notes of `evaluate`


def print_results(table: DataFrame, dataset: Dataset, options: argparse.Namespace) -> None:
    """Print the means, those of groups, categories where they are few, and notes."""
    from anovl.evaluation.compare import run_record
    from anovl.evaluation.results import missing_numbers, read_groups, read_timing, terminal_table

    show = partial(terminal_table, mark=mark_of)
    print(show(table[table["level"] == "mean"].merge(read_timing(options.out))))
    for line in missing_numbers(table):
        print(f"-: {line}")
    if len(dataset.groups) > 1:
        means = read_groups(options.out)
        for group, categories in dataset.groups.items():
            print(f"\n{group}: {', '.join(categories)}\n{show(means[means['category'] == group])}")
    rows = table[table["level"] == "category"]
    if 1 < rows["category"].nunique() <= MOST_CATEGORIES:
        for category, own in rows.groupby("category", sort=False):
            print(f"\n{category}\n{show(own)}")
    n = counted(len(dataset.categories), "category")
    print(f"\n{n} of {dataset.name}; percent; [95 % interval]")
    equal = equal_by_definition(options.methods)
    about = caveat({"model": options.model, "dataset": dataset.name})
    for line in [*legend(table), equal, *made_with(run_record(options.out)), about]:
        if line:
            print(line[0].upper() + line[1:])
    results = Path(options.out) / "results.csv"
    print(
        f"All categories: {results}; models, versions and options: {results.with_name('run.json')}"
    )


def mark_of(method: str, metric: str, low: float | None, high: float | None) -> str:
    """Return the key of `MARKS` for an AUROC with the ends of its interval (0-1), or "".

    >>> mark_of("anovl", "auroc_sp", 0.43, 0.71), mark_of("brightness", "auroc_sp", 0.1, 0.3)
    ('coin', 'reversed')
    """
    from anovl.baselines import CONTROLS

    if not metric.startswith("auroc") or low is None or isnan(low) or low > 0.5:
        return ""
    return "coin" if high >= 0.5 else "reversed" if method in CONTROLS else "below"


def legend(table: DataFrame) -> list[str]:
    """Explain the marks in the printed rows."""
    from anovl.evaluation.results import HEADLINES

    used = {
        mark_of(row["method"], metric, row[f"{metric}_lo"], row[f"{metric}_hi"])
        for row in table.to_dict("records")
        for metric in HEADLINES
    }
    return [f'"{mark}": {says}' for mark, says in MARKS.items() if mark in used]


def equal_by_definition(methods: Iterable[str]) -> str:
    """Name the methods of a run with equal image scores; "" if there are not two.

    >>> equal_by_definition(["anovl", "dog", "clip"])
    'image scores of clip, anovl are equal by definition: they use the class token alone'
    """
    methods = list(methods)
    same = [method for method in SAME_IMAGE_SCORE if method in methods]
    if len(same) < 2:
        return ""
    says = "are equal by definition: they use the class token alone"
    return f"image scores of {', '.join(same)} {says}"


def made_with(record: Mapping[str, Any]) -> list[str]:
    """Name protocol, weights, precision and versions of a run, from its run.json."""
    weights = [f"{name}, SHA-256 {sha[:12]}…" for name, sha in record["models"].items()]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [f"protocol: {_protocol(record['methods'])}"]
    lines += [f"weights: {'; '.join(weights)}"] if weights else []
    if less := {name for name in record["precision"].values() if name != "float32"}:
        lines.append(f"precision: {', '.join(sorted(less))}; compare within one precision only")
    return [*lines, f"versions: {versions}"]


def _protocol(methods: Mapping[str, Any]) -> str:
    """Name the protocol by the recorded options of a run's methods."""
    options = [own | own.get("detector", {}) for own in methods.values()]
    if any(own.get("views", 1) > 1 for own in options):
        return "published for MVTec AD: AnoVL's image scores are means over 22 views"
    if any(own.get("tiles") for own in options):
        return "published for VisA: AnoVL sees two square tiles of each image"
    if any("overlap" in own for own in options):
        return "large images in overlapping tiles"
    return "plain, one view of the whole image"


def caveat(record: Mapping[str, Any]) -> str:
    """Return the caveat for a figure or table with this provenance; "" if it needs none.

    >>> caveat({"model": "pocket", "dataset": "pocket"})
    'pocket model, procedural images: a demonstration, not a result of the paper'
    >>> caveat({"model": "pocket", "dataset": "photos"})
    'pocket model, photographs with drawn defects: a demonstration, not a result of the paper'
    """
    model, dataset = str(record.get("model", "")), record.get("dataset", "pocket")
    if "random weights" in model:
        return "random weights: neither the picture nor the numbers mean anything"
    if model != "pocket":
        return ""
    images = {"pocket": "procedural images", "photos": "photographs with drawn defects"}
    says = images.get(dataset, f"images of {dataset}")
    return f"pocket model, {says}: a demonstration, not a result of the paper"
