"""CLIP folders in Hugging Face's layout: the same numbers as transformers, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import make_images, randomise
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

import anovl
from anovl._shared.files import hash_file
from anovl.attention import encode_images
from anovl.cli import main
from anovl.clip import encode_text
from anovl.models import hf_clip
from anovl.models.hf_clip import SOURCE, TINYCLIP, TINYCLIP_FILES, download_tinyclip

transformers = pytest.importorskip("transformers", reason="needs pip install transformers")

BLOCKS = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3}
PROMPTS = ["a photo of a flawless metal nut.", "It's a Café, 3 cm wide!", "don't", "🙂 naïve"]


def build(activation="quick_gelu", **vision):
    """A small CLIPModel with random weights, every parameter away from its default."""
    shared = BLOCKS | {"num_attention_heads": 4, "hidden_act": activation, "layer_norm_eps": 1e-4}
    config = transformers.CLIPConfig(
        text_config=shared | {"num_hidden_layers": 2, "num_attention_heads": 2},
        vision_config=shared | {"image_size": 32, "patch_size": 8} | vision,
        projection_dim=24,
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    randomise(model)
    return model


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """vocab.json and merges.txt as CLIP's repositories have them."""
    from open_clip import SimpleTokenizer

    folder, tokenizer = tmp_path_factory.mktemp("vocabulary"), SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    words = {names.get(token, token): row for token, row in tokenizer.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(words))
    merges = ["#version: 0.2", *map(" ".join, tokenizer.bpe_ranks)]
    (folder / "merges.txt").write_text("\n".join(merges) + "\n")
    return folder


@pytest.fixture(scope="module", params=["gelu", "quick_gelu"])
def pair(request, tmp_path_factory):
    """transformers' own model, and ours from the folder that it wrote."""
    model = build(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return model, anovl.load_clip(f"hf:{folder}")


@pytest.fixture
def folder(tmp_path):
    """A folder to be spoilt."""
    build().save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def features(found):
    """Embeddings, which newer versions of transformers wrap."""
    return found if isinstance(found, torch.Tensor) else found.pooler_output


def edit(folder, tower, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    (config if tower is None else config[tower]).update(changes)
    path.write_text(json.dumps(config))


# --- the same numbers -----------------------------------------------------------------------------


def test_images_and_texts_are_embedded_as_by_transformers(pair):
    model, clip = pair
    images, tokens = make_images(clip), clip.tokenizer(PROMPTS)
    with torch.no_grad():
        visual = features(model.get_image_features(pixel_values=images))
        words = features(model.get_text_features(input_ids=tokens))
        assert_close(clip.model.encode_image(images), visual, atol=1e-5, rtol=0)
    assert_close(encode_text(clip, PROMPTS), words, atol=1e-5, rtol=0)
    assert_close(encode_images(clip, images).cls, visual, atol=1e-5, rtol=0)


def test_patches_by_both_paths_are_those_of_plain_matrix_products(pair):
    model, clip = pair
    tower, images = model.vision_model, make_images(clip)
    with torch.no_grad():
        z = tower.pre_layrnorm(tower.embeddings(images))
        u = z
        for layer in tower.encoder.layers:
            v = layer.self_attn.v_proj(layer.layer_norm1(z))
            v = v.unflatten(-1, (layer.self_attn.num_heads, -1)).transpose(1, 2)
            looked = (v @ v.mT / v.shape[-1] ** 0.5).softmax(-1) @ v
            u = u + layer.self_attn.out_proj(looked.transpose(1, 2).flatten(2))
            z = layer(z, None)
            z = z[0] if isinstance(z, tuple) else z
        for tokens, attention in ((z, "qk"), (u, "vv")):
            projected = model.visual_projection(tower.post_layernorm(tokens))[:, 1:]
            found = encode_images(clip, images, attention=attention).patches.flatten(1, 2)
            assert_close(found, projected, atol=1e-5, rtol=0)


def test_the_tokenizer_is_that_of_transformers(vocabulary):
    from open_clip import SimpleTokenizer

    theirs = transformers.CLIPTokenizer(
        str(vocabulary / "vocab.json"), str(vocabulary / "merges.txt")
    )
    ensemble = anovl.prompt_ensemble("metal nut")
    prompts = [*ensemble.normal, *ensemble.anomalous, *PROMPTS]
    ours = SimpleTokenizer()(prompts)
    for row, prompt in zip(ours.tolist(), prompts, strict=True):
        ids = theirs(prompt)["input_ids"]
        assert row[: len(ids)] == ids, prompt
        assert not any(row[len(ids) :])


# --- what a folder says ---------------------------------------------------------------------------


def test_name_hash_and_normalisation(folder):
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]})
    )
    clip = anovl.load_clip(f"hf:{folder}")
    assert (clip.name, clip.weights_hash) == ("hf:clip", hash_file(folder / "model.safetensors"))
    assert (clip.mean, clip.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert clip.tokenizer(["a nut"]).shape == (1, 77)
    assert clip.embed_dim == 24 and clip.grid == (4, 4)


def test_what_a_config_leaves_out_is_transformers_default():
    known = {"vision": transformers.CLIPVisionConfig(), "text": transformers.CLIPTextConfig()}
    for name, defaults in (("vision", hf_clip.VISION), ("text", hf_clip.TEXT)):
        assert defaults == {key: getattr(known[name], key) for key in defaults}


def test_old_configs_and_position_ids_are_read(folder):
    before = anovl.load_clip(f"hf:{folder}")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config_dict"] = config.pop("vision_config")
    config["text_config_dict"], config["text_config"] = config["text_config"], {"hidden_size": 1}
    (folder / "config.json").write_text(json.dumps(config))
    names = (f"{tower}_model.embeddings.position_ids" for tower in ("text", "vision"))
    ids = {name: torch.ones(1, 5) for name in names}
    save_file(load_file(folder / "model.safetensors") | ids, folder / "model.safetensors")
    after = anovl.load_clip(f"hf:{folder}")
    assert_close(dict(after.model.state_dict()), dict(before.model.state_dict()))


@pytest.mark.parametrize("form", ["vocab.json", "tokenizer.json"])
def test_clips_own_vocabulary_is_accepted_and_another_refused(folder, vocabulary, form):
    words = json.loads((vocabulary / "vocab.json").read_text())
    swapped = words | {"nut</w>": words["bolt</w>"], "bolt</w>": words["nut</w>"]}

    def write(vocab):
        content = vocab if form == "vocab.json" else {"model": {"vocab": vocab}}
        (folder / form).write_text(json.dumps(content))

    write(words)
    assert anovl.load_clip(f"hf:{folder}")
    for other in (swapped, {"nut": 0}):
        write(other)
        with pytest.raises(ValueError, match=f"{folder} .*vocabulary"):
            anovl.load_clip(f"hf:{folder}")


# --- bad folders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "text"])
def test_missing_and_damaged_files_are_named(folder, name, damage):
    path = folder / name
    whole = path.read_bytes()
    path.unlink()
    if damage == "missing":
        with pytest.raises(FileNotFoundError, match=f"{folder} .*{name}"):
            anovl.load_clip(f"hf:{folder}")
        return
    path.write_bytes({"cut": whole[:-100], "empty": b"", "text": b"version https://git"}[damage])
    with pytest.raises(ValueError, match=str(path)):
        anovl.load_clip(f"hf:{folder}")


@pytest.mark.parametrize(
    ("tower", "changes", "said"),
    [
        (None, {"model_type": "siglip"}, "'siglip'"),
        (None, {"model_type": "clip_vision_model"}, "'clip_vision_model'"),
        ("vision_config", {"hidden_act": "gelu_new"}, "gelu_new"),
        ("text_config", {"hidden_act": "gelu"}, "'gelu'"),
        ("vision_config", {"num_attention_heads": 7}, "heads"),
        ("vision_config", {"num_hidden_layers": 4}, r"resblocks\.3"),
        ("vision_config", {"patch_size": 16}, "size mismatch"),
        ("vision_config", {"patch_size": 0}, r"config\.json"),
        ("text_config", {"max_position_embeddings": -3}, r"config\.json"),
        ("text_config", {"vocab_size": 5000}, "size mismatch"),
        ("vision_config", {"hidden_size": "64"}, r"vision_config\.hidden_size '64'"),
        ("vision_config", {"num_hidden_layers": True}, r"vision_config\.num_hidden_layers True"),
        ("text_config", {"layer_norm_eps": None}, r"text_config\.layer_norm_eps None"),
        ("text_config", {"eos_token_id": 49406}, r"text_config\.eos_token_id 49406"),
        (None, {"text_config": [1]}, r"text_config \[1\]"),
        (None, {"projection_dim": None}, "projection_dim None"),
    ],
)
def test_a_config_that_cannot_be_served_is_refused(folder, tower, changes, said):
    edit(folder, tower, **changes)
    with pytest.raises(ValueError, match=f"{folder}.*{said}"):
        anovl.load_clip(f"hf:{folder}")


def test_no_folder_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        anovl.load_clip(f"hf:{tmp_path / 'none'}")
    for name, weights in (("hf:", None), (f"hf:{tmp_path}", "random"), (TINYCLIP, None)):
        with pytest.raises(ValueError, match=f"{name}: .*hf:FOLDER"):
            anovl.load_clip(name, weights=weights)


# --- TinyCLIP -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tinyclip(tmp_path_factory, vocabulary):
    """A folder as TinyCLIP's repository has it, with random weights of its size."""
    folder = tmp_path_factory.mktemp("published")
    tower = {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4}
    config = transformers.CLIPConfig(
        text_config=tower | {"num_hidden_layers": 3},
        vision_config=tower | {"num_hidden_layers": 10, "patch_size": 16},
        projection_dim=512,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text("{}")
    words = json.loads((vocabulary / "vocab.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words}}))
    return folder


@pytest.fixture
def published(server, tinyclip):
    server.files = {f"/{name}": (tinyclip / name).read_bytes() for name in TINYCLIP_FILES}
    return server


def test_tinyclip_is_downloaded_recorded_and_loaded(published, tmp_path, capsys):
    to = tmp_path / "tinyclip"
    asked = ["download", "weights", "--model", "tinyclip", "--to", str(to), "--url", published.url]
    assert main(asked) == 0
    said, digest = capsys.readouterr().out, hash_file(to / "model.safetensors")
    assert f"SHA-256 {digest}, recorded in SOURCE.json" in said
    assert "licence MIT" in said and f"--model {TINYCLIP} --weights {to}" in said
    record = json.loads((to / SOURCE).read_text())
    assert record["sha256"]["model.safetensors"] == digest
    assert record["from"] == published.url
    clip = anovl.load_clip(TINYCLIP, weights=to)
    assert (clip.name, clip.weights_hash, clip.grid) == (TINYCLIP, digest, (14, 14))
    assert sum(p.numel() for p in clip.model.parameters()) == pytest.approx(23.4e6, rel=0.01)
    published.asked.clear()
    assert main(asked) == 0
    assert published.asked == []


def test_tinyclip_that_changed_after_its_download_is_refused(published, tmp_path):
    to = download_tinyclip(tmp_path / "t", url=published.url)
    state = load_file(to / "model.safetensors")
    save_file(state | {"logit_scale": state["logit_scale"] + 1}, to / "model.safetensors")
    with pytest.raises(ValueError, match=f"{to}.*{SOURCE}"):
        anovl.load_clip(TINYCLIP, weights=to)
    with pytest.raises(ValueError, match=f"{to}.*{SOURCE}"):
        download_tinyclip(to, url=published.url)


def test_a_failed_download_says_what_to_fetch_by_hand(published, tmp_path):
    del published.files["/tokenizer.json"]
    with pytest.raises(ConnectionError, match=r"404 .*By hand: .*huggingface.co"):
        download_tinyclip(tmp_path / "t", url=published.url)


def test_another_clip_is_not_taken_for_tinyclip(folder):
    with pytest.raises(ValueError, match=f"{folder} .*{TINYCLIP}.*'hf:"):
        anovl.load_clip(TINYCLIP, weights=folder)
