"""Writing that is all or nothing, and what is said where it is nothing."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path

import pytest
import torch

from anovl._shared.files import write_atomically


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, r"^\[Errno \d+\] why$"),
        (errno.EACCES, r"weights\.pt .*why"),
    ],
)
def test_what_cannot_be_written_leaves_the_file_of_before(tmp_path, monkeypatch, number, said):
    path, own = tmp_path / "weights.pt", Path.write_bytes
    write_atomically(path, partial(torch.save, {"a": torch.ones(3)}))

    def write(path, data):
        own(path, bytes(data)[:100])
        raise OSError(number, "why")

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(OSError, match=said) as caught:
        write_atomically(path, partial(torch.save, {"a": torch.zeros(3)}))
    assert isinstance(caught.value, type(OSError(number, "")))
    assert list(tmp_path.iterdir()) == [path]
    assert torch.equal(torch.load(path)["a"], torch.ones(3))
