"""Any picture a user may have: it reads, or the message names the file and the remedy."""

from __future__ import annotations

import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anovl.images import list_images, read_image, read_mask


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


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 257 * 7, 65535], [0, 7, 255]),  # 16 bits: full scale is 65535
        ([0, 2048, 4095], [0, 128, 255]),  # a 12-bit camera in a 16-bit file
        ([0, 100, 200], [0, 100, 200]),  # 8-bit values in a 16-bit file
    ],
)
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix, values, expected):
    path = save(tmp_path / f"deep.{suffix}", np.array([values], dtype=np.uint16))
    np.testing.assert_array_equal(pixels_of(path)[0, :, 0], expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 50.0, 255.0], [0, 50, 255]),
        ([-1.0, 0.0, 3.0], [0, 64, 255]),  # its own range: 0 lies a quarter of the way
        ([0.0, 500.0, 1000.0], [0, 128, 255]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
    ],
)
def test_float_tiff(tmp_path, values, expected):
    path = save(tmp_path / "float.tiff", np.array([values], dtype=np.float32))
    np.testing.assert_array_equal(pixels_of(path)[0, :, 0], expected)


def test_thirty_two_bit_integers(tmp_path):
    path = save(tmp_path / "int.tiff", np.array([[0, 100_000, 200_000]], dtype=np.int32))
    np.testing.assert_array_equal(pixels_of(path)[0, :, 0], [0, 128, 255])


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


# Masks


def test_mask_is_non_zero_not_bright(tmp_path):
    path = save(tmp_path / "classes.png", np.array([[0, 1, 9, 255]], dtype=np.uint8))
    mask = read_mask(path)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, [[False, True, True, True]])


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_mask_modes_and_opaque_alpha(tmp_path, mode):
    image = Image.new("L", (3, 2), 0)
    image.putpixel((1, 0), 255)
    image.convert(mode).save(tmp_path / "mask.png")
    expected = np.zeros((2, 3), dtype=bool)
    expected[0, 1] = True
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), expected)


def test_mask_of_another_size_names_both_files_and_sizes(tmp_path):
    path = save(tmp_path / "mask.png", np.zeros((4, 6), dtype=np.uint8))
    assert read_mask(path, shape=(4, 6)).shape == (4, 6)
    with pytest.raises(ValueError, match=r"mask\.png is 6 x 4 but 007\.png is 4 x 6"):
        read_mask(path, shape=(6, 4), image_path="007.png")


def test_jpeg_mask_is_refused(tmp_path):
    path = save(tmp_path / "mask.jpg", np.zeros((8, 8), dtype=np.uint8))
    with pytest.raises(ValueError, match="lossy masks are not exact"):
        read_mask(path)


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
