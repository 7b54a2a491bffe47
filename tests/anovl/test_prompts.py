"""Prompts: the published lists exactly, the ladder, readers' own words, and prototypes by hand."""

from __future__ import annotations

import gc
import hashlib
import json
import pickle
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from anovl.clip import Clip, encode_text
from anovl.prompts import (
    OBJECT_DOMAINS,
    PROMPT_LEVELS,
    TEMPLATES,
    PromptEnsemble,
    TextFeatures,
    average_prompts,
    encode_prompts,
    prompt_ensemble,
)

HASHES = json.loads((Path(__file__).parents[1] / "reference" / "hashes.json").read_text())
PUBLISHED = HASHES["prompts [normal, abnormal]"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_prompts_in_their_order(name):
    ensemble = prompt_ensemble(name)
    rendered = ["\n".join(prompts).encode() for prompts in (ensemble.normal, ensemble.anomalous)]
    assert [hashlib.sha256(text).hexdigest() for text in rendered] == PUBLISHED[name]


def test_all_published_templates_are_different():
    ensemble = prompt_ensemble("bottle")
    assert len(TEMPLATES) == len(set(TEMPLATES)) == 22
    assert len(set(ensemble.normal)) == len(set(ensemble.anomalous)) == 462
    assert not set(ensemble.normal) & set(ensemble.anomalous)
    assert len(ensemble) == 924


@pytest.mark.parametrize(
    ("level", "count", "first", "last"),
    [
        ("word", 1, "normal nut", "normal nut"),
        ("states", 7, "normal nut", "nut without damage"),
        (
            "templates",
            7 * 22,
            "a cropped photo of the normal nut",
            "a photo of a nut without damage for anomaly detection",
        ),
        (
            "domains",
            7 * 22 * 3,
            "a cropped industrial photo of the normal nut",
            "a manufacturing image of a nut without damage for anomaly detection",
        ),
    ],
)
def test_the_ladder(level, count, first, last):
    prompts = prompt_ensemble("nut", level=level).normal
    assert (len(prompts), prompts[0], prompts[-1]) == (count, first, last)


def test_each_level_is_a_way_to_make_prompts():
    sizes = [len(prompt_ensemble("nut", level=level)) for level in PROMPT_LEVELS]
    assert sizes == sorted(set(sizes))


def test_the_surface_decides_the_domains():
    def has(ensemble, words):
        return any(words in prompt for prompt in ensemble.normal)

    assert has(prompt_ensemble("carpet"), "textural photo")
    assert has(prompt_ensemble("linen", surface="texture"), "textural photo")
    assert has(prompt_ensemble("linen"), "manufacturing image")
    assert not has(prompt_ensemble("carpet", surface="object"), "textural photo")


def test_names_go_in_as_they_are_written():
    assert "the normal metal_nut" in prompt_ensemble("metal_nut").normal[0]
    assert "the normal macaroni" in prompt_ensemble("macaroni2").normal[0]
    assert prompt_ensemble("macaroni2").normal[0].endswith("macaroni")
    assert prompt_ensemble(" left shoe ").anomalous[0].endswith("damaged left shoe")
    assert prompt_ensemble("Käse {9}", level="word").normal == ("normal Käse {9}",)


def test_own_states_templates_and_domains():
    ensemble = prompt_ensemble(
        "pear",
        states=(["ripe {}"], ["rotten {}", "{} with worms"]),
        templates=["a {domain} of a {}", "my {}"],
        domains=["X-ray", "image"],
    )
    assert ensemble.normal == ("a X-ray of a ripe pear", "my ripe pear", "an image of a ripe pear")
    assert ensemble.anomalous[:2] == ("a X-ray of a rotten pear", "a X-ray of a pear with worms")
    assert len(ensemble.anomalous) == 2 * 3
    only_domains = prompt_ensemble("pear", domains=OBJECT_DOMAINS[:1])
    assert len(only_domains.normal) == 7 * 22


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_name": ""}, "class name"),
        ({"class_name": "  "}, "class name"),
        ({"class_name": None}, "class name"),
        ({"templates": []}, "templates"),
        ({"templates": "a photo of a {}"}, "templates"),
        ({"templates": ["a photo of a thing"]}, "a photo of a thing"),
        ({"templates": ["{} and {}"]}, r"\{\} and \{\}"),
        ({"templates": ["a {domian} of {}"]}, "domian"),
        ({"templates": ["a {domain} of {}", 7]}, "7"),
        ({"domains": [""]}, "domains"),
        ({"domains": ()}, "domains"),
        ({"states": ["good {}"]}, "pair"),
        ({"states": "{}"}, "pair"),
        ({"states": (["good {}"], [])}, "anomalous states"),
        ({"states": (["good"], ["bad {}"])}, "normal states.*good"),
        ({"states": (["good {domain} {}"], ["bad {}"])}, "domain"),
        ({"level": "words"}, "level"),
        ({"surface": "carpet"}, "surface"),
    ],
)
def test_what_cannot_be_a_prompt_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        prompt_ensemble(**{"class_name": "pear", **options})


def test_an_ensemble_by_hand():
    ensemble = PromptEnsemble(["a whole egg"], ["a broken egg", "a cracked egg"], "egg")
    assert (ensemble.normal, len(ensemble)) == (("a whole egg",), 3)
    assert ensemble in {ensemble: "hashable"}
    with pytest.raises(ValueError, match="anomalous prompts"):
        PromptEnsemble(["a whole egg"], [])
    with pytest.raises(ValueError, match=r"normal prompts.*3"):
        PromptEnsemble([3], ["a broken egg"])


def test_a_template_without_domain_is_used_once():
    ensemble = prompt_ensemble(
        "pear", level="word", templates=["a {domain} of a {}", "my {}"], domains=["scan", "print"]
    )
    assert ensemble.normal == (
        "a scan of a normal pear",
        "my normal pear",
        "a print of a normal pear",
    )
    assert ensemble == PromptEnsemble(ensemble.normal, ensemble.anomalous, "pear")


def text_by_hand(**changes):
    values = {
        "prototypes": torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        "prompts": torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.6, 0.8]]),
        "is_anomalous": torch.tensor([False, True, True]),
    }
    return TextFeatures(**{**values, **changes})


def test_text_features_by_hand():
    text = text_by_hand(is_anomalous=[False, True, True], prompts=torch.eye(2).double()[[0, 1, 1]])
    assert text.prompts.dtype == torch.float32
    assert text.is_anomalous.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prototypes": torch.ones(2)}, "prototypes must have shape"),
        ({"prototypes": torch.eye(3)}, "prototypes"),
        ({"prototypes": 2 * torch.eye(2)}, "rows of length 1"),
        ({"prototypes": torch.full((2, 2), torch.nan)}, "NaN or infinity"),
        ({"prompts": torch.eye(3)}, r"\(3, 3\)"),
        ({"prompts": torch.zeros(0, 2)}, "prompts must have shape"),
        ({"prompts": torch.zeros(3, 2)}, "rows of length 1"),
        ({"is_anomalous": [False, True]}, "is_anomalous"),
        ({"is_anomalous": torch.tensor([0, 1, 1])}, "is_anomalous"),
    ],
)
def test_text_features_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        text_by_hand(**changes)


def test_a_prototype_is_the_mean_before_scaling():
    embeddings = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 5.0]])
    is_anomalous = torch.tensor([False, False, True])
    text = average_prompts(embeddings, is_anomalous)
    torch.testing.assert_close(text.prototypes[0], torch.tensor([3.0, 1.0]) / 10**0.5)
    torch.testing.assert_close(text.prompts, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    assert text.is_anomalous.tolist() == [False, False, True]
    other_order = average_prompts(embeddings, is_anomalous, normalize_first=True)
    torch.testing.assert_close(other_order.prototypes[0], torch.tensor([1.0, 1.0]) / 2**0.5)


@pytest.mark.parametrize("state", [True, False])
def test_an_average_needs_both_states(state):
    missing = "normal" if state else "anomalous"
    with pytest.raises(ValueError, match=f"there is no {missing} prompt"):
        average_prompts(torch.eye(2), torch.tensor([state, state]))


def test_broken_text_weights_are_noticed():
    with pytest.raises(ValueError, match="NaN"):
        average_prompts(torch.tensor([[3.0, torch.nan], [0.0, 1.0]]), torch.tensor([False, True]))


@pytest.fixture(name="encoded")
def count_encoded_texts(monkeypatch):
    """The texts of every call of the text tower."""
    calls = []
    monkeypatch.setattr(
        "anovl.prompts.encode_text",
        lambda clip, texts: calls.append(texts) or encode_text(clip, texts),
    )
    return calls


def test_an_ensemble_is_encoded_once_for_each_clip(tiny_clip, encoded):
    clip, other = replace(tiny_clip), replace(tiny_clip)
    first = encode_prompts(clip, PromptEnsemble(("a nut",), ("a bad nut",)))
    same_words = PromptEnsemble(["a nut"], ["a bad nut"], "by another name")
    assert encode_prompts(clip, same_words) is first
    assert encoded == [["a nut", "a bad nut"]]
    torch.testing.assert_close(encode_prompts(other, same_words).prompts, first.prompts)
    assert len(encoded) == 2


def test_the_cache_depends_on_the_words_their_states_and_the_mean(tiny_clip):
    clip = replace(tiny_clip)
    kinds = [
        encode_prompts(clip, PromptEnsemble(("nut", "whole nut"), ("bad nut",))),
        encode_prompts(clip, PromptEnsemble(("nut",), ("whole nut", "bad nut"))),
        encode_prompts(
            clip, PromptEnsemble(("nut", "whole nut"), ("bad nut",)), normalize_first=True
        ),
    ]
    assert len({text.prototypes[0].numpy().tobytes() for text in kinds}) == 3


def test_the_cache_depends_on_the_device(tiny_clip, encoded, monkeypatch):
    clip, words = replace(tiny_clip), PromptEnsemble(("nut",), ("bad nut",))
    first = encode_prompts(clip, words)
    monkeypatch.setattr(Clip, "device", property(lambda self: torch.device("cpu", 1)))
    assert encode_prompts(clip, words) is not first
    assert len(encoded) == 2


def test_a_used_clip_pickles_no_larger_than_a_fresh_one(tiny_clip):
    used, fresh = replace(tiny_clip), replace(tiny_clip)
    encode_prompts(used, "bottle")
    assert len(pickle.dumps(used)) == len(pickle.dumps(fresh))


def test_the_cache_holds_the_last_ensembles(tiny_clip, encoded, monkeypatch):
    monkeypatch.setattr("anovl.prompts._CACHE_SIZE", 2)
    clip = replace(tiny_clip)
    for name in ("nut", "bolt", "gear", "bolt", "nut"):
        encode_prompts(clip, prompt_ensemble(name, level="word"))
    assert [texts[0] for texts in encoded] == [
        f"normal {n}" for n in ("nut", "bolt", "gear", "nut")
    ]


def test_the_cache_of_a_clip_goes_with_it(tiny_clip):
    clip = replace(tiny_clip)
    prompts = weakref.ref(encode_prompts(clip, prompt_ensemble("nut", level="word")))
    assert prompts() is not None
    del clip
    gc.collect()
    assert prompts() is None


def test_only_prompts_can_be_encoded(tiny_clip):
    with pytest.raises(ValueError, match="list"):
        encode_prompts(tiny_clip, ["bottle"])


def test_the_order_of_mean_and_scaling_matters(tiny_clip):
    ensemble = prompt_ensemble("bottle", level="states")
    published = encode_prompts(tiny_clip, ensemble).prototypes
    other = encode_prompts(tiny_clip, ensemble, normalize_first=True)
    by_hand = F.normalize(other.prompts[:7].mean(dim=0), dim=0)
    torch.testing.assert_close(other.prototypes[0], by_hand)
    assert not torch.allclose(published, other.prototypes, atol=1e-6)
