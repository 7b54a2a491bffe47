"""Configuration beside weights: features as in transformers and open_clip, or an error."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from helpers import COMPACT, randomise
from PIL import Image
from torch.testing import assert_close

import anovl
from anovl.clip import CLIP_MEAN, CLIP_STD
from anovl.models.config_files import (
    PREPROCESS,
    PROCESSOR,
    hf_preprocessing,
    open_clip_preprocessing,
)

NAMES = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


def pictures(*sizes):
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in sizes]


def edit(path, changes, *nested):
    """Write other values into a JSON file; "drop" takes a key away."""
    content = json.loads(path.read_text()) if path.exists() else {}
    inside = content
    for key in nested:
        inside = inside.setdefault(key, {})
    inside.update(changes)
    for key in [key for key, value in inside.items() if value == "drop"]:
        del inside[key]
    path.write_text(json.dumps(content))


# --- Hugging Face ---------------------------------------------------------------------------------


def save_hf_folder(folder, **options):
    """A small CLIPModel with random weights and its image processor, as transformers saves them."""
    transformers = pytest.importorskip("transformers", reason="needs pip install transformers")
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config=tower | {"num_hidden_layers": 1},
        vision_config=tower | {"num_hidden_layers": 2, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    randomise(model)
    model.save_pretrained(folder, **options)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPImageProcessor(**size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", name="original")
def hf_folder(tmp_path_factory):
    return save_hf_folder(tmp_path_factory.mktemp("saved") / "clip")


@pytest.fixture(name="folder")
def copied_hf_folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "clip")


def assert_as_transformers(folder):
    import transformers

    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    images = pictures((32, 32), (32, 32))
    with torch.no_grad():
        theirs = model.get_image_features(**processor(images, return_tensors="pt"))
    theirs = getattr(theirs, "pooler_output", theirs)
    ours = anovl.encode_images(anovl.load_clip(f"hf:{folder}"), images).cls
    assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("nested", [(), ("image_processor",)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]},
        {"image_mean": 0.5, "image_std": [0.25]},
        {"image_mean": 0},
        {"do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": False, "do_normalize": False},
        {"do_rescale": False, "image_mean": [127, 127, 127], "image_std": 64},
        {"rescale_factor": 1 / 127.5, "image_mean": 1, "image_std": 1},
        {"rescale_factor": 0.01, "do_normalize": False},
        {"do_normalize": False, "image_mean": None, "image_std": None},
        {"image_mean": "drop", "do_normalize": "drop", "rescale_factor": "drop"},
        {"image_processor_type": "CLIPImageProcessorFast"},
    ],
)
def test_values_are_scaled_and_normalised_as_by_transformers(folder, nested, changes):
    old = folder / "preprocessor_config.json"
    if nested:
        edit(folder / "processor_config.json", json.loads(old.read_text()), *nested)
        edit(old, {"image_mean": 0.9, "do_rescale": False})  # the other goes first
    edit(folder / "processor_config.json" if nested else old, changes, *nested)
    assert_as_transformers(folder)


def test_a_processor_is_read_as_transformers_saves_it(folder):
    import transformers

    (folder / "preprocessor_config.json").unlink()
    options = {"image_mean": 0.5, "image_std": 0.5, "size": 32, "crop_size": 32}
    processor = transformers.CLIPImageProcessor(**options)
    tokenizer = transformers.CLIPTokenizer({"<|startoftext|>": 0, "<|endoftext|>": 1}, [])
    transformers.CLIPProcessor(processor, tokenizer).save_pretrained(folder)
    for path in folder.glob("tokenizer*"):  # its words are not CLIP's
        path.unlink()
    clip = anovl.load_clip(f"hf:{folder}")
    assert clip.mean == clip.std == (0.5, 0.5, 0.5)
    if (folder / "processor_config.json").exists():  # transformers 5
        assert_as_transformers(folder)


def test_what_a_file_leaves_out_is_the_default_of_its_library():
    from open_clip.transform import PreprocessCfg

    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPImageProcessor()
    means = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD}
    for key, value in (PROCESSOR | means).items():
        assert np.allclose(getattr(theirs, key), value), key
    theirs, means = PreprocessCfg(), {"mean": CLIP_MEAN, "std": CLIP_STD}
    assert {key: getattr(theirs, key) for key in PREPROCESS | means} == PREPROCESS | means


def test_resampling_is_that_of_the_file(folder):
    edit(folder / "preprocessor_config.json", {"resample": 0})
    clip = anovl.load_clip(f"hf:{folder}")
    (large,) = pictures((100, 100))
    small = large.resize((32, 32), Image.Resampling.NEAREST)
    assert torch.equal(anovl.preprocess(clip, large), anovl.preprocess(clip, small))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_mean", [0.5, 0.5]),
        ("image_mean", ["0.5", 0.5, 0.5]),
        ("image_mean", float("nan")),
        ("image_mean", True),
        ("image_mean", None),
        ("do_rescale", None),
        ("resample", None),
        ("image_std", 0),
        ("image_std", [0.5, -0.5, 0.5]),
        ("image_std", float("inf")),
        ("do_normalize", "false"),
        ("do_rescale", 2),
        ("rescale_factor", [1 / 255]),
        ("rescale_factor", True),
        ("rescale_factor", "1/255"),
        ("rescale_factor", 0),
        ("resample", "bicubic"),
        ("resample", 17),
        ("resample", [3]),
        ("image_processor_type", "ViTImageProcessor"),
    ],
)
def test_what_a_processor_cannot_mean_is_named(folder, key, value):
    path = folder / "preprocessor_config.json"
    edit(path, {key: value})
    with pytest.raises(ValueError, match=f"{path} has {key} .*; expected"):
        hf_preprocessing(folder)


@pytest.mark.parametrize("content", ["[1]", "{", '{"image_processor": [1]}', '"text"'])
def test_a_damaged_processor_is_named(folder, content):
    path = folder / "processor_config.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=str(path)):
        hf_preprocessing(folder)


def test_several_files_of_weights_are_read_by_their_index(original, tmp_path):
    folder = save_hf_folder(tmp_path / "many", max_shard_size="1MB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert_as_transformers(folder)
    several, one = (anovl.load_clip(f"hf:{one}") for one in (folder, original))
    assert_close(dict(several.model.state_dict()), dict(one.model.state_dict()), atol=0, rtol=0)
    index = folder / "model.safetensors.index.json"
    whole = index.read_text()
    for damaged in ("{}", "{", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'):
        index.write_text(damaged)
        with pytest.raises(ValueError, match=str(index)):
            anovl.load_clip(f"hf:{folder}")
    index.write_text(whole)
    shards[0].unlink()
    with pytest.raises(ValueError, match=f"{index}.*{shards[0].name}"):
        anovl.load_clip(f"hf:{folder}")


# --- open_clip ------------------------------------------------------------------------------------


def compact(**vision):
    config = json.loads((COMPACT / "config.json").read_text())
    config["text_cfg"]["vocab_size"] = 1000  # small files
    config["vision_cfg"] |= vision
    return config


@pytest.fixture(name="saved")
def own_open_clip_folder(tmp_path, monkeypatch):
    """A folder as open_clip's save_for_hf writes it, of models that its registry knows."""
    import open_clip
    from open_clip.push_to_hf_hub import save_for_hf

    def save(name="tiny", preprocess=None, **changes):
        torch.manual_seed(1)
        config = compact() | changes
        model = open_clip.CLIP(**config).eval()
        randomise(model)
        preprocess = preprocess or {}
        model.visual.image_mean = preprocess.get("mean", CLIP_MEAN)
        model.visual.image_std = preprocess.get("std", CLIP_STD)
        model.visual.preprocess_cfg = preprocess
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
        tokenizer = type("", (), {"save_pretrained": lambda self, folder: None})()
        save_for_hf(model, tokenizer, config, tmp_path / name)
        return tmp_path / name

    return save


PREPROCESSINGS = [
    None,
    {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)},
    {"mean": 0.5, "std": 0.25, "interpolation": "bilinear"},
    {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "random"},
    {"mean": 0.0, "resize_mode": "squash"},
]


@pytest.mark.parametrize("preprocess", PREPROCESSINGS)
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_an_open_clip_folder_is_read_as_by_open_clip(saved, preprocess, quick_gelu):
    import open_clip

    folder = saved(preprocess=preprocess, quick_gelu=quick_gelu)
    model, theirs = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    images = pictures((64, 64), (100, 100))
    with torch.no_grad():
        expected = model.eval().encode_image(torch.stack([theirs(one) for one in images]))
    for given in (folder, *(folder / name for name in NAMES)):
        clip = anovl.load_clip("tiny", weights=given)
        assert_close(anovl.encode_images(clip, images).cls, expected, atol=1e-5, rtol=0)


def test_a_file_without_configuration_is_read_as_before(saved):
    folder = saved(preprocess={"mean": 0.5})
    assert anovl.load_clip("tiny", weights=folder).mean == (0.5, 0.5, 0.5)
    (folder / "open_clip_config.json").unlink()
    assert anovl.load_clip("tiny", weights=folder).mean == CLIP_MEAN
    for name in NAMES:
        (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=str(folder)):
        anovl.load_clip("tiny", weights=folder)


@pytest.mark.parametrize(
    ("changes", "nested", "key"),
    [
        ({"quick_gelu": True}, ("model_cfg",), "quick_gelu"),
        ({"embed_dim": 33}, ("model_cfg",), "embed_dim"),
        ({"layers": 5}, ("model_cfg", "vision_cfg"), "vision_cfg.layers"),
        ({"layers": "4"}, ("model_cfg", "vision_cfg"), "vision_cfg.layers"),
        ({"no_such": 5}, ("model_cfg", "vision_cfg"), "vision_cfg.no_such"),
        ({"pool_type": "avg"}, ("model_cfg", "vision_cfg"), "vision_cfg.pool_type"),
        ({"head_width": "drop"}, ("model_cfg", "vision_cfg"), "vision_cfg.head_width"),
        ({"norm_kwargs": {"eps": 1e-3}}, ("model_cfg", "text_cfg"), "text_cfg.norm_kwargs"),
        ({"tokenizer_kwargs": {"clean": "no"}}, ("model_cfg", "text_cfg"), "tokenizer_kwargs"),
        ({"text_cfg": "drop"}, ("model_cfg",), "text_cfg"),
        ({"vision_cfg": [1]}, ("model_cfg",), "vision_cfg"),
        ({"model_cfg": "drop"}, (), "model_cfg"),
        ({"preprocess_cfg": [1]}, (), "preprocess_cfg"),
        ({"mode": "L"}, ("preprocess_cfg",), "mode"),
        ({"interpolation": "nearest"}, ("preprocess_cfg",), "interpolation"),
        ({"interpolation": 3}, ("preprocess_cfg",), "interpolation"),
        ({"mean": [0.5, 0.5]}, ("preprocess_cfg",), "mean"),
        ({"std": [0.5, 0, 0.5]}, ("preprocess_cfg",), "std"),
    ],
)
def test_a_contradiction_of_configuration_and_model_is_named(saved, changes, nested, key):
    path = saved() / "open_clip_config.json"
    edit(path, changes, *nested)
    with pytest.raises(ValueError, match=rf"{path} has \S*{key} .*; expected"):
        anovl.load_clip("tiny", weights=path.parent)


def test_what_decides_no_feature_may_differ_and_defaults_may_be_left_out(saved):
    path = saved() / "open_clip_config.json"
    edit(path, {"quick_gelu": False, "custom_text": False, "init_logit_bias": 3}, "model_cfg")
    edit(path, {"patch_dropout": 0.5, "ls_init_value": None}, "model_cfg", "vision_cfg")
    edit(path, {"context_length": "drop"}, "model_cfg", "text_cfg")
    assert anovl.load_clip("tiny", weights=path.parent)


def test_preprocessing_of_every_published_tag_is_understood(tmp_path):
    import open_clip

    for name, tag in open_clip.list_pretrained():
        assert open_clip_preprocessing(tmp_path, open_clip.get_pretrained_cfg(name, tag))


# --- the numbers ----------------------------------------------------------------------------------


def test_pixels_of_unusual_scale_are_neither_refused_nor_warned_of(folder, recwarn):
    for changes in ({"do_rescale": False, "do_normalize": False}, {"do_rescale": True}):
        edit(folder / "preprocessor_config.json", changes)
        clip = anovl.load_clip(f"hf:{folder}")
        pixels = anovl.preprocess(clip, pictures((40, 60)))
        assert torch.equal(anovl.preprocess(clip, pixels), pixels)
        assert anovl.AnoVL(clip, tiles=True)(pictures((40, 60))[0], "nut").map.shape == (32, 48)
    assert pixels.max() <= 1 and not recwarn.list
