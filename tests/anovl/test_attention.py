import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import make_clip, make_images
from torch.testing import assert_close

import anovl
from anovl.attention import (
    both_paths,
    embed,
    encode_pixels,
    two_streams,
    vv_attention_reference,
)
from anovl.clip import hash_state_dict


@pytest.mark.parametrize(
    "vision",
    [
        {},
        {"layers": 1},
        {"head_width": 64},
        {"patch_size": 8},
        {"image_size": (32, 64)},
        {"image_size": (48, 32), "patch_size": (16, 8)},
        {"ls_init_value": 0.1},
        {"no_ln_pre": True},
        {"pos_embed_type": "sin_cos_2d"},
        {"block_type": "custom"},
        {"output_tokens": True},
        {"patch_dropout": 0.5},
        {"mlp_ratio": 2.0},
        {"quick_gelu": True},
        {"custom_text": True},
    ],
    ids=str,
)
def test_q_k_path_is_the_library_s_own(vision):
    clip = make_clip(**vision)
    images, visual = make_images(clip), clip.model.visual
    ours = anovl.encode_images(clip, images, attention="qk")
    visual.output_tokens = True
    with torch.no_grad():
        pooled, tokens = visual(images)
        tokens = (tokens @ visual.proj).unflatten(1, clip.grid)
    assert_close(ours.cls, pooled, rtol=0, atol=1e-5)
    assert_close(ours.patches, tokens, rtol=0, atol=1e-5)


def test_model_without_projection():
    clip = make_clip()
    clip.model.visual.proj = None
    features = anovl.encode_images(clip, make_images(clip))
    assert features.patches.shape == (2, 2, 2, 64)
    assert clip.embed_dim == 64
    assert_close(features.cls, clip.model.visual(make_images(clip)), rtol=0, atol=1e-5)


def test_v_v_attention_by_hand():
    """Two orthogonal tokens, one head, d = 2, V = z: each looks at itself by e^(|v|²/√d) to 1."""
    z, eye, zero = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.eye(2), torch.zeros(2)
    first = math.exp(4 / math.sqrt(2)) / (math.exp(4 / math.sqrt(2)) + 1)  # |v_1|² = 4, v_1·v_2 = 0
    second = math.exp(9 / math.sqrt(2)) / (math.exp(9 / math.sqrt(2)) + 1)  # |v_2|² = 9
    expected = torch.tensor([[2 * first, 3 * (1 - first)], [2 * (1 - second), 3 * second]])
    W_qkv, b_qkv = torch.cat([torch.full((4, 2), 7.0), eye]), torch.zeros(6)
    assert_close(vv_attention_reference(z, W_qkv, b_qkv, eye, zero, heads=1), expected)


@pytest.mark.parametrize(
    "vision",
    [{}, {"ls_init_value": 0.1}, {"block_type": "custom"}, {"quick_gelu": True, "head_width": 32}],
    ids=str,
)
@pytest.mark.parametrize("first_block", [1, 2, 3])
@pytest.mark.parametrize("kind", ["vv", "qq", "kk"])
def test_local_path_is_the_equation_written_out(kind, first_block, vision):
    clip = make_clip(**vision)
    visual, images = clip.model.visual, make_images(clip)
    with torch.no_grad():
        z = embed(visual, images)
        for number, block in enumerate(visual.transformer.resblocks, start=1):
            if number == first_block:
                u = z
            if number >= first_block:
                u = u + written_out(block, z, kind)
            z = block(z)
        ours = two_streams(visual, images, kind, first_block)
    assert_close(ours, (z[:, 0], u), rtol=0, atol=1e-5)


@pytest.mark.parametrize("vision", [{}, {"head_width": 32}, {"layers": 1}], ids=str)
def test_the_reference_is_the_fast_path(vision):
    clip = make_clip(**vision)
    visual, images = clip.model.visual, make_images(clip)
    with torch.no_grad():
        z = embed(visual, images)
        for block in visual.transformer.resblocks:
            attn = block.attn
            weights = (attn.in_proj_weight, attn.in_proj_bias, attn.out_proj.weight)
            weights = (*weights, attn.out_proj.bias, attn.num_heads)
            u = 2 * z
            expected = [vv_attention_reference(tokens, *weights) for tokens in block.ln_1(z)]
            assert_close(both_paths(block, z, u)[1], u + torch.stack(expected), rtol=0, atol=1e-5)
            z = block(z)


@pytest.mark.parametrize("vision", [{}, {"ls_init_value": 0.1}, {"quick_gelu": True}], ids=str)
@pytest.mark.parametrize("attention", ["vv", "qq", "kk"])
def test_the_ordinary_stream_is_the_block_itself(attention, vision):
    clip = make_clip(**vision)
    block = clip.model.visual.transformer.resblocks[1]
    with torch.no_grad():
        z = embed(clip.model.visual, make_images(clip))
        assert_close(both_paths(block, z, z, attention)[0], block(z), rtol=0, atol=1e-5)
        few, _ = both_paths(block, z, z, attention, needed=2)
        assert_close(few, block(z)[:, :2], rtol=0, atol=1e-5)


def test_pixels_are_encoded_in_one_batch(tiny_clip):
    images = make_images(tiny_clip, 3)
    whole, parts = encode_pixels(tiny_clip, images), anovl.encode_images(tiny_clip, images)
    assert_close((whole.cls, whole.patches), (parts.cls, parts.patches))


def written_out(block, z, kind):
    """W_O softmax(A Aᵀ / √d) V with numpy, one image and one head at a time."""
    heads, width = block.attn.num_heads, z.shape[-1]
    d = width // heads
    weight, bias = block.attn.in_proj_weight.numpy(), block.attn.in_proj_bias.numpy()
    out = np.zeros(z.shape)
    for n, tokens in enumerate(block.ln_1(z).numpy()):
        q, k, v = np.split(tokens @ weight.T + bias, 3, axis=1)
        a = {"q": q, "k": k, "v": v}[kind[0]]
        for head in range(heads):
            own = slice(head * d, (head + 1) * d)
            logits = a[:, own] @ a[:, own].T / math.sqrt(d)
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            out[n][:, own] = weights / weights.sum(axis=1, keepdims=True) @ v[:, own]
    out = out @ block.attn.out_proj.weight.numpy().T + block.attn.out_proj.bias.numpy()
    scale = block.ls_1.gamma.numpy() if hasattr(block.ls_1, "gamma") else 1
    return torch.from_numpy(out * scale).float()


def test_class_feature_is_the_ordinary_one_whatever_the_patches_do(tiny_clip):
    images = make_images(tiny_clip)
    ordinary = tiny_clip.model.encode_image(images)
    for kind in ("qk", "vv", "qq", "kk"):
        features = anovl.encode_images(tiny_clip, images, attention=kind, first_block=2)
        assert_close(features.cls, ordinary, rtol=0, atol=1e-5)


def test_patches_are_laid_out_as_in_the_picture():
    clip = make_clip(image_size=(32, 64))
    images = make_images(clip, 1)
    changed = images.clone()
    changed[:, :, 20, 40] += 1  # the patch of row 1, column 2
    with torch.no_grad():
        before, after = (embed(clip.model.visual, x)[:, 1:] for x in (images, changed))
    moved = (before != after).any(dim=-1).unflatten(1, clip.grid)[0]
    assert moved.nonzero().tolist() == [[1, 2]]


def test_without_positions_permuted_patches_give_permuted_tokens():
    clip = make_clip()
    clip.model.visual.positional_embedding.data.zero_()
    images = make_images(clip)
    swapped = images.roll(16, dims=3)  # swaps the two columns of patches
    patches = anovl.encode_images(clip, images).patches
    assert_close(anovl.encode_images(clip, swapped).patches, patches.flip(2), rtol=0, atol=1e-5)


def test_batch_size_changes_nothing(tiny_clip):
    images = make_images(tiny_clip, 5)
    one, two = (anovl.encode_images(tiny_clip, images, batch_size=size) for size in (2, 16))
    assert_close(one.cls, two.cls, rtol=0, atol=1e-5)
    assert_close(one.patches, two.patches, rtol=0, atol=1e-5)


def test_model_in_training_mode_is_used_without_dropout_and_left_as_it_was():
    clip = make_clip(patch_dropout=0.5)
    images = make_images(clip)
    expected = anovl.encode_images(clip, images)
    clip.model.train()
    clip.model.visual.ln_pre.eval()
    before = {name: module.training for name, module in clip.model.named_modules()}
    found = anovl.encode_images(clip, images)
    assert_close((found.cls, found.patches), (expected.cls, expected.patches), rtol=0, atol=0)
    assert {name: module.training for name, module in clip.model.named_modules()} == before


def test_model_is_not_modified():
    clip = make_clip()
    before = hash_state_dict(clip.model.state_dict())
    modules = list(map(id, clip.model.modules()))
    anovl.encode_images(clip, make_images(clip))
    anovl.attention_weights(clip, make_images(clip))
    assert hash_state_dict(clip.model.state_dict()) == before == clip.weights_hash
    assert list(map(id, clip.model.modules())) == modules
    for module in clip.model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_each_block_runs_once(tiny_clip, monkeypatch):
    runs = []
    blocks = list(tiny_clip.model.visual.transformer.resblocks)
    for block in blocks:
        forward = block.mlp.forward
        monkeypatch.setattr(
            block.mlp,
            "forward",
            lambda x, f=forward, b=block: (runs.append((b, x.shape[1])), f(x))[1],
        )
    anovl.encode_images(tiny_clip, make_images(tiny_clip, 1))
    assert runs == [*((block, 17) for block in blocks[:-1]), (blocks[-1], 1)]  # its class token


def test_features_can_be_trained_on(tiny_clip):
    patches = anovl.encode_images(tiny_clip, make_images(tiny_clip)).patches
    weight = torch.ones(32, requires_grad=True)
    (patches * weight).square().sum().backward()
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_features_are_float32_in_any_precision(dtype):
    clip, exact = make_clip(), make_clip()
    clip.model.to(dtype)
    features = anovl.encode_images(clip, make_images(clip))
    expected = anovl.encode_images(exact, make_images(exact))
    assert features.cls.dtype == features.patches.dtype == torch.float32
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
    assert_close(features.patches, expected.patches, rtol=0, atol=tolerance)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_autocast_is_near_float32_and_answers_in_it(tiny_clip, precision):
    exact, low = tiny_clip, replace(tiny_clip, precision=precision)
    images, words = make_images(exact), ["a nut", "a damaged nut"]
    for kind in ("qk", "vv"):
        ours, theirs = (anovl.encode_images(c, images, attention=kind) for c in (low, exact))
        for name in ("cls", "patches"):
            found, expected = getattr(ours, name), getattr(theirs, name)
            assert found.dtype == torch.float32 and not torch.equal(found, expected)
            assert_close(found, expected, rtol=0, atol=0.03 * expected.abs().max().item())
    found, expected = (anovl.encode_text(c, words) for c in (low, exact))
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    assert_close(found, expected, rtol=0, atol=0.03 * expected.abs().max().item())
    result, exactly = (anovl.AnoVL(c, level="states")(images[:1], "nut") for c in (low, exact))
    assert np.abs(result.map - exactly.map).max() < 0.2 * np.ptp(exactly.map)


def test_unknown_attention_and_blocks_out_of_range(tiny_clip):
    images = make_images(tiny_clip)
    with pytest.raises(ValueError, match="one of qk, vv, qq, kk; found 'v-v'"):
        anovl.encode_images(tiny_clip, images, attention="v-v")
    for block in (0, 5, -1):
        with pytest.raises(ValueError, match=f"first_block must be 1 to 4.*found {block}"):
            anovl.encode_images(tiny_clip, images, first_block=block)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        anovl.encode_images(tiny_clip, images, batch_size=0)
    with pytest.raises(ValueError, match="no images given"):
        anovl.encode_images(tiny_clip, [])
