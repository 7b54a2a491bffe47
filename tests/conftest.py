"""Fixtures that tests of several folders use. No test touches the network."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from helpers import Reference, compact_model, shared_path
from local_server import Server
from miniatures import MINIATURES

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, when huggingface_hub is imported


@pytest.fixture(name="shared_path", scope="session")
def shared_path_fixture():
    return shared_path


@pytest.fixture
def miniature(tmp_path):
    """Lay out a small copy of a data set as it is published: `miniature("visa")` is its root."""

    def lay_out(name: str, root: Path = tmp_path / "published") -> Path:
        MINIATURES[name](root / name)
        return root / name

    return lay_out


@pytest.fixture
def server():
    server = Server()
    yield server
    if server.thread.is_alive():
        server.stop()


@pytest.fixture(scope="session")
def small_reference() -> Reference:
    return Reference("small")


@pytest.fixture(scope="session")
def full_reference() -> Reference:
    shared_path("reference", "full", "forward.npz")
    return Reference("full")


@pytest.fixture(scope="session")
def tiny_clip():
    """A random CLIP: 64 px, patches of 16 (4x4), width 64, 4 blocks, 2 heads, embedding 32."""
    import open_clip

    import anovl

    name = "tiny [random weights]"
    return anovl.Clip(compact_model(), open_clip.tokenize, image_size=64, name=name)


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
