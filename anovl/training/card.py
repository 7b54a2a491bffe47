"""The numbers of the model card: what the pocket model is meant to reach, and what it reaches.

`python -m anovl.training.card --out DIR` measures them on scenes that no choice has seen, keeps the
runs under DIR, and writes bars.csv and the table of the model card beside the shipped weights.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anovl.data import load_dataset
from anovl.data.dataset import Dataset
from anovl.evaluation.compare import compare_methods
from anovl.evaluation.feature_cache import encode_dataset, score_prompts
from anovl.evaluation.harness import evaluate
from anovl.evaluation.results import read_groups
from anovl.models.pocket import FOLDER
from anovl.prompts import encode_prompts, prompt_ensemble

if TYPE_CHECKING:
    from pandas import DataFrame

    from anovl.clip import Clip

CONTROLS = ("centre", "shuffled", "outlier", "dog")
ATTENTIONS = ("clip", "anovl-qq", "anovl-kk")
ALL_METHODS = (*ATTENTIONS, "anovl", "anovl-tta", *CONTROLS)
START, END = "<!-- bars -->", "<!-- /bars -->"


@dataclass(frozen=True)
class Bar:
    """One number that the model is meant to reach: a value, or a difference or ratio of two.

    `value` and its 95 % interval from `low` to `high` are fractions; NaN where there is none.
    """

    says: str
    on: str
    value: float
    low: float
    high: float
    wanted: float

    @property
    def met(self) -> bool:
        """Whether the measured value itself, not its interval, is at least what is wanted."""
        return self.value >= self.wanted


def measure_bars(clip: Clip, out: str | Path, *, seed: int, per_category: int = 20) -> list[Bar]:
    """Measure every bar on the pocket world and on `photos`; the runs are kept under `out`."""
    from anovl.baselines import make_detector

    out, generated = Path(out), {"seed": seed, "per_category": per_category}
    pocket, photos = (load_dataset(name, **generated) for name in ("pocket", "photos"))
    evaluate(pocket, [make_detector(name, clip) for name in ALL_METHODS], out=out / "pocket")
    photographs = evaluate(photos, [make_detector("anovl", clip)], out=out / "photos")
    bars = [*_levels(out / "pocket"), *_gains(out / "pocket", pocket.groups)]
    bars += _words(clip, pocket)
    mean = photographs[photographs["category"] == "mean"].iloc[0]
    return [*bars, _level("v-v, pixel AUROC*", "photos", mean, "auroc_px_debiased", 0.75)]


def _level(says: str, on: str, row: Mapping[str, float], metric: str, wanted: float) -> Bar:
    return Bar(says, on, row[metric], row[f"{metric}_lo"], row[f"{metric}_hi"], wanted)


def _levels(run: Path) -> Iterator[Bar]:
    """Whole pictures and v-v maps, by themselves."""
    groups = read_groups(run).set_index(["method", "category"])
    for group, image, pixel in (("seen", 0.92, 0.82), ("unseen", 0.85, 0.76)):
        vv, qk = (groups.loc[method, group] for method in ("anovl", "clip"))
        yield _level("whole pictures, image AUROC", group, vv, "auroc_sp", image)
        yield _level("v-v, pixel AUROC*", group, vv, "auroc_px_debiased", pixel)
        ratio = vv["ap_px"] / qk["ap_px"]
        yield Bar("v-v / q-k, pixel AP", group, ratio, float("nan"), float("nan"), 2.0)


def _gains(run: Path, groups: Mapping[str, Sequence[str]]) -> Iterator[Bar]:
    """V-V maps against other maps of the same pictures."""
    for group, categories in groups.items():
        for metric, name, others, wanted in (
            ("auroc_px_debiased", "pixel AUROC*", ATTENTIONS, (0.15, 0.0, 0.0)),
            ("aupro", "AUPRO", CONTROLS, (0.0,) * len(CONTROLS)),
        ):
            for other, least in zip(others, wanted, strict=True):
                found = compare_methods(run, metric, "anovl", other, categories=categories)
                gain = found["ours"] - found["other"]
                label = {"clip": "q-k", "anovl-qq": "q-q", "anovl-kk": "k-k"}.get(other, other)
                yield Bar(f"v-v - {label}, {name}", group, gain, found["low"], found["high"], least)
        for metric, name in (("auroc_px_debiased", "pixel AUROC*"), ("aupro", "AUPRO")):
            found = compare_methods(run, metric, "anovl-tta", "anovl", categories=categories)
            gain = found["ours"] - found["other"]
            yield Bar(f"TTA - none, {name}", group, gain, found["low"], found["high"], 0.0)


def _words(clip: Clip, data: Dataset) -> Iterator[Bar]:
    """The domain-aware ensemble against the bare word."""
    encoded = encode_dataset(clip, data)
    word, domains = (
        score_prompts(
            encoded,
            {c: encode_prompts(clip, prompt_ensemble(c, level=level)) for c in data.categories},
        )
        for level in ("word", "domains")
    )
    for metric, name in (("auroc_sp", "image AUROC"), ("auroc_px_debiased", "pixel AUROC*")):
        yield Bar(f"ensemble - bare word, {name}", "all", *domains.gain(word, metric), 0.0)


def bars_table(bars: Sequence[Bar], again: Sequence[Bar] = ()) -> DataFrame:
    """Lay bars out as the rows of bars.csv; `again` are those of another training of the model."""
    from pandas import DataFrame

    table = DataFrame([vars(bar) | {"met": bar.met} for bar in bars])
    table["again"] = [bar.value for bar in again] or float("nan")
    return table


def bars_markdown(table: DataFrame, made_with: str) -> str:
    """The table of the model card, with its marks, from the rows of bars.csv.

    >>> print(bars_markdown(bars_table([Bar("image AUROC", "seen", 0.9, 0.85, 0.93, 0.92)]), "x"))
    <!-- bars -->
    | bar | on | measured | 95 % interval | wanted | met | trained again |
    |:----|:---|---------:|:--------------|-------:|:----|--------------:|
    | image AUROC | seen | 0.900 | 0.850 to 0.930 | 0.92 | no |  |
    <BLANKLINE>
    x. \\* position-debiased.
    <!-- /bars -->
    """
    rows = [
        (
            *(row.says, row.on, f"{row.value:.3f}"),
            "" if np.isnan(row.low) else f"{row.low:.3f} to {row.high:.3f}",
            *(f"{row.wanted:g}", "yes" if row.met else "no"),
            "" if np.isnan(row.again) else f"{row.again:.3f}",
        )
        for row in table.itertuples()
    ]
    heads = ("bar", "on", "measured", "95 % interval", "wanted", "met", "trained again")
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *rows)]
    lines.insert(1, "|:----|:---|---------:|:--------------|-------:|:----|--------------:|")
    return "\n".join([START, *lines, "", f"{made_with}. \\* position-debiased.", END])


def write_card(table: DataFrame, made_with: str, folder: Path = FOLDER) -> None:
    """Write bars.csv, and its table between the marks of the model card in the same folder.

    Raises ValueError if the card has no marks.
    """
    table = table.round(4)
    table.to_csv(folder / "bars.csv", index=False, lineterminator="\n")
    card = folder / "README.md"
    before, start, rest = card.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{card} has no place for the bars: a line {START} and a line {END}")
    card.write_text(before + bars_markdown(table, made_with) + after, encoding="utf-8")


def main() -> None:
    from anovl.models.load import load_clip

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", required=True, help="folder for the runs; a killed one goes on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-category", type=int, default=20)
    parser.add_argument("--again", help="folder of another training, measured beside the shipped")
    asked = parser.parse_args()
    scenes = {"seed": asked.seed, "per_category": asked.per_category}
    clip, out, again = load_clip("pocket"), Path(asked.out), []
    other = load_clip("pocket", weights=asked.again) if asked.again else clip
    if asked.again and other.weights_hash == clip.weights_hash:
        parser.error(f"--again {asked.again} holds the shipped weights, not another training")
    bars = measure_bars(clip, out, **scenes)
    made_with = (
        f"Weights `{clip.weights_hash[:12]}`, scenes of seed {asked.seed}, "
        f"{asked.per_category} healthy and {asked.per_category} damaged a category"
    )
    if asked.again:
        again = measure_bars(other, out / "again", **scenes)
        apart = statistics.mean(
            abs(a.value - b.value) for a, b in zip(bars, again, strict=True) if "/" not in a.says
        )
        made_with += (
            f". Trained again from another seed, weights `{other.weights_hash[:12]}`: the bars "
            f"(ratios aside) move by {apart:.3f} on average"
        )
    table = bars_table(bars, again)
    write_card(table, made_with)
    print(bars_markdown(table, made_with))


if __name__ == "__main__":
    main()
