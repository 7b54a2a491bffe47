import hashlib
import io
import pickle
import urllib.error

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from anovl.clip import hash_state_dict
from anovl.models.weights import (
    Source,
    check_hash,
    claimed_hash,
    download,
    find_weights,
    hash_file,
    read_state_dict,
)

URL = "https://example.org/v1/toy-weights-{}.pt"


@pytest.fixture
def content() -> bytes:
    return bytes(range(256)) * 5000  # more than one block of reading


@pytest.fixture
def url(content) -> str:
    return URL.format(hashlib.sha256(content).hexdigest()[:8])


@pytest.fixture
def network(monkeypatch, content):
    """A fake network that serves `content` and records what was asked for."""
    asked = []

    def urlopen(request, timeout):
        asked.append(getattr(request, "full_url", request))
        response = io.BytesIO(content)
        response.status = 200
        response.headers = {"Content-Length": str(len(content))}
        return response

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return asked


@pytest.fixture
def no_network(monkeypatch):
    def urlopen(url, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", urlopen)


def test_hash_of_a_file(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert hash_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_hash_of_a_state_dict_sees_names_and_values_only():
    state = {"a": torch.arange(4.0), "b": torch.ones(2, 2)}
    digest = hash_state_dict(state)
    assert digest == hash_state_dict({"b": torch.ones(2, 2).bfloat16(), "a": torch.arange(4.0)})
    assert digest == hash_state_dict({"a": torch.arange(4.0), "b": torch.ones(2, 4)[:, ::2]})
    assert digest != hash_state_dict({"a": torch.arange(4.0), "c": torch.ones(2, 2)})
    assert digest != hash_state_dict({"a": torch.arange(4.0), "b": torch.ones(2, 2) + 1e-6})


@pytest.mark.parametrize(
    ("name", "claimed"),
    [
        ("vit_b_16_plus_240-laion400m_e32-699c4b84.pt", "699c4b84"),
        ("https://host/path/vit_b_32-laion2b_e16-af8dbd0c.pth", "af8dbd0c"),
        ("ViT-B-32.pt", ""),
        ("run-20240131.pt", ""),
        ("model-699c4b84.txt", ""),
        ("model-699c4b8.pt", ""),
    ],
)
def test_hash_that_a_name_claims(name, claimed):
    assert claimed_hash(name) == claimed


def test_wrong_hash_names_both(tmp_path):
    path = tmp_path / "toy-0123abcd.pt"
    check_hash(path, "0123abcd" + "0" * 56)
    with pytest.raises(ValueError, match=f"toy-0123abcd.pt .*begins with 0123abcd.*is {'f' * 64}"):
        check_hash(path, "f" * 64)


def test_local_file_is_used_without_asking_the_network(tmp_path, content, url, network):
    target = tmp_path / url.rpartition("/")[2]
    target.write_bytes(content)
    found = find_weights(Source("toy", url=url), folder=tmp_path, allow_download=True)
    assert (found, network) == (target, [])


def test_damaged_local_file_is_refused(tmp_path, url, network):
    (tmp_path / url.rpartition("/")[2]).write_bytes(b"half")
    with pytest.raises(ValueError, match="damaged"):
        find_weights(Source("toy", url=url), folder=tmp_path, allow_download=True)
    assert network == []


def test_missing_file_is_said_at_once(tmp_path, url, network, monkeypatch):
    source = Source("the weights 'x' of toy", url=url)
    with pytest.raises(
        FileNotFoundError, match=r"weights 'x' of toy are not .*allow_download=True"
    ):
        find_weights(source, folder=tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"HF_HUB_OFFLINE is set.*by hand.*weights="):
        find_weights(source, folder=tmp_path, allow_download=True)
    assert network == []


def test_download_is_proven_and_kept(tmp_path, content, url, network):
    folder = tmp_path / "new" / "folder"
    found = find_weights(Source("toy", url=url), folder=folder, allow_download=True)
    assert found.read_bytes() == content
    assert [path.name for path in folder.iterdir()] == [found.name]
    find_weights(Source("toy", url=url), folder=folder, allow_download=True)
    assert network == [url]


def test_download_of_something_else_leaves_nothing_behind(tmp_path, content, network):
    digest = hashlib.sha256(content).hexdigest()
    with pytest.raises(ValueError, match=f"begins with 00ff00ff.*it is {digest}"):
        download(URL.format("00ff00ff"), tmp_path / "toy-00ff00ff.pt")
    assert list(tmp_path.iterdir()) == []


def test_no_network_is_said_with_the_remedy(tmp_path, url, no_network):
    with pytest.raises(
        ConnectionError, match=r"toy could not be downloaded .*Name or service"
    ) as e:
        find_weights(Source("toy", url=url), folder=tmp_path, allow_download=True)
    assert f"fetch them from {url} by hand" in str(e.value)
    with pytest.raises(ConnectionError, match=r"https://huggingface\.co/org/toy by hand"):
        find_weights(Source("toy", hub="org/toy"), folder=tmp_path, allow_download=True)


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_hugging_face_cache_is_used(tmp_path, network, monkeypatch, name):
    from huggingface_hub import constants

    snapshot = tmp_path / "models--org--toy" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / name).write_bytes(b"weights")
    refs = tmp_path / "models--org--toy" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert find_weights(Source("toy", hub="org/toy"), folder=tmp_path) == snapshot / name
    assert network == []


def test_hub_falls_back_to_the_older_file(tmp_path, network, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def fake_download(repository, name):
        asked.append((repository, name))
        if name.endswith(".safetensors"):
            raise EntryNotFoundError("404")
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake_download)
    found = find_weights(Source("toy", hub="org/toy"), folder=tmp_path, allow_download=True)
    assert found == tmp_path / "open_clip_pytorch_model.bin"
    assert [name for _, name in asked] == [
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.bin",
    ]


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
    reason = r"is empty \(0 bytes\)" if damage == "empty" else "damaged, cut short"
    with pytest.raises(ValueError, match=rf"w\{suffix} .*{reason}.* it again") as error:
        read_state_dict(path)
    assert "weights_only" not in str(error.value)  # torch would suggest to switch safety off


class Trap:
    ran = False

    def __reduce__(self):
        return (setattr, (Trap, "ran", True))


def test_code_in_a_file_is_never_run(tmp_path, state):
    torch.save(state | {"trap": Trap()}, tmp_path / "trap.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    for name in ("trap.pt", "plain.pt"):
        with pytest.raises(ValueError, match=rf"{name} (holds Python objects|cannot be read)"):
            read_state_dict(tmp_path / name)
    assert not Trap.ran


def test_whole_pickled_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt holds Python objects.*model\.state_dict\(\)"):
        read_state_dict(tmp_path / "model.pt")


@pytest.mark.filterwarnings("ignore:.*TorchScript", "ignore:.*torch.jit")
def test_torchscript_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "ViT-B-32.pt")
    with pytest.raises(ValueError, match=r"ViT-B-32\.pt is a TorchScript program.*'openai'"):
        read_state_dict(tmp_path / "ViT-B-32.pt")


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, torch.ones(2)], ids=repr)
def test_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt holds no state dict"):
        read_state_dict(tmp_path / "w.pt")
