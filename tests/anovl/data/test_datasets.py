"""Every data set tells the same story: categories, samples with masks, a hash of what was read."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anovl.data import load_dataset
from anovl.data.dataset import Dataset
from anovl.data.synthetic import PHOTOS
from anovl.world.defects import KINDS
from anovl.world.scenes import FIRST_EVALUATION_SEED, SEEN, TRAINING_SEEDS, UNSEEN


def write_image(path: Path, *, value: int = 128, size: tuple[int, int] = (12, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def write_mask(path: Path, *, size: tuple[int, int] = (12, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", size)
    mask.putpixel((3, 2), 255)
    mask.save(path)


@pytest.fixture
def tree(tmp_path) -> Path:
    """Two categories: "nut" with masks, "bolt" without."""
    for category in ("nut", "bolt"):
        for name in ("000", "001"):
            write_image(tmp_path / category / "test/good" / f"{name}.png")
        write_image(tmp_path / category / "test/crack/000.png", value=60)
    write_mask(tmp_path / "nut/ground_truth/crack/000_mask.png")
    return tmp_path


def pixels(dataset: Dataset) -> list[np.ndarray]:
    return [
        np.asarray(sample.image)
        for category in dataset.categories
        for sample in dataset.samples(category)
    ]


# A folder


def test_folder_pairs_images_with_masks_by_name(tree):
    dataset = load_dataset("folder", root=tree)
    assert dataset.categories == ("bolt", "nut")
    crack, good, _ = dataset.samples("nut")
    assert (crack.kind, crack.label, crack.category) == ("crack", 1, "nut")
    assert crack.path == tree / "nut/test/crack/000.png"
    assert crack.image.mode == "RGB" and crack.image.size == (12, 8)
    assert np.argwhere(crack.mask).tolist() == [[2, 3]]
    assert (good.kind, good.label) == ("good", 0)
    assert good.mask.shape == (8, 12) and not good.mask.any()
    assert dataset.labels("nut") == (1, 0, 0)


def test_defects_without_masks_have_none(tree):
    crack, *_ = load_dataset("folder", root=tree).samples("bolt")
    assert crack.label == 1
    assert crack.mask is None


def test_mask_with_the_name_of_the_image_is_taken_too(tree):
    masks = tree / "nut/ground_truth/crack"
    (masks / "000_mask.png").rename(masks / "000.png")
    crack, *_ = load_dataset("folder", root=tree).samples("nut")
    assert crack.mask.sum() == 1


def test_root_may_be_one_category_and_be_given_words(tree):
    assert load_dataset("folder", root=tree / "nut").categories == ("nut",)
    dataset = load_dataset("folder", root=tree / "nut", categories=["metal nut"])
    assert {sample.category for sample in dataset.samples("metal nut")} == {"metal nut"}


def test_plain_folder_has_no_labels(tmp_path):
    write_image(tmp_path / "b.png")
    write_image(tmp_path / "a.png")
    dataset = load_dataset("folder", root=tmp_path, categories=["metal nut"])
    samples = list(dataset.samples("metal nut"))
    assert [sample.path.name for sample in samples] == ["a.png", "b.png"]
    assert all(s.label is None and s.mask is None and s.kind == "" for s in samples)


def test_samples_are_decoded_one_at_a_time(tree):
    (tree / "nut/test/good/001.png").write_bytes(b"broken")
    samples = load_dataset("folder", root=tree).samples("nut")
    assert next(samples).kind == "crack"
    assert next(samples).kind == "good"
    with pytest.raises(ValueError, match=r"001\.png is not a picture"):
        next(samples)


def test_mask_of_another_size_names_both_files(tree):
    write_mask(tree / "nut/ground_truth/crack/000_mask.png", size=(8, 12))
    with pytest.raises(ValueError, match=r"000_mask\.png is 8 x 12 but .*000\.png is 12 x 8"):
        list(load_dataset("folder", root=tree).samples("nut"))


def test_masks_that_pair_with_nothing_are_not_ignored(tree):
    masks = tree / "nut/ground_truth/crack"
    (masks / "000_mask.png").rename(masks / "zero.png")
    with pytest.raises(ValueError, match=r"has masks but none for .*000\.png: expected 000_mask"):
        load_dataset("folder", root=tree)


def test_folder_errors(tree, tmp_path):
    with pytest.raises(ValueError, match="needs its root"):
        load_dataset("folder")
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_dataset("folder", root=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"'nuts'. Did you mean 'nut'\? Known are: bolt, nut"):
        load_dataset("folder", root=tree, categories=["nuts"])
    with pytest.raises(ValueError, match="single category; name it with one"):
        load_dataset("folder", root=tree / "nut", categories=["nut", "bolt"])
    shutil.rmtree(tree / "nut/test/crack")
    (tree / "nut/test/crack").mkdir()
    with pytest.raises(ValueError, match=r"no images in .*crack"):
        load_dataset("folder", root=tree)
    shutil.rmtree(tree / "nut/test")
    (tree / "nut/test").mkdir()
    with pytest.raises(ValueError, match="has no sub-folders; expected test/good"):
        load_dataset("folder", root=tree)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images in"):
        load_dataset("folder", root=tmp_path / "empty")


def test_folder_hash_follows_content_not_place(tree, tmp_path):
    before = load_dataset("folder", root=tree).manifest_hash()
    copy = shutil.copytree(tree, tmp_path / "elsewhere" / "copy")
    assert load_dataset("folder", root=copy).manifest_hash() == before
    write_image(copy / "nut/test/good/000.png", value=129)
    changed_image = load_dataset("folder", root=copy).manifest_hash()
    assert changed_image != before
    write_mask(copy / "bolt/ground_truth/crack/000_mask.png")
    assert load_dataset("folder", root=copy).manifest_hash() not in (before, changed_image)


def test_the_shared_magnetic_tiles(shared_path):
    dataset = load_dataset("folder", root=shared_path("data", "magnetic_tile_sample"))
    samples = list(dataset.samples("magnetic_tile"))
    assert len(samples) == 32
    assert sum(sample.label for sample in samples) == 20
    assert all(sample.mask.any() == bool(sample.label) for sample in samples)


# Normal images for a calibration


def test_normal_images_of_a_folder_are_those_of_its_training(tree):
    write_image(tree / "nut/train/good/000.png", value=7)
    write_image(tree / "nut/train/ok2/deeper/000.png", value=8)
    write_image(tree / "nut/train/crack/000.png", value=9)
    dataset = load_dataset("folder", root=tree)
    values = [sample.image.getpixel((0, 0))[0] for sample in dataset.normal_samples("nut")]
    assert values == [7, 8]
    assert [entry.path.name for entry in dataset.normal_entries("nut")] == ["000.png", "000.png"]
    assert dataset.normal_entries("bolt") == ()
    assert [entry.label for entry in dataset.entries("nut")] == list(dataset.labels("nut"))
    with pytest.raises(ValueError, match="no normal images of 'bolt'"):
        dataset.normal_samples("bolt")
    with pytest.raises(ValueError, match="Did you mean 'bolt'"):
        dataset.normal_samples("bold")


@pytest.mark.parametrize(("name", "category"), [("pocket", "wood"), ("photos", "brick")])
def test_normal_images_of_generated_sets_are_none_of_its_test(name, category):
    dataset = load_dataset(name, categories=[category], per_category=3, image_size=32)
    normal = [np.asarray(sample.image) for sample in dataset.normal_samples(category)]
    assert len(normal) == 40 >= 19, "19 are needed for a rate of 5 %"
    assert len({image.tobytes() for image in normal}) == 40
    test = {image.tobytes() for image in pixels(dataset)}
    assert not {image.tobytes() for image in normal} & test
    again = load_dataset(name, categories=[category], per_category=1, image_size=32)
    first = next(again.normal_samples(category))
    np.testing.assert_array_equal(np.asarray(first.image), normal[0])
    assert first.label == 0 and not first.mask.any()


def test_normal_images_have_seeds_that_serve_nothing_else(monkeypatch):
    from anovl.data.synthetic import pocket_validation
    from anovl.world import scenes

    seeds: dict[str, set[int]] = {}

    def drawn(key: str, samples) -> None:
        found = seeds.setdefault(key, set())

        def spy(*args, seed: int, **options):
            found.add(seed)
            return draw(*args, seed=seed, **options)

        with monkeypatch.context() as patch:
            patch.setattr(scenes, "draw_scene", spy)
            list(samples)

    draw = scenes.draw_scene
    for seed in (0, 1):
        dataset = load_dataset("pocket", categories=["wood"], seed=seed, image_size=16)
        drawn(f"test {seed}", dataset.samples("wood"))
        drawn(f"normal {seed}", dataset.normal_samples("wood"))
    validation = pocket_validation(per_category=2)
    drawn("validation", validation.samples("wood"))
    drawn("normal validation", validation.normal_samples("wood"))
    assert sum(map(len, seeds.values())) == len(set.union(*seeds.values()))
    assert min(set.union(*seeds.values())) >= TRAINING_SEEDS
    assert max(seeds["normal 0"]) < min(seeds["test 1"])
    with pytest.raises(ValueError, match="per_category may be 450,000 at most"):
        load_dataset("pocket", per_category=450_001)


# One range of pixel values for a set


def test_a_set_has_one_range_of_pixel_values(tree):
    for name, value in (("good/000.png", 800), ("good/001.png", 3000), ("crack/000.png", 100)):
        Image.fromarray(np.full((8, 12), value, np.uint16)).save(tree / "nut/test" / name)
    dataset = load_dataset("folder", root=tree, categories=["nut"])
    assert dataset.parameters["pixel_range"] == [0, 4095]
    grey = [sample.image.getpixel((0, 0))[0] for sample in dataset.samples("nut")]
    assert grey == [round(value * 255 / 4095) for value in (100, 800, 3000)]
    with pytest.warns(UserWarning, match=r"range 0 1000, .* in 1 of 3 pictures"):
        given = load_dataset("folder", root=tree, categories=["nut"], pixel_range=(0, 1000))
    grey = [sample.image.getpixel((0, 0))[0] for sample in given.samples("nut")]
    assert grey == [26, 204, 255]
    assert given.parameters["pixel_range"] == [0, 1000]


def test_normal_images_share_the_range_of_the_test(tree):
    for name, value in (("train/good/000.png", 4000), ("test/good/000.png", 1000)):
        (tree / "nut" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 12), value, np.uint16)).save(tree / "nut" / name)
    dataset = load_dataset("folder", root=tree, categories=["nut"])
    assert next(dataset.normal_samples("nut")).image.getpixel((0, 0))[0] == 249
    test = [s.image.getpixel((0, 0))[0] for s in dataset.samples("nut") if s.path.stem == "000"]
    assert 62 in test


def test_a_range_or_mask_values_that_act_on_nothing_are_refused(tree):
    with pytest.raises(ValueError, match=r"has none: leave --pixel-range"):
        load_dataset("folder", root=tree, pixel_range=(0, 4095))
    with pytest.raises(ValueError, match="must rise, low before high"):
        load_dataset("folder", root=tree / "missing", pixel_range=(4095, 0))
    with pytest.raises(ValueError, match=r"has none: leave --mask-values"):
        load_dataset("folder", root=tree, categories=["bolt"], mask_values=[1])
    for option in ({"pixel_range": (0, 1)}, {"mask_values": [1]}):
        with pytest.raises(ValueError, match="is for data sets of files; 'pocket' is generated"):
            load_dataset("pocket", **option)


@pytest.mark.filterwarnings("ignore:.*more than half of the image is defect")
def test_mask_values_act_and_are_recorded(tree):
    dataset = load_dataset("folder", root=tree, categories=["nut"], mask_values=[0])
    crack = next(sample for sample in dataset.samples("nut") if sample.label)
    assert np.argwhere(~crack.mask).tolist() == [[2, 3]]
    assert dataset.parameters["mask_values"] == [0]
    dark = load_dataset("folder", root=tree, categories=["nut"], mask_values="dark")
    for sample, again in zip(dataset.samples("nut"), dark.samples("nut"), strict=True):
        np.testing.assert_array_equal(sample.mask, again.mask)
    assert dark.parameters["mask_values"] == "dark"
    with pytest.raises(ValueError, match="or 'dark' for inverted masks; found 'inverted'"):
        load_dataset("folder", root=tree, categories=["nut"], mask_values="inverted")


# Generated sets


@pytest.mark.parametrize("name", ["pocket", "photos"])
def test_generated_sets_are_balanced_and_have_masks(name):
    dataset = load_dataset(name, per_category=3)
    assert dataset.categories == ((*SEEN, *UNSEEN) if name == "pocket" else tuple(PHOTOS))
    for category in dataset.categories[::4]:
        samples = list(dataset.samples(category))
        assert dataset.labels(category) == (0, 0, 0, 1, 1, 1)
        turn = dataset.categories.index(category)
        kinds = [sample.kind for sample in samples[3:]]
        assert kinds == [KINDS[(turn + i) % len(KINDS)] for i in range(3)]
        for sample in samples:
            side = 112 if name == "pocket" else 240
            assert sample.image.size == (side, side) and sample.image.mode == "RGB"
            assert sample.mask.shape == (side, side) and sample.mask.dtype == bool
            assert sample.mask.any() == bool(sample.label)


@pytest.mark.parametrize("name", ["pocket", "photos"])
def test_few_images_of_each_category_have_all_kinds_of_damage_and_a_category_keeps_its_own(name):
    def kinds(**options) -> list[str]:
        dataset = load_dataset(name, per_category=2, **options)
        return [entry.kind for c in dataset.categories for entry in dataset._of(c) if entry.label]

    assert set(kinds()) == set(KINDS) if name == "pocket" else len(set(kinds())) > 4
    last = load_dataset(name, per_category=1).categories[-1]
    assert kinds(categories=[last]) == kinds()[-2:]


@pytest.mark.parametrize(("name", "category"), [("pocket", "wood"), ("photos", "brick")])
def test_generated_sets_depend_on_the_seed_alone(name, category):
    def load(seed: int, **options) -> Dataset:
        return load_dataset(name, categories=[category], per_category=2, seed=seed, **options)

    first, again, other = load(1), load(1), load(2)
    for a, b in zip(pixels(first), pixels(again), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(pixels(first), pixels(other), strict=True):
        assert not np.array_equal(a, b)
    assert first.manifest_hash() == again.manifest_hash() != other.manifest_hash()
    assert load(1, image_size=32).manifest_hash() != first.manifest_hash()


def test_a_category_is_the_same_alone_and_among_others():
    alone = load_dataset("photos", categories=["coins"], per_category=1)
    together = load_dataset("photos", categories=["brick", "coins"], per_category=1)
    for a, b in zip(alone.samples("coins"), together.samples("coins"), strict=True):
        np.testing.assert_array_equal(np.asarray(a.image), np.asarray(b.image))


def test_pocket_scenes_have_seeds_of_their_own(monkeypatch):
    from anovl.world import scenes as images

    seeds = []
    draw = images.draw_scene
    monkeypatch.setattr(
        images, "draw_scene", lambda *a, seed, **k: seeds.append(seed) or draw(*a, seed=seed, **k)
    )
    for seed in (0, 1):
        list(load_dataset("pocket", categories=["wood"], per_category=3, seed=seed).samples("wood"))
    assert len(set(seeds)) == 12
    assert min(seeds) >= FIRST_EVALUATION_SEED


def test_photos_are_damaged_where_the_mask_says(monkeypatch):
    from scipy.ndimage import distance_transform_edt

    from anovl.world import defects

    def photos() -> list:
        scenes = load_dataset("photos", categories=["gravel"], per_category=8).samples("gravel")
        return [s for s in scenes if s.label and s.kind != "dent"]  # its shadow fades slowly

    damaged = photos()
    unharmed = np.zeros((240, 240), dtype=bool)
    monkeypatch.setattr(defects, "add_defect", lambda image, rng, kind: (image, unharmed))
    for sample, twin in zip(damaged, photos(), strict=True):
        pixels = np.asarray(sample.image)
        assert (np.ptp(pixels, axis=2) == 0).all(), "a grey photograph stays grey"
        change = abs(pixels.astype(int) - np.asarray(twin.image)).max(axis=2)
        assert change[sample.mask].mean() > 10
        assert not change[distance_transform_edt(~sample.mask) > 4].any()


def test_photos_need_no_download(monkeypatch):
    import socket

    def refuse(*args, **options):
        raise AssertionError("photos went to the network")

    monkeypatch.setattr(socket, "socket", refuse)
    for category in PHOTOS:
        next(load_dataset("photos", categories=[category], per_category=1).samples(category))


def test_defects_reach_the_border():
    dataset = load_dataset("photos", categories=["grass"], per_category=40, image_size=64)
    ever = np.any([sample.mask for sample in dataset.samples("grass")], axis=0)
    assert all(border.any() for border in (ever[0], ever[-1], ever[:, 0], ever[:, -1]))


# Wrong names and numbers


def test_unknown_names_are_answered_with_a_suggestion():
    with pytest.raises(ValueError, match=r"unknown data set: 'poket'. Did you mean 'pocket'\?"):
        load_dataset("poket")
    with pytest.raises(ValueError, match="MVTec AD's layout loads as 'folder'"):
        load_dataset("dagm", root=".")
    with pytest.raises(ValueError, match=r"'metal_nut'. Did you mean 'metal nut'\?"):
        load_dataset("pocket", categories=["metal_nut"])
    with pytest.raises(ValueError, match=r"category of photos: 'bric'. Did you mean 'brick'\?"):
        load_dataset("photos", categories=["bric"])
    with pytest.raises(ValueError, match=r"category of photos: 'wood'. Known are: brick"):
        load_dataset("photos", categories=["brick"]).samples("wood").__next__()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_category": 0}, "per_category must be a whole number from 1 on, found 0"),
        ({"seed": -1}, "seed must be a whole number from 0 on, found -1"),
        ({"image_size": 0}, "image_size must be a whole number from 16 on, found 0"),
        ({"categories": "wood"}, "categories must be a list .* found 'wood'"),
        ({"categories": []}, "categories must be a list with at least one name"),
        ({"root": "."}, "is generated and has no root"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        load_dataset("pocket", **options)
