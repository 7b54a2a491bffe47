"""Every data set has categories, samples with masks, and a hash of its content."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from helpers import write_picture
from PIL import Image

from anovl.data import load_dataset
from anovl.data.dataset import Dataset
from anovl.data.synthetic import PHOTOS, _photo, _photo_file, pocket_validation
from anovl.world import defects, scenes

CATEGORIES = [("pocket", "wood"), ("photos", "brick")]


@pytest.fixture
def tree(tmp_path) -> Path:
    """Two categories: "nut" with a mask, "bolt" without."""
    for category in ("nut", "bolt"):
        for name in ("000", "001"):
            write_picture(tmp_path / category / "test/good" / f"{name}.png", value=128)
        write_picture(tmp_path / category / "test/crack/000.png", value=60)
    write_picture(tmp_path / "nut/ground_truth/crack/000_mask.png")
    return tmp_path


def deep(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 12), value, np.uint16)).save(path)


def pixels(samples) -> list[bytes]:
    return [np.asarray(sample.image).tobytes() for sample in samples]


# A folder


def test_a_folder_is_a_map_style_data_set_of_samples(tree):
    dataset = load_dataset("folder", root=tree)
    assert dataset.categories == ("bolt", "nut")
    assert (len(dataset), [s.path for s in dataset]) == (6, [dataset[i].path for i in range(6)])
    unmasked, crack, good = dataset[0], dataset[3], dataset[-1]
    assert (unmasked.category, unmasked.label, unmasked.mask) == ("bolt", 1, None)
    assert (crack.category, crack.kind, crack.label) == ("nut", "crack", 1)
    assert crack.path == tree / "nut/test/crack/000.png"
    assert crack.image.mode == "RGB" and crack.image.size == (12, 8)
    assert np.argwhere(crack.mask).tolist() == [[2, 3]]
    assert (good.kind, good.label, good.mask.shape) == ("good", 0, (8, 12))
    assert not good.mask.any() and dataset.labels("nut") == (1, 0, 0)
    with pytest.raises(IndexError):
        dataset[6]


def test_root_may_be_one_category_or_a_folder_without_labels(tree):
    assert load_dataset("folder", root=tree / "nut").categories == ("nut",)
    dataset = load_dataset("folder", root=tree / "nut/test/good", categories=["metal nut"])
    samples = list(dataset.samples("metal nut"))
    assert [sample.path.name for sample in samples] == ["000.png", "001.png"]
    assert all(s.label is None and s.mask is None and s.kind == "" for s in samples)
    with pytest.raises(ValueError, match="per_category"):
        load_dataset("folder", root=tree / "nut/test/good", per_category=1)


def test_a_draw_of_some_images_is_a_part_of_a_larger_one(tree):
    for i in range(2, 9):
        write_picture(tree / f"nut/test/good/{i:03d}.png", value=128 + i)
    draws = [load_dataset("folder", tree, per_category=n, seed=1) for n in (2, 4, 9)]
    paths = [[entry.path for entry in draw.entries("nut")] for draw in draws]
    assert [len(own) for own in paths] == [3, 5, 10]
    assert set(paths[0]) < set(paths[1]) < set(paths[2]) and paths[2] == sorted(paths[2])
    assert draws[0].left_out >= set(paths[2]) - set(paths[0]) and not draws[2].left_out
    other = load_dataset("folder", tree, per_category=2, seed=3)
    assert other.manifest_hash() != draws[0].manifest_hash()


def test_samples_are_read_one_at_a_time_and_errors_name_the_files(tree):
    (tree / "nut/test/good/001.png").write_bytes(b"broken")
    samples = load_dataset("folder", root=tree).samples("nut")
    assert [next(samples).kind, next(samples).kind] == ["crack", "good"]
    with pytest.raises(ValueError, match=r"good/001\.png"):
        next(samples)
    write_picture(tree / "nut/ground_truth/crack/000_mask.png", size=(8, 12))
    with pytest.raises(ValueError, match=r"000_mask\.png is 8 x 12 .*000\.png is 12 x 8"):
        load_dataset("folder", root=tree)[3]


def test_folder_hash_follows_content_not_place(tree, tmp_path):
    before = load_dataset("folder", root=tree).manifest_hash()
    copy = shutil.copytree(tree, tmp_path / "elsewhere" / "copy")
    assert load_dataset("folder", root=copy).manifest_hash() == before
    write_picture(copy / "nut/test/good/000.png", value=129)
    changed_image = load_dataset("folder", root=copy).manifest_hash()
    write_picture(copy / "bolt/ground_truth/crack/000_mask.png")
    assert len({before, changed_image, load_dataset("folder", root=copy).manifest_hash()}) == 3


def test_hashes_stay_as_they_are(tree):
    """Shared runs and figures are found by them."""
    for path in tree.rglob("*.png"):
        path.write_bytes(path.name.encode())
    hashes = [load_dataset(*of).manifest_hash()[:16] for of in (("folder", tree), ("pocket",))]
    assert hashes == ["b610570f70c48f5a", "cba6a64db1106ba3"]


def test_normal_images_belong_to_the_hash(tree):
    """A method may learn from them; a picture is not the same one there as in the test."""
    before = load_dataset("folder", root=tree).manifest_hash("nut")
    write_picture(tree / "nut/train/good/new.png", value=7)
    hashes = {before, load_dataset("folder", root=tree).manifest_hash("nut")}
    write_picture(tree / "nut/train/good/new.png", value=8)
    hashes |= {load_dataset("folder", root=tree).manifest_hash("nut")}
    (tree / "nut/train/good/new.png").rename(tree / "nut/test/good/new.png")
    hashes |= {load_dataset("folder", root=tree).manifest_hash("nut")}
    assert len(hashes) == 4


def test_normal_images_of_a_folder_are_those_of_its_training(tree):
    write_picture(tree / "nut/train/good/000.png", value=7)
    write_picture(tree / "nut/train/ok2/deeper/000.png", value=8)
    write_picture(tree / "nut/train/crack/000.png", value=9)
    dataset = load_dataset("folder", root=tree)
    values = [sample.image.getpixel((0, 0))[0] for sample in dataset.normal_samples("nut")]
    assert values == [7, 8] and dataset.normal_entries("bolt") == ()
    with pytest.raises(ValueError, match="'bolt'"):
        dataset.normal_samples("bolt")
    with pytest.raises(ValueError, match="Did you mean 'bolt'"):
        dataset.normal_samples("bold")


@pytest.mark.filterwarnings("ignore:.*bit depth")
def test_a_set_has_one_range_of_pixel_values_its_normal_images_included(tree):
    values = {"test/good/000": 800, "test/good/001": 3000, "test/crack/000": 100}
    for name, value in (values | {"train/good/000": 4000}).items():
        deep(tree / f"nut/{name}.png", value)
    dataset = load_dataset("folder", root=tree, categories=["nut"])
    assert dataset.parameters["pixel_range"] == [0, 4095]
    grey = [sample.image.getpixel((0, 0))[0] for sample in dataset]
    assert grey == [round(value * 255 / 4095) for value in (100, 800, 3000)]
    assert next(dataset.normal_samples("nut")).image.getpixel((0, 0))[0] == 249
    given = load_dataset("folder", root=tree, categories=["nut"], pixel_range=(0, 1000))
    with pytest.warns(UserWarning, match=r"good/001\.png"):
        assert [sample.image.getpixel((0, 0))[0] for sample in given] == [26, 204, 255]
    assert given.parameters["pixel_range"] == [0, 1000]


def test_normal_images_of_another_bit_depth_are_named(tree):
    values = {"test/good/000": 4000, "test/good/001": 3000, "test/crack/000": 2000}
    for name, value in (values | {"train/good/000": 60000}).items():
        deep(tree / f"nut/{name}.png", value)
    with pytest.warns(UserWarning, match=r"train/good/000\.png: 1 of 4 .*--pixel-range"):
        load_dataset("folder", root=tree, categories=["nut"])


@pytest.mark.filterwarnings("ignore:.*more than half of the image is defect")
@pytest.mark.parametrize("values", [[0], "dark"])
def test_mask_values_act_and_are_recorded(tree, values):
    dataset = load_dataset("folder", root=tree, categories=["nut"], mask_values=values)
    assert np.argwhere(~dataset[0].mask).tolist() == [[2, 3]]
    assert dataset.parameters["mask_values"] == values


# Generated sets


@pytest.mark.parametrize("name", ["pocket", "photos"])
def test_generated_sets_are_balanced_and_have_masks(name):
    dataset, kinds = load_dataset(name, per_category=2), defects.KINDS
    known = (*scenes.SEEN, *scenes.UNSEEN) if name == "pocket" else tuple(PHOTOS)
    assert dataset.categories == known
    side = 112 if name == "pocket" else 240
    for turn, category in list(enumerate(known))[::4]:
        samples = list(dataset.samples(category))
        assert dataset.labels(category) == (0, 0, 1, 1)
        own = [sample.kind for sample in samples[2:]]
        assert own == [kinds[(turn + i) % len(kinds)] for i in range(2)]
        for sample in samples:
            assert sample.image.size == (side, side) and sample.image.mode == "RGB"
            assert sample.mask.shape == (side, side) and sample.mask.dtype == bool
            assert sample.mask.any() == bool(sample.label)


@pytest.mark.parametrize(("name", "category"), CATEGORIES)
def test_generated_sets_depend_on_the_seed_and_the_category_alone(name, category):
    def load(seed: int, *more: str, **options) -> Dataset:
        chosen = [*more, category]
        return load_dataset(name, categories=chosen, per_category=2, seed=seed, **options)

    first, again, other = load(1), load(1), load(2)
    assert pixels(first) == pixels(again)
    assert not set(pixels(first)) & set(pixels(other))
    assert first.manifest_hash() == again.manifest_hash() != other.manifest_hash()
    assert load(1, image_size=32).manifest_hash() != first.manifest_hash()
    among = load(1, "grass" if name == "photos" else "tile")
    assert pixels(among.samples(category)) == pixels(first)


@pytest.mark.parametrize(("name", "category"), CATEGORIES)
def test_normal_images_of_generated_sets_are_none_of_its_test(name, category):
    dataset = load_dataset(name, categories=[category], per_category=3, image_size=32)
    normal = list(dataset.normal_samples(category))
    assert len(set(pixels(normal))) == 40, "19 are needed for a rate of 5 %"
    assert not set(pixels(normal)) & set(pixels(dataset))
    assert all(sample.label == 0 and not sample.mask.any() for sample in normal)
    again = load_dataset(name, categories=[category], per_category=1, image_size=32)
    assert pixels(again.normal_samples(category)) == pixels(normal)


def test_every_use_has_seeds_of_its_own(monkeypatch):
    drawn, draw = [], scenes.draw_scene

    def spy(*args, seed: int, **options):
        drawn.append(seed)
        return draw(*args, seed=seed, **options)

    monkeypatch.setattr(scenes, "draw_scene", spy)
    sets = [load_dataset("pocket", categories=["wood"], seed=s, image_size=16) for s in (0, 1)]
    for data in (*sets, pocket_validation(per_category=20)):
        for samples in (data.samples("wood"), data.normal_samples("wood")):
            assert len(list(samples)) == 40
    assert len(drawn) == len(set(drawn)) == 240
    assert min(drawn) >= scenes.TRAINING_SEEDS
    assert min(drawn[:40]) >= scenes.FIRST_EVALUATION_SEED and max(drawn[:80]) < min(drawn[80:120])
    with pytest.raises(ValueError, match="450,000"):
        load_dataset("pocket", per_category=450_001)


def test_photos_are_damaged_where_the_mask_says(monkeypatch):
    from scipy.ndimage import distance_transform_edt

    def photos() -> list:
        samples = load_dataset("photos", categories=["gravel"], per_category=8)
        return [s for s in samples if s.label and s.kind != "dent"]  # its shadow fades slowly

    damaged = photos()
    unharmed = np.zeros((240, 240), dtype=bool)
    monkeypatch.setattr(defects, "add_defect", lambda image, rng, kind: (image, unharmed))
    for sample, twin in zip(damaged, photos(), strict=True):
        image = np.asarray(sample.image)
        assert (np.ptp(image, axis=2) == 0).all(), "a grey photograph stays grey"
        change = abs(image.astype(int) - np.asarray(twin.image)).max(axis=2)
        assert change[sample.mask].mean() > 10
        assert not change[distance_transform_edt(~sample.mask) > 4].any()


def test_photos_are_those_of_version_1():
    """One of them has a colour profile, which earlier releases did not apply."""
    page = np.asarray(_photo("page"))
    with Image.open(_photo_file("page")) as stored:
        np.testing.assert_array_equal(page[..., 0], np.asarray(stored))


def test_photos_need_no_download_and_have_defects_up_to_the_border(monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    assert len(load_dataset("photos", per_category=1, image_size=16)[0].mask) == 16
    dataset = load_dataset("photos", categories=["grass"], per_category=40, image_size=64)
    ever = np.any([sample.mask for sample in dataset], axis=0)
    assert all(border.any() for border in (ever[0], ever[-1], ever[:, 0], ever[:, -1]))


# Wrong options


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("poket", {}, "'poket'.*'pocket'"),
        ("dagm", {"root": "."}, "'folder'"),
        ("pocket", {"categories": ["metal_nut"]}, "'metal_nut'.*'metal nut'"),
        ("photos", {"categories": ["bric"]}, "'bric'.*'brick'"),
        ("pocket", {"categories": "wood"}, "categories .*'wood'"),
        ("pocket", {"per_category": 0}, "per_category .* 0"),
        ("pocket", {"seed": -1}, "seed .* -1"),
        ("pocket", {"image_size": 0}, "image_size .* 16 .* 0"),
        ("pocket", {"root": "."}, "root"),
        ("folder", {"root": ".", "image_size": 32}, "image_size"),
        ("folder", {"root": ".", "categories": ["nuts"]}, "'nuts'.*'nut'"),
        ("folder", {"root": "nut", "categories": ["nut", "bolt"]}, "'nut', 'bolt'"),
        ("folder", {"root": ".", "pixel_range": (4095, 0)}, "4095, 0"),
        ("folder", {"root": "bolt", "mask_values": [1]}, "--mask-values"),
        ("folder", {"root": ".", "mask_values": "inverted"}, "'inverted'"),
    ],
)
def test_wrong_options_are_named(tree, monkeypatch, name, options, named):
    monkeypatch.chdir(tree)
    with pytest.raises(ValueError, match=named):
        load_dataset(name, **options)
