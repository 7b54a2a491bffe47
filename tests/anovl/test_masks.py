"""A mask is read by what it means, or the message names the file and the option."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def palette(region: np.ndarray, background: tuple, defect: tuple) -> Image.Image:
    image = Image.fromarray(region.astype(np.uint8), mode="P")
    image.putpalette([*background, *defect])
    return image


# Exact masks


def test_mask_is_non_zero_not_bright_where_numbers_are_classes(tmp_path):
    path = save(tmp_path / "classes.png", np.array([[0, 1, 9, 15, 0, 0]], dtype=np.uint8))
    mask = read_in_silence(path)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, [[False, True, True, True, False, False]])


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_mask_modes_and_opaque_alpha(tmp_path, mode):
    image = Image.new("L", (3, 2), 0)
    image.putpixel((1, 0), 255)
    image.convert(mode).save(tmp_path / "mask.png")
    expected = np.zeros((2, 3), dtype=bool)
    expected[0, 1] = True
    np.testing.assert_array_equal(read_in_silence(tmp_path / "mask.png"), expected)


@pytest.mark.parametrize("value", [1, 7, 100, 255, 256, 4095, 65535])
def test_two_levels_are_background_and_defect_at_any_depth(tmp_path, region, value):
    path = save(tmp_path / "deep.png", region.astype(np.uint16) * value)
    np.testing.assert_array_equal(read_in_silence(path), region)


def test_sixteen_bit_tiff_whose_zero_is_white(tmp_path, region):
    inverse = np.where(region, 0, 65535).astype(np.uint16)
    path = save(tmp_path / "white.tif", inverse, tiffinfo={262: 0})
    np.testing.assert_array_equal(read_in_silence(path), region)


def test_an_empty_mask_is_empty(tmp_path):
    assert not read_in_silence(save(tmp_path / "e.png", np.zeros((4, 4), dtype=np.uint8))).any()


# Colours


@pytest.mark.parametrize("defect", [(255, 0, 0), (0, 0, 40), (255, 255, 255), (128, 0, 128)])
def test_a_palette_is_read_by_colour(tmp_path, region, defect):
    palette(region, (0, 0, 0), defect).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_in_silence(tmp_path / "mask.png"), region)
    palette(~region, defect, (0, 0, 0)).save(tmp_path / "swapped.png")
    np.testing.assert_array_equal(read_in_silence(tmp_path / "swapped.png"), region)


def test_dark_and_bright_colours_are_defect_alike(tmp_path, region):
    picture = np.zeros((*region.shape, 3), dtype=np.uint8)
    picture[region] = (200, 0, 0)
    picture[30:32, 5:60] = (0, 0, 50)
    np.testing.assert_array_equal(read_in_silence(save(tmp_path / "rgb.png", picture)), region)


def test_colours_without_black_are_an_error_that_names_the_option(tmp_path, region):
    palette(region, (0, 255, 0), (255, 0, 0)).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"mask\.png has colours but no black .*--mask-values"):
        read_mask(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_in_silence(tmp_path / "mask.png", values=[1]), region)
    palette(region, (200, 200, 200), (255, 255, 255)).save(tmp_path / "grey.png")
    with pytest.raises(ValueError, match=r"grey\.png has a palette but no black .*--mask-values"):
        read_mask(tmp_path / "grey.png")


# Lossy masks


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("name", ["lossy.png", "lossy.jpg", "lossy.tif", "lossy.bmp"])
def test_compression_noise_makes_no_defect_whatever_the_container(tmp_path, name, quality):
    region = np.zeros((64, 64), dtype=bool)
    region[10:30, 20:50] = True
    buffer = io.BytesIO()
    Image.fromarray(region.astype(np.uint8) * 255).save(buffer, format="JPEG", quality=quality)
    noisy = Image.open(buffer)
    if name.endswith(".jpg"):
        (tmp_path / name).write_bytes(buffer.getvalue())
    else:
        noisy.save(tmp_path / name)
    assert (np.asarray(noisy) != 0).sum() > region.sum(), "there is noise around the region"
    with pytest.warns(MaskWarning, match=rf"{name}: more than two grey levels"):
        mask = read_mask(tmp_path / name)
    np.testing.assert_array_equal(mask, region)
    np.testing.assert_array_equal(read_in_silence(tmp_path / name, is_lossy=True), region)


def test_lossy_masks_in_colour_and_with_a_palette(tmp_path, region):
    rng = np.random.default_rng(0)
    noisy = np.where(region, 255 - rng.integers(0, 40, region.shape), rng.integers(0, 40))
    noisy = noisy.astype(np.uint8)
    save(tmp_path / "grey.png", np.repeat(noisy[..., None], 3, axis=2))
    save(tmp_path / "red.png", np.stack([noisy, noisy // 3, noisy // 4], axis=2))
    Image.fromarray(noisy).convert("P").save(tmp_path / "palette.png")
    for name in ("grey", "red"):
        with pytest.warns(MaskWarning, match="more than two grey levels"):
            np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png"), region)


@pytest.mark.parametrize("quality", [45, 60, 70, 75, 90, 95])
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (255, 85, 0)])
@pytest.mark.parametrize("is_deep", [False, True])
def test_few_colours_that_are_one_with_noise_are_no_palette(tmp_path, quality, colour, is_deep):
    """A region on the grid of JPEG's blocks leaves few other colours."""
    region = np.zeros((96, 96), dtype=bool)
    region[32:48, 32:64] = True
    red = np.zeros((96, 96, 3), dtype=np.uint8)
    red[region] = colour
    buffer = io.BytesIO()
    Image.fromarray(red).save(buffer, "JPEG", quality=quality)
    noisy = np.asarray(Image.open(buffer))
    path = tmp_path / "red.png"
    if is_deep:
        from tifffile import imwrite

        path = tmp_path / "red.tif"
        imwrite(path, noisy.astype(np.uint16) * 257, photometric="rgb")
    else:
        save(path, noisy)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(read_mask(path), region)
    assert not any("--mask-values" in str(warning.message) for warning in caught)


def test_the_colours_of_a_palette_may_be_alike(tmp_path, region):
    image = Image.fromarray(region.astype(np.uint8) * 2, mode="P")
    image.putpixel((0, 0), 1)
    image.putpalette([0, 0, 0, 9, 0, 0, 255, 0, 0])
    image.save(tmp_path / "mask.png")
    region[0, 0] = True
    np.testing.assert_array_equal(read_in_silence(tmp_path / "mask.png"), region)


def test_two_colours_in_a_jpeg_are_no_class_numbers(tmp_path, region):
    orange = np.zeros((64, 64, 3), dtype=np.uint8)
    orange[16:32, 16:48] = (255, 85, 0)
    path = save(tmp_path / "orange.jpg", orange, quality=100, subsampling=0)
    colours = np.asarray(Image.open(path)).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) == 2
    np.testing.assert_array_equal(read_in_silence(path), orange.any(axis=2))


def test_class_numbers_in_16_bit_colour(tmp_path, region):
    from tifffile import imwrite

    for value in (1, 65535):
        for colour in ((value, 0, 0), (value,) * 3):
            picture = region[..., None].astype(np.uint16) * np.array(colour, dtype=np.uint16)
            imwrite(tmp_path / "mask.tif", picture, photometric="rgb")
            np.testing.assert_array_equal(read_in_silence(tmp_path / "mask.tif"), region)
    np.testing.assert_array_equal(read_in_silence(tmp_path / "mask.tif", values=[65535]), region)


def test_a_region_in_the_transparency_is_mentioned(tmp_path, region):
    white = np.full((*region.shape, 4), 255, dtype=np.uint8)
    white[..., 3] *= region
    with pytest.warns(MaskWarning, match="transparency, which is ignored, varies") as caught:
        read_mask(save(tmp_path / "clear.png", white))
    assert "dark" not in str(caught[0].message), "which would mark nothing"


def test_a_stray_value_is_mentioned(tmp_path, region):
    pixels = region.astype(np.uint8) * 255
    pixels[0, 0] = 7
    path = save(tmp_path / "stray.png", pixels)
    with pytest.warns(MaskWarning, match=r"stray\.png: more than two grey levels") as caught:
        np.testing.assert_array_equal(read_mask(path), region)
    assert caught[0].message.path == path


# What cannot be known


def test_grey_levels_that_do_not_reach_half_of_full_scale(tmp_path):
    path = save(tmp_path / "dim.png", np.array([[0, 0, 0, 30, 60, 100]], dtype=np.uint8))
    with pytest.raises(
        ValueError, match=r"dim\.png has grey levels from 0 to 100, .*--mask-values"
    ):
        read_mask(path)
    np.testing.assert_array_equal(
        read_in_silence(path, values=[60, 100]), [[False, False, False, False, True, True]]
    )


def test_class_numbers_in_a_jpeg(tmp_path):
    path = save(tmp_path / "classes.jpg", np.full((8, 8), 5, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"classes\.jpg is a JPEG with grey levels up to 5"):
        read_mask(path)


def test_an_inverted_mask_is_mentioned_and_can_be_told(tmp_path, region):
    path = save(tmp_path / "inverted.png", np.where(region, 0, 255).astype(np.uint8))
    with pytest.warns(
        MaskWarning, match=r"inverted\.png: more than half .* type --mask-values dark"
    ):
        assert read_mask(path).mean() > 0.5
    for values in ([0], "dark"):
        np.testing.assert_array_equal(read_in_silence(path, values=values), region)
    full = save(tmp_path / "full.png", np.full((4, 4), 255, dtype=np.uint8))
    with pytest.warns(MaskWarning, match=r"full\.png: all of the image is defect"):
        read_mask(full)


# Values


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_of_a_lossy_inverted_mask_all_that_is_dark_is_defect(tmp_path, quality):
    region = np.zeros((64, 64), dtype=bool)
    region[10:30, 20:50] = True
    path = save(tmp_path / "m.jpg", np.where(region, 0, 255).astype(np.uint8), quality=quality)
    with pytest.warns(MaskWarning, match="those below half of full scale are taken for the defect"):
        np.testing.assert_array_equal(read_mask(path, values="dark"), region)
    np.testing.assert_array_equal(read_in_silence(path, values="dark", is_lossy=True), region)
    with pytest.warns(MaskWarning, match="only exactly 0 is defect; .* type --mask-values dark"):
        assert read_mask(path, values=[0]).sum() < region.sum()


def test_dark_swaps_defect_and_background_whatever_the_mode(tmp_path, region):
    black = [(0, 0, 0), (200, 0, 0)]
    palette(region, black[1], black[0]).save(tmp_path / "palette.png")
    save(tmp_path / "classes.png", np.where(region, 0, 9).astype(np.uint8))
    save(tmp_path / "deep.png", np.where(region, 0, 4095).astype(np.uint16))
    for name in ("palette", "classes", "deep"):
        found = read_in_silence(tmp_path / f"{name}.png", values="dark")
        np.testing.assert_array_equal(found, region)
    white = save(tmp_path / "white.png", np.full((4, 4), 255, dtype=np.uint8))
    assert not read_in_silence(white, values="dark").any(), "an inverted mask without a defect"
    bright = save(tmp_path / "bright.png", region.astype(np.uint8) * 255)
    with pytest.warns(MaskWarning, match="is defect; .* leave --mask-values dark out"):
        np.testing.assert_array_equal(read_mask(bright, values="dark"), ~region)
    with pytest.raises(ValueError, match=r"list of whole numbers, or 'dark' .*; found 'black'"):
        read_mask(white, values="black")


def test_numbers_far_apart_or_of_classes_are_taken_at_their_word(tmp_path):
    for levels in ([0, 100, 200, 255], [0, 1, 2, 3], [0, 300, 301, 302]):
        dtype = np.uint8 if max(levels) < 256 else np.uint16
        path = save(tmp_path / "mask.png", np.array([levels], dtype=dtype))
        assert read_in_silence(path, values=levels[1:2]).tolist() == [[False, True, False, False]]


def test_values_name_palette_indices_and_grey_levels(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2, 3]], dtype=np.uint8), mode="P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "mask.png")
    expected = [[False, True, False, True]]
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", values=[1, 3]), expected)
    path = save(tmp_path / "deep.png", np.array([[0, 300, 301, 65535]], dtype=np.uint16))
    np.testing.assert_array_equal(read_mask(path, values=(300, 65535)), expected)


def test_values_cannot_name_colours(tmp_path):
    path = save(tmp_path / "rgb.png", np.array([[[0, 0, 0], [255, 0, 0]]], dtype=np.uint8))
    with pytest.raises(ValueError, match=r"the mask .*rgb\.png has colours, .* save it as a grey"):
        read_mask(path, values=[255])
    no_black = save(tmp_path / "no.png", np.array([[[0, 0, 9], [255, 0, 0]]], dtype=np.uint8))
    with pytest.raises(ValueError, match=r"no black .* save it as a grey") as raised:
        read_mask(no_black)
    assert "--mask-values" not in str(raised.value), "which cannot help"


@pytest.mark.parametrize("values", [[], [255.5], ["1"], 255, "black"])
def test_values_are_whole_numbers(tmp_path, values):
    path = save(tmp_path / "mask.png", np.array([[0, 255]], dtype=np.uint8))
    with pytest.raises(ValueError, match=r"must be a list of whole numbers, or 'dark'"):
        read_mask(path, values=values)


@pytest.mark.parametrize("values", [[-1], [255, 65536]])
def test_values_are_those_that_a_mask_can_hold(tmp_path, values):
    path = save(tmp_path / "mask.png", np.array([[0, 255]], dtype=np.uint8))
    with pytest.raises(ValueError, match=rf"from 0 to 65535; found {values[-1]}$"):
        read_mask(path, values=values)


# Beside its image


def test_mask_of_another_size_names_both_files_and_sizes(tmp_path):
    path = save(tmp_path / "mask.png", np.zeros((4, 6), dtype=np.uint8))
    assert read_mask(path, shape=(4, 6)).shape == (4, 6)
    with pytest.raises(ValueError, match=r"mask\.png is 6 x 4 but 007\.png is 4 x 6.*EXIF"):
        read_mask(path, shape=(6, 4), image_path="007.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_as_its_image_is(tmp_path, orientation):
    from anovl.images import read_image

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
    lone = np.zeros((8, 8), dtype=bool)
    lone[0, 0] = True
    assert not mask_at(lone, (2, 2)).any()


def test_mask_and_image_are_resized_alike():
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
    ("mask", "found"),
    [
        (np.full((4, 4), 255, np.uint8), r"\(4, 4\) of uint8: .* give mask > 0"),
        (np.zeros((4, 4, 3), bool), r"found \(4, 4, 3\) of bool"),
        (np.zeros((0, 4), bool), r"found \(0, 4\) of bool"),
    ],
)
def test_only_masks_are_resized(mask, found):
    with pytest.raises(ValueError, match=found):
        mask_at(mask, (2, 2))
