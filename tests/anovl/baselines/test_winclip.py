"""WinCLIP: its windows one by one, and its own prompts."""

from __future__ import annotations

import pytest
import torch
from helpers import make_clip, make_images, make_text, picture, run_through
from torch.testing import assert_close

from anovl.attention import embed
from anovl.baselines.winclip import (
    WinCLIP,
    encode_subsets,
    winclip_prompts,
    window_tokens,
)
from anovl.maps import image_scores
from anovl.prompts import prompt_ensemble


def test_windows_are_encoded_as_each_would_be_alone():
    clip = make_clip(image_size=(32, 48))
    visual, windows = clip.model.visual, window_tokens((2, 3), (2, 2))
    with torch.no_grad():
        tokens = embed(visual, make_images(clip))
        together = encode_subsets(visual, tokens, windows)
        for i, tokens_of_one in enumerate(windows.tolist()):
            alone = run_through(clip, torch.stack([tokens[:, t] for t in tokens_of_one], dim=1))
            assert_close(together[:, i], alone, rtol=0, atol=1e-5)
        whole = encode_subsets(visual, tokens, window_tokens((2, 3), (2, 3)))
    assert_close(whole[:, 0], clip.model.encode_image(make_images(clip)), rtol=0, atol=1e-5)


def one_by_one(clip, pixels, text):
    """WinCLIP's grid (B, h, w) and scores (B,), every window by itself, harmonic means by loops."""
    visual, (rows, columns) = clip.model.visual, clip.grid
    tokens = embed(visual, pixels)
    score = image_scores(run_through(clip, tokens), text, temperature=0.07)
    inverse = (1 / score)[:, None, None].repeat(1, rows, columns)
    for side in (2, 3):
        total, count = torch.zeros(len(pixels), rows, columns), torch.zeros(rows, columns)
        for top in range(rows - side + 1):
            for left in range(columns - side + 1):
                own = (slice(top, top + side), slice(left, left + side))
                numbers = 1 + torch.arange(rows * columns).view(rows, columns)[own].flatten()
                cls = run_through(clip, torch.cat([tokens[:, :1], tokens[:, numbers]], dim=1))
                found = image_scores(cls, text, temperature=0.07)
                total[(slice(None), *own)] += (1 / found)[:, None, None]
                count[own] += 1
        inverse += total / count
    return 3 / inverse, score


def test_winclip_is_its_windows_one_by_one():
    clip, text = make_clip(image_size=(48, 64)), make_text()
    pixels = make_images(clip)
    with torch.no_grad():
        grids, expected = one_by_one(clip, pixels, text)
        values, scores = WinCLIP(clip).score_patches(pixels, text)
    assert_close(values, grids, rtol=1e-4, atol=1e-6)
    assert_close(scores, expected, rtol=1e-4, atol=1e-6)


def test_its_own_prompts_are_seven_and_four_states_in_21_templates():
    words = winclip_prompts("metal nut")
    assert (len(words.normal), len(words.anomalous)) == (7 * 21, 4 * 21)
    assert words.normal[0] == "a cropped photo of the metal nut."
    assert "a photo of a small metal nut without flaw." in words.normal
    assert "a photo of a metal nut with damage for anomaly detection." in words.anomalous
    twice = {text for text in words.normal if words.normal.count(text) > 1}
    assert len(twice) == 7 and all("jpeg corrupted photo of the" in text for text in twice)
    for name in (" ", 3):
        with pytest.raises(ValueError, match="class name"):
            winclip_prompts(name)


def test_prompts_are_anovls_unless_its_own_are_asked_for(tiny_clip):
    own, shared = WinCLIP(tiny_clip, prompts="winclip"), WinCLIP(tiny_clip, level="states")
    assert len(own.text("nut").prompts) == 231
    assert len(shared.text("nut").prompts) == 14
    assert len(own.text(prompt_ensemble("nut", level="word")).prompts) == 2  # given by hand
    assert own(picture(0), "nut").score != pytest.approx(shared(picture(0), "nut").score, abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [*({"windows": w} for w in ((), (0,), (2, 5), (2.5,))), {"temperature": 0}, {"prompts": "own"}],
    ids=str,
)
def test_what_is_refused(tiny_clip, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WinCLIP(tiny_clip, **wrong)
