"""Data sets without a download: scenes of the pocket world, and photographs with drawn damage."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from anovl._shared.files import hash_file
from anovl.data.dataset import Dataset, Entry, select
from anovl.images import read_image
from anovl.world import defects, scenes

PHOTOS = {name: f"{name}.png" for name in ("brick", "grass", "gravel", "coins", "page")}
PHOTOS["tissue"] = "ihc.png"
PHOTOS_VERSION = 1
SIDES = {"pocket": 112, "photos": 240}
NORMAL_SAMPLES = 40  # of each category, for a calibration; a rate of 5 % needs 19


def generate(
    name: str, categories: Sequence[str] | None, *, seed: int, per_category: int, size: int | None
) -> Dataset:
    """Return "pocket" or "photos"; the options and the errors are those of `load_dataset`."""
    if per_category > scenes.MOST_PER_CATEGORY:
        raise ValueError(
            f"per_category may be {scenes.MOST_PER_CATEGORY:,} at most, found {per_category:,}"
        )
    size = SIDES[name] if size is None else size
    first = scenes.FIRST_EVALUATION_SEED + seed * scenes.SEEDS_OF_A_RUN
    source = Pocket(first, size) if name == "pocket" else Photos(seed, size)
    parameters = {"seed": seed, "per_category": per_category, "image_size": size}
    return _dataset(name, source, categories, parameters)


def pocket_validation(*, per_category: int = 4) -> Dataset:
    """Return scenes of the pocket world for choosing a model: never for training or for results.

    >>> pocket_validation(per_category=1).name
    'pocket validation'
    """
    source = Pocket(scenes.FIRST_VALIDATION_SEED, SIDES["pocket"])
    return _dataset("pocket validation", source, None, {"per_category": per_category})


@dataclass(frozen=True)
class Pocket:
    """Scenes of the pocket world, with seeds from `first` on."""

    first: int
    size: int
    categories = (*scenes.SEEN, *scenes.UNSEEN)

    def recipe(self, category: str) -> str:
        """Return what decides the images of a category, for the manifest hash."""
        return f"pocket world {scenes.WORLD_VERSION}, seeds from {self.first}, {self.size} px"

    def draw(self, category: str, kind: str, index: int) -> tuple[Image.Image, np.ndarray]:
        scene = scenes.draw_scene(category, seed=self.first + index, kind=kind, size=self.size)
        return Image.fromarray(scene.image), scene.mask


@dataclass(frozen=True)
class Photos:
    """Random crops of photographs in scikit-image, some with drawn defects."""

    seed: int
    size: int
    categories = tuple(PHOTOS)

    def recipe(self, category: str) -> str:
        """Return what decides the images of a category, for the manifest hash."""
        versions = f"photos {PHOTOS_VERSION}, defects {scenes.WORLD_VERSION}"
        return f"{versions}, seed {self.seed}, {self.size} px, {hash_file(_photo_file(category))}"

    def draw(self, category: str, kind: str, index: int) -> tuple[Image.Image, np.ndarray]:
        rng = np.random.default_rng([zlib.crc32(category.encode()), self.seed, index])
        crop, is_grey = _crop(_photo(category), rng, self.size)
        mask = np.zeros((self.size, self.size), dtype=bool)
        if kind != "good":
            crop, mask = defects.add_defect(crop, rng, kind=kind)
        if is_grey:  # a grey camera sees a coloured stain grey
            crop = np.broadcast_to(crop.mean(axis=2, keepdims=True), crop.shape)
        return Image.fromarray(np.rint(crop * 255).astype(np.uint8)), mask


@dataclass(frozen=True, kw_only=True)
class DrawnEntry(Entry):
    """An image that its source draws when it is asked for."""

    category: str
    source: Pocket | Photos
    recipe: str

    def load(self) -> tuple[Image.Image, np.ndarray]:
        return self.source.draw(self.category, self.kind, int(self.name))

    def fingerprint(self) -> str:
        return self.recipe


def _dataset(
    name: str,
    source: Pocket | Photos,
    categories: Sequence[str] | None,
    parameters: Mapping[str, int],
) -> Dataset:
    """Return `per_category` normal images of each category, and as many anomalous ones.

    The kinds of defects take turns. Each category of a source begins with another kind, so that a
    few images of each category show all kinds. More normal images are for a calibration.
    """
    test, normal, n, kinds = {}, {}, parameters["per_category"], defects.KINDS
    for category in select(categories, source.categories, f"category of {name}"):
        turn = source.categories.index(category)
        own = ["good"] * n + [kinds[(turn + i) % len(kinds)] for i in range(n)]
        test[category] = _entries(source, category, "test", own, first=0)
        own, first = ["good"] * NORMAL_SAMPLES, scenes.FIRST_NORMAL_INDEX
        normal[category] = _entries(source, category, "train", own, first=first)
    groups = {
        group: own
        for group, members in (("seen", scenes.SEEN), ("unseen", scenes.UNSEEN))
        if (own := tuple(category for category in members if category in test))
    }
    return Dataset(name, test, normal, parameters, groups=groups)


def _entries(
    source: Pocket | Photos, category: str, part: str, kinds: Sequence[str], *, first: int
) -> tuple[DrawnEntry, ...]:
    common = {"category": category, "source": source, "recipe": source.recipe(category)}
    names = [(f"{index:03d}", kind) for index, kind in enumerate(kinds, first)]
    return tuple(
        DrawnEntry(Path(category, part, kind, f"{name}.png"), name, kind, **common)
        for name, kind in names
    )


@lru_cache(maxsize=len(PHOTOS))
def _photo(category: str) -> Image.Image:
    with Image.open(_photo_file(category)) as photo:
        photo.info.pop("icc_profile", None)  # version 1 draws on the numbers that are stored
        return read_image(photo)


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


def _crop(photo: Image.Image, rng: np.random.Generator, size: int) -> tuple[np.ndarray, bool]:
    """Cut a random square, 160 to 288 pixels wide where the photograph has as many.

    Also tell whether it is grey.
    """
    longest = min(photo.width, photo.height, 288)
    side = int(rng.integers(min(160, longest), longest + 1))
    left = int(rng.integers(photo.width - side + 1))
    top = int(rng.integers(photo.height - side + 1))
    square = photo.resize(
        (size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    pixels = np.asarray(square, dtype=np.float32) / 255
    return pixels, bool((np.ptp(pixels, axis=2) == 0).all())
