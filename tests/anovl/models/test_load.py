import json
import re

import pytest
import torch
from conftest import COMPACT, randomise
from safetensors.torch import save_file
from torch.testing import assert_close

import anovl
from anovl._shared.files import hash_file
from anovl.models import load

PAPER = "ViT-B-16-plus-240"
E32 = "vit_b_16_plus_240-laion400m_e32-699c4b84.pt"


@pytest.fixture
def registry(monkeypatch, tmp_path):
    """open_clip's registry with a tiny architecture in it, empty caches, and no network."""
    import open_clip
    from huggingface_hub import constants

    config = json.loads((COMPACT / "config.json").read_text())
    config["text_cfg"]["vocab_size"] = 1000  # small files
    names = {
        "tiny": {},
        "tiny-quickgelu": {"quick_gelu": True},
        "tiny-custom": {"custom_text": True},
    }
    for name, extra in names.items():
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config | extra)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("anovl.models.load.find_weights", offline(tmp_path / "cache"))
    return open_clip.pretrained._PRETRAINED


def offline(folder):
    """`find_weights` with another cache folder, in which nothing can be downloaded."""
    from anovl.models.weights import find_weights

    def find(source, *, allow_download):
        return find_weights(source, folder=folder, allow_download=False)

    return find


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


def named_by_hash(path):
    return path.rename(path.with_name(f"tiny-{hash_file(path)[:8]}.pt"))


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
    images, texts = torch.randn(2, 3, 64, 64), torch.randint(1000, (2, 77))
    with torch.no_grad():
        assert_close(clip.model.encode_image(images), model.encode_image(images))
        assert_close(clip.model.encode_text(texts), model.encode_text(texts))


def test_every_weight_comes_from_the_file(weights):
    clip = anovl.load_clip("tiny", weights=weights)
    assert not any(t.is_meta for t in [*clip.model.parameters(), *clip.model.buffers()])
    assert_close(dict(clip.model.state_dict()), dict(tiny_model().state_dict()), rtol=0, atol=0)


def test_tag_is_found_in_the_cache_and_brings_its_normalisation(registry, weights, tmp_path):
    (tmp_path / "cache").mkdir()
    path = named_by_hash(weights)
    cached = path.rename(tmp_path / "cache" / path.name)
    entry = {"url": f"https://example.org/{cached.name}", "mean": [0.5] * 3, "std": [0.25] * 3}
    registry["tiny"] = {"here": entry}
    try:
        clip = anovl.load_clip("tiny", weights="Here")
    finally:
        del registry["tiny"]
    assert clip.weights_hash == hash_file(cached)
    assert (clip.mean, clip.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_random_weights_are_loudly_labelled_and_repeatable(registry):
    state = torch.get_rng_state()
    with pytest.warns(UserWarning, match="tiny has random weights"):
        one = anovl.load_clip("tiny", weights="random")
    assert one.name == "tiny [random weights]"
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.warns(UserWarning):
        assert anovl.load_clip("tiny", weights="random").weights_hash == one.weights_hash


def test_pocket_is_the_default_and_may_have_other_weights(tmp_path):
    from anovl.models.pocket import FOLDER, build_model, load_pocket, save_pocket

    shipped = anovl.load_clip()
    assert shipped.name == "pocket" and shipped.weights_hash == anovl.load_clip().weights_hash
    _, tokenizer, size = load_pocket(FOLDER)
    assert shipped.image_size == (size, size)
    torch.manual_seed(0)
    save_pocket(build_model(tokenizer.vocab_size), tokenizer, tmp_path)
    hashes = {
        anovl.load_clip("pocket", weights=given).weights_hash for given in (tmp_path, str(tmp_path))
    }
    assert len(hashes) == 1 and shipped.weights_hash not in hashes
    assert shipped.precision == "float32"
    assert anovl.load_clip("pocket", precision="bfloat16").precision == "bfloat16"
    with pytest.raises(FileNotFoundError, match="random"):
        anovl.load_clip("pocket", weights="random")


# --- the e31 / e32 trap ---------------------------------------------------------------------------


def test_paper_s_weights_come_from_the_file_that_can_be_proven():
    source = load.weights_source(PAPER, "laion400m_e32")
    assert source.url.endswith(f"/v0.2-weights/{E32}")
    assert source.hub == ""  # the registry names the repository of e31
    assert load.weights_source(PAPER, "laion400m-e31").hub.endswith("laion400m_e31")


def test_registry_still_has_the_trap():
    """When open_clip mends its table, this says that the detour can go."""
    import open_clip

    hubs = {
        tag: open_clip.get_pretrained_cfg(PAPER, tag)["hf_hub"]
        for tag in ("laion400m_e31", "laion400m_e32")
    }
    assert hubs["laion400m_e31"] == hubs["laion400m_e32"]


def test_ordinary_hub_entries_are_trusted():
    source = load.weights_source("ViT-B-32", "laion2b_s34b_b79k")
    assert (source.url, source.hub) == ("", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
    assert load.weights_source("ViT-B-32", "openai").url == ""  # a TorchScript program


def test_e31_in_the_hub_cache_is_not_taken_for_e32(registry, tmp_path):
    snapshot = tmp_path / "hub" / "models--timm--vit_base_patch16_plus_clip_240.laion400m_e31"
    (snapshot / "refs").mkdir(parents=True)
    (snapshot / "refs" / "main").write_text("abc")
    (snapshot / "snapshots" / "abc").mkdir(parents=True)
    (snapshot / "snapshots" / "abc" / "open_clip_model.safetensors").write_bytes(b"e31")
    assert load.find_weights(load.weights_source(PAPER, "laion400m_e31"), allow_download=False)
    with pytest.raises(FileNotFoundError, match=f"'laion400m_e32' of {PAPER} .*{E32}"):
        anovl.load_clip(PAPER, weights="laion400m_e32")


def test_file_that_only_claims_to_be_e32_is_refused(tmp_path):
    (tmp_path / E32).write_bytes(b"something else")
    digest = hash_file(tmp_path / E32)
    with pytest.raises(ValueError, match=f"{E32} .*{digest}.*699c4b84"):
        anovl.load_clip(PAPER, weights=tmp_path / E32)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [PAPER, "tiny"])
def test_missing_weights_are_an_error_with_a_remedy(registry, name):
    with pytest.raises(ValueError, match=f"{name} needs weights.*allow_download=True"):
        anovl.load_clip(name)


def test_path_that_does_not_exist(registry, tmp_path):
    for given in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{given} .*tiny"):
            anovl.load_clip("tiny", weights=given)
    with pytest.raises(FileNotFoundError, match=r"laion400m_e33 .*laion400m_e32"):
        anovl.load_clip(PAPER, weights="laion400m_e33")


@pytest.mark.parametrize("keep", [0, 1000])
def test_truncated_file(weights, keep):
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"tiny\.pt"):
        anovl.load_clip("tiny", weights=weights)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (PAPER, {}, "Missing"),
        ("tiny", {"visual.proj": torch.zeros(50, 64)}, r"visual\.proj.*50, 64"),
        ("tiny", {"more": torch.zeros(1)}, "more"),
        ("tiny", None, "Missing"),
    ],
)
def test_weights_of_another_architecture(registry, tmp_path, name, changes, said):
    state = {} if changes is None else tiny_model().state_dict() | changes
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=rf"other\.pt does not fit {name}: .*{said}"):
        anovl.load_clip(name, weights=tmp_path / "other.pt")


def test_file_known_by_its_hash_is_refused_for_another_name(registry, weights, monkeypatch):
    url = f"https://example.org/x-{hash_file(weights)[:8]}.pt"
    monkeypatch.setitem(registry, "tiny", {"x": {"url": url}})
    assert anovl.load_clip("tiny", weights=weights)
    with pytest.raises(ValueError, match="tiny, not of tiny-quickgelu"):
        anovl.load_clip("tiny-quickgelu", weights=weights)


def test_activation_must_be_the_trained_one(registry, weights, monkeypatch):
    entry = {"url": f"https://example.org/x-{hash_file(weights)[:8]}.pt", "quick_gelu": True}
    monkeypatch.setitem(registry, "tiny", {"x": entry})
    monkeypatch.setitem(registry, "tiny-quickgelu", {"x": entry, "gelu": {"url": ""}})
    for wanted in ("x", weights):
        with pytest.raises(ValueError, match=r"need QuickGELU.*'tiny-quickgelu'"):
            anovl.load_clip("tiny", weights=wanted)
    with pytest.raises(ValueError, match=r"need GELU.*'tiny'"):
        anovl.load_clip("tiny-quickgelu", weights="gelu")
    assert anovl.load_clip("tiny-quickgelu", weights=weights)


def test_openai_s_weights_ask_for_quickgelu():
    with pytest.raises(ValueError, match="'openai' of ViT-B-16 need QuickGELU"):
        anovl.load_clip("ViT-B-16", weights="openai")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ViT-B-16-plus-204", PAPER),
        ("vit-b-16", "ViT-B-16"),
        ("ViT-B/16", "ViT-B-16"),
        ("pokcet", "pocket"),
        ("TinyCLIP-ViT-8M-16", "TinyCLIP-ViT-8M-16-Text-3M-YFCC15M"),
        ("?", "pocket"),
    ],
)
def test_unknown_name(name, meant):
    with pytest.raises(ValueError, match=f"{re.escape(name)}.* did you mean .*{meant}"):
        anovl.load_clip(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("RN50", "ResNet"),
        ("coca_ViT-B-32", "captions"),
        ("ViT-L-14-CLIPA", "avg"),
        ("roberta-ViT-B-32", "transformers"),
        ("ViT-H-14-worldwide", "transformers"),
        ("ViT-B-16-SigLIP", "class token.* Timm"),
    ],
)
def test_unsuitable_architecture_is_refused_before_its_weights_are_asked_for(name, reason):
    with pytest.raises(ValueError, match=f"{name} cannot be .*{reason}"):
        anovl.load_clip(name)


def test_device_that_is_not_here():
    for device in ("cuda:99", "abacus"):
        with pytest.raises(ValueError, match=f"device '{device}'"):
            anovl.load_clip(device=device)


# --- another resolution ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 96, 160])
def test_another_image_size_interpolates_positions_as_open_clip_does(weights, size):
    import open_clip

    clip = anovl.load_clip("tiny", weights=weights, image_size=size)
    config = json.loads((COMPACT / "config.json").read_text())
    config["text_cfg"]["vocab_size"] = 1000
    config["vision_cfg"]["image_size"] = size
    model, state = open_clip.CLIP(**config).eval(), tiny_model().state_dict()
    open_clip.model.resize_pos_embed(state, model)
    model.load_state_dict(state)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert_close(clip.model.encode_image(images), model.encode_image(images))
        assert_close(anovl.encode_images(clip, images).cls, model.encode_image(images))
    assert clip.grid == (size // 16, size // 16)
    assert clip.name == f"tiny at {size} px"


def test_the_models_own_size_changes_nothing(weights):
    own = anovl.load_clip("tiny", weights=weights)
    same = anovl.load_clip("tiny", weights=weights, image_size=64)
    assert (same.name, same.image_size, same.weights_hash) == ("tiny", (64, 64), own.weights_hash)
    assert torch.equal(
        same.model.visual.positional_embedding, own.model.visual.positional_embedding
    )
    other = anovl.load_clip("tiny", weights=weights, image_size=128)
    assert other.weights_hash == own.weights_hash


def test_results_say_the_image_size():
    clip = anovl.load_clip("pocket", image_size=56)
    assert (clip.name, clip.image_size) == ("pocket at 56 px", (56, 56))
    assert anovl.AnoVL(clip)(torch.zeros(1, 3, 56, 56), "nut").map.shape == (56, 56)


@pytest.mark.parametrize(("size", "near"), [(101, 104), (3, 8), (0, 8), (-8, 8), (168.0, 168)])
def test_a_size_that_patches_do_not_fill_is_refused(size, near):
    with pytest.raises(ValueError, match=f"image_size .* 8, .*{near}; found {size}"):
        anovl.load_clip("pocket", image_size=size)
