"""A linear probe: do patches hold what words do not find in them?

The probe sees masks, so it is no method; it is fitted on other scenes of other categories. What it
reaches on a network's patches means something only above the same probe on its controls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F

from anovl.clip import Clip
from anovl.data import load_dataset
from anovl.maps import enlarge
from anovl.models.pocket import PocketTokenizer, build_model
from anovl.world.scenes import SEEN, UNSEEN
from anovl_companion.measure.ablation import maps_of
from anovl_companion.measure.category import Category, Variant

FOLDS, SEED, PER_CATEGORY = 5, 1001, 8
"""Held-out parts of the categories; seed and number of the scenes for fitting."""
COVERED, NORMAL_PATCHES = 0.25, 24
"""From which coverage on a patch is anomalous, and how many normal ones a picture gives."""
UNTRAINED = "untrained network"

Features = Callable[[Category], np.ndarray]


def probe_variants(category: Category) -> Iterator[Variant]:
    """Yield maps of the words and of the probe, on q-k and v-v patches and on each control."""
    for kind in ("qk", "vv"):
        yield Variant(f"words, {kind[0]}-{kind[1]}", maps_of(category.encoded(kind), category.text))
    for name, features in FEATURES.items():
        if name == UNTRAINED and not isinstance(category.clip.tokenizer, PocketTokenizer):
            continue
        probe = fitted(name, category.clip, fold_of(category.name))
        x = features(category).astype(float)
        grids = probe.decision_function(x.reshape(-1, x.shape[-1])).reshape(x.shape[:3])
        maps = enlarge(torch.from_numpy(grids), size=category.truth.shape[1:])
        yield Variant(f"probe, {name}", maps.numpy())


def fold_of(category: str) -> int:
    """The part of the pocket world that is held out together with a category, 0 to FOLDS - 1.

    Of another category it is FOLDS: nothing has to be held out.
    """
    names = (*SEEN, *UNSEEN)
    return names.index(category) % FOLDS if category in names else FOLDS


@lru_cache(maxsize=64)
def fitted(features: str, clip: Clip, fold: int) -> Pipeline:
    """Fit the probe on patches of all categories that are not of this fold."""
    names = [name for name in (*SEEN, *UNSEEN) if fold_of(name) != fold]
    x, y = zip(*(patches_for_fitting(features, clip, name) for name in names), strict=True)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced"))
    # in float64: the search for the best weights turns the rounding of float32 into differences
    return probe.fit(np.concatenate(x).astype(float), np.concatenate(y))


@lru_cache(maxsize=256)
def patches_for_fitting(features: str, clip: Clip, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features of all anomalous and of some normal patches of a category, and their labels."""
    category = scenes_for_fitting(clip, name)
    x, anomalous = FEATURES[features](category), category.coverage() >= COVERED
    normal = np.flatnonzero(category.coverage() == 0)
    chosen = np.random.default_rng(SEED).choice(
        normal, NORMAL_PATCHES * len(category.labels), replace=False
    )
    index = np.concatenate([np.flatnonzero(anomalous), chosen])
    return x.reshape(-1, x.shape[-1])[index], anomalous.ravel()[index]


@lru_cache(maxsize=32)
def scenes_for_fitting(clip: Clip, name: str) -> Category:
    """Scenes of one category that no result is measured on."""
    data = load_dataset("pocket", categories=[name], seed=SEED, per_category=PER_CATEGORY)
    return Category.read(clip, data, name)


@lru_cache(maxsize=2)
def untrained(clip: Clip) -> Clip:
    """The same network with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(clip.tokenizer.vocab_size).eval()
    return Clip(model, clip.tokenizer, image_size=clip.image_size, name=UNTRAINED)


def _patches(category: Category, kind: str = "qk") -> np.ndarray:
    return category.encoded(kind).patches.cpu().numpy()


def _of_untrained(category: Category) -> np.ndarray:
    return _patches(replace(category, clip=untrained(category.clip), _features={}))


def _pixels(category: Category) -> np.ndarray:
    """The pixels of each patch: (n, h, w, 3·P·P)."""
    side = category.pixels.shape[-1] // category.clip.grid[1]
    columns = F.unfold(category.pixels, side, stride=side)  # (n, 3·P·P, h·w)
    return columns.transpose(1, 2).unflatten(1, category.clip.grid).numpy()


def statistics(category: Category) -> np.ndarray:
    """Twelve numbers a patch: mean and spread of three colours, and how far each is from usual.

    "Usual" is the median over the patches of the picture.
    """
    pixels = _pixels(category)
    colours = pixels.reshape(*pixels.shape[:3], 3, -1)
    six = np.concatenate([colours.mean(axis=-1), colours.std(axis=-1)], axis=-1)
    return np.concatenate([six, abs(six - np.median(six, axis=(1, 2), keepdims=True))], axis=-1)


FEATURES: dict[str, Features] = {
    "q-k": _patches,
    "v-v": lambda category: _patches(category, "vv"),
    UNTRAINED: _of_untrained,
    "raw pixels": _pixels,
    "patch statistics": statistics,
}
