"""Pictures come in order, as small as they are seen, while a network is at work."""

from __future__ import annotations

import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anovl.baselines import CONTROLS, METHODS, make_detector
from anovl.data import load_dataset
from anovl.data.dataset import Sample
from anovl.evaluation.once import Once
from anovl.evaluation.reading import Pictures, remembering, shrink
from anovl.masks import mask_at
from anovl_companion.benchmark.materials import Waiting


@pytest.fixture
def pool():
    with ThreadPoolExecutor(max_workers=3) as pool:
        yield pool


@pytest.fixture
def brick():
    return load_dataset("photos", categories=["brick"], per_category=3, image_size=48)


def test_chunks_in_the_order_of_the_samples(brick, pool):
    samples = list(brick.samples("brick"))
    pictures = Pictures(brick, "brick", [Waiting(32), Waiting(24)], pool=pool)
    for _ in range(2):  # the second detector gets them from memory
        chunks = list(pictures)
        assert [len(chunk.masks) for chunk in chunks] == [4, 2]
        for side in (32, 24):
            found = [picture for chunk in chunks for picture in chunk.pictures[side, side]]
            for picture, sample in zip(found, samples, strict=True):
                assert picture.tobytes() == sample.image.resize((side, side)).tobytes()
        masks = [mask for chunk in chunks for mask in chunk.masks]
        np.testing.assert_array_equal(masks, [sample.mask for sample in samples])
        small = [
            chunk.mask_at(number, (24, 24), shape)
            for shape in ((24, 24), (40, 30))  # ready for the size of the method, made for another
            for chunk in chunks
            for number in range(len(chunk.masks))
        ]
        for mask, sample in zip(small, 2 * samples, strict=True):
            np.testing.assert_array_equal(mask, mask_at(sample.mask, mask.shape))
        assert [mask.shape for mask in small] == 6 * [(24, 24)] + 6 * [(40, 30)]
    assert chunks[0].once is chunks[1].once
    whole = pictures.whole()
    assert whole.pictures[24, 24] == [p for chunk in chunks for p in chunk.pictures[24, 24]]


def test_one_detector_leaves_nothing_in_memory(brick, pool):
    pictures = Pictures(brick, "brick", [Waiting(32)], pool=pool)
    chunks = list(pictures)
    assert len({id(chunk.once) for chunk in chunks}) == 2
    assert list(pictures) == []


def test_the_next_category_is_read_when_all_of_this_one_has_been():
    seen = []

    class Counted(SlowDisk):
        def reads(self, category):
            return [partial(self.note, category)] * 60

        def note(self, category):
            seen.append(category)
            return Sample(Image.new("RGB", (8, 8)), None, 0, category, "good", Path("000.png"))

    pool = OneAfterTheOther()
    nuts = Pictures(Counted(), "nut", [Waiting(8)], pool=pool)
    bolts = Pictures(Counted(), "bolt", [Waiting(8)], pool=pool, after=nuts)
    assert seen == ["nut"] * 44, "chunks of 4, 8, 16 and 16"
    assert [len(chunk.places) for chunk in nuts] == [4, 8, 16, 16, 16]
    assert seen == ["nut"] * 60 + ["bolt"] * 44
    nails = Pictures(Counted(), "nail", [Waiting(8)], pool=pool, after=bolts)
    bolts.whole()
    assert seen[120:] == ["nail"] * 44
    assert len(nails.whole().places) == 60
    Pictures(Counted(), "clip", [Waiting(8)], pool=pool, after=nails)
    assert seen[180:] == ["clip"] * 44, "the one before has been read already"


def test_masks_come_at_the_size_of_the_maps(brick, pool):
    chunk = next(iter(Pictures(brick, "brick", [Waiting(32)], pool=pool, size=20)))
    assert {mask.shape for mask in chunk.small_masks[32, 32]} == {(20, 20)}
    masks = [sample.mask for sample in brick.samples("brick")]
    for number, mask in enumerate(chunk.masks):
        found = chunk.mask_at(number, (32, 32), (20, 20))
        np.testing.assert_array_equal(found, mask_at(masks[number], (20, 20)))
        assert mask.shape == (48, 48)


def test_a_damaged_file_is_said_where_it_is_due(tmp_path, pool):
    for number in range(5):
        path = tmp_path / f"nut/test/good/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    path.write_bytes(b"no picture")
    dataset = load_dataset("folder", root=tmp_path)
    chunks = iter(Pictures(dataset, "nut", [Waiting(8)], pool=pool))
    assert len(next(chunks).masks) == 4
    odd = next(chunks)
    assert (odd.masks, odd.places) == ([], [])
    assert "not a picture that Pillow can read" in odd.unread[0]


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


def test_reading_hides_behind_the_network():
    """Disk and network wait 20 ms a picture; the benchmark measures it with real pictures."""
    network = Waiting(32)

    def measured(pool: Executor) -> float:
        seen, start = 0, time.perf_counter()
        for chunk in Pictures(SlowDisk(), "nut", [network], pool=pool):
            seen += len(network.localize(chunk.pictures[32, 32], "nut"))
        assert seen == 24
        return time.perf_counter() - start

    def ratio() -> float:
        with ThreadPoolExecutor(max_workers=2) as two:
            return measured(two) / measured(OneAfterTheOther())

    assert any(ratio() < 0.8 for _ in range(3)), "also a busy machine does it once"


class SlowDisk:
    """A data set of 24 pictures that come after 20 ms each."""

    def reads(self, category):
        return [self.read] * 24

    def read(self):
        time.sleep(0.02)
        return Sample(Image.new("RGB", (32, 32)), None, 0, "nut", "good", Path("000.png"))


class OneAfterTheOther(Executor):
    """A pool without threads: what is submitted is done at once."""

    def submit(self, function, *arguments, **options):
        done = Future()
        done.set_result(function(*arguments, **options))
        return done
