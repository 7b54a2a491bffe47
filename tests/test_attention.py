import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_clip, make_images
from torch import nn
from torch.testing import assert_close

import anovl
from anovl.attention import (
    embed,
    local_attention,
    local_terms,
    project,
    project_to_clip_space,
    projection_shares,
    two_streams,
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
    attn = SimpleNamespace(
        in_proj_weight=torch.cat([torch.full((4, 2), 7.0), torch.eye(2)]),
        in_proj_bias=None,
        num_heads=1,
        out_proj=nn.Identity(),
    )
    block = SimpleNamespace(ln_1=nn.Identity(), ls_1=nn.Identity(), attn=attn)
    z = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    first = math.exp(4 / math.sqrt(2)) / (math.exp(4 / math.sqrt(2)) + 1)  # |v_1|² = 4, v_1·v_2 = 0
    second = math.exp(9 / math.sqrt(2)) / (math.exp(9 / math.sqrt(2)) + 1)  # |v_2|² = 9
    expected = [[2 * first, 3 * (1 - first)], [2 * (1 - second), 3 * second]]
    assert_close(local_attention(block, z, "vv"), torch.tensor([expected]))


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
        short, same = two_streams(visual, images, kind, first_block, class_only=True)
    assert_close(ours, (z, u), rtol=0, atol=1e-5)
    assert_close((short, same), (z[:, :1], u), rtol=0, atol=1e-5)


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


@pytest.mark.parametrize("vision", [{}, {"ls_init_value": 0.1}], ids=["plain", "layer scale"])
@pytest.mark.parametrize("first_block", [1, 2, 3])
@pytest.mark.parametrize("kind", ["vv", "qq", "kk"])
def test_local_stream_is_the_sum_of_its_terms(kind, first_block, vision):
    clip = make_clip(**vision)
    visual, images = clip.model.visual, make_images(clip)
    blocks = visual.transformer.resblocks
    with torch.no_grad():
        terms = local_terms(visual, images, kind, first_block)
        _, u = two_streams(visual, images, kind, first_block)
        z = embed(visual, images)
        for number, block in enumerate(blocks, start=1):
            if number == first_block:
                assert_close(terms[0], z)
            if number >= first_block:
                added = local_attention(block, z, kind)
                assert_close(terms[1 + number - first_block], added, rtol=0, atol=1e-6)
            z = block(z)
    assert len(terms) == 2 + len(blocks) - first_block
    assert_close(terms.sum(dim=0), u, rtol=0, atol=1e-5)


@pytest.mark.parametrize("projected", [True, False])
def test_shares_of_the_read_out_add_up_to_it(projected):
    clip = make_clip()
    visual = clip.model.visual
    if not projected:
        visual.proj = None
    with torch.no_grad():
        terms = local_terms(visual, make_images(clip))
        shares = projection_shares(visual, terms)
        whole = project_to_clip_space(visual, terms.sum(dim=0))
        constant = project_to_clip_space(visual, torch.zeros_like(terms[0]))
    assert shares.shape == (*terms.shape[:-1], clip.embed_dim)
    assert_close(shares.sum(dim=0) + constant, whole, rtol=0, atol=1e-5)


def test_shares_by_hand():
    """LayerNorm of (1, 3) + (3, 5) = (4, 8): mean 6, spread 2; each term has half of (-1, 1)."""
    visual = SimpleNamespace(ln_post=nn.LayerNorm(2, eps=0), proj=torch.tensor([[1.0], [3.0]]))
    terms = torch.tensor([[1.0, 3.0], [3.0, 5.0]])
    assert_close(projection_shares(visual, terms).detach(), torch.tensor([[1.0], [1.0]]))


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
    anovl.encode_images(tiny_clip, make_images(tiny_clip))
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
    with pytest.raises(ValueError, match="one of qk"):
        anovl.attention_weights(tiny_clip, images, attention="qv")
    for block in (0, 5, -5):
        with pytest.raises(ValueError, match="block must be 1 to 4, or -4 to -1"):
            anovl.attention_weights(tiny_clip, images, block=block)


@pytest.mark.parametrize("block", [1, 3, 4])
def test_attention_weights_are_the_library_s(tiny_clip, block):
    images = make_images(tiny_clip)
    blocks = tiny_clip.model.visual.transformer.resblocks
    with torch.no_grad():
        z = embed(tiny_clip.model.visual, images)
        for before in blocks[: block - 1]:
            z = before(z)
        h = blocks[block - 1].ln_1(z)
        _, expected = blocks[block - 1].attn(h, h, h, average_attn_weights=False)
    ours = anovl.attention_weights(tiny_clip, images, block=block)
    assert ours.shape == (2, 2, 17, 17)
    assert_close(ours, expected, rtol=0, atol=1e-6)
    assert_close(ours, anovl.attention_weights(tiny_clip, images, block=block - 5))


@pytest.mark.parametrize("kind", ["qk", "vv", "qq", "kk"])
def test_rows_of_attention_weights_sum_to_one(tiny_clip, kind):
    weights = anovl.attention_weights(tiny_clip, make_images(tiny_clip), attention=kind)
    assert_close(weights.sum(dim=-1), torch.ones(2, 2, 17))


def test_local_attention_mixes_values_by_its_own_weights(tiny_clip):
    images, visual = make_images(tiny_clip), tiny_clip.model.visual
    first = visual.transformer.resblocks[0]
    weights = anovl.attention_weights(tiny_clip, images, attention="vv", block=1)
    with torch.no_grad():
        z = embed(visual, images)
        mixed = weights @ project(first, z, "v")
        expected = first.attn.out_proj(mixed.transpose(1, 2).flatten(2))
        assert_close(local_attention(first, z, "vv"), expected, rtol=0, atol=1e-5)
