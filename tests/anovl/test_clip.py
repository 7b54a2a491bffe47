import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import randomise
from PIL import Image
from torch import nn
from torch.testing import assert_close

import anovl
from anovl.clip import CLIP_MEAN, CLIP_STD

VISION = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1}
TEXT = {"width": 64, "heads": 1, "layers": 2}


def build(vision=(), text=(), *, custom_text=False):
    import open_clip

    torch.manual_seed(0)
    maker = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    model = maker(8, VISION | dict(vision), TEXT | dict(text))
    randomise(model)
    return model.eval()


def wrap(model, **options):
    import open_clip

    return anovl.Clip(model, open_clip.tokenize, **{"image_size": 32} | options)


# --- Clip ---------------------------------------------------------------------------------------


def test_clip_tells_what_it_is():
    clip = wrap(build(), name="toy")
    assert (clip.grid, clip.embed_dim, clip.image_size) == ((2, 2), 8, (32, 32))
    assert clip.device == torch.device("cpu")
    assert clip.weights_hash in repr(clip)
    assert len(repr(clip)) < 300


def test_precision_must_be_one_that_there_is():
    with pytest.raises(ValueError, match="one of float32, bfloat16, float16; found 'half'"):
        wrap(build(), precision="half")


def test_hash_names_the_weights():
    one, same, other = wrap(build()), wrap(build()), build()
    other.visual.proj.data[0, 0] += 1e-3
    assert one.weights_hash == same.weights_hash != wrap(other).weights_hash
    assert wrap(other, weights_hash="given").weights_hash == "given"


def test_image_size_must_be_the_model_s():
    wide = build({"image_size": (32, 64)})
    assert wrap(wide, image_size=(32, 64)).grid == (2, 4)
    with pytest.raises(ValueError, match=r"takes images of 32x64 pixels.*not 64x32"):
        wrap(wide, image_size=(64, 32))
    with pytest.raises(ValueError, match=r"custom takes images of 32x32 pixels.*not 240x240"):
        wrap(build(), image_size=240)


def sequence_first(model):
    """The model as open_clip built it before its blocks took the batch first."""
    for block in model.visual.transformer.resblocks:
        block.attn.batch_first = False
    return model


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: build({"layers": (1, 1, 1, 1), "width": 8}), "ModifiedResNet"),
        (lambda: build({"attentional_pool": True}), ""),
        (lambda: build({"pool_type": "avg"}), "avg"),
        (lambda: build({"qk_norm": True}), "plain attention"),
        (lambda: build({"scale_heads": True}), "plain attention"),
        (lambda: build({"scale_attn_inner": True}), "plain attention"),
        (lambda: build({"scale_attn": True}), "plain attention"),
        (lambda: sequence_first(build()), "open_clip 3"),
        (lambda: nn.Linear(2, 2), "Linear"),
        (lambda: SimpleNamespace(visual=nn.Linear(2, 2), encode_text=None), "with Linear"),
    ],
    ids=[
        "resnet",
        "pooler",
        "average",
        "qk norm",
        "head scale",
        "inner norm",
        "norm",
        "order",
        "no clip",
        "foreign tower",
    ],
)
def test_unsuitable_model_is_refused_by_name_with_the_reason(make, reason):
    with pytest.raises(ValueError, match=f"mine cannot be used: .*{reason}"):
        wrap(make(), name="mine")


# --- preprocess -----------------------------------------------------------------------------------


def test_flat_colours_are_normalised_exactly():
    pixels = anovl.preprocess(wrap(build()), Image.new("RGB", (70, 40), (255, 0, 51)))
    assert pixels.shape == (1, 3, 32, 32)
    expected = [(c - m) / s for c, m, s in zip((1, 0, 0.2), CLIP_MEAN, CLIP_STD, strict=True)]
    assert_close(pixels[0].amin(dim=(1, 2)), torch.tensor(expected))
    assert_close(pixels[0].amax(dim=(1, 2)), torch.tensor(expected))


def test_own_mean_and_std():
    clip = wrap(build(), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    pixels = anovl.preprocess(clip, Image.new("RGB", (5, 5), "white"))
    assert_close(pixels, torch.ones(1, 3, 32, 32))


def test_whole_picture_is_kept_and_height_comes_first():
    picture = np.zeros((64, 256, 3), np.uint8)
    picture[:, -32:] = 255  # the right eighth, which a centre crop would lose
    clip = wrap(build({"image_size": (32, 64)}), image_size=(32, 64), mean=(0,) * 3, std=(1,) * 3)
    pixels = anovl.preprocess(clip, Image.fromarray(picture))
    assert pixels.shape == (1, 3, 32, 64)
    assert pixels[..., 57:].amin() > 0.99
    assert pixels[..., :54].amax() < 0.01


@pytest.mark.parametrize("size", [(90, 70), (20, 11)], ids=["shrunk", "enlarged"])
def test_pictures_are_resized_by_bicubic_interpolation(size):
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    pixels = anovl.preprocess(wrap(build(), mean=(0,) * 3, std=(1,) * 3), picture)
    expected = np.asarray(picture.resize((32, 32), Image.Resampling.BICUBIC)) / 255
    assert_close(pixels[0].permute(1, 2, 0).numpy(), expected.astype(np.float32), rtol=0, atol=1e-6)


def test_shrinking_is_antialiased():
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = anovl.preprocess(wrap(build(), mean=(0,) * 3, std=(1,) * 3), Image.fromarray(stripes))
    assert 0.4 < pixels.amin() <= pixels.amax() < 0.6


def test_paths_lists_and_other_modes(tmp_path):
    clip = wrap(build())
    grey = Image.linear_gradient("L")
    grey.save(tmp_path / "grey.png")
    rgb = anovl.preprocess(clip, grey.convert("RGB"))
    batch = anovl.preprocess(clip, [tmp_path / "grey.png", str(tmp_path / "grey.png"), grey])
    assert_close(batch, rgb.expand(3, -1, -1, -1), rtol=0, atol=0)


def test_preprocessed_tensor_passes_unchanged():
    images = torch.randn(2, 3, 32, 32)
    assert anovl.preprocess(wrap(build()), images) is images


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (torch.zeros(3, 32, 32), r"\(B, 3, 32, 32\).* \(3, 32, 32\)"),
        (torch.zeros(1, 3, 32, 33), r"\(1, 3, 32, 33\)"),
        (torch.zeros(1, 32, 32, 3), r"\(1, 32, 32, 3\)"),
        (torch.zeros(0, 3, 32, 32), r"\(0, 3, 32, 32\)"),
        (torch.full((1, 3, 32, 32), 200.0), "200"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "0 to 0"),
        (torch.full((1, 3, 32, 32), torch.nan), "nan"),
        ([], "no images given"),
    ],
    ids=["3-d", "size", "order", "none", "0-255", "integers", "nan", "empty list"],
)
def test_wrong_tensors_are_refused(images, reason):
    with pytest.raises(ValueError, match=reason):
        anovl.preprocess(wrap(build()), images)


def test_a_tensor_that_is_not_normalised_is_mentioned_once():
    clip, pictures = wrap(build()), torch.rand(2, 3, 32, 32)
    with pytest.warns(UserWarning, match="normalised .* all values lie in 0...1") as said:
        warnings.simplefilter("default")
        for number in range(3):
            assert_close(anovl.clip.preprocess(clip, pictures + 0 * number), pictures)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fine in (2 * pictures - 1, torch.zeros(2, 3, 32, 32), 0.1 * pictures):
            anovl.clip.preprocess(clip, fine)


def test_missing_picture_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
        anovl.encode_images(wrap(build()), [tmp_path / "nothing.png"])


# --- encode_text ----------------------------------------------------------------------------------

PROMPTS = ["a", "a photo of a bottle", "a cropped industrial photo of the damaged metal_nut"]


@pytest.mark.parametrize(
    ("text", "custom_text"),
    [
        ({}, False),
        ({}, True),
        ({"pool_type": "eos", "eos_id": 49407}, False),
        ({"pool_type": "eos", "eos_id": 49407}, True),
        ({"proj_bias": True}, True),
        ({"proj_type": "none"}, False),
        ({"ls_init_value": 0.1}, False),
        ({"pool_type": "last"}, True),
        ({"pool_type": "first"}, False),
        ({"no_causal_mask": True}, False),
        ({"embed_cls": True}, True),
    ],
    ids=str,
)
def test_text_features_are_the_library_s(text, custom_text):
    import open_clip

    clip = wrap(build(text=text, custom_text=custom_text))
    with torch.no_grad():
        expected = clip.model.encode_text(open_clip.tokenize(PROMPTS))
    assert_close(anovl.encode_text(clip, PROMPTS), expected, rtol=0, atol=1e-5)


def test_prompts_are_cut_to_the_longest_and_encoded_once(monkeypatch):
    clip = wrap(build())
    seen = []
    embedding = clip.model.token_embedding
    monkeypatch.setattr(
        embedding, "forward", lambda ids, f=embedding.forward: (seen.append(ids.shape), f(ids))[1]
    )
    features = anovl.encode_text(clip, ["a nut", "a big nut", "a nut", "a nut"])
    assert seen == [(2, 5)]  # two different prompts; start, three words, end
    assert_close(features[[0, 0]], features[[2, 3]], rtol=0, atol=0)
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_batches_of_text_keep_their_order():
    clip = wrap(build())
    texts = [f"a photo of {'very ' * n}old nut" for n in range(7)]
    whole, parts = anovl.encode_text(clip, texts), anovl.encode_text(clip, texts, batch_size=2)
    assert_close(whole, parts, rtol=0, atol=1e-5)
    reverse = anovl.encode_text(clip, texts[::-1], batch_size=2)
    assert_close(reverse.flip(0), whole, rtol=0, atol=1e-5)


def test_text_that_may_be_cut_is_warned_about():
    with pytest.warns(UserWarning, match="fills all 77 tokens"):
        anovl.encode_text(wrap(build()), ["nut " * 100])


@pytest.mark.parametrize("texts", ["a nut", [""], ["a nut", "  "], [3], []], ids=repr)
def test_texts_must_be_a_list_of_words(texts):
    with pytest.raises(ValueError, match="expected"):
        anovl.encode_text(wrap(build()), texts)


def test_text_model_in_training_mode_is_left_so():
    clip = wrap(build().train())
    anovl.encode_text(clip, ["a nut"])
    assert all(module.training for module in clip.model.modules())


def test_importing_anovl_does_not_import_heavy_packages():
    heavy = "open_clip sklearn skimage pandas matplotlib scipy torchvision timm"
    code = f"import sys, anovl; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
