"""Folders as people have them: which are normal, which mask belongs to which image."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from helpers import write_picture

from anovl.data import load_dataset
from anovl.data.check import summarise
from anovl.data.dataset import Dataset


@pytest.fixture
def nut(tmp_path) -> Path:
    """A category with a normal and an anomalous image; the mask is for each test to place."""
    write_picture(tmp_path / "nut/test/good/000.png", value=128)
    write_picture(tmp_path / "nut/test/crack/000.png", value=60)
    return tmp_path / "nut"


def load(nut: Path) -> Dataset:
    return load_dataset("folder", nut.parent)


@pytest.mark.parametrize(
    "name",
    [
        "ground_truth/crack/000_mask.png",
        "ground_truth/crack/000.bmp",
        "ground_truth/crack/000_label.bmp",
        "ground_truth/crack/000_MASK.PNG",
        "ground_truth/crack/000-seg.png",
        "ground_truth/crack/000.png_mask.png",
        "test/crack/000-gt.png",
        "test/crack/000 Mask.png",
        "test/crack/masks/000.png",
        "test/crack/ground_truth/000_mask.png",
        "test/ground_truth/crack/000_mask.png",
    ],
)
def test_a_mask_is_found_where_people_put_it(nut, name):
    write_picture(nut / name)
    crack, normal = load(nut)
    assert (crack.label, crack.mask.sum(), crack.mask[2, 3], normal.label) == (1, 1, True, 0)


def test_sub_folders_of_a_kind_belong_to_it(nut):
    write_picture(nut / "test/crack/left/000.png", value=61)
    write_picture(nut / "test/good/day2/000.png", value=128)
    write_picture(nut / "ground_truth/crack/000_mask.png")
    write_picture(nut / "ground_truth/crack/left/000_mask.png")
    write_picture(nut / "test/normal/000-mask.png", value=128)  # of no other image: an image
    dataset = load(nut)
    assert dataset.labels("nut") == (1, 1, 0, 0, 0)
    pairs = {entry.name: entry.mask for entry in dataset.entries("nut") if entry.label}
    truth = nut / "ground_truth/crack"
    assert pairs == {"000.png": truth / "000_mask.png", "left/000.png": truth / "left/000_mask.png"}


@pytest.mark.parametrize("kind", ["good2", "ok", "OK", "normal", "Normal_2", "no_defect"])
def test_other_folders_of_normal_images(nut, kind):
    write_picture(nut / "test" / kind / "000.png", value=128)
    write_picture(nut / "test/good_but_scratched/000.png", value=60)
    dataset = load(nut)
    assert sorted(dataset.labels("nut")) == [0, 0, 1, 1]
    assert all(s.mask is not None and not s.mask.any() for s in dataset if not s.label)


@pytest.mark.filterwarnings("ignore:.*has not the test images of")
@pytest.mark.parametrize("spelt", [str.upper, str.capitalize])
@pytest.mark.parametrize(
    ("name", "category", "truth"),
    [
        ("folder", "nut", "ground_truth"),
        ("folder", "nut", "test/ground_truth"),
        ("mvtec", "bottle", "ground_truth"),
        ("mvtec-ad-2", "can", "test_public/ground_truth"),
    ],
)
def test_the_case_of_a_folder_s_name_does_not_count(tmp_path, spelt, name, category, truth):
    root, test = tmp_path / category, "test_public" if name == "mvtec-ad-2" else "test"
    for image in (f"{test}/good/0.png", f"{test}/Crack/0.png", "train/good/0.png"):
        write_picture(root / image, value=128)
    write_picture(root / truth / "crack/0_mask.png")
    parts = ("test", "good", "train", "ground_truth", "test_public")
    for path in sorted(root.rglob("*"), reverse=True):  # the deepest first
        if path.name in parts:
            path.rename(path.with_name(spelt(path.name)))
    dataset = load_dataset(name, tmp_path, categories=[category])
    assert sorted((s.kind, s.mask.sum()) for s in dataset) == [("Crack", 1), ("good", 0)]
    assert len(dataset.normal_entries(category)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are one name")
def test_names_that_differ_in_case_alone_are_never_mistaken(nut):
    write_picture(nut / "ground_truth/crack/000_mask.png")
    write_picture(nut / "TEST/crack/001.png", value=60)
    assert len(load(nut)) == 2, "the usual spelling counts"
    (nut / "test").rename(nut / "Test")
    with pytest.raises(ValueError, match=r"nut/TEST .*nut/Test "):
        load(nut)
    (nut / "Test").rename(nut / "test")
    write_picture(nut / "test/Crack/000.png", value=60)
    with pytest.raises(ValueError, match=r"test/Crack .*test/crack "):
        load(nut)


@pytest.mark.parametrize("folder", ["__MACOSX", ".git", "@eaDir", "nut.bak", "nut~", "nut - Copy"])
def test_leftovers_of_systems_and_backups_are_no_category_and_no_kind(nut, folder):
    for path in (nut.parent / folder / "test/good", nut.parent / folder / "nut/test/good"):
        write_picture(path / "000.png", value=128)
    write_picture(nut / "test" / folder / "000.png", value=128)
    write_picture(nut / "test/good/._000.png", value=128)
    dataset = load(nut)
    assert (dataset.categories, dataset.labels("nut")) == (("nut",), (1, 0))


@pytest.mark.parametrize("backup", ["old", "copy of 2025"])
def test_a_copy_inside_a_category_is_an_error(nut, backup):
    shutil.copytree(nut / "test", nut / backup / "test")
    with pytest.raises(ValueError, match=rf"nut .*nut/{backup} "):
        load_dataset("folder", nut)
    assert load(nut).labels("nut") == (1, 0), "from above, it hides nothing"
    shutil.copytree(nut.parent / "nut/test", nut.parent / "test")
    with pytest.raises(ValueError, match="nut have"):
        load(nut)


@pytest.mark.parametrize("where", [".", "can"])
def test_mvtec_ad_2_is_no_folder_of_images(miniature, where):
    root = miniature("mvtec-ad-2")
    with pytest.raises(ValueError, match=r"test_public.*--dataset mvtec-ad-2"):
        load_dataset("folder", root / where)


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_link_back_adds_no_images_but_one_to_elsewhere_does(nut, target):
    (nut / "test/good/back").symlink_to(target)
    assert load(nut).labels("nut") == (1, 0)
    write_picture(nut.parent / "more/000.png", value=128)
    (nut / "test/good/more").symlink_to(nut.parent / "more")
    assert load(nut).labels("nut") == (1, 0, 0)


def test_an_image_without_a_mask_is_left_out_with_a_warning(nut):
    write_picture(nut / "ground_truth/crack/000_mask.png")
    write_picture(nut / "test/crack/001.png", value=61)
    with pytest.warns(UserWarning, match=r"crack, .* 1 of 2 \(001\.png"):
        dataset = load(nut)
    assert dataset.labels("nut") == (1, 0)


def test_masks_that_fit_no_image_are_an_error(nut):
    write_picture(nut / "ground_truth/crack/other.png")
    with pytest.raises(ValueError, match=r"test/crack/000\.png .*000_mask\.png.*crack/other\.png"):
        load(nut)


def test_images_that_share_a_mask_are_named(nut, recwarn):
    write_picture(nut / "ground_truth/crack/000_mask.png")
    load(nut)
    assert not recwarn.list
    write_picture(nut / "test/crack/000.jpg", value=61)
    with pytest.warns(UserWarning, match=r"crack/000\.jpg, \S*crack/000\.png"):
        load(nut)


def test_folders_without_the_layout_are_told_it(nut):
    unsorted = load_dataset("folder", nut / "test")
    assert unsorted.labels("test") == (None, None)
    assert "<category>/test/<kind>" in str(summarise(unsorted))
    (nut / "test/good/000.png").unlink()
    with pytest.raises(ValueError, match="test/good"):
        load(nut)
    (nut / "test").rename(nut / "moved")
    (nut / "test").mkdir()
    with pytest.raises(FileNotFoundError, match="test/good"):
        load(nut)
