"""Every file of a folder is counted, or named with the reason."""

from __future__ import annotations

import io
import re
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anovl.cli import main
from anovl.data import load_dataset
from anovl.data.check import Summary, summarise
from anovl.data.dataset import Entry
from anovl.data.doubts import _copies


def write(path: Path, pixels: np.ndarray | None = None, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:  # no two pictures are equal
        pixels = np.full((60, 60), 128, dtype=np.uint8)
        pixels.flat[:4] = list(zlib.crc32(str(path).encode()).to_bytes(4, "big"))
    Image.fromarray(pixels).save(path, **options)


def region(*, side: int = 30) -> np.ndarray:
    mask = np.zeros((60, 60), dtype=np.uint8)
    mask[5 : 5 + side, 5 : 5 + side] = 255
    return mask


@pytest.fixture
def tree(tmp_path) -> Path:
    """One category without any oddity: 2 normal, 2 cracks with masks, 3 more normal."""
    root = tmp_path / "mine"
    for name in ("000", "001"):
        write(root / f"nut/test/good/{name}.png")
        write(root / f"nut/test/crack/{name}.png")
        write(root / f"nut/ground_truth/crack/{name}_mask.png", region())
    for name in ("000", "001", "002"):
        write(root / f"nut/train/good/{name}.png")
    return root


@pytest.fixture
def found(tree):
    """The findings of `tree`, as {what: files}, after a test has spoilt it."""

    def find(size: tuple[int, int] | None = None, **options) -> dict[str, tuple[str, ...]]:
        summary = summarise(load_dataset("folder", tree), size=size, **options)
        return {finding.what: finding.files for finding in (*summary.unused, *summary.doubts)}

    return find


def test_an_ordinary_folder_has_its_counts_and_one_prompt_and_nothing_else(tree, recwarn):
    summary = summarise(load_dataset("folder", tree), size=(60, 60), decode_images=True)
    assert summary == Summary(
        (
            f"folder in {tree}: 1 category",
            "  nut: 2 normal, 2 anomalous (crack 2); 2 with masks; 3 more normal for a calibration",
            'one prompt: "a cropped industrial photo of the damaged nut"',
        ),
        (),
        (),
    )
    assert str(summary) == "\n".join(summary.lines)
    assert not recwarn.list


def test_generated_sets_are_counted_too():
    summary = summarise(load_dataset("pocket", categories=["wood"], per_category=2))
    assert summary.lines[0] == "pocket: 1 category"
    assert summary.lines[1].startswith("  wood: 2 normal, 2 anomalous (crack 1, ")


def test_images_without_labels_are_counted(tmp_path):
    write(tmp_path / "a.png")
    write(tmp_path / "below/b.png")
    summary = summarise(load_dataset("folder", tmp_path, categories=["nut"]))
    assert "  nut: 1 image without labels" in summary.lines
    assert [finding.files for finding in summary.unused] == [("below/b.png",)]


@pytest.mark.filterwarnings("ignore:images without a mask")
def test_what_is_not_read_is_named_with_the_reason(tree, found):
    write(tree / "nut/ground_truth/crack/007_mask.png", region())
    write(tree / "nut/test/crack/002.png")
    write(tree / "nut/train/crack/000.png")
    write(tree / "photo.png")
    write(tree / "__MACOSX/nut/test/good/000.png")
    for name in ("nut/test/good/002.heic", "nut/test/good/Thumbs.db", "readme.txt"):
        (tree / name).write_bytes(b"...")
    (tree / "nut/test/good/002.png").symlink_to("gone.png")
    system = "items left behind by an operating system or a backup"
    assert found() == {
        "masks of no image, or of a normal one": ("nut/ground_truth/crack/007_mask.png",),
        "images without a mask, in a kind that has masks": ("nut/test/crack/002.png",),
        "pictures for training, not for a test": ("nut/train/crack/000.png",),
        "pictures outside of test/<kind>": ("photo.png",),
        "pictures of a format that is not read: convert to PNG": ("nut/test/good/002.heic",),
        system: ("__MACOSX", "nut/test/good/Thumbs.db"),
        "files without a picture": ("readme.txt",),
        "links to nothing": ("nut/test/good/002.png",),
    }


def test_categories_that_were_not_asked_for_are_named(tree):
    others = ("bolt/test/good/000.png", "plate/Test/good/000.png")
    for name in others:
        write(tree / name)
    summary = summarise(load_dataset("folder", tree, categories=["nut"]))
    assert [(f.what, f.files) for f in summary.unused] == [
        ("pictures of categories that were not asked for", others)
    ]


def test_masks_that_contradict_their_rule_are_grouped(tree, found):
    for name in ("000", "001"):
        buffer = io.BytesIO()
        Image.fromarray(region()).save(buffer, format="JPEG", quality=60)
        Image.open(buffer).save(tree / f"nut/ground_truth/crack/{name}_mask.png")
    ((what, files),) = found().items()
    assert what.startswith("masks: more than two grey levels") and len(files) == 2


def test_masks_that_mark_nothing_or_almost_all_are_named(tree, found):
    write(tree / "nut/ground_truth/crack/000_mask.png", region() * 0)
    write(tree / "nut/ground_truth/crack/001_mask.png", 255 - region(side=10))
    first, second = found().items()
    assert first == (
        "masks without a defect, in a kind that is anomalous",
        ("nut/ground_truth/crack/000_mask.png",),
    )
    assert second[0].startswith("masks: more than half of the image is defect")


def test_defects_that_vanish_are_named(tree, found):
    write(tree / "nut/ground_truth/crack/000_mask.png", region(side=1))
    two = region()
    two[50, 50] = 255
    write(tree / "nut/ground_truth/crack/001_mask.png", two)
    assert found(size=(60, 60)) == {}
    assert found(size=(12, 12)) == {
        "masks whose defect vanishes at 12 x 12 pixels: it counts as normal": (
            "nut/ground_truth/crack/000_mask.png",
        ),
        "masks with a small region that vanishes at 12 x 12 pixels: it counts as normal": (
            "nut/ground_truth/crack/001_mask.png",
        ),
    }


def test_pages_line_scans_and_damage_are_named(tree, found):
    page = Image.new("L", (60, 60))
    page.save(tree / "nut/test/good/pages.tif", save_all=True, append_images=[page, page])
    write(tree / "nut/test/good/scan.png", np.zeros((20, 500), dtype=np.uint8))
    (tree / "nut/test/good/broken.png").write_bytes(b"no picture")
    whole = (tree / "nut/test/good/000.png").read_bytes()
    (tree / "nut/test/good/001.png").write_bytes(whole[: len(whole) // 2])
    named = found(decode_images=True)
    assert named["images with several pages or frames, of which the first is read"] == (
        "nut/test/good/pages.tif",
    )
    far = "images far from square, squeezed to a square: cut such images into tiles"
    assert named[far] == ("nut/test/good/scan.png",)
    assert named["images that cannot be read: not a picture"] == ("nut/test/good/broken.png",)
    assert named["images that cannot be read: damaged"] == ("nut/test/good/001.png",)


def test_empty_masks_of_normal_tiles_are_named_as_masks(miniature, recwarn):
    dataset = load_dataset("magnetic-tile", miniature("magnetic-tile"))
    (unused,) = summarise(dataset).unused
    assert unused.what == "masks of no image, or of a normal one" and len(unused.files) == 2


@pytest.mark.parametrize(
    ("name", "unused"),
    [
        ("mvtec", {}),
        ("mpdd", {}),
        ("btad", {}),
        ("kolektor-sdd", {"masks of no image, or of a normal one": 3}),
        ("elpv", {"cells of which the labellers were not sure, or of another type": 4}),
        (
            "mvtec-ad-2",
            {"pictures outside of test/<kind>": 8, "pictures for training, not for a test": 8},
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*has not the test images of")
def test_published_sets_are_counted_to_the_last_file(miniature, name, unused):
    root = miniature(name)
    dataset = load_dataset(name, root)
    found = {finding.what: len(finding.files) for finding in summarise(dataset).unused}
    assert found == unused
    entries = [
        e for c in dataset.categories for e in (*dataset.entries(c), *dataset.normal_entries(c))
    ]
    read = {file for entry in entries for file in (entry.path, entry.mask) if file}
    pictures = [path for path in root.rglob("*.*") if path.suffix != ".csv"]
    assert len(read) + sum(unused.values()) == len(pictures)


# Normal images


def test_folders_that_count_as_normal_are_named_where_there_are_others_than_good(tree):
    for name in ("ok/000", "ok/below/000", "ok/001", "good2/000"):
        write(tree / f"nut/test/{name}.png")
    write(tree / "nut/train/normal/000.png")
    summary = summarise(load_dataset("folder", tree))
    assert summary.lines[1] == (
        "  nut: 6 normal (good 2, good2 1, ok 3), 2 anomalous (crack 2); 2 with masks; "
        "4 more normal (good 3, normal 1) for a calibration"
    )
    assert summary.unused == summary.doubts == ()


def test_pictures_that_lie_in_two_folders_are_named(tree, found):
    what = "pictures of which another folder has a copy, byte by byte"
    whole = (tree / "nut/test/good/000.png").read_bytes()
    (tree / "nut/test/good/again.png").write_bytes(whole)
    assert found() == {}, "beside each other they are no doubt"
    twins = [tree / f"nut/{folder}/twin.png" for folder in ("test/ok", "train/good")]
    for path in twins:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(whole)
    own = ("nut/test/good/000.png", "nut/test/good/again.png")
    assert found() == {what: (*own, "nut/test/ok/twin.png", "nut/train/good/twin.png")}
    for path in twins:  # as long, and equal in the middle
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ int(path == twins[0]) + 1]))
    assert found() == {}


def test_ten_thousand_pictures_are_compared_in_two_seconds(tmp_path):
    """Also where all are equally large."""
    entries, rng = [], np.random.default_rng(0)
    for number in range(10_000):
        path = tmp_path / str(number // 5000) / f"{number}.bmp"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(rng.bytes(5000))
        entries.append(Entry(path, path.name, "good"))
    start = time.process_time()
    assert list(_copies(entries)) == []
    assert time.process_time() - start < 2


# The command line


def test_data_check_prints_what_was_understood(tree, capsys):
    assert main(["data", "check", str(tree)]) == 0
    captured = capsys.readouterr()
    assert "nut: 2 normal, 2 anomalous (crack 2); 2 with masks" in captured.out
    assert captured.err == ""
    (tree / "nut/test/good/broken.png").write_bytes(b"no picture")
    assert main(["data", "check", str(tree)]) == 1
    said = "1 image that cannot be read: not a picture (nut/test/good/broken.png)"
    assert said in capsys.readouterr().out


def test_data_check_takes_what_reading_takes(tree, capsys):
    for name in ("000", "001"):
        write(tree / f"nut/ground_truth/crack/{name}_mask.png", region() // 255 + 1)
    write(tree / "nut/test/good/000.png", np.full((60, 60), 900, dtype=np.uint16))
    options = ["--mask-values", "2", "--pixel-range", "0", "2000", "--size", "60"]
    assert main(["data", "check", str(tree), *options]) == 0
    out = capsys.readouterr().out
    assert "pixel values from 0 (black) to 2000 (white)" in out
    assert "defect in masks: exactly 2\n" in out and "Please check" not in out
    with pytest.raises(SystemExit):
        main(["data", "check", str(tree), "--mask-values", "black"])
    assert "expected whole numbers with commas, such as 1,2, or dark" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "-3"])
def test_a_size_is_refused_in_words(tree, tmp_path, capsys, size):
    evaluate = ["--dataset", "folder", "--methods", "dog", "--out", str(tmp_path / "out")]
    for command in (
        ["data", "check", str(tree)],
        ["evaluate", "--data-root", str(tree), *evaluate],
    ):
        assert main([*command, "--size", size]) == 2
        said = f"error: size must be a whole number of pixels from 1 on, or .*; found {size}\n"
        assert re.fullmatch(rf"anovl: {said}", capsys.readouterr().err)


def test_of_inverted_masks_it_is_said_once_what_to_type(tree, capsys):
    for number in range(5):
        write(tree / f"nut/test/crack/{number:03}.png")
        mask = tree / f"nut/ground_truth/crack/{number:03}_mask.jpg"
        write(mask, 255 - region(side=20), quality=70)
        mask.with_suffix(".png").unlink(missing_ok=True)
    assert main(["data", "check", str(tree)]) == 0
    said = capsys.readouterr()
    (line,) = [line for line in said.out.splitlines() if "more than half of the image" in line]
    assert line.startswith("  5 masks: ") and "type --mask-values dark, in Python" in line
    assert line.count("_mask.jpg") == 3 and line.endswith(", ...)") and said.err == ""
    assert main(["data", "check", str(tree), "--mask-values", "dark"]) == 0
    said = capsys.readouterr().out
    assert "defect in masks: what is dark\n" in said and "more than half" not in said
    assert main(["data", "check", str(tree), "--mask-values", "0"]) == 0
    assert "  5 masks: grey levels near 0, as lossy" in capsys.readouterr().out


def test_a_broken_mask_is_not_blamed_on_its_picture(tree, found):
    mask = tree / "nut/ground_truth/crack/001_mask.png"
    mask.write_bytes(mask.read_bytes()[:60])
    named = found(decode_images=True)
    assert named == {"masks that cannot be read: damaged": ("nut/ground_truth/crack/001_mask.png",)}
    write(mask, region()[:50])
    [(what, files)] = found(decode_images=True).items()
    assert what.startswith("images that cannot be read: its mask is 60 x 50 but it is 60 x 60")
    assert files == ("nut/test/crack/001.png",)


def test_masks_that_cannot_be_read_for_one_reason_share_a_line(tree, found):
    for name in ("000", "001"):
        colours = np.full((60, 60, 3), (0, 255, 0), dtype=np.uint8)
        colours[5:30, 5:30] = (255, 0, 0)
        write(tree / f"nut/ground_truth/crack/{name}_mask.png", colours)
    ((what, files),) = found().items()
    assert what.startswith("masks that cannot be read: its mask has colours but no black")
    assert len(files) == 2


def test_words_that_the_pocket_model_never_saw_are_named_once(tree, capsys):
    (tree / "nut").rename(tree / "zebra")
    assert main(["data", "check", str(tree)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("anovl: warning: the pocket model does not know the word 'zebra'")


def test_data_check_of_a_published_set(miniature, capsys):
    root = miniature("mpdd")
    assert main(["data", "check", str(root), "--dataset", "mpdd", "--size", "8"]) == 0
    out = capsys.readouterr().out
    assert "mpdd in" in out and "6 categories" in out
    assert 'one prompt: "a cropped industrial photo of the damaged black bracket"' in out


def test_a_category_with_a_comma_can_be_chosen(tree, capsys):
    (tree / "nut").rename(tree / "left,right")
    write(tree / "bolt/test/good/000.png")
    assert main(["data", "check", str(tree), "--categories", '"left,right"']) == 0
    out = capsys.readouterr().out
    assert "1 category" in out and "  left,right: 2 normal" in out


def test_colour_that_cannot_be_named_is_grouped_and_has_a_way_out(tree, capsys):
    for name in ("000", "001"):
        colours = np.full((60, 60, 3), (0, 255, 0), dtype=np.uint8)
        colours[5:30, 5:30] = (255, 0, 0)
        write(tree / f"nut/ground_truth/crack/{name}_mask.png", colours)
    for values in ([], ["--mask-values", "1"]):
        main(["data", "check", str(tree), *values])
        (line,) = [
            line for line in capsys.readouterr().out.splitlines() if line.startswith("  2 masks ")
        ]
        assert line.startswith("  2 masks that cannot be read: its mask has colours")
        assert "save it as a grey or a palette mask" in line and "--mask-values" not in line
