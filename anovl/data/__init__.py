"""Test images by category: published sets, your own folder, or sets without any download.

`readers` reads the files of a published set, or yours; `synthetic` draws the pocket world
(`pocket`), and cuts crops from photographs of scikit-image, with drawn defects (`photos`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anovl._shared.messages import unknown

if TYPE_CHECKING:
    from anovl.data.dataset import Dataset
    from anovl.images import PixelRange
    from anovl.masks import MaskValues

DATASETS = (
    *("folder", "mvtec", "visa", "magnetic-tile", "kolektor-sdd", "btad", "mpdd", "mvtec-ad-2"),
    *("elpv", "photos", "pocket"),
)
"""The names of all data sets; they can be listed without loading numpy."""


def load_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    categories: Sequence[str] | None = None,
    seed: int = 0,
    per_category: int | None = None,
    image_size: int | None = None,
    pixel_range: PixelRange | None = None,
    mask_values: MaskValues | None = None,
) -> Dataset:
    """Return the test images of a data set by name, and its normal images for a calibration.

    - "mvtec", "visa", "magnetic-tile", "kolektor-sdd", "btad", "mpdd", "mvtec-ad-2": published
      sets, as they are unpacked; `root` is their folder, or the folder above it. "elpv" needs no
      root where the package elpv-dataset is installed.
    - "folder": your own. `root` holds categories, `<category>/test/<kind>/*.png`, with masks in
      `<category>/ground_truth/<kind>/<stem>_mask.png`; the kind "good" is normal, and masks are
      optional (`layout.read_kinds` says more). It may also be one such category, or a plain folder
      of images without labels, its sub-folders included.
    - "pocket", "photos": generated, without `root`; each category has `per_category` (20) normal
      and as many anomalous images of `image_size` pixels a side (112 for pocket, 240 for photos),
      decided by `seed` alone.

    For files, `per_category` draws so many normal and so many anomalous images of each category,
    or all it has, decided by `seed`; None takes all. `categories` selects; for a set that is a
    single category, it is the one name that prompts say.
    Images of more than 8 bits are scaled from one `pixel_range` (low, high) for all files; None
    finds it (`pixel_range_of`). `mask_values` are the numbers that mean defect, or "dark" for
    inverted masks; None decides by the rule of `read_mask`.

    Raises FileNotFoundError for a missing folder, category or listed file; ValueError for an
    unknown name or category, a folder without images, images and masks that do not pair, a pixel
    range that does not rise, and options that do not fit the data set.

    >>> samples = list(load_dataset("pocket", categories=["wood"], per_category=1).samples("wood"))
    >>> [(sample.kind, sample.label, sample.image.size) for sample in samples]
    [('good', 0, (112, 112)), ('crack', 1, (112, 112))]
    """
    from anovl.data.readers import READERS, draw, read_files
    from anovl.data.synthetic import generate

    if name not in DATASETS:
        raise ValueError(f"{unknown('data set', name, DATASETS)} Your own data set is 'folder'.")
    numbers = {"per_category": (per_category, 1), "seed": (seed, 0), "image_size": (image_size, 16)}
    for option, (value, least) in numbers.items():
        if value is not None and (not isinstance(value, int) or value < least):
            raise ValueError(f"{option} must be a whole number from {least} on, found {value!r}")
    if name in READERS:
        if image_size is not None:
            raise ValueError(f"image_size is for generated data sets; {name!r} has files")
        data = read_files(name, root, categories, pixel_range=pixel_range, mask_values=mask_values)
        return data if per_category is None else draw(data, per_category, seed)
    if root is not None:
        raise ValueError(f"{name!r} is generated and has no root; did you mean name='folder'?")
    for option, given in (("pixel_range", pixel_range), ("mask_values", mask_values)):
        if given is not None:
            raise ValueError(f"{option} is for data sets of files; {name!r} is generated")
    return generate(name, categories, seed=seed, per_category=per_category or 20, size=image_size)
