"""Published data sets are read as published, and no missing file goes unnoticed."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from anovl.data import load_dataset
from anovl.data.published import COUNTS, MVTEC_AD
from anovl.prompts import prompt_ensemble

pytestmark = pytest.mark.filterwarnings("ignore:.*has not the test images of")
NAMES = ("mvtec", "visa", "magnetic-tile", "kolektor-sdd", "btad", "mpdd", "mvtec-ad-2")


# All published sets


@pytest.mark.parametrize("name", NAMES)
def test_every_image_has_its_mask_and_both_roots_are_the_same(miniature, name):
    roots = {other: miniature(other) for other in NAMES}
    dataset = load_dataset(name, roots[name])
    for sample in dataset:
        assert sample.image.mode == "RGB"
        assert sample.mask.shape == sample.image.size[::-1] and sample.mask.dtype == bool
        where = [[2, 3]] if sample.label else []
        assert np.argwhere(sample.mask).tolist() == where
        assert (sample.kind == "good") == (sample.label == 0)
        assert sample.path.is_relative_to(roots[name])
    above = load_dataset(name, str(roots[name].parent))
    assert above.manifest_hash() == dataset.manifest_hash()


@pytest.mark.parametrize("name", NAMES)
def test_wrong_roots(miniature, tmp_path, name):
    with pytest.raises(ValueError, match=f"'{name}' needs its root"):
        load_dataset(name)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_dataset(name, tmp_path / "nowhere")
    root = miniature(name)
    other = miniature("visa" if name == "mvtec" else "mvtec", tmp_path / "other")
    with pytest.raises(FileNotFoundError, match=f"{other.name} .* {name}"):
        load_dataset(name, other)
    shutil.copytree(root, root.with_name("a copy"))
    with pytest.raises(ValueError, match=f"{name} .*a copy, "):
        load_dataset(name, root.parent)


@pytest.mark.parametrize(
    ("name", "lost", "error", "named"),
    [
        ("mvtec", "pill", FileNotFoundError, "lacks pill"),
        ("mvtec", "pill/test/good", FileNotFoundError, "pill/test/good"),
        ("mvtec", "pill/ground_truth/cut", ValueError, "pill/test/cut/000.png"),
        ("mvtec", "pill/test/hole/000.png", ValueError, "pill/test/hole"),
        ("mpdd", "tubes/test/hole/000.png", ValueError, "tubes/test/hole"),
        ("btad", "02/ground_truth/ko/000.bmp.png", ValueError, "02/test/ko/000.bmp"),
        ("mvtec-ad-2", "can/test_public/ground_truth", ValueError, "can/test_public/bad/000.png"),
        ("visa", "split_csv", FileNotFoundError, "split_csv/1cls.csv"),
        ("visa", "candle", FileNotFoundError, "candle/Data/Images/Normal/0003.JPG"),
        ("visa", "candle/Data/Masks/Anomaly/001.png", FileNotFoundError, "Anomaly/001.png"),
        ("magnetic-tile", "MT_Fray", FileNotFoundError, "MT_Fray"),
        ("magnetic-tile", "MT_Fray/Imgs/exp1_num_1.png", ValueError, "Imgs/exp1_num_1.jpg"),
        ("magnetic-tile", "MT_Fray/Imgs/exp1_num_1.jpg", ValueError, "Imgs/exp1_num_1.png"),
        ("kolektor-sdd", "kos01/Part1_label.bmp", FileNotFoundError, "kos01/Part1_label.bmp"),
        ("elpv", "images/cell0001.png", FileNotFoundError, "images/cell0001.png"),
    ],
)
def test_nothing_is_missed_in_silence(miniature, name, lost, error, named):
    root = miniature(name)
    load_dataset(name, root)
    (root / lost).rename(root.with_name("elsewhere"))
    with pytest.raises(error, match=re.escape(named)):
        load_dataset(name, root)


# Sets in MVTec AD's layout


def test_mvtec_counts_are_those_of_the_paper():
    normal, anomalous = map(sum, zip(*MVTEC_AD.values(), strict=True))
    assert (len(MVTEC_AD), normal, anomalous) == (15, 467, 1258)


def test_mvtec_reads_the_test_images_of_each_category(miniature):
    root = miniature("mvtec")
    dataset = load_dataset("mvtec", root)
    assert dataset.categories == tuple(MVTEC_AD)
    kinds = [entry.kind for entry in dataset.entries("screw")]
    assert kinds == ["cut", "good", "good", "hole"]
    shutil.rmtree(root / "pill")
    chosen = load_dataset("mvtec", root, categories=["wood", "tile"])
    assert chosen.categories == ("wood", "tile")
    with pytest.raises(ValueError, match=r"'metal nut'.*'metal_nut'"):
        load_dataset("mvtec", root, categories=["metal nut"])


def test_mvtec_images_and_masks_must_pair(miniature):
    root = miniature("mvtec")
    shutil.copy(root / "pill/test/cut/000.png", root / "pill/test/cut/001.png")
    with pytest.raises(ValueError, match=r"cut/001\.png .*001_mask\.png.*cut/000_mask\.png"):
        load_dataset("mvtec", root)
    (root / "pill/test/cut/001.png").unlink()
    masks = root / "pill/ground_truth/cut"
    shutil.copy(masks / "000_mask.png", masks / "007_mask.png")
    with pytest.raises(ValueError, match=r"cut/007_mask\.png"):
        load_dataset("mvtec", root)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mvtec", r"bottle 2 \+ 2 instead of 20 \+ 63"),
        ("magnetic-tile", r"magnetic tile 2 \+ 10 instead of 952 \+ 392"),
        ("kolektor-sdd", r"electrical commutator 3 \+ 1 instead of 347 \+ 52"),
    ],
)
def test_other_numbers_of_images_than_the_published_are_mentioned_once(miniature, name, said):
    with pytest.warns(UserWarning, match=said) as caught:
        load_dataset(name, miniature(name))
    assert len(caught) == 1 and caught[0].filename == __file__


def test_the_published_numbers_of_images_are_not_worth_a_warning(miniature, recwarn, monkeypatch):
    monkeypatch.setitem(COUNTS, "mvtec", dict.fromkeys(MVTEC_AD, (2, 2)))
    monkeypatch.setitem(COUNTS, "magnetic-tile", {"one category": (2, 10)})
    load_dataset("mvtec", miniature("mvtec"))
    load_dataset("magnetic-tile", miniature("magnetic-tile"), categories=["grey ceramic"])
    assert not recwarn.list


@pytest.mark.parametrize(
    ("name", "categories", "labels", "words"),
    [
        ("mpdd", 6, (0, 0, 1, 1), ("bracket_black", "black bracket", "object")),
        ("btad", 3, (1, 0, 0), ("01", "industrial product", "object")),
        ("mvtec-ad-2", 8, (1, 0, 0), ("sheet_metal", "sheet metal", "texture")),
    ],
)
def test_sets_like_mvtec_are_read_to_the_last_file(miniature, name, categories, labels, words):
    root = miniature(name)
    dataset = load_dataset(name, root)
    assert len(dataset.categories) == categories
    for category in dataset.categories:
        assert dataset.labels(category) == labels
        (normal,) = dataset.normal_samples(category)
        assert normal.label == 0 and normal.path.parent.parent.name == "train"
    assert not any("private" in str(sample.path.relative_to(root)) for sample in dataset)
    category, class_name, surface = words
    assert dataset.prompts(category) == prompt_ensemble(class_name, surface=surface)
    assert dataset.parameters["words"][category] == [class_name, surface]


# Sets with a layout of their own


def test_visa_takes_its_images_in_the_order_of_its_list(miniature):
    root = miniature("visa")
    dataset = load_dataset("visa", root)
    assert dataset.categories == ("candle", "macaroni1")
    names = [entry.path.name for entry in dataset.entries("candle")]
    assert names == ["0003.JPG", "0001.JPG", "000.JPG", "001.JPG"]
    assert dataset.labels("candle") == (0, 0, 1, 1)
    (normal,) = dataset.normal_samples("candle")
    assert (normal.path.name, normal.label, normal.mask.any()) == ("0007.JPG", 0, False)
    normal.path.unlink()  # training images are not needed
    assert len(load_dataset("visa", root, categories=["candle"])) == 4


def test_visa_masks_hold_class_indices(miniature):
    root = miniature("visa")
    mask = Image.new("L", (12, 8))
    for value in range(10):
        mask.putpixel((value, 0), value)
    mask.save(root / "candle/Data/Masks/Anomaly/000.png")
    *_, first, _ = load_dataset("visa", root).samples("candle")
    assert np.argwhere(first.mask).tolist() == [[0, x] for x in range(1, 10)]


@pytest.mark.parametrize(
    ("name", "old", "new", "found"),
    [
        ("visa", "split,label", "part,label", "1cls.csv"),
        ("visa", r"test,(normal|anomaly)", r"train,\1", "'train', 'anomaly'"),
        ("visa", r"(?s)\n.*", "\n", "1cls.csv"),
        ("visa", "test,normal", "test,fine", "'fine'"),
        ("visa", "test,anomaly", "test,normal", "'normal', .*'candle/Data/Masks"),
        ("visa", "candle,train", "candle,Train", "'Train'"),
        ("visa", "candle/Data/Images/Normal/0001.JPG", "", "'test', 'normal', ''"),
        ("visa", "macaroni1", "", "found '', "),
        ("elpv", r"0\.0 |1\.0 ", "0.333 ", "monocrystalline"),
        ("elpv", r"1\.0 ", "nan ", r"labels\.csv .*nan"),
        ("elpv", "(?s).+", "image,label\na,1\n", r"labels\.csv .*image,label"),
    ],
)
def test_a_list_of_images_must_be_as_published(miniature, name, old, new, found):
    root = miniature(name)
    rows = root / {"visa": "split_csv/1cls.csv", "elpv": "labels.csv"}[name]
    rows.write_text(re.sub(old, new, rows.read_text()))
    with pytest.raises(ValueError, match=found):
        load_dataset(name, root)


def test_magnetic_tiles_are_one_category_of_six_kinds(miniature):
    root = miniature("magnetic-tile")
    dataset = load_dataset("magnetic-tile", root)
    assert dataset.categories == ("magnetic tile",)
    assert dataset.labels("magnetic tile") == (0,) * 2 + (1,) * 10
    kinds = {entry.kind for entry in dataset.entries("magnetic tile")}
    assert kinds == {"good", "blowhole", "break", "crack", "fray", "uneven"}
    assert {sample.path.suffix for sample in dataset} == {".jpg"}
    words = load_dataset("magnetic-tile", root, categories=["grey ceramic"]).words
    assert words == {"grey ceramic": ("grey ceramic", "texture")}
    with pytest.raises(ValueError, match="single category"):
        load_dataset("magnetic-tile", root, categories=["a", "b"])
    with pytest.raises(ValueError, match=r"'magnetic tile'.*train/good"):
        dataset.normal_samples("magnetic tile")


def test_masks_of_magnetic_tiles_are_lossy_and_known_to_be(miniature, recwarn):
    root = miniature("magnetic-tile")
    noisy = np.random.default_rng(0).integers(0, 30, (8, 12)).astype(np.uint8)
    noisy[2, 3] = 255
    Image.fromarray(noisy).save(root / "MT_Fray/Imgs/exp1_num_1.png")
    dataset = load_dataset("magnetic-tile", root)
    recwarn.clear()
    sample = next(sample for sample in dataset if sample.kind == "fray")
    assert np.argwhere(sample.mask).tolist() == [[2, 3]]
    assert not recwarn.list


def test_kolektor_labels_decide_which_images_are_normal(miniature):
    root = miniature("kolektor-sdd")
    dataset = load_dataset("kolektor-sdd", root)
    assert dataset.words == {"electrical commutator": ("electrical commutator", "texture")}
    anomalous = [sample.path.relative_to(root).as_posix() for sample in dataset if sample.label]
    assert (len(dataset), anomalous) == (4, ["kos02/Part1.jpg"])


def test_images_of_one_name_in_two_folders_count_as_two(miniature):
    root = miniature("kolektor-sdd")
    before = load_dataset("kolektor-sdd", root).manifest_hash()
    first, second = root / "kos01/Part0.jpg", root / "kos02/Part0.jpg"
    second.write_bytes(first.read_bytes() + b"tail")
    changed = load_dataset("kolektor-sdd", root).manifest_hash()
    first.write_bytes(second.read_bytes())
    second.write_bytes(first.read_bytes()[:-4])
    assert len({before, changed, load_dataset("kolektor-sdd", root).manifest_hash()}) == 3


def test_elpv_takes_cells_whose_labellers_were_sure(miniature):
    dataset = load_dataset("elpv", miniature("elpv"))
    assert dataset.categories == ("monocrystalline solar cell", "polycrystalline solar cell")
    cells = {sample.path.stem: (sample.label, sample.mask is None) for sample in dataset}
    mono, poly = ({f"cell000{n}": (0, False), f"cell000{n + 3}": (1, True)} for n in (1, 5))
    assert cells == mono | poly


def test_elpv_as_its_package_has_it():
    pytest.importorskip("elpv_dataset")
    dataset = load_dataset("elpv")
    counts = [(of.count(0), of.count(1)) for of in map(dataset.labels, dataset.categories)]
    assert counts == [(588, 313), (920, 402)]
    assert dataset[0].image.size == (300, 300)


def test_elpv_needs_its_package_or_a_root(monkeypatch):
    monkeypatch.setattr("anovl.data.readers.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"elpv-dataset"):
        load_dataset("elpv")
