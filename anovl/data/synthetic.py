"""Data sets without a download: scenes of the pocket world, and photographs with drawn damage."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from anovl.data.dataset import Dataset, select
from anovl.data.entries import Contents, Entries, Entry, Loaded
from anovl.images import read_image
from anovl.world.seeds import FIRST_NORMAL_INDEX, FIRST_VALIDATION_SEED

PHOTOS = {
    "brick": "brick.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "coins": "coins.png",
    "page": "page.png",
    "tissue": "ihc.png",
}
PHOTOS_VERSION = 1
SIDES = {"pocket": 112, "photos": 240}
NORMAL_SAMPLES = 40  # of each category, for a calibration; a rate of 5 % needs 19


def pocket_validation(*, per_category: int = 4) -> Dataset:
    """Return scenes of the pocket world that are for choosing: never for training, nor for results.

    >>> pocket_validation(per_category=1).name
    'pocket validation'
    """
    size, parameters = SIDES["pocket"], {"per_category": per_category}
    first = FIRST_VALIDATION_SEED
    return pocket_dataset("pocket validation", parameters, None, first, per_category, size)


# Generated sets


def _generated(
    category: str, turn: int, per_category: int, draw: Callable[..., Loaded], recipe: str
) -> tuple[Entry, ...]:
    """Name `per_category` normal images and as many with defects, of every kind in turn.

    Each category begins with another kind, by its own `turn`: few images have all kinds, too.
    """
    from anovl.world.defects import KINDS

    defects = [KINDS[(turn + i) % len(KINDS)] for i in range(per_category)]
    kinds = ["good"] * per_category + defects
    return tuple(
        _entry(category, "test", kind, index, draw, recipe) for index, kind in enumerate(kinds)
    )


def _normal(category: str, draw: Callable[..., Loaded], recipe: str) -> tuple[Entry, ...]:
    """Name normal images whose seeds serve nothing else."""
    return tuple(
        _entry(category, "train", "good", FIRST_NORMAL_INDEX + i, draw, recipe)
        for i in range(NORMAL_SAMPLES)
    )


def _entry(
    category: str, part: str, kind: str, index: int, draw: Callable[..., Loaded], recipe: str
) -> Entry:
    return Entry(
        path=Path(category) / part / kind / f"{index:03d}.png",
        name=f"{index:03d}",
        kind=kind,
        load=partial(draw, category, kind, index),
        fingerprint=partial(str, recipe),
    )


def pocket_dataset(
    name: str,
    parameters: Mapping[str, int],
    categories: Sequence[str] | None,
    first: int,
    per_category: int,
    size: int,
) -> Dataset:
    from anovl.world.scenes import SEEN, UNSEEN, WORLD_VERSION

    draw = partial(_draw_scene, first=first, size=size)
    recipe = f"pocket world {WORLD_VERSION}, seeds from {first}, {size} px"
    known = (*SEEN, *UNSEEN)
    chosen = select(categories, known, "category of pocket")
    entries = {one: _generated(one, known.index(one), per_category, draw, recipe) for one in chosen}
    normal = {one: _normal(one, draw, recipe) for one in chosen}
    groups = {"seen": SEEN, "unseen": UNSEEN}
    members = {group: tuple(c for c in names if c in entries) for group, names in groups.items()}
    members = {group: names for group, names in members.items() if names}
    return Dataset(name, parameters, entries, members, normal)


def _draw_scene(category: str, kind: str, index: int, *, first: int, size: int) -> Loaded:
    from anovl.world.scenes import draw_scene

    scene = draw_scene(category, seed=first + index, kind=kind, size=size)
    return Image.fromarray(scene.image), scene.mask


def photos_contents(
    categories: Sequence[str] | None, seed: int, per_category: int, size: int
) -> Contents:
    from anovl.world.scenes import WORLD_VERSION

    draw = partial(_draw_photo, seed=seed, size=size)

    def recipe(category: str) -> str:
        photo = hashlib.sha256(_photo_file(category).read_bytes()).hexdigest()
        return f"photos {PHOTOS_VERSION}, defects {WORLD_VERSION}, seed {seed}, {size} px, {photo}"

    known = tuple(PHOTOS)
    chosen = select(categories, known, "category of photos")
    recipes = {name: recipe(name) for name in chosen}
    test: Entries = {
        name: _generated(name, known.index(name), per_category, draw, recipes[name])
        for name in chosen
    }
    return Contents(test, {name: _normal(name, draw, recipes[name]) for name in chosen})


def _draw_photo(category: str, kind: str, index: int, *, seed: int, size: int) -> Loaded:
    from anovl.world.defects import add_defect

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
