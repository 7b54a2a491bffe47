"""Equal work is done once, and never taken for other work."""

from __future__ import annotations

import time

import torch

from anovl.evaluation.once import Once


def test_the_same_arguments_are_computed_once():
    calls, once = [], Once()

    def add(tensor, number, *, times=1):
        calls.append(number)
        return (tensor + number) * times

    tensor = torch.ones(4)
    first = once(add, tensor, 1, times=2)
    assert once(add, tensor.view(4), 1, times=2) is first  # the same memory
    assert calls == [1] and first.tolist() == [4, 4, 4, 4]
    others = [(tensor.clone(), 1, 2), (tensor[:2], 1, 2), (tensor[1:3], 1, 2), (tensor, 2, 2)]
    others += [(tensor, 1, 3), (tensor.view(2, 2), 1, 2)]
    for other, number, times in others:
        torch.testing.assert_close(once(add, other, number, times=times), (other + number) * times)
    assert len(calls) == 1 + len(others)


def test_what_was_given_stays_so_that_its_place_is_not_taken():
    once = Once()
    for value in range(50):  # each tensor would be free for the next
        assert once(torch.sum, torch.full((1000,), float(value))) == 1000 * value


def test_lists_are_the_same_when_all_in_them_is():
    once, a, b = Once(), object(), object()
    both = once(list, (a, b))
    assert once(list, [a, b]) is both
    assert once(list, [b, a]) == [b, a]
    assert once(list, [object(), b]) is not both


def test_saved_is_what_it_would_have_taken():
    once = Once()
    once(time.sleep, 0.05)
    assert once.saved == 0
    once(time.sleep, 0.05)
    assert 0.05 <= once.saved < 0.5
