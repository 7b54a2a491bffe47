"""The pictures of a category, read by threads ahead of the methods that look at them, and once.

Each picture is made as small as the methods see it where it is read, so that a category of large
pictures fits into memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial

import numpy as np
from PIL import Image

from anovl.data.dataset import Dataset, Sample
from anovl.detector import Detector, LooksAt
from anovl.evaluation.once import Once
from anovl.maps import Size, as_size
from anovl.masks import mask_at
from anovl.protocols import fit_short_side

FIRST, CHUNK = 4, 16  # so many pictures, and more, are localized together: first, and later
AHEAD = 2 * CHUNK  # so many, and more, are being read


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some pictures in each size at which a method looks, their masks, and what is known of them.

    `masks` are as large as the files have them; `small_masks` as the maps of methods that look at
    that size. `once` remembers what methods computed of these pictures; `places` are their numbers
    among the samples of the category; `unread` says of others of the chunk why they cannot be read.
    """

    pictures: Mapping[Hashable, list[Image.Image]]
    small_masks: Mapping[Hashable, list[np.ndarray | None]]
    masks: list[np.ndarray | None]
    once: Once
    places: list[int]
    unread: list[str]

    def mask_at(self, number: int, looks_at: LooksAt, shape: tuple[int, int]) -> np.ndarray | None:
        """Return the mask of one of the pictures at the size of its map."""
        small, whole = self.small_masks[looks_at][number], self.masks[number]
        return small if small is None or small.shape == shape else mask_at(whole, shape)


class Pictures:
    """A category for some detectors: read ahead by a pool of threads, chunk by chunk.

    With several detectors, or one that must have all images in one call, the chunks stay in memory
    and share one `Once`, until the category is done; with one detector each chunk is forgotten.
    Reading begins at once or, `after` the pictures of another category, when the last of those is
    being read. The first chunks are small, so that they are there soon. Masks are resized where
    they are read, to the `size` of the maps, None for that at which a method looks. A file that
    cannot be read is left out, and named.
    """

    def __init__(
        self,
        dataset: Dataset,
        category: str,
        detectors: Sequence[Detector],
        *,
        pool: ThreadPoolExecutor,
        size: Size | None = None,
        after: Pictures | None = None,
    ) -> None:
        self._samples, self._detectors, self._pool = dataset.reads(category), detectors, pool
        self._shape = None if size is None else as_size(size)
        keep = len(detectors) > 1 or any(detector.whole_category for detector in detectors)
        self._once = Once() if keep else None
        self._chunks: list[Chunk] = []
        batch = max([1, *(getattr(detector, "batch_size", 1) for detector in detectors)])
        self._parts = deque(_growing(len(self._samples), batch=batch))
        self._coming: deque[tuple[int, Future[Chunk]]] = deque()
        self._following: Pictures | None = None
        if after and after._parts:
            after._following = self
        else:
            self._read_on()

    def __iter__(self) -> Iterator[Chunk]:
        """Yield chunk after chunk, those in memory first."""
        yield from self._chunks
        while self._coming:
            _, coming = self._coming.popleft()
            self._read_on()
            chunk = coming.result()
            if self._once:
                self._chunks.append(chunk)
            yield chunk

    def whole(self) -> Chunk:
        """Return all of a category as one chunk."""
        chunks = list(self)
        pictures, small_masks = (
            {
                size: [one for chunk in chunks for one in getattr(chunk, part)[size]]
                for size in chunks[0].pictures
            }
            for part in ("pictures", "small_masks")
        )
        masks, places, unread = (
            [one for chunk in chunks for one in getattr(chunk, part)]
            for part in ("masks", "places", "unread")
        )
        return Chunk(pictures, small_masks, masks, chunks[0].once, places, unread)

    def _read_on(self) -> None:
        """Put chunks into the queue: their pictures and, behind them, what needs all of them."""
        sizes = {detector.looks_at for detector in self._detectors}
        submit = partial(self._pool.submit, _read, sizes=sizes, shape=self._shape)
        while self._parts and sum(count for count, _ in self._coming) < AHEAD:
            part = self._parts.popleft()
            reading = {place: submit(self._samples[place]) for place in part}
            self._coming.append((len(part), self._pool.submit(self._together, reading, sizes)))
        if self._following and not self._parts:
            self._following._read_on()
            self._following = None

    def _together(self, reading: Mapping[int, Future], sizes: set[Hashable]) -> Chunk:
        """Wait for pictures, which other threads have begun, and ready them for the networks."""
        read, unread = {}, []
        for place, future in reading.items():
            try:
                read[place] = future.result()
            except (ValueError, OSError) as error:
                unread.append(str(error))
        pictures, small_masks = (
            {size: [one[part][size] for one in read.values()] for size in sizes} for part in (0, 1)
        )
        masks = [mask for *_, mask in read.values()]
        once = self._once or Once()
        chunk = Chunk(pictures, small_masks, masks, once, list(read), unread)
        for detector in self._detectors if read else ():
            remembering(detector, chunk.once).look_ahead(pictures[detector.looks_at])
        return chunk


def remembering(detector: Detector, once: Once) -> Detector:
    """The same detector, and the one inside it, with `once` for what others compute too."""
    if not is_dataclass(detector):
        return detector
    changes = {}
    for field in fields(detector):
        value = getattr(detector, field.name)
        if field.name == "compute":
            changes["compute"] = once
        elif isinstance(value, Detector):
            changes[field.name] = remembering(value, once)
    return replace(detector, **changes) if changes else detector


def _growing(count: int, *, batch: int) -> Iterator[range]:
    """Yield the places of chunks: whole batches, `FIRST` pictures, then twice as many, to `CHUNK`.

    >>> [len(part) for part in _growing(60, batch=3)]
    [6, 12, 18, 18, 6]
    """
    start, size, most = 0, *(-(-least // batch) * batch for least in (FIRST, CHUNK))
    while start < count:
        yield range(start, min(start + size, count))
        start, size = start + size, min(2 * size, most)


def _read(
    read: Callable[[], Sample], *, sizes: set[Hashable], shape: tuple[int, int] | None
) -> tuple[dict[Hashable, Image.Image], dict[Hashable, np.ndarray | None], np.ndarray | None]:
    """Read a sample: its picture and its mask in each size at which a method looks, and whole."""
    sample = read()
    pictures = {size: shrink(sample.image, size) for size in sizes}
    masks = {
        size: None if sample.mask is None else mask_at(sample.mask, shape or small.size[::-1])
        for size, small in pictures.items()
    }
    return pictures, masks, sample.mask


def shrink(image: Image.Image, looks_at: LooksAt) -> Image.Image:
    """An RGB picture in the size at which a method looks: the method makes the same of it.

    >>> shrink(Image.new("RGB", (1000, 600)), 240).size
    (400, 240)
    """
    if looks_at is None:
        return image
    if isinstance(looks_at, int):
        return fit_short_side(image, looks_at)
    return image.resize(looks_at[::-1], Image.Resampling.BICUBIC)
