"""Every file of a folder is counted, or named with the reason; each reason once."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anovl.cli import main
from anovl.data import load_dataset
from anovl.data.check import summarise


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
    """The findings of `tree`, as {file's name: reason}, after a test has spoilt it."""

    def find(size: tuple[int, int] | None = None, **options) -> dict[str, str]:
        summary = summarise(load_dataset("folder", tree), size=size, **options)
        findings = (*summary.unused, *summary.doubts)
        assert len({finding.what for finding in findings}) == len(findings)
        pairs = [(file, finding.what) for finding in findings for file in finding.files]
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    return find


def test_an_ordinary_folder_has_its_counts_and_one_prompt_and_nothing_else(tree, recwarn):
    summary = summarise(load_dataset("folder", tree), size=(60, 60), decode_images=True)
    _, counts, prompt = summary.lines
    assert counts.startswith("  nut: 2 normal, 2 anomalous (crack 2); 2 with masks; 3 more normal")
    assert "damaged nut" in prompt
    assert summary.unused == summary.doubts == () and not recwarn.list


def test_sets_without_files_or_without_labels_are_counted_too(tmp_path):
    summary = summarise(load_dataset("pocket", categories=["wood"], per_category=2))
    assert summary.lines[1].startswith("  wood: 2 normal, 2 anomalous (crack 1, ")
    write(tmp_path / "a.png")
    write(tmp_path / "below/b.jfif", format="JPEG")
    write(tmp_path / "below/masks/b.png")
    write(tmp_path / "results/a.png")
    (tmp_path / "results/localize.json").touch()
    data = load_dataset("folder", tmp_path, categories=["nut"])
    assert [entry.name for entry in data.entries("nut")] == ["a.png", "below/b.jfif"]
    summary = summarise(data)
    assert summary.lines[1].startswith("  nut: 2 images without labels; ")
    assert [finding.files for finding in summary.unused] == [("below/masks/b.png",)]


def test_folders_that_count_as_normal_are_named_where_there_are_others_than_good(tree):
    for name in ("test/ok/000", "test/good2/below/000", "train/normal/000"):
        write(tree / f"nut/{name}.png")
    summary = summarise(load_dataset("folder", tree))
    assert "4 normal, " in summary.lines[1] and "good, good2, normal, ok" in summary.lines[1]
    assert summary.unused == summary.doubts == ()


# Files that are not read


@pytest.mark.filterwarnings("ignore:images without a mask")
def test_files_that_are_not_read_are_named_by_their_reason(tree, found):
    others = ("nut/test/crack/002.png", "nut/train/crack/000.png", "photo.png")
    for name in ("nut/ground_truth/crack/007_mask.png", *others):
        write(tree / name)
    write(tree / "__MACOSX/nut/test/good/000.png")
    others_of_kinds = ("nut/test/good/002.heic", "readme.txt", "a.PDF", "film.mp4", "NOTES")
    for name in (*others_of_kinds, "nut/test/good/Thumbs.db"):
        (tree / name).write_bytes(b"...")
    (tree / "nut/test/good/002.png").symlink_to("gone.png")
    by_reason: dict[str, set[str]] = {}
    for name, reason in found().items():
        by_reason.setdefault(reason, set()).add(name)
    expected = [{name} for name in (*others_of_kinds, "nut/test/good/002.png")]
    expected += [{"__MACOSX", "nut/test/good/Thumbs.db"}, {"nut/ground_truth/crack/007_mask.png"}]
    assert sorted(map(sorted, by_reason.values())) == sorted(map(sorted, [*expected, set(others)]))


def test_what_a_draw_leaves_out_is_no_doubt(tree):
    for number in (0, 1, 9):
        write(tree / f"nut/ground_truth/crack/00{number}_mask.png", region() * 0)
    summary = summarise(load_dataset("folder", tree, per_category=1))
    (unused,), (doubt,) = summary.unused, summary.doubts
    assert unused.files == ("nut/ground_truth/crack/009_mask.png",) and len(doubt.files) == 1


@pytest.mark.parametrize(
    ("name", "unused"),
    [
        *(("mvtec", 0), ("mpdd", 0), ("btad", 0), ("magnetic-tile", 2)),
        *(("kolektor-sdd", 3), ("elpv", 4), ("mvtec-ad-2", 16)),
    ],
)
@pytest.mark.filterwarnings("ignore:.*has not the (test )?images of")
def test_published_sets_are_counted_to_the_last_file(miniature, name, unused):
    root = miniature(name)
    dataset = load_dataset(name, root)
    assert sum(len(finding.files) for finding in summarise(dataset).unused) == unused
    parts = (dataset.entries, dataset.normal_entries)
    entries = [entry for name in dataset.categories for part in parts for entry in part(name)]
    read = {file for entry in entries for file in (entry.path, entry.mask) if file}
    pictures = [path for path in root.rglob("*.*") if path.suffix != ".csv"]
    assert len(read) + unused == len(pictures)


# Doubtful files


def test_doubtful_masks_are_named(tree, found):
    first, second = (f"nut/ground_truth/crack/00{number}_mask.png" for number in range(2))
    two = region()
    two[50, 50] = 255
    write(tree / first, region() * 0)
    write(tree / second, two)
    assert found((60, 60)) == {first: "masks without a defect, in a kind that is anomalous"}
    assert "12 x 12" in found((12, 12))[second]
    for name in (first, second):
        write(tree / name, np.linspace(0, 255, 3600).astype(np.uint8).reshape(60, 60))
    reasons = found()
    assert reasons[first] == reasons[second] and "more than two grey levels" in reasons[first]


def test_bad_files_are_named_by_their_reason(tree, found):
    page = Image.new("L", (60, 60))
    page.save(tree / "nut/test/good/pages.tif", save_all=True, append_images=[page, page])
    write(tree / "nut/test/good/scan.png", np.zeros((20, 500), dtype=np.uint8))
    cut = [
        *("nut/test/good/000.png", "nut/test/crack/000.png"),
        *("nut/ground_truth/crack/000_mask.png", "nut/ground_truth/crack/001_mask.png"),
    ]
    for name in cut[:3]:
        whole = (tree / name).read_bytes()
        (tree / name).write_bytes(whole[: len(whole) // 2])
    write(tree / cut[3], region()[:50])
    reasons = found(decode_images=True)
    assert "several pages" in reasons["nut/test/good/pages.tif"]
    assert "far from square" in reasons["nut/test/good/scan.png"]
    for name in cut:
        what = "images" if "/test/" in name else "masks"
        assert reasons[name].startswith(f"{what} that cannot be read: "), name
    assert reasons[cut[0]] == reasons[cut[1]] and "60 x 50" in reasons[cut[3]]
    assert len(reasons) == 6


def test_a_colour_profile_that_cannot_be_used_is_named(tree, found):
    for name in ("nut/test/good/000.png", "nut/test/good/001.png"):
        write(tree / name, icc_profile=b"no profile")
    reasons = found(decode_images=True)
    assert len(reasons) == 2 and all("profile" in reason for reason in reasons.values())


def test_pictures_that_lie_in_two_folders_are_named(tree, found):
    whole = (tree / "nut/test/good/000.png").read_bytes()
    (tree / "nut/test/good/again.png").write_bytes(whole)
    assert found() == {}, "beside each other they are no doubt"
    write(twin := tree / "nut/test/ok/twin.png")
    twin.write_bytes(whole)
    names = {"nut/test/good/000.png", "nut/test/good/again.png", "nut/test/ok/twin.png"}
    assert found().keys() == names
    twin.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # as long, and equal in the middle
    assert found() == {}


# The command line


def test_data_check_prints_counts_and_doubts(tree, capsys):
    assert main(["data", "check", str(tree)]) == 0
    captured = capsys.readouterr()
    assert "nut: 2 normal, 2 anomalous (crack 2); 2 with masks" in captured.out
    assert captured.err == ""
    (tree / "nut/test/good/broken.png").write_bytes(b"no picture")
    assert main(["data", "check", str(tree)]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "broken.png" in line]
    assert line.startswith("  1 image that cannot be read")


def test_each_doubt_is_printed_once_with_a_number_an_example_and_the_option(tree, capsys):
    for number in range(5):
        write(tree / f"nut/test/crack/{number:03}.png")
        mask = tree / f"nut/ground_truth/crack/{number:03}_mask.jpg"
        write(mask, 255 - region(side=20), quality=70)
        mask.with_suffix(".png").unlink(missing_ok=True)
    for given, doubts in (([], 1), (["--mask-values", "0"], 1), (["--mask-values", "dark"], 0)):
        assert main(["data", "check", str(tree), *given]) == 0
        said = capsys.readouterr()
        lines = [line for line in said.out.splitlines() if "--mask-values dark" in line]
        assert len(lines) == doubts and said.err == ""
        for line in lines:
            assert line.startswith("  5 masks: ") and "crack/000_mask.jpg, ..." in line
