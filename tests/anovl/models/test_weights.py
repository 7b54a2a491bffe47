"""Weights as files: where they are, whether they are what they claim, and what is never run."""

import hashlib
import pickle
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from anovl._shared.files import hash_file
from anovl.clip import hash_state_dict
from anovl.models.weights import Source, claimed_hash, find_weights, prove, read_state_dict

CONTENT = bytes(range(256)) * 5000
NAME = f"toy-weights-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pt"
OFFLINE = "huggingface_hub.constants.HF_HUB_OFFLINE"


@pytest.fixture
def online(server, monkeypatch):
    """A server with the file, and nothing that forbids to ask it; `source` names it."""
    monkeypatch.setattr(OFFLINE, False)
    server.files[f"/{NAME}"] = CONTENT
    return SimpleNamespace(
        server=server, source=Source("the weights 'x' of toy", url=f"{server.url}/{NAME}")
    )


def test_hash_of_a_state_dict_sees_names_and_values_only():
    state = {"a": torch.arange(4.0), "b": torch.ones(2, 2)}
    digest = hash_state_dict(state)
    assert digest == hash_state_dict({"b": torch.ones(2, 2).bfloat16(), "a": torch.arange(4.0)})
    assert digest == hash_state_dict({"a": torch.arange(4.0), "b": torch.ones(2, 4)[:, ::2]})
    assert digest != hash_state_dict({"a": torch.arange(4.0), "c": torch.ones(2, 2)})
    assert digest != hash_state_dict({"a": torch.arange(4.0), "b": torch.ones(2, 2) + 1e-6})


def test_a_file_is_what_its_name_claims(tmp_path):
    assert claimed_hash("https://host/path/vit_b_32-laion2b_e16-af8dbd0c.pth") == "af8dbd0c"
    for name in ("run-20240131.pt", "model-699c4b84.txt", "model-699c4b8.pt"):
        assert claimed_hash(name) == ""
    (tmp_path / NAME).write_bytes(CONTENT)
    assert prove(tmp_path / NAME) == hashlib.sha256(CONTENT).hexdigest()
    (tmp_path / "any.pt").write_bytes(b"any")
    assert prove(tmp_path / "any.pt") == hash_file(tmp_path / "any.pt")
    (tmp_path / NAME).write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=f"{NAME} .*{hash_file(tmp_path / NAME)}"):
        prove(tmp_path / NAME)


def test_a_download_is_proven_kept_and_found_without_asking_the_network(online, tmp_path):
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        found = find_weights(online.source, folder=folder, allow_download=True)
    assert found.read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == [NAME]
    assert len(online.server.asked) == 1


def test_a_missing_file_is_said_at_once(online, hub, tmp_path, monkeypatch):
    for source in (online.source, Source("the weights 'x' of toy", hub="org/toy")):
        monkeypatch.setattr(OFFLINE, False)
        with pytest.raises(FileNotFoundError, match=r"'x' of toy .*allow_download=True.*/.*toy"):
            find_weights(source, folder=tmp_path)
        monkeypatch.setattr(OFFLINE, True)
        with pytest.raises(FileNotFoundError, match=r"'x' of toy .*HF_HUB_OFFLINE.*weights="):
            find_weights(source, folder=tmp_path, allow_download=True)
    assert online.server.asked == []


def test_no_network_is_said_with_the_remedy(online, hub, tmp_path, monkeypatch):
    online.server.stop()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", online.server.url)
    with pytest.raises(ConnectionError, match=f"'x' of toy .*refused.*{NAME} by hand"):
        find_weights(online.source, folder=tmp_path, allow_download=True)
    with pytest.raises(ConnectionError, match=r"toy .*refused.*huggingface\.co/org/toy by hand"):
        find_weights(Source("toy", hub="org/toy"), folder=tmp_path, allow_download=True)


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_the_cache_of_the_hub_is_used_offline(hub, tmp_path, name):
    cached = hub("org/toy", name)
    assert find_weights(Source("toy", hub="org/toy"), folder=tmp_path) == cached


def test_the_hub_falls_back_to_the_older_file(online, hub, tmp_path, monkeypatch):
    from huggingface_hub.errors import EntryNotFoundError

    def download(repository, name, *, local_files_only):
        if local_files_only or name.endswith(".safetensors"):
            raise EntryNotFoundError("404")
        if repository == "org/broken":
            raise RuntimeError("of a network library")
        return str(tmp_path / name)

    online.server.files["/"] = b"the hub"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", online.server.url + "/")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    found = find_weights(Source("toy", hub="org/toy"), folder=tmp_path, allow_download=True)
    assert found == tmp_path / "open_clip_pytorch_model.bin"
    with pytest.raises(ConnectionError, match=r"toy .*of a network library.*by hand"):
        find_weights(Source("toy", hub="org/broken"), folder=tmp_path, allow_download=True)


# --- reading --------------------------------------------------------------------------------------


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {"a": torch.randn(3, 2), "b": torch.arange(4.0)}


@pytest.mark.parametrize("wrap", [dict, lambda s: {"state_dict": s, "epoch": 3}], ids=["", "epoch"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_torch_files(tmp_path, state, wrap, prefix):
    torch.save(wrap({prefix + name: value for name, value in state.items()}), tmp_path / "w.pt")
    assert_close(read_state_dict(tmp_path / "w.pt"), state)


def test_half_precision_safetensors_become_float32(tmp_path, state):
    save_file({name: value.half() for name, value in state.items()}, tmp_path / "w.safetensors")
    found = read_state_dict(tmp_path / "w.safetensors")
    assert_close(found, {name: value.half().float() for name, value in state.items()})


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_damaged_files_are_named(tmp_path, state, suffix, damage):
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    whole = path.read_bytes()
    damaged = {"empty": b"", "cut": whole[: len(whole) // 2], "text": b"version https://git-lfs"}
    path.write_bytes(damaged[damage])
    with pytest.raises(ValueError, match=rf"w\{suffix} cannot be read") as error:
        read_state_dict(path)
    assert "weights_only" not in str(error.value)  # torch would suggest to switch safety off


class Trap:
    ran = False

    def __reduce__(self):
        return (setattr, (Trap, "ran", True))


@pytest.mark.filterwarnings("ignore:.*TorchScript", "ignore:.*torch.jit")
def test_code_in_a_file_is_never_run(tmp_path, state):
    torch.save(state | {"trap": Trap()}, tmp_path / "trap.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "ViT-B-32.pt")
    for name in ("trap.pt", "plain.pt", "model.pt", "ViT-B-32.pt"):
        with pytest.raises(ValueError, match=name):
            read_state_dict(tmp_path / name)
    assert not Trap.ran


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.ones(2)], ids=repr)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt"):
        read_state_dict(tmp_path / "w.pt")
