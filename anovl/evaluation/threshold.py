"""From maps and scores to a decision: levels for alarms, set by normal images alone.

`calibrate` looks at normal images of one kind of thing and returns a detector that is bound to it:
it subtracts their mean map, and raises an alarm above a level that keeps a promise.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import torch

from anovl._shared.messages import counted
from anovl.clip import Images, as_list
from anovl.detector import Detector, Localization, Words
from anovl.evaluation.alike import Made, how_made, unlike
from anovl.images import PixelRange, pixel_range_of, read_images
from anovl.maps import Size, enlarge

FALSE_ALARMS = 0.05  # the promise, where none is asked for
AlarmBy: TypeAlias = Literal["score", "map"]
_HEADROOM = 1.6  # the bright end of a scale, as a multiple of the way from the median to the level


def conformal_threshold(normal: Sequence[float] | np.ndarray, *, rate: float = 0.1) -> float:
    """The score above which to raise an alarm, if at most `rate` of normal images may raise one.

    `normal` holds the scores of n normal images, higher = more anomalous. If the next normal image
    comes from where these came from, each place among the n + 1 is equally likely for it, so it
    lies above the k-th smallest, k = ⌈(n + 1) (1 - rate)⌉, with a probability of at most `rate`,
    whatever the scores are like, as long as these images have decided nothing else. The promise is
    for the average over such sets of normal images.

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
    if len(scores) < (needed := images_needed(rate)):
        raise ValueError(
            f"a rate of {rate:g} needs at least {counted(needed, 'normal image')}; "
            f"found {len(scores)}: "
            "collect more, or allow more alarms"
        )
    return float(np.sort(scores)[_rank(len(scores), rate) - 1])


def images_needed(rate: float) -> int:
    """How many normal images a promise of at most `rate` false alarms needs: 1/rate - 1.

    >>> images_needed(0.05), images_needed(0.01)
    (19, 99)

    Raises ValueError for a rate outside (0, 1).
    """
    if not 0 < rate < 1:
        raise ValueError(f"a rate of false alarms is between 0 and 1, such as 0.1; found {rate!r}")
    return math.ceil(1 / rate - 1 - 1e-9)


def _rank(n: int, rate: float) -> int:
    """Which of n sorted scores is the level: the k-th smallest, k = ⌈(n + 1) (1 - rate)⌉."""
    return math.ceil((n + 1) * (1 - rate) - 1e-9)


@dataclass(frozen=True)
class Level:
    """A level for alarms, and what it promises: at most `false_alarms` of normal images above it.

    `value` was set by `n` normal images. Over many such sets the rate of false alarms is `expected`
    on average; one set in twenty is so unlucky that its rate is above `unlucky`.

    >>> level = Level(0.54, n=19, false_alarms=0.05)
    >>> round(level.expected, 3), round(level.unlucky, 3)
    (0.05, 0.146)
    """

    value: float
    _: KW_ONLY
    n: int
    false_alarms: float

    @property
    def expected(self) -> float:
        """The rate of false alarms, averaged over all sets of n normal images: at most promised."""
        return 1 - _rank(self.n, self.false_alarms) / (self.n + 1)

    @property
    def unlucky(self) -> float:
        """The rate that one set in twenty exceeds: the 95 % quantile of Beta(n + 1 - k, k)."""
        from scipy.stats import beta

        k = _rank(self.n, self.false_alarms)
        return float(beta.ppf(0.95, self.n + 1 - k, k))


@dataclass(frozen=True, eq=False)
class CalibratedLocalization(Localization):
    """A `Localization` with an answer: `alarm`, and the `mask` (H, W) of what lies above the level.

    Both are None where too few normal images have set no level. `peak` is the highest value of the
    map. `map` has the mean map of the normal images subtracted, unless that was turned off.
    """

    _: KW_ONLY
    peak: float = float("nan")
    alarm: bool | None = None
    mask: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class CalibratedDetector:
    """A detector bound to one kind of thing and to what its normal images look like.

    `calibrate` makes it. `score_level` and `map_level` are for the image score and for the highest
    value of a map: each promise holds for itself, alarms of either would come at up to twice the
    rate. They are None where there are too few normal images. `alarm_by` says which one decides.
    `mean_logit` (h, w) is subtracted from each map in logits, None for no subtraction. `scale` is
    for pictures of maps: from the median of the normal images' maps to well above the level.
    `made` is how the normal images were made: it warns, once, of new ones that were made otherwise.
    `pixel_range` is the range of values in which these were read, and new ones are; None for images
    of 8 bits.
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
    _said: list[str] = field(default_factory=list, init=False, repr=False)

    @property
    def level(self) -> Level | None:
        """The level that decides about alarms."""
        return self.map_level if self.alarm_by == "map" else self.score_level

    def __call__(self, image: Images, *, size: Size | None = None) -> CalibratedLocalization:
        """Localize in one image, and say whether it is an alarm. Raises as `localize` does."""
        results = self.localize(image, size=size)
        if len(results) != 1:
            raise ValueError(f"expected one image; found {len(results)}: use localize")
        return results[0]

    def localize(self, images: Images, *, size: Size | None = None) -> list[CalibratedLocalization]:
        """Localize in each image, and say which are alarms.

        Alarms are decided on maps of `map_size`, where the level was set; the map and the mask are
        then enlarged to `size`.
        """
        self.mention_unlike(images)
        images = _in_range(images, self.pixel_range)
        found = self.detector.localize(images, self.class_name, size=self.map_size)
        return [self._answer(result, size) for result in found]

    def mention_unlike(self, images: Images) -> None:
        """Warn, once for this object, of images that were not made as the normal ones were."""
        if not self._said and (difference := unlike(self.made, how_made(images))):
            what = "comparison" if self.level is None else "promise"
            self._said.append(f"{difference}: the {what} holds for pictures made in the same way")
            warnings.warn(self._said[0], stacklevel=3)

    def _answer(self, result: Localization, size: Size | None) -> CalibratedLocalization:
        values, before = (
            None if one is None else _subtracted(torch.from_numpy(one), self.mean_logit)
            for one in (result.map, result.map_before_tta)
        )
        peak = float(values.max())
        level, value = self.level, peak if self.alarm_by == "map" else result.score
        if size is not None:
            values, before = (
                None if one is None else enlarge(one[None], size=size, smooth=False)[0]
                for one in (values, before)
            )
        return CalibratedLocalization(
            map=values.numpy(),
            score=result.score,
            map_before_tta=None if before is None else before.numpy(),
            peak=peak,
            alarm=None if level is None else bool(value > level.value),
            mask=None if self.map_level is None else (values > self.map_level.value).numpy(),
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
    """Bind a detector to a kind of thing and to its normal images, which set a level for alarms.

    `false_alarms` is the promise, a rate in (0, 1): at most so many normal images raise an alarm.
    Where none is given it is 0.05 if there are enough images (19), else there is no level, and the
    mean map is subtracted all the same. `alarm_by` is the image "score" or the peak of the "map".
    With `subtract`, a map becomes σ(logit − mean logit of the normal images' maps), so that what
    every image of this thing shows at a place is no anomaly. While calibrating, each normal image
    is compared with the mean of the *others*, as an image to come will be: otherwise more normal
    images would raise an alarm than promised.

    Images of more than 8 bits have one range of pixel values, `pixel_range` or what
    `pixel_range_of` finds, and so have those that are localized later.

    Raises ValueError for a promise that needs more images, for fewer than two, and for maps that
    are no probabilities unless `subtract=False`.
    """
    if alarm_by not in ("score", "map"):
        raise ValueError(f"alarm_by must be 'score' or 'map'; found {alarm_by!r}")
    rate = FALSE_ALARMS if false_alarms is None else false_alarms
    needed, images = images_needed(rate), as_list(normal_images)
    if (n := len(images)) < 2:
        raise ValueError(f"calibration needs at least two normal images; found {n}")
    if false_alarms is not None and n < needed:
        raise ValueError(
            f"at most {rate:.3g} false alarms need at least {counted(needed, 'normal image')}; "
            f"found {n}: "
            "collect more, or allow more false alarms"
        )
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
    if n >= needed:
        score_level, map_level = (
            Level(conformal_threshold(values, rate=rate), n=n, false_alarms=rate)
            for values in ([result.score for result in found], peaks)
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
    )


def _in_range(images: Images, pixel_range: PixelRange | None) -> Images:
    """Read pictures in the one range of pixel values that they have, if any."""
    if pixel_range is None or isinstance(images, torch.Tensor):
        return images
    return read_images(as_list(images), pixel_range=pixel_range)


def _logits(maps: torch.Tensor) -> torch.Tensor:
    """Logits of probabilities, in float64: close to one half they differ little."""
    if maps.min() < 0 or maps.max() > 1:
        raise ValueError(
            "a mean map is subtracted from probabilities, 0 to 1; these maps go from "
            f"{float(maps.min()):.3g} to {float(maps.max()):.3g}: calibrate with subtract=False"
        )
    return maps.double().logit(eps=1e-7)


def _subtracted(values: torch.Tensor, mean_logit: torch.Tensor | None) -> torch.Tensor:
    """A map (h, w) less the mean map of the normal images: σ(logit − mean logit)."""
    if mean_logit is None:
        return values
    return (_logits(values) - mean_logit).sigmoid().float()
