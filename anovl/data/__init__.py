"""Test images by category, one at a time: the paper's sets, your own folder, or no download at all.

What a publisher, or you, laid out on disk is read by `readers`; `synthetic` draws the pocket world
(`pocket`), and cuts crops from photographs that scikit-image ships and damages half (`photos`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anovl._shared.messages import unknown
from anovl.world.seeds import FIRST_EVALUATION_SEED, MOST_PER_CATEGORY, SEEDS_OF_A_RUN

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
    not pair, a pixel range that does not rise, and mask values for a generated
    set.

    >>> samples = list(load_dataset("pocket", categories=["wood"], per_category=1).samples("wood"))
    >>> [(sample.kind, sample.label, sample.image.size) for sample in samples]
    [('good', 0, (112, 112)), ('crack', 1, (112, 112))]
    """
    from anovl.data.dataset import Dataset
    from anovl.data.own_layouts import installed_root
    from anovl.data.readers import READERS, Draw, read_files
    from anovl.data.synthetic import SIDES, photos_contents, pocket_dataset

    if name not in DATASETS:
        layout = "Any set in MVTec AD's layout loads as 'folder'."
        raise ValueError(f"{unknown('data set', name, DATASETS)} {layout}")
    if name in READERS:
        if root is None and (root := installed_root(name)) is None:
            raise ValueError(f"the data set {name!r} needs its root: the folder with the images")
        if image_size is not None:
            raise ValueError(f"image_size is for generated data sets; {name!r} has files")
        draw = None if per_category is None else Draw(per_category, seed)
        reading = (pixel_range, mask_values)
        return read_files(name, Path(root).expanduser(), categories, *reading, draw=draw)
    if root is not None:
        raise ValueError(f"{name!r} is generated and has no root; did you mean name='folder'?")
    for option, given in (("pixel_range", pixel_range), ("mask_values", mask_values)):
        if given is not None:
            raise ValueError(f"{option} is for data sets of files; {name!r} is generated")
    per_category = 20 if per_category is None else per_category
    size = SIDES[name] if image_size is None else image_size
    for option, value, least in (
        ("per_category", per_category, 1),
        ("seed", seed, 0),
        ("image_size", size, 16),
    ):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{option} must be a whole number from {least} on, found {value!r}")
    if per_category > MOST_PER_CATEGORY:
        raise ValueError(f"per_category may be {MOST_PER_CATEGORY:,} at most, found {per_category}")
    parameters = {"seed": seed, "per_category": per_category, "image_size": size}
    if name == "photos":
        found = photos_contents(categories, seed, per_category, size)
        return Dataset(name, parameters, found.test, _normal=found.normal)
    first = FIRST_EVALUATION_SEED + seed * SEEDS_OF_A_RUN
    return pocket_dataset(name, parameters, categories, first, per_category, size)
