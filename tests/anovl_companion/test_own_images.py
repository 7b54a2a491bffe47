"""Which pictures are judged, which set the level, and what they are called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import write_picture

from anovl.detector import AnoVL
from anovl.evaluation.threshold import CalibratedDetector
from anovl_companion.own_images import OwnParameters, calibrated, lay_out, own_dataset

GIVEN = OwnParameters("pocket", "", "pocket", "", "", "cpu", 0, True, "", "", 0.05)


@pytest.fixture
def folder(tmp_path):
    """A function that writes categories, {name: (normal, anomalous, beside the test)}."""

    def write(**categories: tuple[int, int, int]) -> OwnParameters:
        root = tmp_path / "mine"
        for name, counts in categories.items():
            kinds = ("test/good", "test/crack", "train/good")
            for number, (kind, count) in enumerate(zip(kinds, counts, strict=True)):
                for i in range(count):
                    path = root / name / kind / f"{i}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_picture(path, value=60 * number + 7 * i, size=(32, 32))
        return replace(GIVEN, dataset="folder", data_root=str(root))

    return write


def test_categories_are_the_button_all_of_a_folder_or_the_one_that_is_asked_for(folder):
    p = folder(rear=(1, 1, 0), front=(1, 1, 0))
    assert own_dataset(GIVEN).categories == ("button",)
    assert sorted(own_dataset(p).categories) == ["front", "rear"]
    for given, category in ((GIVEN, "wood"), (p, "front")):
        assert own_dataset(replace(given, category=category)).categories == (category,)
    with pytest.raises(ValueError, match="'wood'"):
        own_dataset(replace(GIVEN, category="wod"))


@pytest.mark.parametrize("name", ["01", "1", "one"])
def test_a_number_is_the_one_category_that_it_means(folder, name):
    """Papermill's -p makes 1 of 01."""
    p = folder(**{name: (1, 1, 0), "02": (1, 1, 0)})
    if name != "one":
        given = replace(p, category=1)
        assert given.category == name and own_dataset(given).categories == (name,)
    else:
        with pytest.raises(ValueError, match=r"1, .* 02, one.*-r category"):
            replace(p, category=1)
    two = folder(**{"01": (1, 1, 0), "001": (1, 1, 0)})
    with pytest.raises(ValueError, match=r"001, 01.*-r category"):
        replace(two, category=1)


def test_words_for_the_prompts_are_for_one_category(folder):
    p = folder(rear=(1, 1, 0), front=(1, 1, 0))
    with pytest.raises(ValueError, match=r"has 2 \(front, rear\): choose one with -p category"):
        own_dataset(replace(p, class_name="solar cell"))
    data = own_dataset(replace(p, class_name="solar cell", category="rear"))
    assert data.prompts("rear").class_name == "solar cell"
    assert data.parameters["words"] == {"rear": ["solar cell", None]}


@pytest.mark.parametrize("normal", [0, 3])
def test_of_pictures_without_labels_those_of_train_good_are_normal(tmp_path, normal):
    for i in range(2):
        write_picture(tmp_path / "mine" / f"{i}.png", value=i)
    for i in range(normal):
        write_picture(tmp_path / "mine" / "train" / "good" / f"{i}.png", value=9 + i)
    p = replace(GIVEN, dataset="folder", data_root=str(tmp_path / "mine"), class_name="nut")
    pictures = lay_out(own_dataset(p), "mine", tmp_path / "drawn", p)
    assert pictures.names == ("0.png", "1.png") and pictures.class_name == "nut"
    assert [one.path.name for one in pictures.normal] == [f"{i}.png" for i in range(normal)]
    assert not pictures.labelled(0).any() and not pictures.labelled(1).any()
    assert all(one.label == 0 for one in pictures.normal)


def test_normal_pictures_alone_are_no_pictures_to_judge(tmp_path):
    write_picture(tmp_path / "train" / "good" / "0.png")
    with pytest.raises(ValueError, match=r"train/good"):
        own_dataset(replace(GIVEN, dataset="folder", data_root=str(tmp_path)))


def test_files_stay_where_they_are_under_their_own_names(folder, tmp_path):
    p = folder(cell=(3, 2, 2))
    pictures = lay_out(own_dataset(p), "cell", tmp_path / "drawn", p)
    crack, good = "cell/test/crack/{}.png", "cell/test/good/{}.png"
    names = [crack.format(0), crack.format(1), *map(good.format, range(3))]
    assert sorted(pictures.names) == names and not (tmp_path / "drawn").exists()
    assert all(str(file).startswith(p.data_root) for file in pictures.files)
    assert [entry.path.parent.parent.name for entry in pictures.normal] == ["train", "train"]
    assert pictures.labelled(1).sum() == 2 and pictures.class_name == "cell"
    fewer = pictures.only(pictures.files[1:])  # one could not be read
    assert (fewer.files, fewer.names) == (pictures.files[1:], pictures.names[1:])
    assert [entry.path for entry in fewer.entries] == list(fewer.files)
    p = folder(rear=(1, 1, 1))
    suffix = lay_out(own_dataset(p), "rear", tmp_path / "drawn", p).suffix
    assert (pictures.suffix, suffix) == ("", "_rear"), "for figures of several categories"


def test_drawn_pictures_are_written_under_their_names(tmp_path):
    pictures = lay_out(own_dataset(GIVEN), "button", tmp_path, GIVEN)
    assert pictures.names[0] == "button/test/good/000.png"
    assert pictures.files[0] == tmp_path / pictures.names[0]
    assert np.array_equal(pictures.images(0)[0].size, (112, 112))
    assert all(file.is_file() for file in pictures.files)
    assert (len(pictures.files), len(pictures.normal)) == (12, 19)  # 19: what 0.05 needs


@pytest.mark.parametrize(
    ("normal", "rate", "set_aside"),
    [(10, 0.1, 9), (10, 0.25, 5), (10, 0.05, 5), (9, 0.1, 4), (1, 0.5, 0)],
)
def test_without_normal_pictures_of_their_own_some_of_the_test_set_the_level(
    folder, tmp_path, normal, rate, set_aside
):
    p = replace(folder(cell=(normal, 1, 0)), false_alarms=rate)
    pictures = lay_out(own_dataset(p), "cell", tmp_path, p)
    assert len(pictures.normal) == set_aside
    judged = {entry.path for entry in pictures.entries}
    assert not judged & {entry.path for entry in pictures.normal}
    assert len(judged) == normal + 1 - set_aside
    again = lay_out(own_dataset(p), "cell", tmp_path, p)
    assert [one.path for one in again.normal] == [one.path for one in pictures.normal]


def test_too_few_normal_pictures_set_no_level_and_never_another_promise(
    folder, tmp_path, tiny_clip
):
    p, detector = folder(cell=(2, 1, 20)), AnoVL(tiny_clip)
    pictures = lay_out(own_dataset(p), "cell", tmp_path, replace(p, quick=False))
    level = calibrated(detector, pictures, 0.05).level
    assert (level.false_alarms, level.n) == (0.05, 20)
    for rate in (0.01, 0.04):
        q = replace(p, false_alarms=rate, quick=False)
        found = calibrated(detector, lay_out(own_dataset(q), "cell", tmp_path, q), rate)
        assert isinstance(found, CalibratedDetector) and found.mean_logit is not None
        assert found.level is None and found.map_level is None
    one = replace(pictures, normal=pictures.normal[:1])
    assert calibrated(detector, one, 0.05) is detector
