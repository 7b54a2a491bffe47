"""Images come in order, in the form that methods need, a few chunks ahead."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anovl.adapt import TTA
from anovl.baselines import CONTROLS, METHODS, make_detector
from anovl.baselines.controls import Centre
from anovl.data import load_dataset
from anovl.data.dataset import Sample
from anovl.detector import AnoVL
from anovl.evaluation import pairs, reading
from anovl.evaluation.reading import chunks_of, default_batch_size, form_of, joined, read_ahead
from anovl.masks import mask_at


@pytest.fixture
def pool():
    with ThreadPoolExecutor(max_workers=3) as pool:
        yield pool


@pytest.fixture
def brick():
    return load_dataset("photos", categories=["brick"], per_category=3, image_size=48)


@pytest.mark.parametrize("size", [None, 20])
def test_images_and_masks_in_the_order_of_the_samples(brick, pool, monkeypatch, size):
    monkeypatch.setattr(reading, "CHUNK", 4)
    samples, methods = list(brick.samples("brick")), [Centre(32), Centre((24, 16))]
    tasks = chunks_of(brick.reads("brick"), methods, size)
    chunks = list(read_ahead(tasks, pool))
    assert [len(chunk.masks) for chunk in chunks] == [4, 2]
    for method, shape in zip(methods, [(32, 32), (24, 16)], strict=True):
        pictures = joined(chunks, form_of(method)).images["size", shape]
        for picture, sample in zip(pictures, samples, strict=True):
            assert picture.tobytes() == sample.image.resize(shape[::-1]).tobytes()
    for shape in ((32, 32), (20, 20), (48, 48), (40, 30)):
        found = [mask(shape) for chunk in chunks for mask in chunk.masks]
        for mask, sample in zip(found, samples, strict=True):
            np.testing.assert_array_equal(mask, mask_at(sample.mask, shape))


def test_chunks_hold_whole_batches(brick, tiny_clip):
    reads = brick.reads("brick") * 12  # 72
    tasks = chunks_of(
        reads, [AnoVL(tiny_clip, batch_size=10), AnoVL(tiny_clip, batch_size=4)], None
    )
    assert [len(task) for task in tasks] == [20, 20, 20, 12]


def test_few_chunks_are_read_ahead():
    seen = []

    def read():
        seen.append(1)
        return {}, lambda shape: None

    chunks = read_ahead([[read] * 4] * 9, OneAfterTheOther())
    next(chunks)
    assert len(seen) == 4 * (1 + reading.AHEAD)
    next(chunks)
    assert len(seen) == 4 * (2 + reading.AHEAD)
    assert len(list(chunks)) == 7


def test_an_error_comes_with_its_chunk(pool):
    def fails():
        raise OSError("no picture")

    chunks = read_ahead([[lambda: ({}, None)], [fails]], pool)
    assert len(next(chunks).masks) == 1
    with pytest.raises(OSError, match="no picture"):
        next(chunks)


@pytest.mark.parametrize("name", [*METHODS, "anovl sequence", "pca-normal"])
@pytest.mark.parametrize("size", [(90, 70), (64, 64), (70, 120)])
def test_a_method_gives_the_same_for_images_in_its_form(name, size, tiny_clip, pool):
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in "ab"]
    words = {"level": "word"} if name == "shuffled" or name not in CONTROLS else {}
    if name == "pca-normal":
        methods = [make_detector(name, tiny_clip, normal=pictures, pictures=2)]
    elif name == "anovl sequence":
        methods = [AnoVL(tiny_clip, level="word", tta=TTA(reset_optimizer=False))]
    else:
        own = [{}, {"tiles": True}] if name in ("anovl", "anovl-tta", "shuffled") else [{}]
        methods = [make_detector(name, tiny_clip, **words, **options) for options in own]
    samples = [Sample(one, None, 0, "nut", "good", Path("a.png")) for one in pictures]
    for method in methods:
        tasks = chunks_of([lambda one=one: one for one in samples], [method], None)
        chunks = read_ahead(tasks, pool)
        found = pairs.localize_category(method, chunks, "nut", None, abs)
        for i, expected in enumerate(method.localize(pictures, "nut")):
            np.testing.assert_array_equal(found.maps[i], expected.map)
            np.testing.assert_equal(found.scores[i], expected.score)  # NaN of shuffled included


class OneAfterTheOther(Executor):
    """A pool without threads: what is submitted is done at once."""

    def submit(self, function, *arguments, **options):
        done = Future()
        done.set_result(function(*arguments, **options))
        return done


def test_a_batch_fits_into_half_of_the_free_memory_of_a_gpu(tiny_clip):
    each = 4 * (44 * 3 * 64 * 64 + 24 * 17 * 64)
    assert default_batch_size(tiny_clip) == 16
    for free, expected in ((32 * each, 16), (32 * each - 1, 8), (0, 1), (10**13, 256)):
        assert default_batch_size(tiny_clip, free=free) == expected
