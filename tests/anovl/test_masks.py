"""A mask is read by what it means, or the message names its file and the remedy."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tifffile import imwrite

from anovl.images import read_image
from anovl.masks import MaskWarning, lost_regions, mask_at, read_mask


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def region() -> np.ndarray:
    """A region of 8 x 10 pixels and a scratch two pixels wide, in 64 x 48."""
    mask = np.zeros((48, 64), dtype=bool)
    mask[10:18, 20:30] = True
    mask[30:32, 5:60] = True
    return mask


def read_in_silence(path: Path, **options) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_mask(path, **options)


def palette(path: Path, indices: np.ndarray, *colours: tuple[int, int, int]) -> Path:
    image = Image.fromarray(indices.astype(np.uint8), mode="P")
    image.putpalette([value for colour in colours for value in colour])
    image.save(path)
    return path


BLACK, RED, GREEN, WHITE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255)

# Exact masks


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_black_and_white_in_every_mode(tmp_path, mode, region):
    Image.fromarray(region.astype(np.uint8) * 255).convert(mode).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_in_silence(tmp_path / "mask.png"), region)


@pytest.mark.parametrize(
    "levels", [[0], [0, 0, 0, 0, 1, 9, 15], [0, 7], [0, 100], [0, 256], [0, 65535]]
)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
def test_two_levels_and_numbers_of_classes_are_exact_at_any_depth(tmp_path, levels, kind):
    levels = np.array([levels])
    if levels.max() <= np.iinfo(kind).max:
        path = save(tmp_path / "mask.tif", levels.astype(kind))
        np.testing.assert_array_equal(read_in_silence(path), levels > 0)


@pytest.mark.parametrize("defect", [RED, (0, 0, 40), WHITE, (128, 0, 128), (9, 0, 0)])
def test_in_a_palette_black_is_background_and_other_colours_are_defect(tmp_path, region, defect):
    path = palette(tmp_path / "mask.png", region, BLACK, defect)
    np.testing.assert_array_equal(read_in_silence(path), region)


# Lossy masks


def block() -> np.ndarray:
    region = np.zeros((64, 64), dtype=bool)
    region[10:30, 20:50] = True
    return region


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("name", ["lossy.png", "lossy.jpg", "lossy.tif", "lossy.bmp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_compression_noise_makes_no_defect_whatever_the_container(tmp_path, name, quality, mode):
    region = block()
    buffer = io.BytesIO()
    grey = Image.fromarray(region.astype(np.uint8) * 255).convert(mode)
    grey.save(buffer, format="JPEG", quality=quality)
    noisy = Image.open(buffer)
    if name.endswith(".jpg"):
        (tmp_path / name).write_bytes(buffer.getvalue())
    else:
        noisy.save(tmp_path / name)
    assert (np.asarray(noisy.convert("L")) != 0).sum() > region.sum(), "noise around the region"
    with pytest.warns(MaskWarning, match=name):
        mask = read_mask(tmp_path / name)
    np.testing.assert_array_equal(mask, region)
    np.testing.assert_array_equal(read_in_silence(tmp_path / name, is_lossy=True), region)


# Masks that could mean two things


def two_meanings(folder: Path, region: np.ndarray) -> dict[str, Path]:
    """Masks whose defect `values` can name."""
    many = [BLACK, *((200, n, 9) for n in range(20))]
    return {
        "palette without black": palette(folder / "no.png", region, GREEN, RED),
        "index 0 is no background": palette(folder / "swapped.png", ~region, RED, BLACK),
        "two blacks": palette(folder / "two.png", region * 2, BLACK, BLACK, BLACK),
        "a photograph": palette(folder / "many.png", np.arange(21).reshape(3, 7), *many),
        "grey palette": palette(folder / "grey.png", region, (200, 200, 200), WHITE),
        "dim levels": save(folder / "dim.png", np.array([[0, 30, 60, 100]], dtype=np.uint8)),
        "classes or noise": save(folder / "classes.jpg", np.full((8, 8), 5, dtype=np.uint8)),
    }


def no_numbers(folder: Path, region: np.ndarray) -> dict[str, Path]:
    """Masks that must be saved in another way."""
    red = np.where(region[..., None], RED, BLACK).astype(np.uint8)
    alpha = np.dstack([np.full((*region.shape, 3), 255, np.uint8), region.astype(np.uint8) * 255])
    imwrite(folder / "deep.tif", red.astype(np.uint16) * 257, photometric="rgb")
    return {
        "colours": save(folder / "red.png", red),
        "lossy colours": save(folder / "red.jpg", red),
        "transparency": save(folder / "alpha.png", alpha),
        "deep colour": folder / "deep.tif",
        "floats": save(folder / "float.tif", region.astype(np.float32)),
        "white zero": save(folder / "white.tif", region.astype(np.uint16), tiffinfo={262: 0}),
    }


@pytest.mark.filterwarnings("ignore::anovl.masks.MaskWarning")
def test_masks_that_could_mean_two_things_are_refused_by_name(tmp_path, region):
    for what, path in two_meanings(tmp_path, region).items():
        with pytest.raises(ValueError, match=f"{path.name} .*--mask-values"):
            pytest.fail(f"{what}: {read_mask(path)}")
        read_mask(path, values=[0])
    for what, path in no_numbers(tmp_path, region).items():
        for values in (None, [255]):
            with pytest.raises(ValueError, match=path.name):
                pytest.fail(f"{what}: {read_mask(path, values=values)}")


def test_an_inverted_mask_is_mentioned_and_can_be_told(tmp_path, region):
    path = save(tmp_path / "inverted.png", np.where(region, 0, 255).astype(np.uint8))
    with pytest.warns(MaskWarning, match=r"inverted\.png.*--mask-values dark"):
        assert read_mask(path).mean() > 0.5
    for values in ([0], "dark"):
        np.testing.assert_array_equal(read_in_silence(path, values=values), region)


def test_of_several_pages_the_first_is_read_with_a_warning(tmp_path, region):
    pages = [Image.fromarray(page) for page in (region, ~region)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(MaskWarning, match=r"pages\.tif"):
        np.testing.assert_array_equal(read_mask(tmp_path / "pages.tif"), region)


# Values


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_of_a_lossy_inverted_mask_all_that_is_dark_is_defect(tmp_path, quality):
    region = block()
    path = save(tmp_path / "m.jpg", np.where(region, 0, 255).astype(np.uint8), quality=quality)
    with pytest.warns(MaskWarning, match=r"m\.jpg"):
        np.testing.assert_array_equal(read_mask(path, values="dark"), region)
    np.testing.assert_array_equal(read_in_silence(path, values="dark", is_lossy=True), region)
    with pytest.warns(MaskWarning, match=r"m\.jpg.*--mask-values dark"):
        assert read_mask(path, values=[0]).sum() < region.sum()


def test_dark_swaps_defect_and_background_whatever_the_mode(tmp_path, region):
    paths = [
        palette(tmp_path / "palette.png", ~region, BLACK, (200, 0, 0)),
        save(tmp_path / "classes.png", np.where(region, 0, 9).astype(np.uint8)),
        save(tmp_path / "deep.png", np.where(region, 0, 4095).astype(np.uint16)),
    ]
    for path in paths:
        np.testing.assert_array_equal(read_in_silence(path, values="dark"), region)
    white = save(tmp_path / "white.png", np.full((4, 4), 255, dtype=np.uint8))
    assert not read_in_silence(white, values="dark").any(), "an inverted mask without a defect"


@pytest.mark.parametrize("levels", [[0, 100, 200, 255], [0, 1, 2, 3], [0, 300, 301, 65535]])
def test_values_name_grey_levels_and_palette_indices(tmp_path, levels):
    dtype = np.uint8 if max(levels) < 256 else np.uint16
    path = save(tmp_path / "mask.png", np.array([levels], dtype=dtype))
    expected = [[False, True, False, True]]
    np.testing.assert_array_equal(read_in_silence(path, values=levels[1::2]), expected)
    path = palette(tmp_path / "indices.png", np.array([[0, 1, 2, 3]]), RED, GREEN, BLACK, WHITE)
    np.testing.assert_array_equal(read_in_silence(path, values=np.array([1, 3])), expected)


@pytest.mark.parametrize("values", [[], [255.5], ["1"], 255, "black", [-1], [255, 65536]])
def test_values_are_numbers_that_a_mask_can_hold(tmp_path, values):
    path = save(tmp_path / "mask.png", np.array([[0, 255]], dtype=np.uint8))
    with pytest.raises(ValueError, match="--mask-values"):
        read_mask(path, values=values)


# Beside its image


def test_a_mask_of_another_size_names_both_files_and_sizes(tmp_path):
    path = save(tmp_path / "mask.png", np.zeros((4, 6), dtype=np.uint8))
    assert read_mask(path, shape=(4, 6)).shape == (4, 6)
    with pytest.raises(ValueError, match=r"mask\.png is 6 x 4 but 007\.png is 4 x 6"):
        read_mask(path, shape=(6, 4), image_path="007.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_as_its_image_is(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    white = np.zeros((4, 6), dtype=np.uint8)
    white[0, 1:3] = 255
    image = save(tmp_path / "image.png", white, exif=exif)
    mask = read_mask(save(tmp_path / "mask.png", white, exif=exif))
    np.testing.assert_array_equal(mask, np.asarray(read_image(image))[..., 0] == 255)
    assert mask.shape == ((4, 6) if orientation < 5 else (6, 4))


# At another size


def test_masks_are_resized_as_published():
    mask = np.zeros((8, 8), dtype=bool)
    mask[:, :3] = True
    # Halved with antialiasing, the third column weighs in at 1/8, 7/8 ... of its neighbours.
    np.testing.assert_array_equal(mask_at(mask, (4, 4))[0], [True, True, False, False])
    assert mask_at(mask, (8, 8)) is mask


def test_a_mask_and_its_image_are_resized_alike():
    """What fills the left third of a wide picture fills the left third of its small mask."""
    mask = np.zeros((200, 600), dtype=bool)
    mask[50:150, :200] = True
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    for size in ((240, 240), (240, 720), (37, 53)):
        small = np.asarray(picture.resize(size[::-1], Image.Resampling.BICUBIC)) > 127.5
        np.testing.assert_array_equal(mask_at(mask, size), small)


def test_regions_that_vanish_are_counted():
    mask = np.zeros((100, 100), dtype=bool)
    mask[0, 0] = mask[50, 50] = mask[51, 51] = True  # the two touch at a corner
    mask[80:90, 10:90] = True
    assert lost_regions(mask, (100, 100)) == 0
    assert lost_regions(mask, (20, 20)) == 2
    assert lost_regions(np.zeros((9, 9), dtype=bool), (3, 3)) == 0


@pytest.mark.parametrize(
    "mask", [np.full((4, 4), 255, np.uint8), np.zeros((4, 4, 3), bool), np.zeros((0, 4), bool)]
)
def test_only_masks_are_resized(mask):
    with pytest.raises(ValueError, match=str(mask.dtype)):
        mask_at(mask, (2, 2))
