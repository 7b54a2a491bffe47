"""Pictures come in order, as small as they are seen, while a network is at work."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from anovl.baselines import CONTROLS, METHODS, make_detector
from anovl.benchmark.workloads import Waiting, write_category
from anovl.data import load_dataset
from anovl.evaluation.once import Once
from anovl.evaluation.reading import Pictures, remembering, shrink


@pytest.fixture
def pool():
    with ThreadPoolExecutor(max_workers=3) as pool:
        yield pool


@pytest.fixture
def brick():
    return load_dataset("photos", categories=["brick"], per_category=3, image_size=48)


def test_chunks_in_the_order_of_the_samples(brick, pool):
    samples = list(brick.samples("brick"))
    pictures = Pictures(brick, "brick", [Waiting(32), Waiting(24)], pool=pool, chunk=4)
    for _ in range(2):  # the second detector gets them from memory
        chunks = list(pictures)
        assert [len(chunk.masks) for chunk in chunks] == [4, 2]
        for side in (32, 24):
            found = [picture for chunk in chunks for picture in chunk.pictures[side, side]]
            for picture, sample in zip(found, samples, strict=True):
                assert picture.tobytes() == sample.image.resize((side, side)).tobytes()
        masks = [mask for chunk in chunks for mask in chunk.masks]
        np.testing.assert_array_equal(masks, [sample.mask for sample in samples])
    assert chunks[0].once is chunks[1].once
    whole = pictures.whole()
    assert whole.pictures[24, 24] == [p for chunk in chunks for p in chunk.pictures[24, 24]]


def test_one_detector_leaves_nothing_in_memory(brick, pool):
    pictures = Pictures(brick, "brick", [Waiting(32)], pool=pool, chunk=2)
    chunks = list(pictures)
    assert len({id(chunk.once) for chunk in chunks}) == 3
    assert list(pictures) == []


def test_a_damaged_file_is_said_where_it_is_due(tmp_path, pool):
    for number in range(3):
        path = tmp_path / f"nut/test/good/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    path.write_bytes(b"no picture")
    dataset = load_dataset("folder", root=tmp_path)
    chunks = iter(Pictures(dataset, "nut", [Waiting(8)], pool=pool, chunk=1))
    assert len(next(chunks).masks) == len(next(chunks).masks) == 1
    odd = next(chunks)
    assert (odd.masks, odd.places) == (
        [],
        [],
    ) and "not a picture that Pillow can read" in odd.unread[0]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [(90, 70), (64, 64), (70, 120)])
def test_a_picture_made_small_before_is_seen_as_ever(name, size, tiny_clip):
    words = {"level": "word"} if name == "shuffled" or name not in CONTROLS else {}
    tiled = [{}, {"tiles": True}] if name in ("anovl", "anovl-tta", "shuffled") else [{}]
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in "ab"]
    for options in tiled:
        detector = make_detector(name, tiny_clip, **words, **options)
        small = [shrink(picture, detector.looks_at) for picture in pictures]
        looking = remembering(detector, Once())
        looking.look_ahead(small)
        found = looking.localize(small, "nut")
        for one, other in zip(detector.localize(pictures, "nut"), found, strict=True):
            np.testing.assert_array_equal(one.map, other.map)
            np.testing.assert_equal(one.score, other.score)  # NaN of shuffled included


def test_reading_hides_behind_the_network(tmp_path, pool):
    """Generous: the benchmark has the ratio that is aimed at."""
    write_category(tmp_path / "nut", images=24, side=900)
    dataset, network = load_dataset("folder", root=tmp_path), Waiting(240)
    start = time.perf_counter()
    for read in dataset.reads("nut"):
        shrink(read().image, network.looks_at)
    reading = time.perf_counter() - start
    seen, start = 0, time.perf_counter()
    with ThreadPoolExecutor(max_workers=2) as two:
        for chunk in Pictures(dataset, "nut", [network], pool=two, chunk=4):
            seen += len(network.localize(chunk.pictures[240, 240], "nut"))
    together = time.perf_counter() - start
    assert seen == 24
    assert together < 0.9 * (reading + 24 * network.seconds)
