"""The pictures of a category, read by threads ahead of the methods that look at them, and once.

Each picture is made as small as the methods see it where it is read, so that a category of large
pictures fits into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial

import numpy as np
from PIL import Image

from anovl.data.dataset import Dataset, Sample
from anovl.detector import Detector, LooksAt
from anovl.evaluation.once import Once
from anovl.protocols import fit_short_side

CHUNK = 16  # at least so many pictures are localized together; twice as many are being read


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some pictures in each size at which a method looks, their masks, and what is known of them.

    `once` remembers what methods computed of these pictures; `places` are their numbers among the
    samples of the category; `unread` says of others of the chunk why they cannot be read.
    """

    pictures: Mapping[Hashable, list[Image.Image]]
    masks: list[np.ndarray | None]
    once: Once
    places: list[int]
    unread: list[str]


class Pictures:
    """A category for some detectors: read ahead by a pool of threads, chunk by chunk.

    With several detectors, or one that must have all images in one call, the chunks stay in memory
    and share one `Once`, until the category is done; with one detector each chunk is forgotten.
    Reading begins at once, for two chunks. A file that cannot be read is left out, and named.
    """

    def __init__(
        self,
        dataset: Dataset,
        category: str,
        detectors: Sequence[Detector],
        *,
        pool: ThreadPoolExecutor,
        chunk: int | None = None,
    ) -> None:
        self._samples, self._detectors, self._pool = dataset.reads(category), detectors, pool
        batch = max([1, *(getattr(detector, "batch_size", 1) for detector in detectors)])
        self._size = chunk or -(-CHUNK // batch) * batch
        keep = len(detectors) > 1 or any(detector.whole_category for detector in detectors)
        self._once = Once() if keep else None
        self._chunks: list[Chunk] = []
        self._starts = iter(range(0, len(self._samples), self._size))
        self._coming = [coming for _ in range(2) if (coming := self._next())]

    def __iter__(self) -> Iterator[Chunk]:
        """Yield chunk after chunk, those in memory first."""
        yield from self._chunks
        while self._coming:
            chunk = self._coming.pop(0).result()
            if coming := self._next():
                self._coming.append(coming)
            if self._once:
                self._chunks.append(chunk)
            yield chunk

    def whole(self) -> Chunk:
        """Return all of a category as one chunk."""
        chunks = list(self)
        joined = {
            size: [picture for chunk in chunks for picture in chunk.pictures[size]]
            for size in chunks[0].pictures
        }
        masks, places, unread = (
            [one for chunk in chunks for one in getattr(chunk, part)]
            for part in ("masks", "places", "unread")
        )
        return Chunk(joined, masks, chunks[0].once, places, unread)

    def _next(self) -> Future[Chunk] | None:
        """Put a chunk into the queue: its pictures and, behind them, what needs all of them."""
        if (start := next(self._starts, None)) is None:
            return None
        sizes = {detector.looks_at for detector in self._detectors}
        submit = partial(self._pool.submit, _read, sizes=sizes)
        own = self._samples[start : start + self._size]
        reading = {start + number: submit(read) for number, read in enumerate(own)}
        return self._pool.submit(self._together, reading, sizes)

    def _together(self, reading: Mapping[int, Future], sizes: set[Hashable]) -> Chunk:
        """Wait for pictures, which other threads have begun, and ready them for the networks."""
        read, unread = {}, []
        for place, future in reading.items():
            try:
                read[place] = future.result()
            except (ValueError, OSError) as error:
                unread.append(str(error))
        pictures = {size: [small[size] for small, _ in read.values()] for size in sizes}
        masks = [mask for _, mask in read.values()]
        chunk = Chunk(pictures, masks, self._once or Once(), list(read), unread)
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


def _read(
    read: Callable[[], Sample], *, sizes: set[Hashable]
) -> tuple[dict[Hashable, Image.Image], np.ndarray | None]:
    sample = read()
    return {size: shrink(sample.image, size) for size in sizes}, sample.mask


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
