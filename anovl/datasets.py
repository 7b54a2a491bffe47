"""Test images by category, one at a time: the paper's sets, your own folder, or no download at all.

MVTec AD, VisA, Magnetic Tile and folders are read from disk (`layouts`); `pocket` draws the pocket
world; `photos` cuts crops from photographs that scikit-image ships and damages half of them.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from anovl.entries import Entry, Loaded, select, unknown
from anovl.images import read_image
from anovl.layouts import READERS

DATASETS = (*READERS, "photos", "pocket")
PHOTOS = {
    "brick": "brick.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "coins": "coins.png",
    "page": "page.png",
    "tissue": "ihc.png",
}
PHOTOS_VERSION = 1

# Seeds of pocket scenes: below these for training, then for choosing, then for results.
FIRST_VALIDATION_SEED, FIRST_EVALUATION_SEED = 900_000_000, 1_000_000_000
_SEEDS_OF_A_RUN = 1_000_000
_SIDES = {"pocket": 112, "photos": 240}


@dataclass(frozen=True)
class Sample:
    """One test image and what is known of it.

    `image` is RGB; `mask` bool (H, W) marks the defect, all False on a normal image and None where
    nobody drew it; `label` is 0 for normal, 1 for defective and None for unknown; `kind` is "good",
    the kind of defect, or "" for unknown; `path` is the file, or a name for a generated image.
    """

    image: Image.Image
    mask: np.ndarray | None
    label: int | None
    category: str
    kind: str
    path: Path


@dataclass(frozen=True)
class Dataset:
    """Named categories of test images; images are decoded one at a time, when asked for.

    `parameters` are those that decided the content, worth recording with a result. `groups` are
    sets of categories that deserve means of their own: in the pocket world, those that its model
    was trained on ("seen") and those that it never saw ("unseen").
    """

    name: str
    parameters: Mapping[str, int]
    _entries: Mapping[str, tuple[Entry, ...]] = field(repr=False)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories' names; they go into the prompts."""
        return tuple(self._entries)

    def labels(self, category: str) -> tuple[int | None, ...]:
        """Return the labels of a category's samples, in their order, without decoding an image."""
        return tuple(entry.label for entry in self._of(category))

    def samples(self, category: str) -> Iterator[Sample]:
        """Yield a category's samples in a fixed order.

        Raises ValueError for an unknown category, and while iterating, for an image or a mask that
        cannot be read or do not fit together.
        """
        for entry in self._of(category):
            image, mask = entry.load()
            yield Sample(image, mask, entry.label, category, entry.kind, entry.path)

    def manifest_hash(self) -> str:
        """Return a SHA-256 over what the samples are made of.

        That is the names and the bytes of files; of generated images, their parameters and the
        generator's version. It does not depend on where a folder lies.
        """
        digest = hashlib.sha256(self.name.encode())
        for category, entries in self._entries.items():
            for entry in entries:
                line = f"{category}\t{entry.kind}\t{entry.name}\t{entry.fingerprint()}\n"
                digest.update(line.encode())
        return digest.hexdigest()

    def _of(self, category: str) -> tuple[Entry, ...]:
        if category not in self._entries:
            raise ValueError(unknown(f"category of {self.name}", category, self.categories))
        return self._entries[category]


def load_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    categories: Sequence[str] | None = None,
    seed: int = 0,
    per_category: int = 20,
    image_size: int | None = None,
) -> Dataset:
    """Return the test images of a data set by name.

    - "mvtec", "visa", "magnetic-tile": as published and unpacked; `root` is their folder, or the
      one that holds it.
    - "folder": your own. `root` holds categories, `<category>/test/<kind>/*.png`, with masks in
      `<category>/ground_truth/<kind>/<stem>_mask.png`; the kind "good" is normal, and kinds without
      masks have none. It may also be one such category, or a plain folder of images without labels.
    - "pocket", "photos": generated, without `root`; each category has `per_category` normal and as
      many defective images of `image_size` pixels a side (112 for pocket, 240 for photos), decided
      by `seed` alone.

    `categories` selects; of a folder that is a single category, it says what the images show.

    Raises FileNotFoundError for what is missing: the folder, a category, masks, VisA's split file;
    ValueError for an unknown name or category, a folder without images, and images and masks that
    do not pair.

    >>> samples = list(load_dataset("pocket", categories=["wood"], per_category=1).samples("wood"))
    >>> [(sample.kind, sample.label, sample.image.size) for sample in samples]
    [('good', 0, (112, 112)), ('crack', 1, (112, 112))]
    """
    if name not in DATASETS:
        layout = "Any set in MVTec AD's layout loads as 'folder'."
        raise ValueError(f"{unknown('data set', name, DATASETS)} {layout}")
    if name in READERS:
        if root is None:
            raise ValueError(f"the data set {name!r} needs its root: the folder with the images")
        return Dataset(name, {}, READERS[name](Path(root).expanduser(), categories))
    if root is not None:
        raise ValueError(f"{name!r} is generated and has no root; did you mean name='folder'?")
    size = _SIDES[name] if image_size is None else image_size
    for option, value, least in (
        ("per_category", per_category, 1),
        ("seed", seed, 0),
        ("image_size", size, 16),
    ):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{option} must be a whole number from {least} on, found {value!r}")
    parameters = {"seed": seed, "per_category": per_category, "image_size": size}
    if name == "photos":
        return Dataset(name, parameters, _photos(categories, seed, per_category, size))
    first = FIRST_EVALUATION_SEED + seed * _SEEDS_OF_A_RUN
    return _pocket(name, parameters, categories, first, per_category, size)


def pocket_validation(*, per_category: int = 4) -> Dataset:
    """Return scenes of the pocket world that are for choosing: never for training, nor for results.

    >>> pocket_validation(per_category=1).name
    'pocket validation'
    """
    size, parameters = _SIDES["pocket"], {"per_category": per_category}
    first = FIRST_VALIDATION_SEED
    return _pocket("pocket validation", parameters, None, first, per_category, size)


# Generated sets


def _generated(
    category: str, turn: int, per_category: int, draw: Callable[..., Loaded], recipe: str
) -> tuple[Entry, ...]:
    """Name `per_category` good images and as many defects, of every kind in turn.

    Each category begins with another kind, by its own `turn`: few images have all kinds, too.
    """
    from anovl.pocket.defects import KINDS

    defects = [KINDS[(turn + i) % len(KINDS)] for i in range(per_category)]
    kinds = ["good"] * per_category + defects
    return tuple(
        Entry(
            path=Path(category) / "test" / kind / f"{index:03d}.png",
            name=f"{index:03d}",
            kind=kind,
            load=partial(draw, category, kind, index),
            fingerprint=partial(str, recipe),
        )
        for index, kind in enumerate(kinds)
    )


def _pocket(
    name: str,
    parameters: Mapping[str, int],
    categories: Sequence[str] | None,
    first: int,
    per_category: int,
    size: int,
) -> Dataset:
    from anovl.pocket.images import SEEN, UNSEEN, WORLD_VERSION

    draw = partial(_draw_scene, first=first, size=size)
    recipe = f"pocket world {WORLD_VERSION}, seeds from {first}, {size} px"
    known = (*SEEN, *UNSEEN)
    entries = {
        name: _generated(name, known.index(name), per_category, draw, recipe)
        for name in select(categories, known, "category of pocket")
    }
    groups = {"seen": SEEN, "unseen": UNSEEN}
    members = {group: tuple(c for c in names if c in entries) for group, names in groups.items()}
    return Dataset(name, parameters, entries, {g: names for g, names in members.items() if names})


def _draw_scene(category: str, kind: str, index: int, *, first: int, size: int) -> Loaded:
    from anovl.pocket.images import draw_scene

    scene = draw_scene(category, seed=first + index, kind=kind, size=size)
    return Image.fromarray(scene.image), scene.mask


def _photos(
    categories: Sequence[str] | None, seed: int, per_category: int, size: int
) -> dict[str, tuple[Entry, ...]]:
    from anovl.pocket.images import WORLD_VERSION

    draw = partial(_draw_photo, seed=seed, size=size)

    def recipe(category: str) -> str:
        photo = hashlib.sha256(_photo_file(category).read_bytes()).hexdigest()
        return f"photos {PHOTOS_VERSION}, defects {WORLD_VERSION}, seed {seed}, {size} px, {photo}"

    known = tuple(PHOTOS)
    return {
        name: _generated(name, known.index(name), per_category, draw, recipe(name))
        for name in select(categories, known, "category of photos")
    }


def _draw_photo(category: str, kind: str, index: int, *, seed: int, size: int) -> Loaded:
    from anovl.pocket.defects import add_defect

    rng = np.random.default_rng([zlib.crc32(category.encode()), seed, index])
    crop, is_grey = _crop(_photo(category), rng, size)
    mask = np.zeros((size, size), dtype=bool)
    if kind != "good":
        crop, mask = add_defect(crop, rng, kind=kind)
    if is_grey:  # a grey camera sees a coloured stain grey
        crop = np.broadcast_to(crop.mean(axis=2, keepdims=True), crop.shape)
    return Image.fromarray(np.rint(crop * 255).astype(np.uint8)), mask


def _photo_file(category: str) -> Path:
    """Find a photograph in scikit-image's own folder; its download functions are not used."""
    import skimage.data

    path = Path(skimage.data.__file__).parent / PHOTOS[category]
    if not path.is_file():
        raise FileNotFoundError(
            f"this scikit-image came without {path.name}; install the release in constraints.txt, "
            "or choose other categories of photos"
        )
    return path


@lru_cache(maxsize=len(PHOTOS))
def _photo(category: str) -> Image.Image:
    return read_image(_photo_file(category))


def _crop(photo: Image.Image, rng: np.random.Generator, size: int) -> tuple[np.ndarray, bool]:
    """Cut a random square, 160 to 288 pixels wide where the photograph has as many."""
    longest = min(photo.width, photo.height, 288)
    side = int(rng.integers(min(160, longest), longest + 1))
    left = int(rng.integers(photo.width - side + 1))
    top = int(rng.integers(photo.height - side + 1))
    square = photo.resize(
        (size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    pixels = np.asarray(square, dtype=np.float32) / 255
    return pixels, bool((np.ptp(pixels, axis=2) == 0).all())
