"""Folders as people have them: what is normal, which mask is whose, and what is left out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from anovl.data import load_dataset


def write(path: Path, *, value: int = 128, where: tuple[int, int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", (12, 8), value)
    if where is not None:
        image.putpixel(where, 255)
    image.save(path)


def mask(path: Path) -> None:
    write(path, value=0, where=(3, 2))


@pytest.fixture
def nut(tmp_path) -> Path:
    """A category with a normal and an anomalous image; the mask is for each test to place."""
    write(tmp_path / "nut/test/good/000.png")
    write(tmp_path / "nut/test/crack/000.png", value=60)
    return tmp_path / "nut"


def crack_of(root: Path):
    (sample,) = (s for s in load_dataset("folder", root).samples("nut") if s.label)
    return sample


@pytest.mark.parametrize(
    "name",
    [
        "ground_truth/crack/000_mask.png",
        "ground_truth/crack/000.png",
        "ground_truth/crack/000.bmp",
        "ground_truth/crack/000_gt.png",
        "ground_truth/crack/000_label.bmp",
        "ground_truth/crack/000_MASK.PNG",
        "ground_truth/crack/000-seg.png",
        "ground_truth/crack/000.png.png",
        "ground_truth/crack/000.png_mask.png",
        "test/crack/000_mask.png",
        "test/crack/000_gt.png",
        "test/crack/000-mask.png",
        "test/crack/000_MASK.png",
        "test/crack/000.mask.png",
        "test/crack/000 Mask.png",
        "test/crack/000.png_mask.png",
        "test/crack/masks/000.png",
        "test/crack/ground_truth/000_mask.png",
        "test/ground_truth/crack/000_mask.png",
    ],
)
def test_a_mask_is_found_where_people_put_it(nut, name):
    mask(nut / name)
    sample = crack_of(nut.parent)
    assert sample.mask.sum() == 1 and sample.mask[2, 3]
    assert load_dataset("folder", nut.parent).labels("nut") == (1, 0)


def test_masks_called_after_a_bitmap_are_paired(nut):
    (nut / "test/crack/000.png").unlink()
    write(nut / "test/crack/000.bmp", value=60)
    mask(nut / "ground_truth/crack/000.bmp.png")
    assert crack_of(nut.parent).mask.sum() == 1


def test_sub_folders_of_a_kind_belong_to_it(nut):
    write(nut / "test/crack/left/000.png", value=61)
    write(nut / "test/good/day2/000.png")
    mask(nut / "ground_truth/crack/000_mask.png")
    write(nut / "ground_truth/crack/left/000_mask.png", value=0, where=(9, 7))
    dataset = load_dataset("folder", nut.parent)
    assert dataset.labels("nut") == (1, 1, 0, 0)
    masks = [sample.mask.nonzero() for sample in dataset.samples("nut") if sample.label]
    assert [(int(y[0]), int(x[0])) for y, x in masks] == [(2, 3), (7, 9)]
    assert len({entry.name for entry in dataset._of("nut") if entry.label}) == 2


@pytest.mark.parametrize("kind", ["good2", "ok", "OK", "normal", "Normal_2", "no_defect"])
def test_other_folders_of_normal_images(nut, kind):
    write(nut / "test" / kind / "000.png")
    dataset = load_dataset("folder", nut.parent)
    assert sorted(dataset.labels("nut")) == [0, 0, 1]
    assert all(
        s.mask is not None and not s.mask.any() for s in dataset.samples("nut") if not s.label
    )


def test_a_defect_is_not_normal_by_half_of_its_name(nut):
    write(nut / "test/good_but_scratched/000.png")
    assert sum(load_dataset("folder", nut.parent).labels("nut")) == 2


@pytest.mark.filterwarnings("ignore:.*has not the test images of")
@pytest.mark.parametrize("spelt", [str.upper, str.title, str.capitalize])
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
        write(root / image)
    mask(root / truth / "crack/0_mask.png")
    parts = ("test", "good", "train", "ground_truth", "test_public")
    for path in sorted(root.rglob("*"), reverse=True):  # the deepest first
        if path.name in parts:
            path.rename(path.with_name(spelt(path.name)))
    dataset = load_dataset(name, tmp_path, categories=[category])
    found = sorted((s.kind, s.mask.sum()) for s in dataset.samples(category))
    assert found == [("Crack", 1), ("good", 0)]
    assert len(list(dataset.normal_samples(category))) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are one name")
def test_names_that_differ_in_case_alone_are_never_mistaken(nut):
    mask(nut / "ground_truth/crack/000_mask.png")
    write(nut / "TEST/crack/001.png")
    assert len(load_dataset("folder", nut.parent).labels("nut")) == 2, "the usual spelling counts"
    (nut / "test").rename(nut / "Test")
    with pytest.raises(ValueError, match=r"TEST and \S*Test differ in case alone; expected one te"):
        load_dataset("folder", nut.parent)
    (nut / "Test").rename(nut / "test")
    write(nut / "test/Crack/000.png")
    with pytest.raises(ValueError, match=r"Crack and \S*crack would share the masks of \S*crack, "):
        load_dataset("folder", nut.parent)
    write(nut / "ground_truth/Crack/000_mask.png", value=0, where=(1, 1))
    masks = {s.kind: s.mask for s in load_dataset("folder", nut.parent).samples("nut")}
    assert masks["Crack"][1, 1] and masks["crack"][2, 3]


@pytest.mark.parametrize(
    "folder", ["__MACOSX", ".git", "@eaDir", "nut.bak", "nut~", "nut - Copy", "nut - Copy (2)"]
)
def test_what_systems_leave_behind_is_no_category_and_no_kind(nut, folder):
    write(nut.parent / folder / "test/good/000.png")
    write(nut.parent / folder / "nut/test/good/000.png")
    write(nut / "test" / folder / "000.png")
    write(nut / "test/good/._000.png")
    dataset = load_dataset("folder", nut.parent)
    assert dataset.categories == ("nut",)
    assert dataset.labels("nut") == (1, 0)


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_link_back_adds_no_pictures_but_one_to_elsewhere_does(nut, target):
    (nut / "test/good/back").symlink_to(target)
    assert load_dataset("folder", nut.parent).labels("nut") == (1, 0)
    write(nut.parent / "more/000.png")
    (nut / "test/good/more").symlink_to(nut.parent / "more")
    assert load_dataset("folder", nut.parent).labels("nut") == (1, 0, 0)


def test_an_image_without_a_mask_is_left_out_with_a_warning(nut):
    mask(nut / "ground_truth/crack/000_mask.png")
    write(nut / "test/crack/001.png", value=61)
    with pytest.warns(UserWarning, match=r"without a mask in .*crack, .* left out: 1 of 2 \(001"):
        dataset = load_dataset("folder", nut.parent)
    assert dataset.labels("nut") == (1, 0)


def test_masks_that_fit_no_image_are_an_error(nut):
    mask(nut / "ground_truth/crack/other.png")
    with pytest.raises(ValueError, match=r"has masks but none for .*000\.png: expected 000_mask"):
        load_dataset("folder", nut.parent)


def test_an_image_that_only_ends_like_a_mask_is_an_image(nut):
    write(nut / "test/crack/001-mask.png", value=61)
    assert load_dataset("folder", nut.parent).labels("nut") == (1, 1, 0)


def test_images_that_share_a_mask_are_named(nut, recwarn):
    mask(nut / "ground_truth/crack/000_mask.png")
    load_dataset("folder", nut.parent)
    assert not recwarn.list
    write(nut / "test/crack/000.jpg", value=61)
    with pytest.warns(UserWarning, match=r"share a mask in \S*crack: 000\.jpg, 000\.png have 000_"):
        load_dataset("folder", nut.parent)


def test_a_folder_of_kinds_is_told_the_layout(nut):
    with pytest.raises(ValueError, match=r"<kind>/\*\.png.*: give the folder above it, \S*nut"):
        load_dataset("folder", nut / "test")
    (nut / "test").rename(nut / "Test")
    with pytest.raises(ValueError, match=r": give the folder above it, \S*nut"):
        load_dataset("folder", nut / "Test")
    (nut / "Test").rename(nut.parent / "flat")
    with pytest.raises(ValueError, match=r"folders \(crack, good\) are kinds, .* to \S*flat.test"):
        load_dataset("folder", nut.parent / "flat")
    (nut.parent / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no images in \S*empty, and no category; expected <cat"):
        load_dataset("folder", nut.parent / "empty")
