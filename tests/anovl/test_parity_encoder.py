"""Our two paths against the published implementation, on the same random weights."""

import numpy as np
import pytest
import torch
from helpers import COMPACT, Reference
from torch.nn.functional import normalize
from torch.testing import assert_close

import anovl

CLOSE = {"rtol": 0, "atol": 1e-5}


def assert_same_directions(ours: torch.Tensor, published: torch.Tensor) -> None:
    assert_close(normalize(ours, dim=-1), normalize(published, dim=-1), **CLOSE)


@pytest.fixture(
    params=["small_reference", pytest.param("full_reference", marks=pytest.mark.full)],
    ids=["small", "full"],
)
def published(request) -> Reference:
    return request.getfixturevalue(request.param)


def test_v_v_patches_and_class_feature(published):
    features = anovl.encode_images(published.clip, published.images)
    assert_same_directions(features.cls, published["forward/cls_feature"])
    assert_same_directions(features.patches.flatten(1, 2), published["forward/vv_tokens"])


def test_q_k_patches(published):
    features = anovl.encode_images(published.clip, published.images, attention="qk")
    assert_same_directions(features.cls, published["forward/cls_feature"])
    assert_same_directions(features.patches.flatten(1, 2), published["forward/ori_tokens"])


@pytest.mark.parametrize("last", [1, 2, 3])
def test_local_path_in_the_last_blocks_only(small_reference, last):
    first = 4 - last + 1
    features = anovl.encode_images(small_reference.clip, small_reference.images, first_block=first)
    assert_same_directions(features.cls, small_reference[f"forward/cls_last{last}"])
    tokens = small_reference[f"forward/vv_tokens_last{last}"]
    assert_same_directions(features.patches.flatten(1, 2), tokens)


@pytest.mark.full
def test_local_path_in_the_last_six_blocks_of_the_paper_s_model(full_reference):
    features = anovl.encode_images(full_reference.clip, full_reference.images, first_block=7)
    assert_same_directions(features.cls, full_reference["forward/cls_last6"])
    tokens = full_reference["forward/vv_tokens_last6"]
    assert_same_directions(features.patches.flatten(1, 2), tokens)


def test_the_four_versions_of_the_published_tokens_differ(small_reference):
    """Otherwise the comparisons above could not tell the paths apart."""
    names = ("ori_tokens", "vv_tokens", "vv_tokens_last1", "vv_tokens_last2", "vv_tokens_last3")
    tokens = [normalize(small_reference[f"forward/{name}"], dim=-1) for name in names]
    for i, one in enumerate(tokens):
        assert all((one - other).abs().max() > 0.01 for other in tokens[:i])


@pytest.mark.parametrize("name", ["forward", "text", "token_ids", "tta", "visa"])
def test_compact_reference_is_the_full_one(shared_path, name):
    with np.load(shared_path("reference", "small", f"{name}.npz")) as npz:
        full = dict(npz)
    if name == "forward":
        full["views_quarter"] = full["views_image1"][:, :, ::4, ::4]
    with np.load(COMPACT / f"{name}.npz") as compact:
        assert compact.files
        for key in compact.files:
            np.testing.assert_array_equal(compact[key], full[key])


def test_seeds_rebuild_what_the_compact_reference_leaves_out(shared_path):
    published = Reference("small")
    shared_path("reference", "small", "tta.npz")
    for k in range(10):
        assert_close(published.noise(k), published["tta/noise"][k // 5, k % 5], rtol=0, atol=0)
        tiles = published.noise(k, tiles=2)
        assert_close(tiles, published["visa/noise"][k // 5, k % 5], rtol=0, atol=0)
    for i in range(2):
        weight, bias = published.adapter_init(i)
        assert_close(weight, published["tta/init_weight"][i], rtol=0, atol=0)
        assert_close(bias, published["tta/init_bias"][i], rtol=0, atol=0)


def test_stored_weights_serve_when_this_torch_draws_others(shared_path, monkeypatch):
    shared_path("reference", "small", "weights_fp16.safetensors")
    monkeypatch.setattr("helpers.hash_state_dict", lambda state: "another torch")
    published = Reference("small")
    features = anovl.encode_images(published.clip, published.images)
    assert_same_directions(features.patches.flatten(1, 2), published["forward/vv_tokens"])
