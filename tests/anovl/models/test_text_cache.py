"""Embedded texts on disk: the same features, one file for all that decides, no file that harms."""

from __future__ import annotations

import pickle
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from anovl.clip import encode_text
from anovl.detector import AnoVL
from anovl.models.text_cache import cached_encoder
from anovl.prompts import PromptEnsemble, encode_prompts, prompt_ensemble


@pytest.fixture(name="encoded")
def count_encoded_texts(monkeypatch):
    """The texts of every call of the text tower."""
    calls = []
    monkeypatch.setattr(
        "anovl.models.text_cache.encode_text",
        lambda clip, texts: calls.append(texts) or encode_text(clip, texts),
    )
    return calls


def test_a_cache_gives_another_program_the_very_same_features(tiny_clip, encoded, tmp_path):
    nut = prompt_ensemble("nut", level="states")
    fresh = encode_prompts(replace(tiny_clip), nut)
    first, second = (cached_encoder(tmp_path)(replace(tiny_clip), nut) for _ in range(2))
    assert len(encoded) == 1
    for text in (first, second):
        for name, values in vars(fresh).items():
            assert torch.equal(vars(text)[name], values)


def test_a_cache_tells_apart_all_that_decides(tiny_clip, encoded, tmp_path):
    def encode(clip, normal=("nut",), anomalous=("bad nut",), **options):
        return cached_encoder(tmp_path)(replace(clip), PromptEnsemble(normal, anomalous), **options)

    plain = encode(tiny_clip)
    encode(tiny_clip, normal=("bolt",))
    encode(tiny_clip, normal=("nut", "bad nut"), anomalous=("nut",))
    encode(replace(tiny_clip, weights_hash="another"))
    encode(replace(tiny_clip, precision="bfloat16"))
    corrected = deepcopy(tiny_clip.model)  # its heads, with the same weights
    corrected.transformer.resblocks[0].attn.num_heads = 4
    corrected.transformer.resblocks[0].attn.head_dim = 16
    other = encode(replace(tiny_clip, model=corrected))
    assert not torch.equal(other.prototypes, plain.prototypes)
    assert len(encoded) == len(list(tmp_path.iterdir())) == 6
    swapped = encode(tiny_clip, normal=("nut", "bad nut"), anomalous=("nut",), normalize_first=True)
    assert len(encoded) == 6  # the mean is taken anew
    assert not torch.equal(swapped.prototypes, plain.prototypes)


def test_a_damaged_file_is_made_again_and_a_closed_folder_is_said(tiny_clip, encoded, tmp_path):
    words, encode = PromptEnsemble(("nut",), ("bad nut",)), cached_encoder(tmp_path / "cache")
    text = encode(replace(tiny_clip), words)
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    again = encode(replace(tiny_clip), words)
    assert torch.equal(again.prompts, text.prompts) and len(encoded) == 2
    assert file.read_bytes() == whole
    with pytest.warns(UserWarning, match="nothing can be cached in"):
        cached_encoder(file)(replace(tiny_clip), words)


def test_a_detector_takes_it_and_can_be_sent_to_a_worker(tiny_clip, encoded, tmp_path):
    clip = replace(tiny_clip)
    detector = AnoVL(clip, level="word", encode=cached_encoder(tmp_path))
    assert detector == AnoVL(clip, level="word")  # it decides nothing
    text = pickle.loads(pickle.dumps(replace(detector, clip=replace(clip)).encode))(clip, "nut")
    assert text.prompts.shape == (924, 32) and len(list(tmp_path.iterdir())) == 1
