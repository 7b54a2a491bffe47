"""The numbers of the model card: what the pocket models are meant to reach, and what they reach.

`python -m anovl_companion card --out DIR` measures them on scenes that no choice has seen, over
five fixed seeds of scenes, for each pocket model that is here. It keeps its runs under DIR, and
writes bars.csv and the table of the model card beside the weights of the first model. With the
weights of a training that does not ship, it only prints them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pandas import DataFrame

from anovl.baselines import CONTROLS, make_detector
from anovl.clip import Clip
from anovl.data import load_dataset
from anovl.data.dataset import Dataset
from anovl.detector import Detector
from anovl.evaluation.compare import Scores, read_scores
from anovl.evaluation.harness import evaluate
from anovl.models.load import load_clip
from anovl.models.pocket import FOLDER, shipped_here
from anovl_companion.shared_run.reader import shared_runs
from anovl_companion.training.card_run import runs_markdown

SCENE_SEEDS = (1, 2, 3, 4, 5)
PER_CATEGORY = 20  # normal pictures of a category, and as many anomalous ones
COMPARED = ("clip", "anovl", "anovl-tta", *CONTROLS)
START, END = "<!-- bars -->", "<!-- /bars -->"


@dataclass(frozen=True)
class Bar:
    """One number of a model: a value or a difference, and what it is meant to reach.

    `value` and its 95 % interval from `low` to `high` are fractions. `least` is what the value is
    meant to reach, or, if `beyond_doubt`, what the whole interval is meant to lie above; NaN for a
    number that is only reported.
    """

    says: str
    on: str
    value: float
    low: float
    high: float
    least: float = math.nan
    beyond_doubt: bool = False

    @property
    def met(self) -> str:
        """Return "yes" or "no"; "" for a number that is only reported."""
        if math.isnan(self.least):
            return ""
        met = self.low > self.least if self.beyond_doubt else self.value >= self.least
        return "yes" if met else "no"


def measure_bars(
    clip: Clip,
    out: str | Path,
    *,
    seeds: Sequence[int] = SCENE_SEEDS,
    per_category: int = PER_CATEGORY,
    elpv: Dataset | None = None,
    jobs: int = 1,
) -> list[Bar]:
    """Measure every bar of a model, as the mean over the seeds of scenes.

    `per_category` counts the normal pictures of a category, and the anomalous ones. `elpv`, if
    given, has photographs of solar cells: their image AUROC is reported, category by category.
    `jobs` processes share the work. A measurement that was stopped goes on with its runs under
    `out`.
    """
    out, anovl = Path(out), make_detector("anovl", clip)

    def run(name: str, detectors: Sequence[Detector]) -> tuple[list[Path], Dataset]:
        folders = [out / f"{name}-{seed}" for seed in seeds]
        for seed, folder in zip(seeds, folders, strict=True):
            data = load_dataset(name, seed=seed, per_category=per_category)
            evaluate(data, detectors, out=folder, seed=seed, jobs=jobs)
        return folders, data

    runs, data = run("pocket", [make_detector(method, clip) for method in COMPARED])
    bars = list(_pocket_bars(runs, data.groups))
    runs, data = run("photos", [anovl])
    photos = read_scores(runs, "anovl", data.categories)
    bars.append(_bar("v-v, pixel AUROC*", "photos", photos, "auroc_px_debiased", 0.80))
    if elpv is not None:
        evaluate(elpv, [anovl], out=out / "elpv", jobs=jobs)
        for category in elpv.categories:
            found = read_scores([out / "elpv"], "anovl", [category])
            bars.append(_bar("image AUROC", f"ELPV, {category}", found, "auroc_sp"))
    return bars


def _bar(says: str, on: str, found: Scores, metric: str, least: float = math.nan) -> Bar:
    return Bar(says, on, found.mean(metric), *found.interval(metric), least)


def _pocket_bars(runs: Sequence[Path], groups: Mapping[str, Sequence[str]]) -> Iterator[Bar]:
    """Whole pictures, v-v maps, and v-v maps against other maps of the same pictures."""
    asked = {"seen": (0.92, 0.84, 0.15), "unseen": (0.88, 0.88, 0.20)}
    for group, categories in groups.items():
        image, pixel, gain = asked[group]
        by = {method: read_scores(runs, method, categories) for method in COMPARED}
        vv = by["anovl"]
        yield _bar("image AUROC", group, vv, "auroc_sp", image)
        yield _bar("v-v, pixel AUROC*", group, vv, "auroc_px_debiased", pixel)
        over = vv.gain(by["clip"], "auroc_px_debiased")
        yield Bar("v-v - q-k, pixel AUROC*", group, *over, gain)
        best = max(CONTROLS, key=lambda control: by[control].mean("aupro"))
        over = vv.gain(by[best], "aupro")
        yield Bar(f"v-v - best control ({best}), AUPRO", group, *over, 0.0, beyond_doubt=True)
        yield Bar("TTA - none, AUPRO", group, *by["anovl-tta"].gain(vv, "aupro"))


def bars_table(bars: Mapping[str, Sequence[Bar]]) -> DataFrame:
    """Lay out the bars of each model, by its name, as the rows of bars.csv."""
    rows = []
    for name, of_model in bars.items():
        rows += [{"model": name, **vars(bar), "met": bar.met} for bar in of_model]
    return DataFrame(rows)


def bars_markdown(table: DataFrame, made_with: str) -> str:
    """The table of the model card, with its marks, from the rows of bars.csv.

    >>> bars = [Bar("image AUROC", "seen", 0.9, 0.85, 0.93, 0.92)]
    >>> print(bars_markdown(bars_table({"pocket": bars}), "x"))
    <!-- bars -->
    | model | measure | on | value | 95 % interval | asked for | met |
    |:------|:--------|:---|------:|:--------------|:----------|:----|
    | pocket | image AUROC | seen | 0.900 | 0.850 to 0.930 | 0.92 | no |
    <BLANKLINE>
    x. \\* position-debiased.
    <!-- /bars -->
    """
    lines = [
        START,
        "| model | measure | on | value | 95 % interval | asked for | met |",
        "|:------|:--------|:---|------:|:--------------|:----------|:----|",
    ]
    for row in table.fillna({"met": ""}).itertuples():
        asked = "" if math.isnan(row.least) else f"{row.least:.2f}"
        asked = "interval above 0" if row.beyond_doubt else asked
        lines.append(
            f"| {row.model} | {row.says} | {row.on} | {row.value:.3f} "
            f"| {row.low:.3f} to {row.high:.3f} | {asked} | {row.met} |"
        )
    return "\n".join([*lines, "", f"{made_with}. \\* position-debiased.", END])


def write_card(
    table: DataFrame, made_with: str, folder: Path = FOLDER, *, of_runs: str = ""
) -> None:
    """Write bars.csv, and the tables between their marks in the model card in the same folder.

    `of_runs` is the table of `runs_markdown`; "" leaves that of the card as it is.

    Raises ValueError if the card has no marks.
    """
    table = table.round(4)
    table.to_csv(folder / "bars.csv", index=False, lineterminator="\n")
    card, blocks = folder / "README.md", [bars_markdown(table, made_with), of_runs]
    text = card.read_text(encoding="utf-8")
    for block in filter(None, blocks):
        start, end = block.splitlines()[0], block.splitlines()[-1]
        text, places = re.subn(f"(?s){start}.*{end}", lambda _, block=block: block, text)
        if not places:
            raise ValueError(f"{card} has no place for a table: a line {start} and a line {end}")
    card.write_text(text, encoding="utf-8")


def make_card(
    out: Path, *, name: str | None = None, weights: Path | None = None, jobs: int = 1
) -> str:
    """Measure a pocket model, None for each that is here; return the table of the card.

    It is written into the card that ships, unless `weights`, the folder of a training, are
    measured, or one model alone. Beside them stands what their shared runs say.

    Raises KeyError where a shared run lacks a part.
    """
    ships = name is None and weights is None
    of_runs = runs_markdown(shared_runs()) if ships else ""
    names = shipped_here() if name is None else [name]
    clips, elpv = {one: load_clip(one, weights=weights) for one in names}, _elpv()
    bars = {one: measure_bars(clip, out / one, elpv=elpv, jobs=jobs) for one, clip in clips.items()}
    hashes = ", ".join(f"{one} `{clip.weights_hash[:12]}`" for one, clip in clips.items())
    made_with = (
        f"Weights: {hashes}. Means over the scene seeds {', '.join(map(str, SCENE_SEEDS))}, each "
        f"with {PER_CATEGORY} normal and {PER_CATEGORY} anomalous pictures a category"
    )
    table = bars_table(bars)
    if ships:
        write_card(table, made_with, of_runs=of_runs)
    return bars_markdown(table, made_with)


def _elpv() -> Dataset | None:
    """Photographs of solar cells, where the package that has them is installed."""
    try:
        return load_dataset("elpv")
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"ELPV is left out: {error}")
        return None
