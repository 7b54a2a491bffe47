"""The description of a model: what changes a feature changes it, and nothing else does."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from copy import deepcopy
from dataclasses import asdict, replace

import open_clip
import pytest
import torch
from helpers import make_clip
from PIL import Image
from torch import nn

import anovl
from anovl.models.description import describe


def activation(model, new):
    model.visual.transformer.resblocks[0].mlp.gelu = new


def heads(model):
    model.transformer.resblocks[0].attn.num_heads = 2
    model.transformer.resblocks[0].attn.head_dim //= 2


class Steep(nn.Module):
    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        return torch.sigmoid(self.slope * x) * x


class Words:
    """open_clip's tokenizer with two words changed for each other."""

    def __init__(self, one, other):
        self.encoder = {one: 1, other: 2}

    def __call__(self, texts):
        return open_clip.tokenize(texts)


CHANGES = {
    "quick gelu": lambda model: activation(model, open_clip.model.QuickGELU()),
    "tanh": lambda model: activation(model, nn.GELU(approximate="tanh")),
    "slope 2": lambda model: activation(model, Steep(2)),
    "slope 3": lambda model: activation(model, Steep(3)),
    "eps of one layer": lambda model: setattr(model.visual.ln_post, "eps", 1e-3),
    "eps of the text tower": lambda model: setattr(model.ln_final, "eps", 1e-3),
    "heads of one block": heads,
    "pooling": lambda model: setattr(model, "text_pool_type", "last"),
    "mask": lambda model: model.attn_mask.zero_(),
    "no mask": lambda model: setattr(model, "attn_mask", None),
    "dtype": lambda model: model.half(),
    "layer scale": lambda model: setattr(model.visual.transformer.resblocks[0], "ls_1", nn.ReLU()),
    "a function": lambda model: setattr(model, "encode_text", len),
    "another function": lambda model: setattr(model, "encode_text", max),
}
OPTIONS = [
    {"mean": (0.1, 0.2, 0.3)},
    {"std": (0.1, 0.2, 0.3)},
    {"interpolation": Image.Resampling.BILINEAR},
    {"precision": "bfloat16"},
    {"weights_hash": "another"},
    {"tokenizer": Words("nut", "bolt")},
    {"tokenizer": Words("bolt", "nut")},
    {"tokenizer": open_clip.SimpleTokenizer(context_length=32)},
    {"tokenizer": open_clip.SimpleTokenizer(clean="canonicalize")},
    {"tokenizer": open_clip.SimpleTokenizer(clean="whitespace")},
]


def test_whatever_decides_a_feature_is_told_apart():
    clip = make_clip()
    found = [describe(clip), *(describe(replace(clip, **options)) for options in OPTIONS)]
    for change in CHANGES.values():
        model = deepcopy(clip.model)
        change(model)
        found.append(describe(replace(clip, model=model)))
    for options in ({"image_size": 48}, {"layers": 2}, {"head_width": 32}, {"quick_gelu": True}):
        found.append(describe(make_clip(**options)))
    found.append(describe(make_clip(norm_kwargs={"eps": 1e-3})))
    assert len(found) == len(set(map(repr, found)))


def test_what_decides_no_feature_is_left_out():
    clip = make_clip()
    before = describe(clip)
    clip.tokenizer(["a nut"])
    clip.model.train()
    anovl.encode_images(clip, torch.zeros(1, 3, 32, 32))
    for same in (clip, replace(clip, name="other"), pickle.loads(pickle.dumps(clip)), make_clip()):
        assert describe(same) == before


def test_it_is_plain_data_and_says_what_the_modules_are():
    clip = make_clip(quick_gelu=True, norm_kwargs={"eps": 1e-4})
    found = asdict(describe(replace(clip, mean=[0, 1, 0.5])))
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, allow_nan=False))
    assert found["activations"] == ("QuickGELU()",)
    assert found["eps"] == (1e-4, 1e-5) and found["heads"] == (4, 1)
    assert found["mean"] == (0.0, 1.0, 0.5) and found["image_size"] == (32, 32)
    assert found["weights_sha256"] == clip.weights_hash


def test_another_process_finds_the_same():
    code = "import anovl, anovl.models.description as d; print(d.describe(anovl.load_clip()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(describe(anovl.load_clip())), done.stderr


def test_describing_the_pocket_model_takes_no_warning_away(recwarn):
    clip = anovl.load_clip()
    describe(clip)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="zebra"):
        clip.tokenizer(["a zebra"])
