"""Test images by category, one at a time: the paper's sets, your own folder, or no download at all.

What a publisher, or you, laid out on disk is read by `readers`; `synthetic` draws the pocket world
(`pocket`), and cuts crops from photographs that scikit-image ships and damages half (`photos`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anovl._shared.messages import unknown

if TYPE_CHECKING:
    from anovl.data.dataset import Dataset
    from anovl.masks import MaskValues
    from anovl.stored import PixelRange

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

    - "mvtec", "visa", "magnetic-tile", "kolektor-sdd", "btad", "mpdd", "mvtec-ad-2": as published
      and unpacked; `root` is their folder, or the one that holds it. "elpv" needs no root where the
      package elpv-dataset is installed.
    - "folder": your own. `root` holds categories, `<category>/test/<kind>/*.png`, with masks in
      `<category>/ground_truth/<kind>/<stem>_mask.png`; the kind "good" is normal, and kinds without
      masks have none (`layout.read_kinds` tells more). It may also be one such category, or a plain
      folder of images without labels.
    - "pocket", "photos": generated, without `root`; each category has `per_category` (20) normal
      and as many anomalous images of `image_size` pixels a side (112 for pocket, 240 for photos),
      decided by `seed` alone.

    `per_category` of files draws so many normal and so many anomalous images of each category, or
    all there are, decided by `seed`; None takes all. `categories` selects; of a folder that is a
    single category, it says what the images show.
    Of files, pictures of more than 8 bits are scaled from one `pixel_range` (low, high) for all;
    None finds it (`pixel_range_of`). `mask_values` are the numbers that mean defect, or "dark"
    for inverted masks; None decides by the rule of `read_mask`.

    Raises FileNotFoundError for what is missing: the folder, a category, masks, VisA's split file;
    ValueError for an unknown name or category, a folder without images, images and masks that do
    not pair, a pixel range that cannot be known or does not apply, and mask values for a generated
    set.

    >>> samples = list(load_dataset("pocket", categories=["wood"], per_category=1).samples("wood"))
    >>> [(sample.kind, sample.label, sample.image.size) for sample in samples]
    [('good', 0, (112, 112)), ('crack', 1, (112, 112))]
    """
    from anovl.data.readers import READERS, draw, read_files
    from anovl.data.synthetic import generate

    if name not in DATASETS:
        layout = "Any set in MVTec AD's layout loads as 'folder'."
        raise ValueError(f"{unknown('data set', name, DATASETS)} {layout}")
    numbers = {"per_category": (per_category, 1), "seed": (seed, 0), "image_size": (image_size, 16)}
    for option, (value, least) in numbers.items():
        if value is not None and (not isinstance(value, int) or value < least):
            raise ValueError(f"{option} must be a whole number from {least} on, found {value!r}")
    if name in READERS:
        if image_size is not None:
            raise ValueError(f"image_size is for generated data sets; {name!r} has files")
        options = {"pixel_range": pixel_range, "mask_values": mask_values}
        data = read_files(name, root, categories, **options)
        return data if per_category is None else draw(data, per_category, seed)
    if root is not None:
        raise ValueError(f"{name!r} is generated and has no root; did you mean name='folder'?")
    if pixel_range is not None or mask_values is not None:
        what = "pixel_range and mask_values are"
        raise ValueError(f"{what} for data sets of files; {name!r} is generated")
    n = 20 if per_category is None else per_category
    return generate(name, categories, seed=seed, per_category=n, size=image_size)
