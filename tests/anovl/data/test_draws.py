"""`per_category` draws images of each category by a seed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anovl.data import load_dataset
from anovl.data.check import summarise


@pytest.fixture
def folder(tmp_path):
    """A category of 8 normal and 5 anomalous images, each of another grey."""
    grey = iter(range(0, 250, 10))
    for kind, n in (("good", 8), ("spot", 5)):
        (tmp_path / "data/nut/test" / kind).mkdir(parents=True)
        for number in range(n):
            pixels = np.full((16, 16), next(grey), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"data/nut/test/{kind}/{number}.png")
    return tmp_path / "data"


def drawn(folder, **options) -> set[int]:
    samples = load_dataset("folder", folder, **options).samples("nut")
    return {sample.image.getpixel((0, 0))[0] for sample in samples}


def test_draws_are_decided_by_the_seed_alone_and_nested(folder):
    three, four = (drawn(folder, per_category=n, seed=1) for n in (3, 4))
    assert len(three) == 6 and len(four) == 8 and three < four
    assert len({value for value in three if value >= 80}) == 3, "as many anomalous as normal"
    assert three == drawn(folder, per_category=3, seed=1)
    assert len({frozenset(drawn(folder, per_category=3, seed=seed)) for seed in range(9)}) > 4
    assert drawn(folder, per_category=99) == drawn(folder) and len(drawn(folder)) == 13


def test_what_a_draw_leaves_out_is_no_doubt(folder):
    truth = folder / "nut/ground_truth/spot"
    truth.mkdir(parents=True)
    for number in (*range(5), 9):
        mask = Image.fromarray(np.full((16, 16), 0, dtype=np.uint8))
        mask.save(truth / f"{number}_mask.png")
    summary = summarise(load_dataset("folder", folder, per_category=2))
    assert [finding.files for finding in summary.unused] == [("nut/ground_truth/spot/9_mask.png",)]
    (doubt,) = summary.doubts
    assert doubt.what.startswith("masks without a defect") and len(doubt.files) == 2


def test_draws_need_labels_and_whole_numbers(folder):
    with pytest.raises(ValueError, match="--per-category"):
        load_dataset("folder", folder / "nut/test/good", per_category=2)
    for options, name in (({"per_category": 0}, "per_category"), ({"seed": -1}, "seed")):
        with pytest.raises(ValueError, match=name):
            load_dataset("folder", folder, **{"per_category": 2} | options)
    with pytest.raises(ValueError, match="image_size"):
        load_dataset("folder", folder, image_size=64)
