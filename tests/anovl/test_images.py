"""Any picture a user may have: it reads, or the message names the file and the remedy."""

from __future__ import annotations

import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anovl.images import (
    is_far_from_square,
    list_images,
    one_pixel_range,
    pixel_range_of,
    read_image,
    read_images,
)


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def pixels_of(source) -> np.ndarray:
    image = read_image(source)
    assert image.mode == "RGB"
    return np.asarray(image)


# What simply works


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    read = pixels_of(save(tmp_path / "grey.png", grey))
    np.testing.assert_array_equal(read, np.repeat(grey[..., None], 3, axis=2))


def test_transparency_is_composited_on_white(tmp_path):
    red_half_clear = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    read = pixels_of(save(tmp_path / "clear.png", red_half_clear))
    # 51/255 = 0.2 of black on white leaves 0.8 of white: 204.
    np.testing.assert_array_equal(read, [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]])


def test_palette_with_a_transparent_entry(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "palette.png", transparency=1)
    np.testing.assert_array_equal(
        pixels_of(tmp_path / "palette.png"), [[[10, 20, 30], [255, 255, 255]]]
    )


# One picture, many containers: each is read as its twin, a plain PNG


GREY = np.linspace(0, 255, 48).round().astype(np.uint8).reshape(6, 8)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=2)


def twin(tmp_path: Path, name: str, pixels: np.ndarray, **options) -> np.ndarray:
    """What is read of a picture that Pillow saves as `name`."""
    path = tmp_path / name
    Image.fromarray(pixels).save(path, **options)
    return pixels_of(path)


@pytest.fixture
def grey_twin(tmp_path):
    return twin(tmp_path, "grey_twin.png", GREY)


@pytest.fixture
def colour_twin(tmp_path):
    return twin(tmp_path, "colour_twin.png", COLOUR)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("is_white", [0, 1])
def test_zero_may_be_white_or_black(tmp_path, grey_twin, depth, is_white):
    stored = GREY.astype(depth) * (257 if depth == np.uint16 else 1)
    if is_white:
        stored = np.iinfo(depth).max - stored
    path = tmp_path / "zero.tif"
    # Pillow writes the numbers as they are, and reverses those of 8 bits when it reads.
    raw = Image.fromarray(
        np.iinfo(depth).max - stored if is_white and depth == np.uint8 else stored
    )
    raw.save(path, tiffinfo={262: 1 - is_white})
    assert Image.open(path).tag_v2[262] == 1 - is_white
    np.testing.assert_array_equal(pixels_of(path), grey_twin)
    np.testing.assert_array_equal(pixels_of(Image.open(path)), grey_twin)


def test_zero_is_white_in_a_camera_of_twelve_bits(tmp_path):
    save(tmp_path / "white.tif", np.array([[4095, 2048, 0]], dtype=np.uint16), tiffinfo={262: 0})
    read = read_image(tmp_path / "white.tif", pixel_range=(0, 4095))
    assert np.asarray(read)[0, :, 0].tolist() == [0, 127, 255]


def test_alpha_that_was_never_set_is_ignored(tmp_path, colour_twin, grey_twin):
    for name in ("never.png", "never.tif", "never.webp"):
        options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
        clear = np.dstack([COLOUR, np.zeros_like(GREY)])
        np.testing.assert_array_equal(twin(tmp_path, name, clear, **options), colour_twin)
    Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (8, 6))]).save(tmp_path / "la.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "la.png"), grey_twin)


def test_a_cameras_bitmap_of_32_bits(tmp_path, colour_twin):
    """A BMP with masks for four channels, as cameras write it, whose alpha is 0 everywhere."""
    bgra = np.dstack([COLOUR[..., ::-1], np.zeros_like(GREY)])[::-1].tobytes()
    height, width = GREY.shape
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(bgra), 0, 0, 0, 0)
    info += masks + bytes(108 - 40 - len(masks))
    start = 14 + len(info)
    header = struct.pack("<2sIHHI", b"BM", start + len(bgra), 0, 0, start)
    path = tmp_path / "camera.bmp"
    path.write_bytes(header + info + bgra)
    assert Image.open(path).mode == "RGBA"
    np.testing.assert_array_equal(pixels_of(path), colour_twin)


def test_a_palette_whose_every_entry_is_clear_is_looked_up(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30])
    image.save(tmp_path / "palette.png", transparency=0)
    np.testing.assert_array_equal(pixels_of(tmp_path / "palette.png"), [[[10, 20, 30]] * 2])


def png(path: Path, pixels: np.ndarray, colour_type: int, **chunks: bytes) -> Path:
    """Write a 16-bit PNG (H, W, channels) with further chunks, which Pillow cannot."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(chunk(kind.encode(), data) for kind, data in chunks.items())
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def test_sixteen_bits_of_any_channels(tmp_path, grey_twin, colour_twin):
    deep, alpha = GREY.astype(np.uint16) * 257, np.full_like(GREY, 255, dtype=np.uint16) * 257
    colour = COLOUR.astype(np.uint16) * 257
    for name, pixels, colour_type, expected in (
        ("grey", deep[..., None], 0, grey_twin),
        ("grey_alpha", np.dstack([deep, alpha]), 4, grey_twin),
        ("grey_never", np.dstack([deep, 0 * alpha]), 4, grey_twin),
        ("rgb", colour, 2, colour_twin),
        ("rgba", np.dstack([colour, alpha]), 6, colour_twin),
        ("rgba_never", np.dstack([colour, 0 * alpha]), 6, colour_twin),
    ):
        path = png(tmp_path / f"{name}.png", pixels, colour_type)
        np.testing.assert_array_equal(pixels_of(path), expected, err_msg=name)


@pytest.mark.parametrize("colour_type", [0, 2])
def test_a_clear_value_lies_on_white_at_16_bits_as_at_8(tmp_path, colour_type):
    grey = np.array([[10, 20, 255]], dtype=np.uint8)
    pixels = np.repeat(grey[..., None], 3 if colour_type else 1, axis=2)
    key = struct.pack(">H", 20 * 257) * (3 if colour_type else 1)
    path = png(tmp_path / "clear.png", pixels.astype(np.uint16) * 257, colour_type, tRNS=key)
    assert pixels_of(path)[0, :, 0].tolist() == [10, 255, 255]
    eight = Image.fromarray(pixels if colour_type else grey)
    eight.save(tmp_path / "eight.png", transparency=(20, 20, 20) if colour_type else 20)
    np.testing.assert_array_equal(pixels_of(tmp_path / "eight.png"), pixels_of(path))


def colour_files(folder: Path, colour: np.ndarray) -> dict[str, Path]:
    """16-bit colour (H, W, 3) in every container that Pillow reads, 12 bits of it used."""
    from tifffile import imwrite  # scikit-image brings it; Pillow cannot write 16-bit colour

    opaque = np.full_like(colour[..., :1], 65535)
    files = {
        "rgb": png(folder / "rgb.png", colour, 2),
        "rgba": png(folder / "rgba.png", np.dstack([colour, opaque]), 6),
        "alpha": png(folder / "alpha.png", np.dstack([colour, opaque >> 4]), 6),
    }
    for name, options in (
        ("little", {"byteorder": "<"}),
        ("big", {"byteorder": ">"}),
        ("packed", {"byteorder": ">", "compression": "zlib"}),
    ):
        files[name] = folder / f"{name}.tif"
        imwrite(files[name], colour, photometric="rgb", **options)
    files["tif_rgba"] = folder / "rgba.tif"
    four = np.dstack([colour, opaque])
    imwrite(files["tif_rgba"], four, photometric="rgb", extrasamples=["unassalpha"])
    return files


def test_colour_has_the_depth_of_its_set_as_grey_has(tmp_path):
    """Read as its three channels would be, each as a grey picture."""
    colour = np.random.default_rng(0).integers(0, 3000, (5, 7, 3), dtype=np.uint16)
    greys = [save(tmp_path / f"{i}.png", colour[..., i]) for i in range(3)]
    expected = np.stack([np.asarray(grey)[..., 0] for grey in read_images(greys)], axis=2)
    given = [np.asarray(read_image(grey, pixel_range=(500, 2000)))[..., 0] for grey in greys]
    for name, path in colour_files(tmp_path, colour).items():
        assert pixel_range_of([path]) == (0, 4095), name
        np.testing.assert_array_equal(np.asarray(read_images([path])[0]), expected, err_msg=name)
        cut = np.asarray(read_image(path, pixel_range=(500, 2000)))
        np.testing.assert_array_equal(cut, np.stack(given, axis=2), err_msg=name)
        with pytest.warns(UserWarning, match="its values are taken for 12 bits"):
            read_image(path)


def test_a_pil_image_of_deep_colour_is_what_pillow_has_of_it(tmp_path):
    colour = np.random.default_rng(0).integers(0, 65535, (5, 7, 3), dtype=np.uint16)
    image = Image.open(png(tmp_path / "rgb.png", colour, 2))
    assert pixel_range_of([image]) is None
    for _ in "first", "second":
        np.testing.assert_array_equal(pixels_of(image), colour >> 8)


def test_grey_with_alpha_keeps_its_lower_bits(tmp_path):
    grey = np.arange(0, 3000, 100, dtype=np.uint16).reshape(5, 6)
    path = png(tmp_path / "la.png", np.dstack([grey, np.full_like(grey, 65535)]), 4)
    twin = save(tmp_path / "grey.png", grey)
    first, second = (np.asarray(picture) for picture in read_images([path, twin]))
    np.testing.assert_array_equal(first, second)


def test_deep_colour_is_turned_whole(tmp_path):
    from tifffile import imwrite

    colour = np.random.default_rng(0).integers(0, 4095, (4, 6, 3), dtype=np.uint16)
    for name, tags in (("plain", []), ("turned", [(274, 3, 1, 6, True)])):
        imwrite(tmp_path / f"{name}.tif", colour, photometric="rgb", extratags=tags)
    plain, turned = (
        np.asarray(read_image(tmp_path / f"{name}.tif", pixel_range=(0, 4095)))
        for name in ("plain", "turned")
    )
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))


def test_planar_colour_of_16_bits_is_refused_and_of_8_bits_read(tmp_path):
    from tifffile import imwrite

    planes = np.moveaxis(COLOUR, 2, 0)
    imwrite(tmp_path / "8.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(pixels_of(tmp_path / "8.tif"), COLOUR)
    deep_planes = planes.astype(np.uint16) * 257
    imwrite(tmp_path / "16.tif", deep_planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(ValueError, match=r"16\.tif has its colours .*planar.* save it with inter"):
        read_image(tmp_path / "16.tif")


def test_cmyk_is_converted(tmp_path):
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    cmyk.save(tmp_path / "cmyk.tif")
    np.testing.assert_array_equal(pixels_of(tmp_path / "cmyk.tif"), pixels_of(cmyk))
    np.testing.assert_array_equal(pixels_of(cmyk), COLOUR)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        *((suffix, kind) for suffix in ("png", "tif") for kind in ("colour", "grey", "16 bits")),
        ("webp", "colour"),
    ],
)
def test_every_orientation_of_every_container(tmp_path, orientation, suffix, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = {"colour": COLOUR, "grey": GREY, "16 bits": GREY.astype(np.uint16) * 257}[kind]
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"turned.{suffix}", pixels, exif=exif, **options)
    upright = np.repeat(GREY[..., None], 3, axis=2) if kind != "colour" else COLOUR
    turned = np.rot90(upright, {3: 2, 7: 2, 6: 3, 8: 1}.get(orientation, 0))
    if orientation in (5, 7):
        turned = turned.transpose(1, 0, 2)
    expected = {2: turned[:, ::-1], 4: turned[::-1]}.get(orientation, turned)
    np.testing.assert_array_equal(pixels_of(path), expected)


# The depth of pixels is that of a set


def deep(path: Path, *values: float, kind=np.uint16) -> Path:
    return save(path, np.array([values], dtype=kind))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    ("brightest", "high"),
    [(200, 255), (256, 1023), (1024, 4095), (4096, 16383), (20000, 65535), (65535, 65535)],
)
def test_the_smallest_usual_depth_holds_the_brightest_picture(tmp_path, suffix, brightest, high):
    dim = deep(tmp_path / f"dim.{suffix}", 0, 3, 100)
    bright = deep(tmp_path / f"bright.{suffix}", 0, 0, brightest)
    assert pixel_range_of([dim, bright]) == (0, high)
    first, second = (np.asarray(picture)[0, :, 0] for picture in read_images([dim, bright]))
    assert first.tolist() == [0, round(3 * 255 / high), round(100 * 255 / high)]
    assert second[2] == round(brightest * 255 / high)


def test_pictures_of_8_bits_have_no_range_and_are_left_alone(tmp_path):
    plain = save(tmp_path / "plain.png", GREY)
    assert pixel_range_of([plain]) is None
    twelve = deep(tmp_path / "deep.png", 0, 4095)
    assert pixel_range_of([plain, twelve]) == (0, 4095)
    np.testing.assert_array_equal(np.asarray(read_images([plain, twelve])[0])[..., 0], GREY)


def test_a_single_picture_that_is_guessed_is_mentioned(tmp_path):
    path = deep(tmp_path / "deep.png", 0, 2048, 4000)
    with pytest.warns(UserWarning, match=r"deep\.png: its values are taken for 12 bits"):
        assert np.asarray(read_image(path))[0, :, 0].tolist() == [0, 128, 249]


def test_a_range_is_applied_and_what_is_beyond_is_cut(tmp_path):
    path = deep(tmp_path / "deep.png", 50, 100, 150, 200, 250)
    read = read_image(path, pixel_range=(100, 200))
    assert np.asarray(read)[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    with pytest.raises(ValueError, match=r"must rise, low before high, .* found \(3, 3\)"):
        read_image(path, pixel_range=(3, 3))


@pytest.mark.parametrize("given", [(4095, 0), (0, np.nan), (0, np.inf), (0,), "ab"])
def test_a_range_that_does_not_rise_is_refused_before_reading(tmp_path, given):
    with pytest.raises(ValueError, match="must rise, low before high"):
        one_pixel_range(given, [tmp_path / "missing.png"])
    with pytest.raises(ValueError, match="must rise, low before high"):
        read_image(Image.new("L", (2, 2)), pixel_range=given)


def test_a_range_beyond_which_much_lies_is_mentioned(tmp_path):
    paths = [
        deep(tmp_path / "a.png", *[50] * 99, 900),
        deep(tmp_path / "b.png", *[50] * 98, 900, 0),
    ]
    assert one_pixel_range((0, 900), paths) == (0, 900)
    paths.append(deep(tmp_path / "c.png", *[50] * 98, 900, 901))
    with pytest.warns(UserWarning, match=r"range 0 100, .* in 1 of 3 pictures \(\S*c\.png\)"):
        assert one_pixel_range((0, 100), paths) == (0, 100)
    with pytest.raises(ValueError, match="there are none: leave --pixel-range"):
        one_pixel_range((0, 900), [save(tmp_path / "plain.png", GREY)])


def test_what_a_png_says_of_its_bits_decides(tmp_path):
    path = png(tmp_path / "said.png", np.full((1, 1, 1), 512, np.uint16), 0, sBIT=b"\x0a")
    assert pixel_range_of([path]) == (0, 1023)
    assert pixels_of(path)[0, 0, 0] == round(512 * 255 / 1023)
    assert pixel_range_of([path, deep(tmp_path / "more.png", 3000)]) == (0, 4095)


def test_values_above_what_a_png_says_have_16_bits(tmp_path):
    """As the standard has it: 12 significant bits at the upper end of 16."""
    values = np.array([[0, 8000, 32768, 65520]], dtype=np.uint16)
    path = png(tmp_path / "left.png", values[..., None], 0, sBIT=b"\x0c")
    twin = save(tmp_path / "twin.png", values)
    np.testing.assert_array_equal(pixels_of(path), pixels_of(twin))
    assert pixels_of(path)[0, :, 0].tolist() == [0, 31, 128, 255]
    assert pixel_range_of([path, deep(tmp_path / "more.png", 3000)]) == (0, 65535)


def test_what_a_pgm_says_of_its_maximum_decides(tmp_path):
    path = tmp_path / "said.pgm"
    path.write_bytes(b"P5 2 1 1023\n" + struct.pack(">HH", 512, 1023))
    assert pixels_of(path)[0, :, 0].tolist() == [128, 255]


def test_floats_from_0_to_1(tmp_path):
    path = deep(tmp_path / "float.tiff", 0.0, 0.5, 1.0, kind=np.float32)
    assert pixels_of(path)[0, :, 0].tolist() == [0, 128, 255]
    dim = deep(tmp_path / "dim.tiff", 0.0, 0.1, kind=np.float32)
    assert pixels_of(dim)[0, 1, 0] == 26


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.0, 50.0, 255.0], np.float32),
        ([-1.0, 0.0, 1.0], np.float32),
        ([0, 100_000, 200_000], np.int32),
        ([-5, 0, 200], np.int32),
    ],
)
def test_values_that_no_rule_covers_need_a_range(tmp_path, values, kind):
    path = deep(tmp_path / "odd.tiff", *values, kind=kind)
    with pytest.raises(ValueError, match=r"odd\.tiff has values from .*--pixel-range LOW HIGH"):
        read_image(path)
    with pytest.raises(ValueError, match="--pixel-range LOW HIGH"):
        pixel_range_of([path])
    low, high = values[0], values[-1]
    read = np.asarray(read_image(path, pixel_range=(low, high)))[0, :, 0]
    assert read.tolist() == [0, round((values[1] - low) / (high - low) * 255), 255]


def test_unsigned_integers_of_32_bits(tmp_path):
    from tifffile import imwrite  # scikit-image brings it; Pillow writes signed ones only

    path = tmp_path / "big.tif"
    imwrite(path, np.array([[0, 2**31, 2**32 - 1]], dtype=np.uint32))
    read = np.asarray(read_image(path, pixel_range=(0, 2**32 - 1)))[0, :, 0]
    assert read.tolist() == [0, 128, 255]


def test_floats_beside_integers_have_no_common_range(tmp_path):
    paths = [deep(tmp_path / "a.tif", 0.5, kind=np.float32), deep(tmp_path / "b.tif", 7)]
    with pytest.raises(ValueError, match=r"b\.tif has integers, other pictures .*--pixel-range"):
        pixel_range_of(paths)


def test_a_broken_picture_does_not_hide_the_range_of_the_others(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    nan = deep(tmp_path / "nan.tif", np.nan, kind=np.float32)
    paths = [tmp_path / "broken.png", nan, deep(tmp_path / "a.png", 999)]
    assert pixel_range_of(paths) == (0, 1023)
    assert one_pixel_range((0, 999), paths) == (0, 999)


def test_what_is_far_from_square():
    assert is_far_from_square((200, 5000)) and is_far_from_square((601, 200))
    assert not is_far_from_square((600, 200))


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "black.jpg")
    assert pixels_of(tmp_path / "black.jpg").max() < 8


def test_exif_orientation_is_applied_to_files_and_to_pil_images(tmp_path):
    image = Image.new("RGB", (4, 2), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    for source in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        read = pixels_of(source)
        assert read.shape == (4, 2, 3)
        assert read[0, 1].tolist() == [255, 255, 255]


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    for suffix in ("gif", "webp"):
        options = {"lossless": True} if suffix == "webp" else {}
        path = tmp_path / f"moving.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        assert pixels_of(path)[0, 0].tolist() == [255, 0, 0]


def test_one_pixel(tmp_path):
    path = save(tmp_path / "one.png", np.full((1, 1), 9, dtype=np.uint8))
    np.testing.assert_array_equal(pixels_of(path), [[[9, 9, 9]]])


def test_pillows_guard_does_not_stop_large_pictures_and_is_put_back(tmp_path, monkeypatch):
    # 20000 x 20000 pixels read in the same way, but take 2 GB and half a minute: lower the guard.
    path = save(tmp_path / "large.png", np.zeros((50, 50), dtype=np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    assert read_image(path).size == (50, 50)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_reading_in_threads_keeps_pillows_guard(tmp_path):
    path = save(tmp_path / "small.png", np.zeros((4, 4), dtype=np.uint8))
    before = Image.MAX_IMAGE_PIXELS
    threads = [threading.Thread(target=read_image, args=(path,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_callers_image_is_left_alone():
    image = Image.new("RGB", (2, 2), "red")
    read_image(image).putpixel((0, 0), (0, 0, 0))
    assert image.getpixel((0, 0)) == (255, 0, 0)


# What cannot be read


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.png"):
        read_image(tmp_path / "nowhere.png")


def test_folder_instead_of_a_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder; expected one picture"):
        read_image(tmp_path)


def test_empty_file(tmp_path):
    (tmp_path / "void.png").touch()
    with pytest.raises(ValueError, match=r"void\.png is empty \(0 bytes\)"):
        read_image(tmp_path / "void.png")


def test_not_a_picture(tmp_path):
    (tmp_path / "notes.txt").write_text("no pixels here")
    with pytest.raises(ValueError, match=r"notes\.txt is not a picture .* convert it to PNG"):
        read_image(tmp_path / "notes.txt")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_truncated_file(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"cut.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"cut\.{suffix} is (damaged|not a picture)"):
        read_image(path)


def test_corrupt_bytes_inside(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = save(tmp_path / "rotten.png", noise)
    data = bytearray(path.read_bytes())
    data[200:400] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"rotten\.png is damaged"):
        read_image(path)


def test_more_than_a_gigapixel_is_refused_before_decoding(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    with pytest.raises(ValueError, match=r"bomb\.png is 40000 x 40000 pixels, .* 1 gigapixel"):
        read_image(path)


def test_nan_pixels(tmp_path):
    path = save(tmp_path / "nan.tiff", np.array([[0.0, np.nan]], dtype=np.float32))
    with pytest.raises(ValueError, match=r"nan\.tiff holds NaN"):
        read_image(path)


def test_unsupported_colour_space_and_type():
    with pytest.raises(ValueError, match="colour mode La, which has no simple way to RGB"):
        read_image(Image.new("La", (2, 2)))
    with pytest.raises(TypeError, match=r"found ndarray; wrap an array with PIL\.Image\.fromarray"):
        read_image(np.zeros((2, 2)))


# Folders


def test_folder_is_listed_by_name_without_hidden_files(tmp_path):
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.JPG", "b.png"]


def test_folder_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="is a file"):
        list_images(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="no images in"):
        list_images(tmp_path)
    (tmp_path / "good").mkdir()
    with pytest.raises(ValueError, match="sub-folders, name one of them: good"):
        list_images(tmp_path)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_is_read_is_no_part_of_what_was_given(mode):
    given = Image.new(mode, (2, 2), "black")
    read_image(given).paste("white", (0, 0, 2, 2))
    assert given.getpixel((0, 0)) == Image.new(mode, (1, 1), "black").getpixel((0, 0))
