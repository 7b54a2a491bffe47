"""How a pocket model does on validation scenes, and which of two trainings does better."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anovl.attention import encode_images
from anovl.clip import Clip
from anovl.data.synthetic import Pocket, pocket_validation
from anovl.evaluation.metrics import auroc
from anovl.maps import image_scores
from anovl.models.pocket import (
    PocketTokenizer,
    build_model,
    load_pocket,
    save_pocket,
    token_ids,
)
from anovl.prompts import encode_prompts
from anovl.world import captions
from anovl.world.scenes import SEEN, UNSEEN
from anovl_companion.training import validate as validation
from anovl_companion.training.validate import VALIDATED, rank_trainings, validate


@pytest.fixture(scope="module")
def tokenizer() -> PocketTokenizer:
    return PocketTokenizer(token_ids(captions.vocabulary_texts()))


def test_validation_is_that_of_a_detector_on_the_validation_scenes(tokenizer, monkeypatch):
    monkeypatch.setattr(Pocket, "categories", (SEEN[0], *UNSEEN[:2]))
    torch.manual_seed(0)
    model = build_model(tokenizer.vocab_size).eval()
    found = validate(model, tokenizer, per_category=1)
    assert set(found) == {"seen", "unseen"} and set(found["seen"]) == set(VALIDATED)
    clip, data = Clip(model, tokenizer, image_size=112), pocket_validation(per_category=1)
    values = []
    for category in UNSEEN[:2]:
        images = [sample.image for sample in data.samples(category)]
        scores = image_scores(encode_images(clip, images).cls, encode_prompts(clip, category))
        values.append(auroc(scores.numpy(), np.array(data.labels(category))))
    assert found["unseen"]["image_auroc"] == pytest.approx(np.mean(values))


def test_the_better_of_two_trainings_comes_first(tmp_path, monkeypatch, tokenizer):
    """By whole pictures and v-v maps of seen things; not by unseen ones, nor by q-k."""
    reached = {"a": (0.8, 0.9, 0.9, 0.9), "b": (0.9, 0.85, 0.1, 0.1)}
    for number, name in enumerate(reached):
        torch.manual_seed(number)
        save_pocket(build_model(tokenizer.vocab_size), tokenizer, tmp_path / name)
    hashes = {Clip(*load_pocket(tmp_path / n)[:2], image_size=112).weights_hash: n for n in reached}

    def measure(model, tokenizer, *, per_category):
        assert per_category == 16
        own = reached[hashes[Clip(model, tokenizer, image_size=112).weights_hash]]
        image, vv, qk, unseen = own
        seen = dict(zip(VALIDATED, (image, vv, qk), strict=True))
        return {"seen": seen, "unseen": dict.fromkeys(VALIDATED, unseen)}

    monkeypatch.setattr(validation, "validate", measure)
    ranked = rank_trainings([tmp_path / "a", tmp_path / "b"])
    assert [folder.name for folder, _ in ranked] == ["b", "a"]
    assert [score for _, score in ranked] == pytest.approx([0.875, 0.85])
    with pytest.raises(FileNotFoundError, match="missing"):
        rank_trainings([tmp_path / "c"])
