import pytest


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Put a file of a repository into an empty cache of the hub: `hub("org/toy", "a.bin")`."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(repository, name):
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        for part in ("snapshots/abc", "refs"):
            (folder / part).mkdir(parents=True)
        (folder / "refs/main").write_text("abc")
        (folder / "snapshots/abc" / name).write_bytes(b"weights")
        return folder / "snapshots/abc" / name

    return put
