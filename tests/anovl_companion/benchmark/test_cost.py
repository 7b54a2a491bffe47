"""Costs are counted: by hand on a tiny network, the same twice, in the order that must be."""

from __future__ import annotations

import pytest
import torch

from anovl.adapt import TTA
from anovl.attention import both_paths, embed
from anovl.baselines import make_detector
from anovl.detector import AnoVL
from anovl_companion.benchmark.cost import _LiveTensors, cost, counted


@pytest.fixture(scope="module")
def image(tiny_clip):
    return torch.zeros(1, 3, *tiny_clip.image_size)


def flops(clip, image, method, **options):
    return cost(make_detector(method, clip, level="word", **options), image, "nut").flops


def test_plain_clip_by_hand(tiny_clip, image):
    """Multiplications and additions of patches, projections, attention, MLP and both read-outs."""
    visual = tiny_clip.model.visual
    width, depth = visual.conv1.out_channels, len(visual.transformer.resblocks)
    patches, d = tiny_clip.grid[0] * tiny_clip.grid[1], tiny_clip.embed_dim
    n, side = patches + 1, visual.patch_size[0]
    embedding = patches * width * 3 * side**2
    block = n * width * width * (4 + 2 * 4) + 2 * n * n * width
    words = 2 * d * (patches + 1)  # cosines with two prototypes
    expected = 2 * (embedding + depth * block + n * width * d + words)
    assert flops(tiny_clip, image, "clip") == expected


def test_the_local_path_adds_and_adaptation_adds_by_the_step(tiny_clip, image):
    visual = tiny_clip.model.visual
    block = visual.transformer.resblocks[0]
    with torch.no_grad():
        z = embed(visual, image)
        plain = counted(lambda: block(z)).flops
        both = counted(lambda: both_paths(block, z, z)).flops
    local = flops(tiny_clip, image, "anovl")
    one, two, three = (
        cost(AnoVL(tiny_clip, level="word", tta=TTA(steps=n)), image, "nut").flops
        for n in (1, 2, 3)
    )
    assert plain < both and local < one
    assert two - one == three - two > 0


def test_the_count_is_the_same_twice_and_grows_with_the_images(tiny_clip, image):
    method = make_detector("anovl", tiny_clip, level="word")
    once = cost(method, image, "nut")
    assert once == cost(method, image, "nut")
    both = cost(method, image.repeat(2, 1, 1, 1), "nut")
    assert both.flops == 2 * once.flops and both.peak_bytes > once.peak_bytes


def test_memory_is_that_of_tensors_alive_together():
    given = torch.zeros(1000)
    with _LiveTensors() as memory:
        for _ in range(3):
            made = given + 1  # 4000 bytes; the one before lives until this name is bound anew
            made.view(10, 100).add_(1)
        given.add_(1)
        del made
    assert memory.peak == 8000
