"""PCA of normal patches: equal to scikit-learn's, fitted once a category, marked in tables."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA

from anovl.attention import encode_images
from anovl.baselines import make_detector
from anovl.baselines.pca_normal import PcaNormal, principal_components, residuals
from anovl.data import load_dataset
from anovl.data.dataset import Dataset
from anovl.evaluation.harness import evaluate
from anovl.evaluation.metrics import auroc, mask_at
from anovl.models.load import load_clip
from anovl.prompts import prompt_ensemble


def pictures(count, seed=0, size=(64, 64)):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 130, (count, *size, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in pixels]


def directions(clip, images, attention="vv"):
    patches = encode_images(clip, images, attention=attention).patches
    return torch.nn.functional.normalize(patches, dim=-1)


@pytest.mark.parametrize("attention", ["vv", "qk"])
def test_maps_are_the_residuals_of_scikit_learns_pca(tiny_clip, attention):
    normal, images = pictures(6), pictures(3, seed=1)
    method = PcaNormal(tiny_clip, normal=normal, pictures=6, attention=attention, explained=0.9)
    known = directions(tiny_clip, normal, attention).flatten(0, 2).numpy()
    pca = PCA(n_components=0.9, svd_solver="full").fit(known.astype(np.float64))
    assert method(images[0], "nut", size=40).map.shape == (40, 40)
    assert method._subspace[1].shape == (32, pca.n_components_)
    new = directions(tiny_clip, images, attention).flatten(0, 2).numpy().astype(np.float64)
    left = ((new - pca.inverse_transform(pca.transform(new))) ** 2).sum(axis=1).reshape(3, 4, 4)
    found = residuals(directions(tiny_clip, images, attention), *method._subspace)
    np.testing.assert_allclose(found.numpy(), left, atol=1e-6)
    scores = [result.score for result in method.localize(images, "nut")]
    np.testing.assert_allclose(scores, left.max(axis=(1, 2)), atol=1e-6)  # 1 % of 16: one patch


def test_it_finds_what_is_unlike_the_normal_pictures():
    """On drawn textures, with normal pictures of other seeds."""
    others = load_dataset("pocket", categories=["wood"], per_category=12, seed=1)
    normal = [one.image for one in others.samples("wood") if one.label == 0]
    method = PcaNormal(load_clip("pocket"), normal=normal)
    samples = load_dataset("pocket", categories=["wood"], per_category=4, seed=0).samples("wood")
    spoiled = [one for one in samples if one.label == 1]
    found = method.localize([one.image for one in spoiled], "wood")
    masks = [
        mask_at(one.mask, result.map.shape) for one, result in zip(spoiled, found, strict=True)
    ]
    assert auroc(np.stack([result.map for result in found]), np.stack(masks)) > 0.85


def test_normal_pictures_are_asked_for_once_and_only_when_they_are_needed(tiny_clip):
    taken = []

    def normal():
        for picture in pictures(20):
            taken.append(picture)
            yield picture

    method = PcaNormal(tiny_clip, pictures=4).with_normal(normal)
    assert not taken
    method.prepare("nut")
    method.localize(pictures(2), "nut")
    method.localize(pictures(2), prompt_ensemble("nut", level="word"))
    assert len(taken) == 4
    given = PcaNormal(tiny_clip, normal=pictures(20), pictures=4)
    np.testing.assert_array_equal(*(d(pictures(1, 2)[0], "nut").map for d in (method, given)))


def test_only_so_many_pictures_are_used(tiny_clip):
    some, more = pictures(3), [*pictures(3), *pictures(9, seed=5)]
    maps = [
        PcaNormal(tiny_clip, normal=given, pictures=3)(pictures(1, 2)[0], "nut").map
        for given in (some, more)
    ]
    np.testing.assert_array_equal(*maps)


def test_every_table_says_what_it_is(tiny_clip, tmp_path):
    dataset = load_dataset("pocket", categories=["wood"], per_category=2, seed=0)
    normal = pictures(2)
    method = make_detector("pca-normal", tiny_clip, normal=normal, pictures=2)
    table = evaluate(dataset, [method], out=tmp_path, resamples=10, progress=False)
    assert set(table["method"]) == {"pca-normal (not zero-shot: 2 normal pictures)"}
    assert table["aupro"].notna().all()
    again = pickle.loads(pickle.dumps(method))
    other = make_detector("pca-normal-qk", tiny_clip, normal=normal, pictures=2)
    assert other.name == "pca-normal-qk (not zero-shot: 2 normal pictures)"
    image = pictures(1, 3)[0]
    np.testing.assert_array_equal(again(image, "wood").map, method(image, "wood").map)


class WithNormal(Dataset):
    """A data set that has normal pictures beside its samples."""

    def normal_reads(self, category):
        others = load_dataset("pocket", categories=[category], per_category=3, seed=1)
        reads = zip(others.reads(category), others.labels(category), strict=True)
        return [read for read, label in reads if label == 0]


def test_evaluate_gives_the_normal_pictures_of_each_category(tiny_clip, tmp_path):
    data = load_dataset("pocket", categories=["wood", "gear"], per_category=1, seed=0)
    data = WithNormal(**{one.name: getattr(data, one.name) for one in fields(data)})
    method = make_detector("pca-normal", tiny_clip, pictures=3)
    table = evaluate(data, [method], out=tmp_path, resamples=5, progress=False)
    for category in data.categories:
        normal = [one.image for one in data.normal_samples(category)]
        own = evaluate(
            load_dataset("pocket", categories=[category], per_category=1, seed=0),
            [make_detector("pca-normal", tiny_clip, pictures=3, normal=normal)],
            **{"out": tmp_path / category, "resamples": 5, "progress": False},
        )
        here, there = (t[t["category"] == category]["aupro"].item() for t in (table, own))
        assert here == there


def test_components_explain_as_much_as_asked_and_no_more():
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(500, 3, generator=generator) * torch.tensor([10.0, 3.0, 0.1])
    for explained, count in ((0.5, 1), (0.95, 2), (0.99999, 3)):
        assert principal_components(patches, explained)[1].shape == (3, count)


def test_what_is_refused(tiny_clip):
    for wrong in ({"pictures": 0}, {"explained": 1.0}, {"explained": 0}):
        with pytest.raises(ValueError, match="at least 1 and explained between 0 and 1"):
            PcaNormal(tiny_clip, **wrong)
    with pytest.raises(ValueError, match=r"pca-normal learns from 12 .*; found 0: give"):
        make_detector("pca-normal", tiny_clip)(pictures(1)[0], "nut")
    method = PcaNormal(tiny_clip, normal=pictures(5))
    with pytest.raises(ValueError, match="learns from 12 normal pictures; found 5: give more"):
        method.prepare("nut")
    enough = replace(method, pictures=5)
    assert enough.localize([], "nut") == []
    with pytest.raises(ValueError, match="size must be"):
        enough(pictures(1)[0], "nut", size=0)
