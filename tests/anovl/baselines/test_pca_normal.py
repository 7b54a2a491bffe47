"""PCA of normal patches: equal to scikit-learn's, fitted once a category, marked in tables."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA

from anovl.attention import encode_images
from anovl.baselines import make_detector
from anovl.baselines.controls import Centre
from anovl.baselines.pca_normal import PcaNormal, residuals
from anovl.clip import preprocess
from anovl.data import load_dataset
from anovl.evaluation.harness import evaluate
from anovl.evaluation.run_folder import RunFolder, describe_run


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
    assert method.subspace[1].shape == (32, pca.n_components_)
    new = directions(tiny_clip, images, attention).flatten(0, 2).numpy().astype(np.float64)
    left = ((new - pca.inverse_transform(pca.transform(new))) ** 2).sum(axis=1).reshape(3, 4, 4)
    found = residuals(directions(tiny_clip, images, attention), *method.subspace)
    np.testing.assert_allclose(found.numpy(), left, atol=1e-6)
    scores = [result.score for result in method.localize(images, "nut")]
    np.testing.assert_allclose(scores, left.max(axis=(1, 2)), atol=1e-6)  # 1 % of 16: one patch


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


def test_evaluate_gives_the_normal_pictures_of_each_category(tiny_clip, tmp_path):
    data = load_dataset("pocket", categories=["wood", "gear"], per_category=1, seed=0)
    method = make_detector("pca-normal", tiny_clip, pictures=3)
    table = evaluate(data, [method], out=tmp_path, resamples=5, progress=False)
    for category in data.categories:
        normal = [one.image for one in islice(data.normal_samples(category), 3)]
        own = make_detector("pca-normal", tiny_clip, pictures=3, normal=normal)
        sample = next(data.samples(category))
        score = RunFolder(tmp_path).read(f"{category}, {method.name}")["images"]["score"][0]
        assert own(sample.image, category).score == pytest.approx(score, abs=1e-6)
    assert table["aupro"].notna().all()


def test_the_pictures_that_it_learns_from_decide_a_run(tiny_clip, tmp_path):
    """As pictures, tensors or files, by their content and not by their names."""
    data, (one, two, other) = load_dataset("pocket", categories=["wood"]), pictures(3)
    for name, second in (("a", two), ("b", other)):
        (tmp_path / name).mkdir()
        one.save(tmp_path / name / "0.png")
        second.save(tmp_path / name / "1.png")
    files = [[tmp_path / name / f"{i}.png" for i in (0, 1)] for name in "ab"]
    tensors = [preprocess(tiny_clip, [one, second]) for second in (two, other)]
    texts = [list(map(str, paths)) for paths in files]
    for first, second in ([[one, two], [one, other]], files, texts, tensors):
        given = [PcaNormal(tiny_clip, normal=normal, pictures=2) for normal in (first, second)]
        records = [json.dumps(describe_run(data, [method])["methods"]) for method in given]
        again = describe_run(data, [replace(given[0])])["methods"]
        assert records[0] == json.dumps(again) != records[1]


def test_a_damaged_normal_picture_is_named_before_any_work(tiny_clip, tmp_path):
    for kind, name in (("test/good", "0"), ("test/dent", "0"), ("train/good", "0")):
        (tmp_path / "nut" / kind).mkdir(parents=True)
        pictures(1)[0].save(tmp_path / "nut" / kind / f"{name}.png")
    data, file = load_dataset("folder", tmp_path / "nut"), tmp_path / "nut/train/good/0.png"
    file.write_bytes(b"no picture")
    method = make_detector("pca-normal", tiny_clip, pictures=1)
    with pytest.raises(ValueError, match=str(file)):
        evaluate(data, [method], out=tmp_path / "out", progress=False)
    evaluate(data, [Centre(32)], out=tmp_path / "other", resamples=5, progress=False)


def test_what_is_refused(tiny_clip):
    for wrong in ({"pictures": 0}, {"explained": 1.0}, {"explained": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            PcaNormal(tiny_clip, **wrong)
    for normal, found in ((None, 0), (pictures(5), 5)):
        with pytest.raises(ValueError, match=f"12 .*found {found}"):
            PcaNormal(tiny_clip, normal=normal)(pictures(1)[0], "nut")
    enough = PcaNormal(tiny_clip, normal=pictures(5), pictures=5)
    assert enough.localize([], "nut") == []
    with pytest.raises(ValueError, match="size must be"):
        enough(pictures(1)[0], "nut", size=0)
