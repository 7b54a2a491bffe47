"""A picture is read right, or the message names its file: many containers, depths and damages."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from tifffile import imwrite  # scikit-image brings it; it writes what Pillow cannot

from anovl.images import (
    ImageWarning,
    list_images,
    pixel_range_of,
    read_header,
    read_image,
    read_images,
    why_no_image,
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


@pytest.mark.filterwarnings("ignore:.*bit depth")
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


@pytest.mark.filterwarnings("ignore:.*bit depth")
def test_values_above_the_depth_that_a_png_names_have_16_bits(tmp_path):
    """As the standard has it: 12 significant bits at the upper end of 16."""
    values = np.array([[0, 8000, 32768, 65520]], dtype=np.uint16)
    path = png(tmp_path / "left.png", values[..., None], 0, sBIT=b"\x0c")
    assert pixels_of(path)[0, :, 0].tolist() == [0, 31, 128, 255]
    assert pixel_range_of([path, deep(tmp_path / "more.png", 3000)]) == (0, 65535)


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ([65535, 65000, 4095], ("2.png", "1 of 3", "up to 4095", "up to 65535")),
        ([4095, 3000, 60000], ("2.png", "1 of 3", "up to 60000", "up to 4095")),
        ([1023, 4095], ("0.png", "1 of 2")),
        ([40000, 30000, 17000], ()),
        ([4095, 1500], ()),
    ],
)
def test_pictures_of_another_depth_than_the_others_are_named(tmp_path, values, facts):
    paths = [deep(tmp_path / f"{i}.png", 0, value) for i, value in enumerate(values)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_images(paths)
    assert len(caught) == bool(facts)
    for one in caught:
        assert all(fact in str(one.message) for fact in (*facts, "--pixel-range"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_images(paths, pixel_range=(0, 65535))


def test_a_depth_that_files_name_counts_and_not_their_values(tmp_path):
    names = (("ten", b"\x0a"), ("twelve", b"\x0c"))
    ten, twelve = (
        png(tmp_path / f"{name}.png", np.full((1, 1, 1), 900, np.uint16), 0, sBIT=bits)
        for name, bits in names
    )
    with pytest.warns(ImageWarning, match=r"ten\.png.* 1023, .* 4095"):
        assert pixel_range_of([ten, twelve]) == (0, 4095)


def test_pillow_has_stretched_jpeg_2000_already(tmp_path):
    path = deep(tmp_path / "dim.jp2", 0, 100)
    assert pixel_range_of([path]) == (0, 65535)


def test_a_bad_picture_does_not_hide_the_range_of_the_others(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    odd = deep(tmp_path / "odd.tif", 100_000, kind=np.int32)
    files = [tmp_path / "broken.png", odd, deep(tmp_path / "a.png", 999)]
    assert pixel_range_of(files) == (0, 1023)


# Colour profiles


def icc(space: bytes, connection: bytes, **tags: bytes) -> bytes:
    """The bytes of a colour profile of version 2."""
    start, table, data = 132 + 12 * len(tags), b"", b""
    for name, tag in tags.items():
        table += struct.pack(">4sII", name.encode(), start + len(data), len(tag))
        data += tag + bytes(-len(tag) % 4)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    size = struct.pack(">I", start + len(data))
    header = size + bytes(4) + struct.pack(">I", 2 << 24) + kind + space + connection
    header = header.ljust(36, b"\0") + b"acsp".ljust(32, b"\0") + WHITE[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


WHITE = xyz(0.9642, 1, 0.8249)
PRIMARIES = {  # red, green and blue, adapted to D50
    "sRGB": ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141)),
    "Adobe": (
        (0.60974, 0.31111, 0.01947),
        (0.20528, 0.62567, 0.06087),
        (0.14919, 0.06322, 0.74457),
    ),
}


def colour_profile(name: str, curve: bytes) -> bytes:
    colours = {f"{c}XYZ": xyz(*own) for c, own in zip("rgb", PRIMARIES[name], strict=True)}
    return icc(b"RGB ", b"XYZ ", **colours, **{f"{c}TRC": curve for c in "rgb"}, wtpt=WHITE)


def table(values: np.ndarray) -> bytes:
    """A curve of numbers from 0 to 1."""
    numbers = (65535 * values).round().astype(">u2").tobytes()
    return b"curv\0\0\0\0" + struct.pack(">I", len(values)) + numbers


LEVELS = np.linspace(0, 1, 32)
LIGHT = np.where(LEVELS <= 0.04045, LEVELS / 12.92, ((LEVELS + 0.055) / 1.055) ** 2.4)
ADOBE = colour_profile("Adobe", gamma(2.19921875))
GREY_18 = icc(b"GRAY", b"XYZ ", kTRC=gamma(1.8), wtpt=WHITE)
SRGB = {
    "of Pillow": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "of another": colour_profile("sRGB", table(LIGHT)),  # of a few numbers: off by 1 of 255
}


def srgb_of(linear: np.ndarray) -> np.ndarray:
    """The standard's curve, from light 0...1 to 0...255."""
    light = linear.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
def test_other_colour_profiles_are_converted_to_srgb(tmp_path, suffix):
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100}}.get(suffix, {})
    path = save(tmp_path / f"adobe.{suffix}", COLOUR, icc_profile=ADOBE, **options)
    plain = pixels_of(save(tmp_path / f"plain.{suffix}", COLOUR, **options)) / 255
    adobe, srgb = (np.array(PRIMARIES[name]).T for name in ("Adobe", "sRGB"))
    expected = srgb_of(plain**2.19921875 @ (np.linalg.inv(srgb) @ adobe).T)
    read = pixels_of(path)
    assert abs(expected - 255 * plain).max() > 20
    assert abs(read - expected).max() < 2.5
    once = read_image(path)
    np.testing.assert_array_equal(pixels_of(once), read)
    assert "icc_profile" not in once.info


def test_grey_has_profiles_of_grey_or_of_colour(tmp_path):
    grey = save(tmp_path / "grey.png", GREY, icc_profile=GREY_18)
    expected = srgb_of((GREY / 255) ** 1.8)
    assert abs(pixels_of(grey)[..., 1] - expected).max() < 1.5
    deep_grey = save(tmp_path / "deep.png", GREY.astype(np.uint16) * 257, icc_profile=GREY_18)
    np.testing.assert_array_equal(pixels_of(deep_grey), pixels_of(grey))
    colour = save(tmp_path / "colour.png", GREY, icc_profile=ADOBE)
    assert abs(pixels_of(colour)[..., 1] - srgb_of((GREY / 255) ** 2.19921875)).max() < 1.5


def test_cmyk_is_converted_by_its_profile(tmp_path):
    """A profile of other inks: black is black, and each other one is red."""
    white, red, black = b"\xff\x80\x80", bytes([136, 208, 195]), b"\0\x80\x80"  # L, a and b
    corners = (white + black) + (red + black) * 7  # the last ink varies fastest
    unit = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    ramps = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unit + ramps * 4 + corners + ramps * 3
    profile = icc(b"CMYK", b"Lab ", A2B0=lut, wtpt=WHITE)
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], dtype=np.uint8)
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "ink.tif", icc_profile=profile)
    expected = [[255, 255, 255], [255, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(pixels_of(tmp_path / "ink.tif")[0], expected, atol=12)


@pytest.mark.parametrize("profile", SRGB)
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
def test_pictures_with_a_profile_of_srgb_are_left_alone(tmp_path, suffix, profile):
    for name, pixels in (("colour", COLOUR), ("grey", GREY), ("clear", np.dstack([COLOUR, GREY]))):
        if (suffix, name) != ("jpg", "clear"):
            path = save(tmp_path / f"{name}.{suffix}", pixels)
            same = save(tmp_path / f"same-{name}.{suffix}", pixels, icc_profile=SRGB[profile])
            assert Image.open(same).info["icc_profile"] == SRGB[profile]
            np.testing.assert_array_equal(pixels_of(same), pixels_of(path))


@pytest.mark.parametrize(
    ("mode", "profile"),
    [("RGB", b"no profile"), ("RGB", GREY_18), ("CMYK", ADOBE), ("RGB", ADOBE[:200])],
)
def test_profiles_that_cannot_be_used_are_named(tmp_path, mode, profile):
    picture = Image.fromarray(COLOUR).convert(mode)
    picture.save(tmp_path / "odd.tif", icc_profile=profile)
    picture.save(tmp_path / "plain.tif")
    with pytest.warns(ImageWarning, match=r"odd\.tif.*profile") as caught:
        read = pixels_of(tmp_path / "odd.tif")
    assert len(caught) == 1
    np.testing.assert_array_equal(read, pixels_of(tmp_path / "plain.tif"))


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


def test_sgi_of_16_bits_is_not_mistaken_for_8(tmp_path):
    for kind, pixels in (("grey", GREY), ("colour", COLOUR)):
        path = save(tmp_path / f"{kind}.sgi", pixels, bpc=2)
        with pytest.raises(ValueError, match=path.name):
            read_image(path)


# Files that cannot be read


def fits() -> bytes:
    """One pixel of 16 bits; its number is 32768 more than the one that is stored."""
    cards = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": 1, "NAXIS2": 1, "BZERO": 32768}
    header = "".join(f"{name:8}= {value:>20}".ljust(80) for name, value in cards.items()) + "END"
    return header.ljust(2880).encode() + bytes(2880)


def test_missing_empty_and_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        read_image(tmp_path)
    (tmp_path / "void.png").touch()
    (tmp_path / "notes.txt").write_text("no pixels here")
    (tmp_path / "sky.fits").write_bytes(fits())
    Image.new("L", (4, 4)).save(tmp_path / "page.eps")
    assert Image.open(tmp_path / "sky.fits").size == (1, 1), "Pillow opens it, without its scale"
    for name in ("void.png", "notes.txt", "sky.fits", "page.eps"):
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


def test_every_ending_of_a_picture_that_pillow_can_write_is_read(tmp_path):
    known = Image.registered_extensions().items()
    pictures = {
        end
        for end, kind in known
        if kind in Image.SAVE and Image.MIME.get(kind, "").startswith("image/")
    }
    assert {".jfif", ".jpe", ".pnm", ".jp2", ".tga", ".mpo"} < pictures
    for end in pictures - {".palm", ".pfm", ".xbm"}:
        Image.new("RGB", (16, 16)).save(tmp_path / f"a{end}")
    Image.new("1", (16, 16)).save(tmp_path / "a.xbm")
    for end in (".pdf", ".mpg", ".h5", ".eps", ".fits", ".txt", ".mp4", ""):
        (tmp_path / f"b{end}").write_bytes(b"...")
    found = list_images(tmp_path)
    assert {path.suffix for path in found} == pictures - {".palm", ".pfm"}
    sizes = {path.suffix: read_image(path).size for path in found}
    assert sizes.pop(".icns")[0] >= 16 and set(sizes.values()) == {(16, 16)}


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.PDF", "no pictures"), ("a.mp4", "no pictures"), ("a.heic", "PNG"), ("a.cr2", "PNG")],
)
def test_files_that_are_not_read_are_called_what_they_are(name, said):
    what = why_no_image(Path(name))
    assert Path(name).suffix.lower() in what and said in what and not why_no_image(Path("a.JFIF"))


def test_a_folder_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "good").mkdir()
    with pytest.raises(ValueError, match=f"{tmp_path.name} .*good"):
        list_images(tmp_path)
