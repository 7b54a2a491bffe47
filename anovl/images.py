"""From a file to pixels: any common picture becomes 8-bit RGB, any mask becomes booleans."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 10**9
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm")

_BIT_DEPTHS = (8, 10, 12, 14, 16)
_pillow_guard = threading.Lock()


def read_image(source: str | Path | Image.Image) -> Image.Image:
    """Read a picture as an 8-bit RGB PIL image, whatever its mode on disk.

    Grey, palette, CMYK and animated pictures (first frame) are converted; EXIF orientation is
    applied; transparency is composited on white. Values of more than 8 bits are scaled, never
    clipped: integers by the smallest usual bit depth (8, 10, 12, 14, 16) that holds the largest
    value, floats from [0, 1] or [0, 255], anything beyond by its own range. The limit is
    1 gigapixel; decoding needs about 4 bytes a pixel.

    Raises FileNotFoundError for a missing file, ValueError for a folder, for an empty, damaged or
    oversized file, and for one that is not a picture.

    >>> read_image(Image.new("L", (3, 2), color=7)).getpixel((0, 0))
    (7, 7, 7)
    >>> read_image(Image.new("RGBA", (1, 1), color=(255, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if isinstance(source, Image.Image):
        return _to_rgb(ImageOps.exif_transpose(source), name="the given PIL image")
    if not isinstance(source, (str, Path)):
        raise TypeError(
            f"expected a path or a PIL image, found {type(source).__name__}; "
            "wrap an array with PIL.Image.fromarray"
        )
    return _to_rgb(_decode(Path(source)), name=str(source))


def read_mask(
    path: str | Path,
    *,
    shape: tuple[int, int] | None = None,
    image_path: str | Path | None = None,
) -> np.ndarray:
    """Read a defect mask as a bool array (H, W): every non-zero pixel is defect.

    Non-zero rather than bright, because VisA's masks hold class indices 1…9. A transparency channel
    is ignored. With `shape` (H, W) the mask must have its image's size; `image_path` names the
    image in the message. Raises as `read_image` does, and ValueError for a JPEG mask, whose
    compression turns clean background into non-zero pixels.
    """
    image = _decode(Path(path))
    if image.format == "JPEG":
        raise ValueError(f"{path} is a JPEG: lossy masks are not exact; save the mask as PNG")
    pixels = np.asarray(image)
    if pixels.ndim == 3:
        has_alpha = pixels.shape[2] in (2, 4)
        pixels = pixels[..., : pixels.shape[2] - has_alpha].any(axis=2)
    mask = pixels != 0
    if shape is not None and mask.shape != tuple(shape):
        raise ValueError(
            f"the mask {path} is {_size(mask.shape)} but {image_path or 'its image'} is "
            f"{_size(shape)} (width x height); a mask must have the size of its image"
        )
    return mask


def list_images(folder: str | Path) -> list[Path]:
    """Return the picture files of a folder, sorted by name; sub-folders are not searched.

    Raises FileNotFoundError when the folder is missing, ValueError when it holds no picture.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}; check the path")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder of images")
    found = sorted(path for path in folder.iterdir() if is_image_file(path))
    if found:
        return found
    below = sorted(path.name for path in folder.iterdir() if path.is_dir())
    hint = f"; it has sub-folders, name one of them: {', '.join(below[:8])}" if below else ""
    raise ValueError(f"no images in {folder} (looked for {' '.join(SUFFIXES)}){hint}")


def is_image_file(path: Path) -> bool:
    """Tell by the name whether a file is a picture; hidden files are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _decode(path: Path) -> Image.Image:
    """Open and load a picture, upright, in the mode of its file."""
    _check_file(path)
    try:
        with _open_of_any_size(path) as image:
            if image.width * image.height <= MAX_PIXELS:
                ImageOps.exif_transpose(image, in_place=True)
                return image
    except Image.UnidentifiedImageError:
        raise ValueError(
            f"{path} is not a picture that Pillow can read; convert it to PNG or JPEG"
        ) from None
    except MemoryError:
        raise ValueError(f"{path} does not fit into memory; make it smaller first") from None
    except Exception as error:  # decoders raise almost anything on damaged bytes
        raise ValueError(
            f"{path} is damaged or cut short ({error}); copy or export it again"
        ) from error
    raise ValueError(
        f"{path} is {image.width} x {image.height} pixels, above the limit of 1 gigapixel; "
        "cut it into tiles or make it smaller first"
    )


def _check_file(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; check the path")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected one picture (list_images lists a folder's)")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); copy or export it again")


def _open_of_any_size(path: Path) -> Image.Image:
    """Open without Pillow's guard against huge pictures, which is a process-wide setting."""
    with _pillow_guard:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _to_rgb(image: Image.Image, *, name: str) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_to_8_bits(np.asarray(image), name=name))
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, image).convert("RGB")
        return image.convert("RGB")
    except ValueError:
        raise ValueError(
            f"{name} has the colour mode {image.mode}, which has no simple way to RGB; "
            "export it as an RGB picture"
        ) from None


def _to_8_bits(values: np.ndarray, *, name: str) -> np.ndarray:
    """Scale grey values of any range to uint8 by the fullest scale that clips nothing."""
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinite values; replace them before reading it")
    low, high = min(0.0, float(values.min())), float(values.max())
    is_float = np.issubdtype(values.dtype, np.floating)
    usual = (1, 255) if is_float else tuple(2**bits - 1 for bits in _BIT_DEPTHS)
    full = next((scale for scale in usual if low == 0 and high <= scale), high)
    spread = (full - low) or 1.0
    return np.rint((values.astype(np.float32) - low) * (255.0 / spread)).astype(np.uint8)


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"
