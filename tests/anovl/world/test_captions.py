"""Captions of the pocket world, and the words that they use."""

from __future__ import annotations

import numpy as np
import pytest

from anovl.models import pocket as network
from anovl.models.pocket import PocketTokenizer, token_ids
from anovl.world import captions
from anovl.world.captions import Caption, truth_matrix, write_caption
from anovl.world.defects import KINDS
from anovl.world.scenes import SEEN, draw_scene


@pytest.fixture(scope="module")
def tokenizer() -> PocketTokenizer:
    return PocketTokenizer(token_ids(captions.vocabulary_texts()))


def test_a_written_caption_is_true_of_its_scene_and_a_contrary_one_is_not():
    rng = np.random.default_rng(0)
    scenes = [draw_scene("wood", seed=s, kind=k, size=24) for s, k in enumerate(("good", *KINDS))]
    for scene in scenes:
        own = [write_caption(rng, scene) for _ in range(20)]
        assert truth_matrix([scene], own).all()
    claims = [
        Caption("a defective thing", kinds=frozenset(KINDS)),
        Caption("a scratch", kinds=frozenset(["scratch"])),
        Caption("a good thing", kinds=frozenset(["good"])),
        Caption("a perfect offer"),
        Caption("a pill", categories=frozenset(["pill"])),
    ]
    expected = [
        [False, False, True, True, False],
        [True, True, False, True, False],
        [True, False, False, True, False],
    ]
    assert truth_matrix(scenes[:3], claims).tolist() == expected


def test_no_common_word_for_damage_means_every_kind_but_together_they_do():
    from anovl.prompts import ANOMALOUS_STATES, NORMAL_STATES

    assert set(NORMAL_STATES) < set(captions.NORMAL)
    covered = [set(captions.DAMAGED[state].split()) for state in ANOMALOUS_STATES]
    assert all(kinds < set(KINDS) for kinds in covered)
    for kind in KINDS:
        assert sum(kind in kinds for kinds in covered) >= 2, kind


def test_praise_in_a_catalogue_claims_nothing_of_the_state():
    rng = np.random.default_rng(3)
    scene = draw_scene("wood", seed=1, kind="crack", size=16)
    written = [write_caption(rng, scene) for _ in range(300)]
    praise = [c for c in written if "perfect" in c.text or "flawless" in c.text]
    assert praise and all(caption.kinds is None for caption in praise)
    assert all("industrial" not in caption.text for caption in praise)


def test_held_out_phrases_use_known_words_and_are_never_written(tokenizer):
    rng = np.random.default_rng(5)
    written = {
        write_caption(rng, draw_scene("wood", seed=s % 9, kind=k, size=16)).text
        for s in range(60)
        for k in ("good", *KINDS)
    }
    for phrase in (*captions.HELD_OUT["normal"], *captions.HELD_OUT["abnormal"]):
        assert not (tokenizer(phrase.format("wood")) == network.UNKNOWN).any(), phrase
        assert not any(phrase.format("wood") in text for text in written)


def test_every_word_of_captions_is_known_but_the_strange_ones(tokenizer):
    rng, unknown = np.random.default_rng(1), set()
    for seed in range(200):
        kind = ("good", *KINDS)[seed % 9]
        text = write_caption(rng, draw_scene(SEEN[seed % 15], seed=seed, kind=kind, size=16)).text
        if (tokenizer(text) == network.UNKNOWN).any():
            unknown.add(text)
    assert unknown and all(any(w in t for w in captions.STRANGE_WORDS) for t in unknown)


def test_the_end_of_text_is_the_largest_token_and_padding_is_zero(tokenizer):
    rows = tokenizer(["a photo of a damaged bottle", "zebra"])
    assert rows.shape == (2, network.CONTEXT_LENGTH)
    assert rows.max(dim=1).values.tolist() == [tokenizer.vocab_size - 1] * 2
    assert rows[0, -1] == network.PADDING
