"""Thresholds from normal images: conformal levels, and detectors that raise alarms.

`calibrate` takes normal images of one kind of thing and returns a detector for that thing. It
subtracts their mean map, and raises an alarm above a level that bounds the rate of false alarms.
Nothing is promised about anomalous images that raise no alarm: `misses` measures them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch

from anovl._shared.messages import counted
from anovl.clip import Images, as_list
from anovl.detector import Detector, Localization, Words
from anovl.images import Header, PixelRange, pixel_range_of, read_headers, read_images
from anovl.maps import Size, enlarge

FALSE_ALARMS = 0.05  # the default rate
AlarmBy: TypeAlias = Literal["score", "map", "either"]
ALARM_BY: tuple[AlarmBy, ...] = get_args(AlarmBy)
_HEADROOM = 1.6  # the bright end of a scale, as a multiple of the way from the median to the level


def conformal_threshold(normal: Sequence[float] | np.ndarray, *, rate: float = 0.1) -> float:
    """The score above which at most `rate` of normal images lie, on average.

    `normal` holds the scores of n normal images, higher = more anomalous. If the next normal image
    comes from the same source, each place among the n + 1 is equally likely for it. So it lies
    above the k-th smallest, k = ⌈(n + 1) (1 - rate)⌉, with a probability of at most `rate`,
    whatever the distribution of scores, as long as these images were used for nothing else. The
    rate is an average over such sets of normal images.

    >>> conformal_threshold([0.51, 0.54, 0.52, 0.53], rate=0.2)
    0.54

    Raises ValueError for scores that are no finite list, a rate outside (0, 1), or fewer scores
    than the rate needs: n must be at least 1/rate - 1.
    Source: split conformal prediction (Papadopoulos et al., 2002).
    """
    scores = np.asarray(normal, dtype=float)
    if scores.ndim != 1:
        raise ValueError(f"normal must be a list of scores; found shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} scores are not finite")
    _check_enough(len(scores), rate)
    return float(np.sort(scores)[_rank(len(scores), rate) - 1])


def joint_thresholds(normal: np.ndarray, *, rate: float) -> np.ndarray:
    """Thresholds (2,) for two values of an image: at most `rate` of normal images exceed either.

    `normal` (n, 2) holds both values of n normal images, here image score s and peak of the map m.
    Both thresholds are K-th smallest values. K is the smallest for which

        1 + #{i: sᵢ > s₍K₎ or mᵢ ≥ m₍K₎}        and        1 + #{i: sᵢ ≥ s₍K₎ or mᵢ > m₍K₎}

    are at most rate · (n + 1). Why this holds: let the next normal image be above s₍K₎, say, and
    not above m₍K₎. Among all n + 1 images, s₍K₎ is still the K-th smallest, and the K-th smallest m
    is no larger than before. So the first number counts at least the images of the n + 1 that
    exceed either K-th smallest value, the next image among them: for each of the n + 1, the chance
    to be among so few is at most `rate`. It holds however the two values go together.

    >>> scores = np.arange(39) / 100
    >>> joint_thresholds(np.stack([scores, scores], axis=1), rate=0.05)
    array([0.38, 0.38])

    Raises ValueError for other shapes, values that are not finite, and fewer than 2/rate - 1
    images.
    """
    values = np.asarray(normal, dtype=float)
    if values.ndim != 2 or values.shape[1] != 2 or not np.isfinite(values).all():
        raise ValueError(f"expected finite values of shape (n, 2); found shape {values.shape}")
    _check_enough(n := len(values), rate, "either")
    ranks = values.argsort(axis=0, kind="stable").argsort(axis=0) + 1  # equal values by their order
    # The first number is 1 + #{i: max(rank of s, rank of m + 1) > K}; so K is one of these.
    both = np.stack([np.maximum(ranks[:, 0] + i, ranks[:, 1] + 1 - i) for i in (0, 1)])
    allowed = math.floor(rate * (n + 1) + 1e-9)
    rank = np.sort(both)[:, n - allowed].max()
    return np.sort(values, axis=0)[rank - 1]


def images_needed(rate: float, alarm_by: AlarmBy = "score") -> int:
    """How many normal images a rate of at most `rate` false alarms needs.

    It is 1/rate - 1, and 2/rate - 1 where score and map decide together.

    >>> images_needed(0.05), images_needed(0.01), images_needed(0.05, "either")
    (19, 99, 39)

    Raises ValueError for a rate outside (0, 1).
    """
    if not 0 < rate < 1:
        raise ValueError(f"a rate of false alarms is between 0 and 1, such as 0.1; found {rate!r}")
    return math.ceil((2 if alarm_by == "either" else 1) / rate - 1 - 1e-9)


def _check_enough(n: int, rate: float, alarm_by: AlarmBy = "score") -> None:
    if n < (needed := images_needed(rate, alarm_by)):
        by = " by score and map together" if alarm_by == "either" else ""
        raise ValueError(
            f"at most {rate:.3g} false alarms{by} need at least {counted(needed, 'normal image')}; "
            f"found {n}: collect more, or allow more false alarms"
        )


def _rank(n: int, rate: float) -> int:
    """Which of n sorted scores is the level: the k-th smallest, k = ⌈(n + 1) (1 - rate)⌉."""
    return math.ceil((n + 1) * (1 - rate) - 1e-9)


@dataclass(frozen=True)
class Level:
    """A level for alarms: at most `false_alarms` of normal images lie above it, on average.

    `value` was set by `n` normal images. Over many such sets the rate of false alarms is `expected`
    on average; for 1 in 20 of these sets it is above `rate_95`. Both are None for a level that
    keeps its promise `together` with another one: they depend on how the two values go together.

    >>> level = Level(0.54, n=19, false_alarms=0.05)
    >>> round(level.expected, 3), round(level.rate_95, 3)
    (0.05, 0.146)
    """

    value: float
    _: KW_ONLY
    n: int
    false_alarms: float
    together: bool = False

    @property
    def expected(self) -> float | None:
        """The rate of false alarms, averaged over all sets of n normal images."""
        return None if self.together else 1 - _rank(self.n, self.false_alarms) / (self.n + 1)

    @property
    def rate_95(self) -> float | None:
        """The 95 % quantile of the rate over such sets: that of Beta(n + 1 - k, k)."""
        from scipy.stats import beta

        if self.together:
            return None
        k = _rank(self.n, self.false_alarms)
        return float(beta.ppf(0.95, self.n + 1 - k, k))


@dataclass(frozen=True, eq=False)
class CalibratedLocalization(Localization):
    """A `Localization` with `alarm`, and the `mask` (H, W) of the pixels above the map's level.

    Both are None if there were too few normal images for a level. `peak` is the highest value of
    the map. The mean map of the normal images is subtracted from `map`, unless that was turned off.
    """

    _: KW_ONLY
    peak: float = float("nan")
    alarm: bool | None = None
    mask: np.ndarray | None = field(default=None, repr=False)


class Made(NamedTuple):
    """The size of an upright picture, and its kind, such as "8-bit grey" or "8-bit grey JPEG".

    `values` is "" for a picture in memory, whose values may have been changed.
    """

    width: int
    height: int
    values: str = ""


def how_made(images: Images | Sequence[Header]) -> tuple[Made, ...]:
    """Describe pictures by their headers; files that cannot be read are left out; () for a tensor.

    Headers that are given are not read again.

    >>> from PIL import Image
    >>> how_made([Image.new("L", (30, 20))])
    (Made(width=30, height=20, values=''),)
    """
    sources = () if isinstance(images, torch.Tensor) else as_list(images)
    return tuple(Made(*header.size, _values(header)) for header in read_headers(sources))


def _values(header: Header) -> str:
    if not isinstance(header.source, (str, Path)):
        return ""
    bits = header.depth or (16 if header.is_deep else 8)
    is_grey = header.mode in ("1", "L", "LA") or header.mode.startswith("I")
    is_jpeg = Path(header.source).suffix.lower() in (".jpg", ".jpeg")  # its blocks leave traces
    return f"{bits}-bit {'grey' if is_grey else 'colour'}{' JPEG' * is_jpeg}"


def unlike(normal: Sequence[Made], new: Sequence[Made], what: str = "new ones") -> str:
    """Say, with numbers, how new pictures differ from the normal ones; "" if they do not.

    A size is alike where width, height and their ratio lie between the smallest and the largest of
    the normal pictures.

    >>> unlike([Made(300, 300)] * 9, [Made(300, 300)] * 28 + [Made(1024, 768)] * 12)
    'the normal pictures are 300 x 300, 12 of 40 new ones are 1024 x 768'
    """
    known = {one.values for one in normal} - {""}
    sizes = [one for one in new if normal and not _fits(one, normal)]
    values = [one for one in new if known and one.values not in known | {""}]
    return "; ".join(
        f"the normal pictures are {said(normal)}, {len(odd)} of {len(new)} {what} "
        f"{'is' if len(odd) == 1 else 'are'} {said(odd)}"
        for odd, said in ((sizes, _sizes), (values, _kinds))
        if odd
    )


def _fits(new: Made, normal: Sequence[Made]) -> bool:
    rows = [(one.width, one.height, one.width / one.height) for one in (new, *normal)]
    return all(min(others) <= value <= max(others) for value, *others in zip(*rows, strict=True))


def _sizes(pictures: Sequence[Made]) -> str:
    sizes = sorted({(one.width, one.height) for one in pictures})
    return " to ".join(f"{width} x {height}" for width, height in {sizes[0]: 0, sizes[-1]: 0})


def _kinds(pictures: Sequence[Made]) -> str:
    return " or ".join(sorted({one.values for one in pictures} - {""}))


@dataclass(frozen=True, eq=False)
class CalibratedDetector:
    """A detector for one kind of thing, with levels from normal images of it; see `calibrate`.

    `score_level` is for the image score, `map_level` for the highest value of a map. `alarm_by`
    says which one decides. Each bounds the rate of its own false alarms: counting alarms of both
    would raise up to twice as many. With "either" both decide, at levels that keep one promise
    together. Both are None where there are too few normal images. `values` (n, 2) are scores and
    peaks of the normal images.
    `mean_logit` (h, w) is subtracted from each map in logits; None for no subtraction. `scale` is
    for pictures of maps: from the median of the normal images' maps to well above the level.
    `made` holds size and kind of pixels of the normal images: a warning names new images that
    differ. Normal and new images are read in `pixel_range`, None for images of 8 bits.
    """

    detector: Detector
    class_name: Words
    _: KW_ONLY
    n: int
    score_level: Level | None
    map_level: Level | None
    alarm_by: AlarmBy
    mean_logit: torch.Tensor | None = field(repr=False)
    map_size: tuple[int, int]
    scale: tuple[float, float]
    made: tuple[Made, ...] = field(default=(), repr=False)
    pixel_range: PixelRange | None = None
    values: np.ndarray = field(default_factory=lambda: np.empty((0, 2)), repr=False)
    _said: set[str] = field(default_factory=set, init=False, repr=False)

    @property
    def level(self) -> Level | None:
        """The level that decides about alarms; for "either" that of scores, one of the two."""
        return self.map_level if self.alarm_by == "map" else self.score_level

    @property
    def thresholds(self) -> tuple[float, float] | None:
        """What score or peak must exceed for an alarm; infinite for one that does not decide."""
        if self.level is None:
            return None
        levels = self.score_level.value, self.map_level.value
        return tuple(deciding(levels, self.alarm_by).tolist())

    def __call__(self, image: Images, *, size: Size | None = None) -> CalibratedLocalization:
        """Localize in one image, and say whether it is an alarm. Raises as `localize` does."""
        results = self.localize(image, size=size)
        if len(results) != 1:
            raise ValueError(f"expected one image; found {len(results)}: use localize")
        return results[0]

    def localize(
        self, images: Images, *, size: Size | None = None, what: str = "new ones"
    ) -> list[CalibratedLocalization]:
        """Localize in each image, and say which are alarms.

        Alarms are decided on maps of `map_size`, where the level was set; the map and the mask are
        then enlarged to `size`. `what` names the images in a warning.
        """
        self.warn_unlike(how_made(images), what)
        images = _in_range(images, self.pixel_range)
        found = self.detector.localize(images, self.class_name, size=self.map_size)
        return [self._decided(result, size) for result in found]

    def warn_unlike(self, made: Sequence[Made], what: str = "new ones") -> None:
        """Warn, once for each `what`, of images that were not made as the normal ones were."""
        if what not in self._said and (difference := unlike(self.made, made, what)):
            self._said.add(what)
            doubt = "comparison" if self.level is None else "level"
            warnings.warn(f"{difference}: the {doubt} may not hold for them", stacklevel=3)

    def _decided(self, result: Localization, size: Size | None) -> CalibratedLocalization:
        both = [one for one in (result.map, result.map_before_tta) if one is not None]
        maps = torch.stack([_subtracted(one, self.mean_logit) for one in both])
        peak = float(maps[0].max())
        limits = self.thresholds
        if size is not None:
            maps = enlarge(maps, size=size, smooth=False)
        return CalibratedLocalization(
            map=maps[0].numpy(),
            score=result.score,
            map_before_tta=maps[1].numpy() if len(maps) > 1 else None,
            peak=peak,
            alarm=None if limits is None else result.score > limits[0] or peak > limits[1],
            mask=None if self.map_level is None else (maps[0] > self.map_level.value).numpy(),
        )


def calibrate(
    detector: Detector,
    normal_images: Images,
    class_name: Words,
    *,
    false_alarms: float | None = None,
    alarm_by: AlarmBy = "score",
    subtract: bool = True,
    pixel_range: PixelRange | None = None,
) -> CalibratedDetector:
    """Make a detector for one kind of thing, with levels for alarms from its normal images.

    `false_alarms`, in (0, 1), is the rate that normal images may have. The default is 0.05 if there
    are enough images (19), else no level: then only the mean map is subtracted. `alarm_by` is the
    image "score", the peak of the "map", or "either" of them, which needs 39 images for 0.05. How
    many anomalous images raise no alarm is not known from normal ones: see `misses`.

    With `subtract`, a map becomes σ(logit − mean logit of
    the normal images' maps), so that a pattern of every normal image is no anomaly. During
    calibration, each normal image is compared with the mean of the *others*, as a new image will
    be: otherwise the rate of false alarms would be too high.

    Images of more than 8 bits, also those that are localized later, are read in one range of
    pixel values, `pixel_range` or the result of `pixel_range_of`.

    Raises ValueError for a rate that needs more images, for fewer than two, and for maps that are
    no probabilities unless `subtract=False`.
    """
    if alarm_by not in ALARM_BY:
        raise ValueError(f"alarm_by must be one of {', '.join(ALARM_BY)}; found {alarm_by!r}")
    rate, images = FALSE_ALARMS if false_alarms is None else false_alarms, as_list(normal_images)
    if (n := len(images)) < 2:
        raise ValueError(f"calibration needs at least two normal images; found {n}")
    if false_alarms is not None or alarm_by == "either":
        _check_enough(n, rate, alarm_by)
    if pixel_range is None and not isinstance(images, torch.Tensor):
        pixel_range = pixel_range_of(images)
    made, images = how_made(images), _in_range(images, pixel_range)
    size = detector(images[0], class_name).map.shape
    found = detector.localize(images, class_name, size=size)
    maps, mean = torch.from_numpy(np.stack([result.map for result in found])), None
    if subtract:
        logits = _logits(maps)
        mean = logits.mean(dim=0)
        maps = (logits - (n * mean - logits) / (n - 1)).sigmoid().float()
    peaks, score_level, map_level = maps.amax(dim=(1, 2)).tolist(), None, None
    values = np.array([[result.score for result in found], peaks]).T
    if n >= images_needed(rate):
        score_level, map_level = (
            Level(float(value), n=n, false_alarms=rate, together=alarm_by == "either")
            for value in alarm_thresholds(values, rate=rate, alarm_by=alarm_by)
        )
    low, top = float(np.median(maps.numpy())), map_level.value if map_level else max(peaks)
    return CalibratedDetector(
        detector,
        class_name,
        n=n,
        score_level=score_level,
        map_level=map_level,
        alarm_by=alarm_by,
        mean_logit=mean,
        map_size=size,
        scale=(low, low + _HEADROOM * max(top - low, 1e-6)),
        made=made,
        pixel_range=pixel_range,
        values=values,
    )


def alarm_thresholds(values: np.ndarray, *, rate: float, alarm_by: AlarmBy) -> np.ndarray:
    """Thresholds (2,) for score and peak from the `values` (n, 2) of normal images.

    Raises ValueError as `conformal_threshold` and `joint_thresholds` do.
    """
    if alarm_by == "either":
        return joint_thresholds(values, rate=rate)
    return np.array([conformal_threshold(column, rate=rate) for column in values.T])


def deciding(thresholds: Sequence[float] | np.ndarray, alarm_by: AlarmBy) -> np.ndarray:
    """The thresholds (2,) for score and peak, infinite for the one that does not decide.

    >>> deciding([0.5, 0.6], "map").tolist()
    [inf, 0.6]
    """
    decides = [alarm_by in (name, "either") for name in ("score", "map")]
    return np.where(decides, thresholds, np.inf)


def _in_range(images: Images, pixel_range: PixelRange | None) -> Images:
    """Read images of more than 8 bits in one range of pixel values."""
    if pixel_range is None or isinstance(images, torch.Tensor):
        return images
    return read_images(as_list(images), pixel_range=pixel_range)


def _logits(maps: torch.Tensor) -> torch.Tensor:
    """Logits of probabilities, in float64: close to one half they differ little."""
    if maps.min() < 0 or maps.max() > 1:
        found = f"{float(maps.min()):.3g} to {float(maps.max()):.3g}"
        raise ValueError(f"maps from {found} are no probabilities: calibrate with subtract=False")
    return maps.double().logit(eps=1e-7)


def _subtracted(values: np.ndarray, mean_logit: torch.Tensor | None) -> torch.Tensor:
    """A map (h, w) minus the mean map of the normal images: σ(logit − mean logit)."""
    own = torch.from_numpy(values)
    return own if mean_logit is None else (_logits(own) - mean_logit).sigmoid().float()
