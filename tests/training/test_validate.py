"""How a pocket model does on validation scenes, and which of two trainings does better."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anovl.clip import Clip
from anovl.models.pocket import PocketTokenizer, build_model, token_ids
from anovl.training.validate import VALIDATED, validate
from anovl.world import captions
from anovl.world.scenes import UNSEEN


@pytest.fixture(scope="module")
def tokenizer() -> PocketTokenizer:
    return PocketTokenizer(token_ids(captions.vocabulary_texts()))


def test_validation_is_that_of_a_detector_on_the_validation_scenes(tokenizer):
    from anovl.attention import encode_images
    from anovl.data.synthetic import pocket_validation
    from anovl.evaluation.metrics import auroc
    from anovl.maps import image_scores
    from anovl.prompts import encode_prompts

    torch.manual_seed(0)
    model = build_model(tokenizer.vocab_size).eval()
    found = validate(model, tokenizer, per_category=1)
    assert set(found) == {"seen", "unseen"} and set(found["seen"]) == set(VALIDATED)
    clip, data, values = (
        Clip(model, tokenizer, image_size=112),
        pocket_validation(per_category=1),
        [],
    )
    for category in UNSEEN:
        images = [sample.image for sample in data.samples(category)]
        scores = image_scores(encode_images(clip, images).cls, encode_prompts(clip, category))
        values.append(auroc(scores.numpy(), np.array(data.labels(category))))
    assert found["unseen"]["image_auroc"] == pytest.approx(np.mean(values))
