"""A picture is read right, or the message names its file: many containers, depths and damages."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tifffile import imwrite  # scikit-image brings it; it writes what Pillow cannot

from anovl.images import (
    ImageWarning,
    list_images,
    pixel_range_of,
    read_header,
    read_image,
    read_images,
)

GREY = np.linspace(0, 255, 48).round().astype(np.uint8).reshape(6, 8)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=2)
GREY_RGB = np.repeat(GREY[..., None], 3, axis=2)


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def deep(path: Path, *values: float, kind=np.uint16) -> Path:
    return save(path, np.array([values], dtype=kind))


def pixels_of(source, **options) -> np.ndarray:
    image = read_image(source, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def png(path: Path, pixels: np.ndarray, colour_type: int, **chunks: bytes) -> Path:
    """Write a 16-bit PNG (H, W, channels) with further chunks, which Pillow cannot."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
        + b"".join(chunk(kind.encode(), data) for kind, data in chunks.items())
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


# 8 bits


def test_transparency_lies_on_white(tmp_path):
    red_half_clear = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    read = pixels_of(save(tmp_path / "clear.png", red_half_clear))
    # 51/255 = 0.2 of black on white leaves 0.8 of white: 204.
    np.testing.assert_array_equal(read, [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]])


@pytest.mark.parametrize(("clear", "second"), [(1, [255] * 3), (None, [40, 50, 60])])
def test_a_palette_is_looked_up(tmp_path, clear, second):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "palette.png", transparency=clear)
    np.testing.assert_array_equal(pixels_of(tmp_path / "palette.png"), [[[10, 20, 30], second]])


def test_alpha_that_was_never_set_is_ignored(tmp_path):
    clear = np.dstack([COLOUR, np.zeros_like(GREY)])
    for name in ("never.png", "never.tif", "never.webp"):
        options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
        np.testing.assert_array_equal(pixels_of(save(tmp_path / name, clear, **options)), COLOUR)
    Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (8, 6))]).save(tmp_path / "la.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "la.png"), GREY_RGB)


def test_grey_and_cmyk_are_converted(tmp_path):
    np.testing.assert_array_equal(pixels_of(save(tmp_path / "grey.png", GREY)), GREY_RGB)
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "cmyk.tif")
    np.testing.assert_array_equal(pixels_of(tmp_path / "cmyk.tif"), COLOUR)
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "black.jpg")
    assert pixels_of(tmp_path / "black.jpg").max() < 8


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
    upright = COLOUR if kind == "colour" else GREY_RGB
    turned = np.rot90(upright, {3: 2, 7: 2, 6: 3, 8: 1}.get(orientation, 0))
    if orientation in (5, 7):
        turned = turned.transpose(1, 0, 2)
    expected = {2: turned[:, ::-1], 4: turned[::-1]}.get(orientation, turned)
    np.testing.assert_array_equal(pixels_of(path), expected)
    if suffix == "png":
        np.testing.assert_array_equal(pixels_of(Image.open(path)), expected)
    assert read_header(path).size == expected.shape[1::-1]


def test_of_several_pages_the_first_is_read_with_a_warning(tmp_path):
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    for suffix in ("gif", "webp", "tif"):
        path = tmp_path / f"pages.{suffix}"
        options = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        with pytest.warns(ImageWarning, match=f"pages.{suffix}") as caught:
            assert pixels_of(path)[0, 0].tolist() == [255, 0, 0]
        assert caught[0].message.path == path and read_header(path).pages == 2


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_is_read_is_no_part_of_what_was_given(mode):
    given = Image.new(mode, (2, 2), "black")
    read_image(given).paste("white", (0, 0, 2, 2))
    assert given.getpixel((0, 0)) == Image.new(mode, (1, 1), "black").getpixel((0, 0))


# Grey of more than 8 bits: the depth is that of a set


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
    np.testing.assert_array_equal(np.asarray(read_images([plain, twelve])[0]), GREY_RGB)


def test_a_depth_that_is_guessed_from_one_picture_is_mentioned(tmp_path):
    path = deep(tmp_path / "deep.png", 0, 2048, 4000)
    with pytest.warns(ImageWarning, match=r"deep\.png.* 4095"):
        assert pixels_of(path)[0, :, 0].tolist() == [0, 128, 249]


def test_values_beyond_a_range_are_cut_and_mentioned_where_they_are_many(tmp_path):
    path = deep(tmp_path / "deep.png", 50, 100, 150, 200, 250)
    with pytest.warns(ImageWarning, match=r"deep\.png.*100 to 200"):
        read = pixels_of(path, pixel_range=(100, 200))
    assert read[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    few = deep(tmp_path / "few.png", *[50] * 99, 900)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels_of(few, pixel_range=(0, 100))


@pytest.mark.parametrize("given", [(4095, 0), (3, 3), (0, np.nan), (0, np.inf)])
def test_a_range_must_rise(given):
    with pytest.raises(ValueError, match="--pixel-range"):
        read_image(Image.new("L", (2, 2)), pixel_range=given)


def test_the_depth_that_a_file_names_decides(tmp_path):
    path = png(tmp_path / "said.png", np.full((1, 1, 1), 512, np.uint16), 0, sBIT=b"\x0a")
    assert pixel_range_of([path]) == (0, 1023)
    assert pixels_of(path)[0, 0, 0] == round(512 * 255 / 1023)
    assert pixel_range_of([path, deep(tmp_path / "more.png", 3000)]) == (0, 4095)
    (tmp_path / "said.pgm").write_bytes(b"P5 2 1 1023\n" + struct.pack(">HH", 512, 1023))
    assert pixels_of(tmp_path / "said.pgm")[0, :, 0].tolist() == [128, 255]


def test_values_above_the_depth_that_a_png_names_have_16_bits(tmp_path):
    """As the standard has it: 12 significant bits at the upper end of 16."""
    values = np.array([[0, 8000, 32768, 65520]], dtype=np.uint16)
    path = png(tmp_path / "left.png", values[..., None], 0, sBIT=b"\x0c")
    assert pixels_of(path)[0, :, 0].tolist() == [0, 31, 128, 255]
    assert pixel_range_of([path, deep(tmp_path / "more.png", 3000)]) == (0, 65535)


def test_a_bad_picture_does_not_hide_the_range_of_the_others(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    odd = deep(tmp_path / "odd.tif", 100_000, kind=np.int32)
    files = [tmp_path / "broken.png", odd, deep(tmp_path / "a.png", 999)]
    assert pixel_range_of(files) == (0, 1023)


# 16-bit colour, and pictures that could be read in two ways


@pytest.mark.parametrize("name", ["rgb.png", "little.tif", "big.tif", "packed.tif"])
def test_16_bit_colour_needs_its_range(tmp_path, name):
    path = tmp_path / name
    options = {"big.tif": {"byteorder": ">"}, "packed.tif": {"compression": "zlib"}}
    if name == "rgb.png":
        png(path, COLOUR.astype(np.uint16) * 257, 2)
    else:
        imwrite(path, COLOUR.astype(np.uint16) * 257, photometric="rgb", **options.get(name, {}))
    for given in (None, (0, 4095)):
        with pytest.raises(ValueError, match=rf"{name}.*--pixel-range 0 65535"):
            read_image(path, pixel_range=given)
    for given in ((0, 65535), [0.0, 65535.0]):
        np.testing.assert_array_equal(pixels_of(path, pixel_range=given), COLOUR)


def refused(folder: Path) -> dict[str, Path]:
    """Files that could be read in two ways, or that Pillow reads wrong."""
    wide, planes = GREY.astype(np.uint16) * 257, np.moveaxis(COLOUR, 2, 0)
    files = {
        "clear value": png(folder / "key.png", wide[..., None], 0, tRNS=b"\0\0"),
        "grey and alpha": png(folder / "la.png", np.dstack([wide, wide]), 4),
        "colour and alpha": png(folder / "rgba.png", np.dstack([wide] * 4), 6),
        "white zero": save(folder / "white.tif", wide, tiffinfo={262: 0}),
        "floats": deep(folder / "float.tif", 0.0, 0.5, kind=np.float32),
        "negative": deep(folder / "negative.tif", -5, 200, kind=np.int32),
        "32 bits": deep(folder / "32.tif", 0, 100_000, kind=np.int32),
    }
    for name, pixels, options in (
        ("planar 8", planes, {"photometric": "rgb", "planarconfig": "separate"}),
        ("planar 16", planes.astype(np.uint16), {"photometric": "rgb", "planarconfig": "separate"}),
        ("cmyk 16", np.dstack([wide] * 4), {"photometric": "separated"}),
        ("unsigned 32", np.full((2, 2), 2**32 - 1, np.uint32), {}),
    ):
        imwrite(files.setdefault(name, folder / f"{name}.tif"), pixels, **options)
    return files


def test_pictures_that_could_be_read_in_two_ways_are_refused_by_name(tmp_path):
    for what, path in refused(tmp_path).items():
        for given in (None, (0, 65535)):
            with pytest.raises(ValueError, match=path.name):
                read_image(path, pixel_range=given)
                pytest.fail(what)
        assert pixel_range_of([path]) is None


# Files that cannot be read


def test_missing_empty_and_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        read_image(tmp_path)
    (tmp_path / "void.png").touch()
    (tmp_path / "notes.txt").write_text("no pixels here")
    for name in ("void.png", "notes.txt"):
        with pytest.raises(ValueError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(TypeError):
        read_image(np.zeros((2, 2)))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_damaged_files_are_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"cut.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"cut\.{suffix}"):
        read_image(path)


def test_more_than_a_gigapixel_is_refused_before_decoding(tmp_path):
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    with pytest.raises(ValueError, match=r"bomb\.png"):
        read_image(path)


def test_pillows_guard_does_not_stop_large_pictures_and_is_put_back(tmp_path, monkeypatch):
    # 20000 x 20000 pixels read in the same way, but take 2 GB and half a minute: lower the guard.
    path = save(tmp_path / "large.png", np.zeros((50, 50), dtype=np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    threads = [threading.Thread(target=read_image, args=(path,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_image(path).size == (50, 50)
    assert Image.MAX_IMAGE_PIXELS == 100


# Folders


def test_a_folder_is_listed_by_name_without_hidden_files(tmp_path):
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.JPG", "b.png"]


def test_a_folder_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "good").mkdir()
    with pytest.raises(ValueError, match=f"{tmp_path.name} .*good"):
        list_images(tmp_path)
