"""The parts of the shared run besides the methods: each compares ways of one kind.

A category of a part is measured and saved at once, so that a killed run goes on with the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from joblib import Parallel, delayed
from tqdm import tqdm

from anovl._shared.code import code_hash
from anovl.baselines import make_detector
from anovl.clip import Clip
from anovl.data.dataset import Dataset
from anovl.evaluation.run_folder import RunFolder, describe_run, pair_name
from anovl_companion.measure.attention_variants import attention_variants
from anovl_companion.measure.category import Category, Variant
from anovl_companion.measure.probe import probe_variants
from anovl_companion.measure.tta_variants import tta_variants
from anovl_companion.measure.wordings import word_variants
from anovl_companion.shared_run.compact import Found, measured

PARTS: dict[str, Callable[[Category], Iterator[Variant]]] = {
    "attention": attention_variants,
    "words": word_variants,
    "probe": probe_variants,
    "tta": tta_variants,
}


def measure_parts(
    clip: Clip,
    data: Dataset,
    out: Path,
    *,
    parts: Iterable[str] = PARTS,
    seed: int = 0,
    resamples: int = 300,
    jobs: int = 1,
    progress: bool = False,
) -> dict[str, Found]:
    """Measure parts on every category, and return what was found, by part and category.

    Every category of a part is saved under `out` when it is finished: called again, a killed run
    goes on. `jobs` processes share the categories.

    Raises ValueError when `out` holds a run of other data, weights or code.
    """
    parts, draws = tuple(parts), {"seed": seed, "resamples": resamples}
    for part in parts:
        run = describe_run(data, [make_detector("anovl", clip)], **draws)
        RunFolder.claim(
            out / part, run | {"methods": {part: {}}, "code_sha256": code_of_part(part)}
        )
    shares = [data.categories[one::jobs] for one in range(jobs)]
    work = delayed(_measure_categories)
    Parallel(n_jobs=jobs)(
        work(clip, data, out, share, parts, draws, progress) for share in shares if share
    )
    return {
        part: {name: RunFolder(out / part).read(pair_name(name, part)) for name in data.categories}
        for part in parts
    }


def _measure_categories(
    clip: Clip,
    data: Dataset,
    out: Path,
    categories: Sequence[str],
    parts: Sequence[str],
    draws: dict[str, int],
    progress: bool,
) -> None:
    """Measure what is not finished of some categories; a category is decoded once for all parts."""
    for name in tqdm(categories, unit="category", disable=not progress):
        left = [part for part in parts if not RunFolder(out / part).has(pair_name(name, part))]
        category = Category.read(clip, data, name) if left else None
        for part in left:
            found = measured(category, PARTS[part](category), **draws)
            RunFolder(out / part).keep(pair_name(name, part), found)


def code_of_part(part: str) -> str:
    """Hash the code that the results of a part depend on."""
    module = PARTS[part].__module__
    return code_hash(f"import {module}\nimport anovl_companion.shared_run.compact")
