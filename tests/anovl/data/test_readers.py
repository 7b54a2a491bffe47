"""Published data sets are read as published, and nothing that is missing is passed over."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anovl.data import load_dataset
from anovl.data.dataset import Dataset
from anovl.data.published import MVTEC_AD
from anovl.prompts import prompt_ensemble

pytestmark = pytest.mark.filterwarnings("ignore:.*has not the test images of")
NAMES = ("mvtec", "visa", "magnetic-tile", "kolektor-sdd", "btad", "mpdd", "mvtec-ad-2")


def flat(dataset: Dataset) -> list:
    return [sample for category in dataset.categories for sample in dataset.samples(category)]


def move(root: Path, old: str, new: str) -> None:
    (root / new).parent.mkdir(parents=True, exist_ok=True)
    (root / old).rename(root / new)


# What all have in common


@pytest.mark.parametrize("name", NAMES)
def test_every_image_has_its_mask_and_both_roots_are_the_same(miniature, name):
    root = miniature(name)
    dataset = load_dataset(name, root)
    for sample in flat(dataset):
        assert sample.image.mode == "RGB"
        assert sample.mask.shape == sample.image.size[::-1] and sample.mask.dtype == bool
        where = [[2, 3]] if sample.label else []
        assert np.argwhere(sample.mask).tolist() == where
        assert (sample.kind == "good") == (sample.label == 0)
    assert load_dataset(name, root.parent).manifest_hash() == dataset.manifest_hash()
    assert load_dataset(name, str(root)).name == name


@pytest.mark.parametrize("name", NAMES)
def test_data_sets_are_found_beside_each_other(miniature, name):
    roots = {miniature(other).parent for other in NAMES}
    (root,) = roots
    assert {
        sample.path.relative_to(root).parts[0] for sample in flat(load_dataset(name, root))
    } == {name}


@pytest.mark.parametrize("name", NAMES)
def test_wrong_roots(miniature, tmp_path, name):
    with pytest.raises(ValueError, match=f"'{name}' needs its root"):
        load_dataset(name)
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        load_dataset(name, tmp_path / "nowhere")
    (tmp_path / "void").mkdir()
    with pytest.raises(
        FileNotFoundError,
        match=f"of {name}, expected .*/.*, spelt like.*anovl download {name} --to",
    ):
        load_dataset(name, tmp_path / "void")
    root = miniature(name)
    shutil.copytree(root, root.with_name("a copy"))
    with pytest.raises(ValueError, match=f"{name} is there more than once, name one: .*a copy, "):
        load_dataset(name, root.parent)


# MVTec AD


def test_mvtec_counts_are_those_of_the_paper():
    good, defective = map(sum, zip(*MVTEC_AD.values(), strict=True))
    assert (len(MVTEC_AD), good, defective) == (15, 467, 1258)


def test_mvtec_reads_the_test_images_of_each_category(miniature):
    root = miniature("mvtec")
    dataset = load_dataset("mvtec", root)
    assert dataset.categories == tuple(MVTEC_AD)
    kinds = [(sample.kind, sample.path.name) for sample in dataset.samples("screw")]
    goods = [("good", "000.png"), ("good", "001.png")]
    assert kinds == [("cut", "000.png"), *goods, ("hole", "000.png")]
    chosen = load_dataset("mvtec", root, categories=["wood", "tile"])
    assert chosen.categories == ("wood", "tile")


def test_mvtec_says_which_categories_are_missing_and_which_can_be_chosen(miniature):
    root = miniature("mvtec")
    shutil.rmtree(root / "pill")
    shutil.rmtree(root / "wood")
    with pytest.raises(
        FileNotFoundError, match=r"lacks pill, wood of MVTec AD.*here: bottle, cable"
    ):
        load_dataset("mvtec", root)
    with pytest.raises(FileNotFoundError, match="lacks pill of"):
        load_dataset("mvtec", root, categories=["bottle", "pill"])
    assert load_dataset("mvtec", root, categories=["bottle"]).categories == ("bottle",)
    with pytest.raises(
        ValueError, match=r"category of MVTec AD: 'metal nut'\. Did you mean 'metal_nut'"
    ):
        load_dataset("mvtec", root, categories=["metal nut"])


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("pill/test/good", FileNotFoundError, "there is no .*good: unpack .*pill again"),
        ("pill/ground_truth/cut", FileNotFoundError, "there are no masks in .*cut"),
        ("pill/ground_truth", FileNotFoundError, "there are no masks in .*cut"),
        ("pill/test/hole/000.png", ValueError, "no images in .*hole"),
    ],
)
def test_mvtec_misses_nothing_in_silence(miniature, path, error, message):
    root = miniature("mvtec")
    move(root, path, "elsewhere")
    with pytest.raises(error, match=message):
        load_dataset("mvtec", root)


def test_mvtec_images_and_masks_must_pair(miniature):
    root = miniature("mvtec")
    shutil.copy(root / "pill/test/cut/000.png", root / "pill/test/cut/001.png")
    with pytest.raises(ValueError, match=r"none for .*001\.png: expected 001_mask\.png"):
        load_dataset("mvtec", root)
    move(root, "pill/test/cut/001.png", "elsewhere")
    masks = root / "pill/ground_truth/cut"
    shutil.copy(masks / "000_mask.png", masks / "007_mask.png")
    with pytest.raises(ValueError, match=r"007_mask\.png is the mask of no image"):
        load_dataset("mvtec", root)


def test_other_numbers_of_images_are_mentioned_once(miniature):
    root = miniature("mvtec")
    with pytest.warns(UserWarning, match=r"bottle 2 \+ 2 instead of 20 \+ 63") as caught:
        load_dataset("mvtec", root)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_the_published_number_of_images_is_not_worth_a_warning(miniature, recwarn, monkeypatch):
    root = miniature("mvtec")
    monkeypatch.setattr("anovl.data.readers.MVTEC_AD", dict.fromkeys(MVTEC_AD, (2, 2)))
    load_dataset("mvtec", root)
    assert not recwarn.list


# VisA


def test_visa_takes_its_test_images_in_the_order_of_its_list(miniature):
    dataset = load_dataset("visa", miniature("visa"))
    assert dataset.categories == ("candle", "macaroni1")
    samples = list(dataset.samples("candle"))
    assert [s.path.name for s in samples] == ["0003.JPG", "0001.JPG", "000.JPG", "001.JPG"]
    assert dataset.labels("candle") == (0, 0, 1, 1)
    assert samples[2].path.parent.name == "Anomaly"


def test_visa_masks_hold_class_indices(miniature):
    root = miniature("visa")
    mask = Image.new("L", (12, 8))
    for value in range(10):
        mask.putpixel((value, 0), value)
    mask.save(root / "candle/Data/Masks/Anomaly/000.png")
    *_, first, _ = load_dataset("visa", root).samples("candle")
    assert np.argwhere(first.mask).tolist() == [[0, x] for x in range(1, 10)]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("split_csv/1cls.csv", "there is no .*1cls.csv, which says which images"),
        ("split_csv", "there is no .*1cls.csv, which says which images"),
        ("candle", "lacks candle of VisA.*here: macaroni1"),
        ("candle/Data/Images/Normal/0003.JPG", "there is no .*0003.JPG, which split_csv"),
        ("candle/Data/Masks/Anomaly/001.png", "there is no .*001.png, which split_csv"),
    ],
)
def test_visa_misses_nothing_in_silence(miniature, path, message):
    root = miniature("visa")
    move(root, path, "elsewhere")
    with pytest.raises(FileNotFoundError, match=message):
        load_dataset("visa", root)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("split,label", "part,label", "no column split: it is not VisA's own"),
        (",test,", ",train,", "names no image for testing"),
        ("test,normal", "test,fine", "found 'fine' with mask ''"),
        ("test,anomaly", "test,normal", "found 'normal' with mask 'candle/Data/Masks"),
        (
            "candle,train",
            "candle,Train",
            "1cls.csv: expected .*; found 'candle', 'Train', ",
        ),
        ("candle,train", "candle\nbolt,train", "1cls.csv: expected .*; found 'candle', '', '', ''"),
        ("candle/Data/Images/Normal/0001.JPG", "", "found 'candle', 'test', 'normal', '', ''"),
        ("macaroni1", "", "found '', "),
        ("candle", "k\xe4se", "1cls.csv is no list in UTF-8, it is not VisA's own: 'utf-8' codec"),
    ],
)
def test_visa_s_list_must_be_as_published(miniature, old, new, message):
    split = miniature("visa") / "split_csv/1cls.csv"
    split.write_text(split.read_text().replace(old, new), encoding="latin-1")
    with pytest.raises(ValueError, match=message):
        load_dataset("visa", split.parents[1])


def test_visa_image_and_mask_of_different_sizes_are_both_named(miniature):
    root = miniature("visa")
    Image.new("L", (8, 12)).save(root / "candle/Data/Masks/Anomaly/000.png")
    with pytest.raises(ValueError, match=r"000\.png is 8 x 12 but .*000\.JPG is 12 x 8"):
        flat(load_dataset("visa", root))


def test_training_images_are_not_needed(miniature):
    root = miniature("visa")
    (root / "candle/Data/Images/Normal/0007.JPG").unlink()
    assert len(flat(load_dataset("visa", root, categories=["candle"]))) == 4


# Magnetic tiles


def test_magnetic_tiles_are_one_category_of_six_kinds(miniature):
    root = miniature("magnetic-tile")
    dataset = load_dataset("magnetic-tile", root)
    assert dataset.categories == ("magnetic tile",)
    samples = list(dataset.samples("magnetic tile"))
    assert dataset.labels("magnetic tile") == (0,) * 2 + (1,) * 10
    assert {s.kind for s in samples} == {"good", "blowhole", "break", "crack", "fray", "uneven"}
    assert {s.path.suffix for s in samples} == {".jpg"}
    words = load_dataset("magnetic-tile", root, categories=["grey ceramic"])
    assert words.categories == ("grey ceramic",)


def test_magnetic_tile_errors(miniature):
    root = miniature("magnetic-tile")
    with pytest.raises(ValueError, match="single category; name it with one word"):
        load_dataset("magnetic-tile", root, categories=["a", "b"])
    move(root, "MT_Fray/Imgs/exp1_num_1.png", "elsewhere.png")
    with pytest.raises(ValueError, match=r"none for .*exp1_num_1\.jpg: expected exp1_num_1\.png"):
        load_dataset("magnetic-tile", root)
    move(root, "elsewhere.png", "MT_Fray/Imgs/exp1_num_3.png")
    (root / "MT_Fray/Imgs/exp1_num_1.jpg").unlink()
    with pytest.raises(ValueError, match=r"exp1_num_3\.png is the mask of no image"):
        load_dataset("magnetic-tile", root)
    shutil.rmtree(root / "MT_Fray")
    with pytest.raises(FileNotFoundError, match="lacks MT_Fray of Magnetic Tile Defects: copy"):
        load_dataset("magnetic-tile", root)


def test_other_numbers_of_tiles_are_mentioned(miniature):
    with pytest.warns(UserWarning, match=r"magnetic tile 2 \+ 10 instead of 952 \+ 392"):
        load_dataset("magnetic-tile", miniature("magnetic-tile"))


def test_real_tiles_in_their_published_layout(shared_path, tmp_path):
    """The shared sample, laid out again as its publishers do."""
    sample = shared_path("data", "magnetic_tile_sample", "magnetic_tile")
    for image in sorted(sample.glob("test/*/*.png")):
        kind = image.parent.name
        folder = tmp_path / f"MT_{'Free' if kind == 'good' else kind.capitalize()}" / "Imgs"
        folder.mkdir(parents=True, exist_ok=True)
        with Image.open(image) as picture:
            picture.convert("L").save(folder / f"{image.stem}.jpg", quality=95)
        if kind != "good":
            shutil.copy(
                sample / "ground_truth" / kind / f"{image.stem}_mask.png",
                folder / f"{image.stem}.png",
            )
    same = load_dataset("folder", sample, categories=["magnetic tile"]).samples("magnetic tile")
    masks = {(s.kind, s.path.stem): s.mask for s in same}
    found = flat(load_dataset("magnetic-tile", tmp_path))
    assert len(found) == len(masks) == 32
    for s in found:
        np.testing.assert_array_equal(s.mask, masks[s.kind, s.path.stem])


# Sets in MVTec AD's layout


@pytest.mark.parametrize(
    ("name", "categories", "labels", "words"),
    [
        ("mpdd", 6, (0, 0, 1, 1), ("bracket_black", "black bracket", "object")),
        ("btad", 3, (1, 0, 0), ("01", "industrial product", "object")),
        ("mvtec-ad-2", 8, (1, 0, 0), ("sheet_metal", "sheet metal", "texture")),
    ],
)
def test_sets_like_mvtec_are_read_to_the_last_file(miniature, name, categories, labels, words):
    dataset = load_dataset(name, miniature(name))
    assert len(dataset.categories) == categories
    for category in dataset.categories:
        assert dataset.labels(category) == labels
        (normal,) = dataset.normal_samples(category)
        assert normal.label == 0 and normal.path.parent.parent.name == "train"
    category, class_name, surface = words
    assert dataset.prompts(category) == prompt_ensemble(class_name, surface=surface)
    assert dataset.parameters["words"][category] == [class_name, surface]


@pytest.mark.parametrize("name", ["mpdd", "btad", "mvtec-ad-2"])
def test_sets_like_mvtec_miss_nothing_in_silence(miniature, name):
    root = miniature(name)
    dataset = load_dataset(name, root)
    category = dataset.categories[0]
    masks = [entry.mask for entry in dataset._of(category) if entry.mask]
    masks[0].rename(masks[0].with_name("other.png"))
    with pytest.raises(ValueError, match="has masks but none for"):
        load_dataset(name, root)
    shutil.rmtree(root / category)
    with pytest.raises(FileNotFoundError, match=f"lacks {category} of"):
        load_dataset(name, root)


def test_private_tests_of_mvtec_ad_2_are_not_read(miniature):
    root = miniature("mvtec-ad-2")
    assert not any(
        "private" in sample.path.parts for sample in flat(load_dataset("mvtec-ad-2", root))
    )
    assert len(flat(load_dataset("mvtec-ad-2", root))) == 24


# KolektorSDD


def test_kolektor_labels_decide_what_is_normal(miniature):
    root = miniature("kolektor-sdd")
    dataset = load_dataset("kolektor-sdd", root)
    assert dataset.categories == ("electrical commutator",)
    samples = flat(dataset)
    names = [sample.path.relative_to(root).as_posix() for sample in samples if sample.label]
    assert (len(samples), names) == (4, ["kos02/Part1.jpg"])
    assert dataset.words["electrical commutator"].surface == "texture"
    (root / "kos01/Part1_label.bmp").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*Part1_label\.bmp.*: unpack"):
        load_dataset("kolektor-sdd", root)


def test_images_of_one_name_in_two_folders_count_as_two(miniature):
    root = miniature("kolektor-sdd")
    before = load_dataset("kolektor-sdd", root).manifest_hash()
    first, second = root / "kos01/Part0.jpg", root / "kos02/Part0.jpg"
    second.write_bytes(first.read_bytes() + b"tail")
    changed = load_dataset("kolektor-sdd", root).manifest_hash()
    first.write_bytes(second.read_bytes())
    second.write_bytes(first.read_bytes()[:-4])
    assert len({before, changed, load_dataset("kolektor-sdd", root).manifest_hash()}) == 3


# ELPV


def test_elpv_takes_cells_whose_labellers_were_sure(miniature):
    dataset = load_dataset("elpv", miniature("elpv"))
    assert dataset.categories == ("monocrystalline solar cell", "polycrystalline solar cell")
    for category, stems in zip(
        dataset.categories, (("0001", "0004"), ("0005", "0008")), strict=True
    ):
        samples = list(dataset.samples(category))
        assert [(s.path.stem, s.label) for s in samples] == [
            (f"cell{stems[0]}", 0),
            (f"cell{stems[1]}", 1),
        ]
        assert samples[1].mask is None and not samples[0].mask.any()


def test_elpv_as_its_package_has_it():
    pytest.importorskip("elpv_dataset")
    dataset = load_dataset("elpv")
    counts = [(of.count(0), of.count(1)) for of in map(dataset.labels, dataset.categories)]
    assert counts == [(588, 313), (920, 402)]
    assert next(dataset.samples(dataset.categories[0])).image.size == (300, 300)


def test_elpv_errors(miniature, monkeypatch):
    monkeypatch.setattr("anovl.data.own_layouts.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install -e '\.\[elpv\]'"):
        load_dataset("elpv")
    root = miniature("elpv")
    with pytest.raises(FileNotFoundError, match=r"no labels\.csv of ELPV in .*--data-root"):
        load_dataset("elpv", root.parent)
    labels = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(re.sub(r"0\.0|1\.0", "0.333", labels))
    with pytest.raises(ValueError, match=r"labels\.csv has no cell of mono.* were sure"):
        load_dataset("elpv", root)
    for wrong in ("nan", "7"):
        (root / "labels.csv").write_text(labels.replace("1.0", wrong))
        with pytest.raises(ValueError, match="expected lines of a path, a probability from 0 to 1"):
            load_dataset("elpv", root)
    (root / "labels.csv").write_text(labels)
    (root / "images/cell0001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no .*cell0001\.png, which .*labels\.csv"):
        load_dataset("elpv", root)
    (root / "labels.csv").write_text("image,label\na,1\n")
    with pytest.raises(ValueError, match=r"labels\.csv is not the list of ELPV"):
        load_dataset("elpv", root)


# Normal images for a calibration


def test_visa_has_its_training_images_as_normal_ones(miniature):
    (normal,) = load_dataset("visa", miniature("visa")).normal_samples("candle")
    assert (normal.path.name, normal.label, normal.mask.any()) == ("0007.JPG", 0, False)


def test_a_set_without_training_images_says_what_to_do(miniature):
    dataset = load_dataset("magnetic-tile", miniature("magnetic-tile"))
    with pytest.raises(ValueError, match=r"no normal images of 'magnetic tile'.*train/good"):
        dataset.normal_samples("magnetic tile")


def test_masks_of_magnetic_tiles_are_lossy_and_known_to_be(miniature, recwarn):
    root = miniature("magnetic-tile")
    noisy = np.random.default_rng(0).integers(0, 30, (8, 12)).astype(np.uint8)
    noisy[2, 3] = 255
    Image.fromarray(noisy).save(root / "MT_Fray/Imgs/exp1_num_1.png")
    dataset = load_dataset("magnetic-tile", root)
    recwarn.clear()
    sample = next(s for s in flat(dataset) if s.kind == "fray")
    assert np.argwhere(sample.mask).tolist() == [[2, 3]]
    assert not recwarn.list
