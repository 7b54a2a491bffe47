"""A batch that fits."""

from __future__ import annotations

from anovl.evaluation.batch_size import default_batch_size


def test_a_cpu_has_sixteen(tiny_clip):
    assert default_batch_size(tiny_clip) == 16


def test_a_gpu_has_as_many_as_half_of_its_free_memory_holds(tiny_clip):
    each = 4 * (44 * 3 * 64 * 64 + 24 * 17 * 64)
    assert default_batch_size(tiny_clip, free=2 * 16 * each) == 16
    assert default_batch_size(tiny_clip, free=2 * 16 * each - 1) == 8
    assert default_batch_size(tiny_clip, free=0) == 1
    assert default_batch_size(tiny_clip, free=10**13) == 256
