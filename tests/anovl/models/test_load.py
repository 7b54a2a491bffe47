"""Models by name: which weights they get, and what is refused."""

import json
import re

import pytest
import torch
from helpers import COMPACT, randomise
from safetensors.torch import save_file
from torch.testing import assert_close

import anovl
from anovl._shared.files import hash_file
from anovl.models import load
from anovl.models.weights import find_weights

PAPER = "ViT-B-16-plus-240"
E32 = "vit_b_16_plus_240-laion400m_e32-699c4b84.pt"


def tiny_config(**vision):
    config = json.loads((COMPACT / "config.json").read_text())
    config["text_cfg"]["vocab_size"] = 1000  # small files
    config["vision_cfg"] |= vision
    return config


@pytest.fixture
def registry(monkeypatch, tmp_path, hub):
    """open_clip's registry with a tiny architecture in it, empty caches, and no network."""
    import open_clip

    extras = {"": {}, "-quickgelu": {"quick_gelu": True}, "-custom": {"custom_text": True}}
    for name, extra in extras.items():
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, f"tiny{name}", tiny_config() | extra)

    def find(source, *, allow_download):
        return find_weights(source, folder=tmp_path / "cache")

    monkeypatch.setattr("anovl.models.load.find_weights", find)
    return open_clip.pretrained._PRETRAINED


def tiny_model(name="tiny"):
    torch.manual_seed(1)
    model = load._build(name).eval()
    randomise(model)
    return model


@pytest.fixture
def weights(registry, tmp_path):
    """Weights of the tiny model in a file."""
    path = tmp_path / "tiny.pt"
    torch.save(tiny_model().state_dict(), path)
    return path


# --- what works -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "tiny-quickgelu", "tiny-custom"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_local_file_gives_the_model_that_was_saved(registry, tmp_path, name, suffix):
    model = tiny_model(name)
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(model.state_dict(), path)
    clip = anovl.load_clip(name, weights=str(path))
    assert (clip.name, clip.weights_hash, clip.grid) == (name, hash_file(path), (4, 4))
    assert clip.tokenizer(["a nut"]).shape == (1, 77)
    assert not any(module.training for module in clip.model.modules())
    assert_close(dict(clip.model.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    images, texts = torch.randn(2, 3, 64, 64), torch.randint(1000, (2, 77))
    with torch.no_grad():
        assert_close(clip.model.encode_image(images), model.encode_image(images))
        assert_close(clip.model.encode_text(texts), model.encode_text(texts))


def test_tag_is_found_in_the_cache_and_brings_its_normalisation(
    registry, weights, tmp_path, monkeypatch
):
    cached = tmp_path / f"cache/tiny-{hash_file(weights)[:8]}.pt"
    cached.parent.mkdir()
    weights.rename(cached)
    entry = {"url": f"https://example.org/{cached.name}", "mean": [0.5] * 3, "std": [0.25] * 3}
    monkeypatch.setitem(registry, "tiny", {"here": entry})
    clip = anovl.load_clip("tiny", weights="Here")
    assert clip.weights_hash == hash_file(cached)
    assert (clip.mean, clip.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    cached.write_bytes(cached.read_bytes()[:-1])
    with pytest.raises(ValueError, match=str(cached)):
        anovl.load_clip("tiny", weights="here")


def test_random_weights_are_loudly_labelled_and_repeatable(registry):
    state = torch.get_rng_state()
    with pytest.warns(UserWarning, match="tiny has random weights"):
        one, same = (anovl.load_clip("tiny", weights="random") for _ in range(2))
    assert one.name == "tiny [random weights]" and one.weights_hash == same.weights_hash
    assert torch.equal(torch.get_rng_state(), state)


def test_pocket_is_the_default_and_may_have_other_weights(tmp_path):
    from anovl.models.pocket import FOLDER, build_model, load_pocket, save_pocket

    shipped = anovl.load_clip()
    assert shipped.name == "pocket" and shipped.weights_hash == anovl.load_clip().weights_hash
    _, tokenizer, size = load_pocket(FOLDER)
    assert shipped.image_size == (size, size) and shipped.precision == "float32"
    torch.manual_seed(0)
    save_pocket(build_model(tokenizer.vocab_size), tokenizer, tmp_path)
    other = anovl.load_clip("pocket", weights=str(tmp_path), precision="bfloat16")
    assert other.weights_hash != shipped.weights_hash and other.precision == "bfloat16"
    with pytest.raises(FileNotFoundError, match="random"):
        anovl.load_clip("pocket", weights="random")


# --- the e31 / e32 trap ---------------------------------------------------------------------------


def test_paper_s_weights_come_from_the_file_that_can_be_proven():
    import open_clip

    source = load.weights_source(PAPER, "laion400m_e32")
    assert source.url.endswith(f"/v0.2-weights/{E32}")
    assert source.hub == ""  # the registry names the repository of e31
    assert load.weights_source(PAPER, "laion400m-e31").hub.endswith("laion400m_e31")
    e31, e32 = (open_clip.get_pretrained_cfg(PAPER, f"laion400m_{tag}") for tag in ("e31", "e32"))
    assert e31["hf_hub"] == e32["hf_hub"], "open_clip is mended: the detour can go"


def test_ordinary_hub_entries_are_trusted():
    source = load.weights_source("ViT-B-32", "laion2b_s34b_b79k")
    assert (source.url, source.hub) == ("", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
    assert load.weights_source("ViT-B-32", "openai").url == ""  # a TorchScript program


def test_e31_in_the_hub_cache_is_not_taken_for_e32(registry, hub):
    hub("timm/vit_base_patch16_plus_clip_240.laion400m_e31", "open_clip_model.safetensors")
    assert load.find_weights(load.weights_source(PAPER, "laion400m_e31"), allow_download=False)
    with pytest.raises(FileNotFoundError, match=f"'laion400m_e32' of {PAPER} .*{E32}"):
        anovl.load_clip(PAPER, weights="laion400m_e32")


def test_file_that_only_claims_to_be_e32_is_refused(tmp_path):
    (tmp_path / E32).write_bytes(b"something else")
    with pytest.raises(ValueError, match=f"{E32} .*{hash_file(tmp_path / E32)}.*699c4b84"):
        anovl.load_clip(PAPER, weights=tmp_path / E32)


# --- what is refused ------------------------------------------------------------------------------


def test_missing_weights_are_an_error_with_a_remedy(registry, tmp_path):
    with pytest.raises(
        ValueError, match=f"{PAPER} needs weights.*e32.*allow_download=True.*download weights"
    ):
        anovl.load_clip(PAPER)
    for given in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{given} .*tiny"):
            anovl.load_clip("tiny", weights=given)
    with pytest.raises(FileNotFoundError, match=r"laion400m_e33 .*laion400m_e32"):
        anovl.load_clip(PAPER, weights="laion400m_e33")


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (PAPER, {}, "Missing"),
        ("tiny", None, "Missing"),
        ("tiny", {"visual.proj": torch.zeros(50, 64)}, r"visual\.proj.*50, 64"),
        ("tiny", {"more": torch.zeros(1)}, "more"),
    ],
)
def test_weights_of_another_architecture(registry, tmp_path, name, changes, said):
    state = {} if changes is None else tiny_model().state_dict() | changes
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=rf"other\.pt does not fit {name}: .*{said}"):
        anovl.load_clip(name, weights=tmp_path / "other.pt")


def test_a_file_known_by_its_hash_needs_its_own_architecture_and_activation(
    registry, weights, monkeypatch
):
    entry = {"url": f"https://example.org/x-{hash_file(weights)[:8]}.pt"}
    monkeypatch.setitem(registry, "tiny", {"x": entry})
    assert anovl.load_clip("tiny", weights=weights)
    with pytest.raises(ValueError, match="tiny, not of tiny-quickgelu"):
        anovl.load_clip("tiny-quickgelu", weights=weights)
    entry["quick_gelu"] = True
    monkeypatch.setitem(registry, "tiny-quickgelu", {"x": entry, "gelu": {"url": ""}})
    for given in ("x", weights):
        with pytest.raises(ValueError, match=r"need QuickGELU.*'tiny-quickgelu'"):
            anovl.load_clip("tiny", weights=given)
    with pytest.raises(ValueError, match=r"need GELU.*'tiny'"):
        anovl.load_clip("tiny-quickgelu", weights="gelu")
    assert anovl.load_clip("tiny-quickgelu", weights=weights)
    with pytest.raises(ValueError, match="'openai' of ViT-B-16 need QuickGELU"):
        anovl.load_clip("ViT-B-16", weights="openai")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ViT-B/16", "ViT-B-16"),
        ("pokcet", "pocket"),
        ("TinyCLIP-ViT-8M-16", "Text-3M-YFCC15M"),
        ("RN50", "ResNet"),
        ("coca_ViT-B-32", "captions"),
        ("ViT-L-14-CLIPA", "avg"),
        ("roberta-ViT-B-32", "transformers"),
        ("ViT-H-14-worldwide", "transformers"),
        ("ViT-B-16-SigLIP", "class token"),
    ],
)
def test_unknown_names_and_unsuitable_architectures_are_refused_before_any_weights(name, said):
    with pytest.raises(ValueError, match=f"{re.escape(name)}.*{said}"):
        anovl.load_clip(name)


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_here(device):
    with pytest.raises(ValueError, match=device):
        anovl.load_clip(device=device)


# --- another resolution ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 64, 96, 160])
def test_another_image_size_interpolates_positions_as_open_clip_does(weights, size):
    import open_clip

    clip = anovl.load_clip("tiny", weights=weights, image_size=size)
    model, state = open_clip.CLIP(**tiny_config(image_size=size)).eval(), tiny_model().state_dict()
    open_clip.model.resize_pos_embed(state, model)
    model.load_state_dict(state)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert_close(clip.model.encode_image(images), model.encode_image(images))
        assert_close(anovl.encode_images(clip, images).cls, model.encode_image(images))
    assert clip.grid == (size // 16, size // 16)
    assert clip.name == ("tiny" if size == 64 else f"tiny at {size} px")
    assert clip.weights_hash == hash_file(weights)


@pytest.mark.parametrize(("size", "near"), [(101, 104), (3, 8), (0, 8), (-8, 8), (168.0, 168)])
def test_a_size_that_patches_do_not_fill_is_refused(size, near):
    with pytest.raises(ValueError, match=f"image_size .* 8, .*{near}; found {size}"):
        anovl.load_clip("pocket", image_size=size)
