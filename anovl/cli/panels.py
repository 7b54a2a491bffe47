"""Pictures of maps: a panel for each image of `localize`, and overlays.

Drawn by Pillow, not by matplotlib: a new figure for each image took longer than the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from anovl._shared.messages import one_line

if TYPE_CHECKING:
    from anovl.evaluation.threshold import CalibratedDetector

HEAT = "magma"  # dark to bright in grey print too, and safe for colour-blind readers
SIDE = 420  # pixels: the longer side of the image in its panel
_MARGIN, _BAR, _LABELS, _LINE = 10, 14, 90, 18
_OUTLINE = (0, 229, 255)


@dataclass(frozen=True)
class Scale:
    """The colour scale of maps: dark at `low` and below, bright at `high` and above.

    `says` is printed under the panel: which images set the scale. `level`, that of maps, is a line
    on the colour bar. `score_level` is that of image scores; `alarm_by`, "score", "map" or
    "either", says which of the two decides.

    Raises ValueError unless low < high, both finite.
    """

    low: float
    high: float
    says: str
    level: float | None = None
    score_level: float | None = None
    alarm_by: str = "score"

    def __post_init__(self) -> None:
        if not -np.inf < self.low < self.high < np.inf:
            raise ValueError(
                f"the scale must rise, low before high; found {self.low} and {self.high}"
            )


def scale_of_normal(calibrated: CalibratedDetector) -> Scale:
    """The colour scale of a detector's normal images, with its levels."""
    says = f"scale: {calibrated.n} normal pictures; dark: below their median"
    if calibrated.map_level is None:
        return Scale(*calibrated.scale, says)
    levels = calibrated.map_level.value, calibrated.score_level.value
    return Scale(*calibrated.scale, says, *levels, calibrated.alarm_by)


def scale_of_maps(low: float, high: float, count: int) -> Scale:
    """The colour scale of `count` maps without normal images: the range of their values."""
    these = "this picture" if count == 1 else f"these {count} pictures"
    high = max(high, float(np.nextafter(low, np.inf)))
    return Scale(low, high, f"scale: {these} only; P near 0.5 is usual")


def shrink(image: Image.Image, values: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """Reduce an image and its map to their size in a panel; a smaller map stays as it is."""
    small = image.convert("RGB").resize(_panel_size(image.size), Image.Resampling.BICUBIC)
    heat = Image.fromarray(np.asarray(values, dtype=np.float32))
    if max(heat.size) > SIDE:
        heat = heat.resize(_panel_size(heat.size), Image.Resampling.BILINEAR)
    return small, np.asarray(heat)


def draw_panel(
    image: Image.Image,
    values: np.ndarray,
    scale: Scale,
    *,
    score: float,
    peak: float,
    name: str = "",
    alarm: bool | None = None,
    mask: np.ndarray | None = None,
) -> Image.Image:
    """Draw an image, its map (h, w) and the colour bar: one RGB picture.

    The image score stands above the image, `peak`, the highest value of the map, above the map.
    Each has its own level, and the alarm stands beside what decides: of two, beside those above
    their level. `name`, that of the file, stands below. `mask` (h, w), the pixels above the level
    of maps, is outlined on the image.

    >>> scale = Scale(0.4, 0.6, "scale: these 2 pictures only")
    >>> image, values = Image.new("RGB", (300, 200)), np.full((7, 7), 0.5)
    >>> draw_panel(image, values, scale, score=0.51, peak=0.5).mode
    'RGB'
    """
    shown, values = shrink(image, values)
    width, height = shown.size
    if mask is not None and mask.any():
        shown.paste(_OUTLINE, mask=_outline(mask, (width, height)))
    left, top = 2 * _MARGIN + width, _MARGIN + _LINE
    bar = left + width + _MARGIN
    panel = Image.new("RGB", (bar + _BAR + _LABELS, top + height + 2 * _LINE + _MARGIN), "white")
    panel.paste(shown, (_MARGIN, top))
    heat = Image.fromarray(values)
    smooth = np.asarray(heat.resize(_panel_size(heat.size), Image.Resampling.BILINEAR))
    coloured = _coloured(_unit(smooth, scale.low, scale.high))
    panel.paste(coloured.resize((width, height)), (left, top))
    draw = ImageDraw.Draw(panel)
    for by, x, what, value, level in (
        ("score", _MARGIN, "image score", score, scale.score_level),
        ("map", left, "map, highest", peak, scale.level),
    ):
        own = {by: alarm, "either": alarm and (level is None or value > level)}
        said = _said(f"{what} {value:.4f}", level, own.get(scale.alarm_by))
        _write(draw, (x, _MARGIN), said)
    _write(draw, (_MARGIN, top + height + _MARGIN), scale.says)
    _write(draw, (_MARGIN, top + height + _MARGIN + _LINE), one_line(name))
    _draw_bar(panel, (bar, top), height, scale)
    return panel


def _said(what: str, level: float | None, alarm: bool | None) -> str:
    """
    >>> _said("image score 0.5512", 0.5503, True), _said("map, highest 0.5401", 0.6, None)
    ('image score 0.5512, level 0.5503: alarm', 'map, highest 0.5401, level 0.6000')
    """
    text = what if level is None else f"{what}, level {level:.4f}"
    return text + {None: "", True: ": alarm", False: ": no alarm"}[alarm]


def _panel_size(size: tuple[int, int]) -> tuple[int, int]:
    share = SIDE / max(size)
    return tuple(max(1, round(length * share)) for length in size)


def _unit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return ((values - low) / (high - low)).clip(0, 1)


def _coloured(unit: np.ndarray) -> Image.Image:
    """Values (H, W) from 0 to 1 as colours."""
    return Image.fromarray(matplotlib.colormaps[HEAT](unit, bytes=True)[..., :3])


def _outline(mask: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """The border of a mask, two pixels wide, at the size (width, height)."""
    from scipy.ndimage import binary_erosion

    inside = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    return Image.fromarray(inside & ~binary_erosion(inside, iterations=2))


def _draw_bar(panel: Image.Image, corner: tuple[int, int], height: int, scale: Scale) -> None:
    """The colour bar with its ends and, where there is one, the level."""
    left, top = corner
    ramp = np.linspace(scale.high, scale.low, max(height, 2))[:, None]
    colours = _coloured(_unit(ramp, scale.low, scale.high))
    panel.paste(colours.resize((_BAR, height)), corner)
    draw, x = ImageDraw.Draw(panel), left + _BAR + 5
    _write(draw, (x, top), f"{scale.high:.4f}")
    _write(draw, (x, top + height - _LINE), f"{scale.low:.4f}")
    if scale.level is not None:
        share = (scale.high - scale.level) / (scale.high - scale.low)
        y = top + round(height * min(max(share, 0), 1))
        draw.line([(left - 4, y), (left + _BAR + 3, y)], fill=_OUTLINE, width=2)
        _write(draw, (x, y - _LINE // 2), f"level {scale.level:.4f}")


def _write(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str) -> None:
    draw.text(corner, text, fill="black", font_size=12)


def overlay(
    image: Any, heat: Any, *, vmin: float, vmax: float, opacity: float = 0.7
) -> Image.Image:
    """Lay a map (h, w) over its image in grey: an RGB picture of the image's size.

    From `vmin` to `vmax` the colour goes from clear to `opacity`, so normal regions stay visible.
    The scale has no default: images can be compared only on the same scale.

    Raises ValueError unless vmin < vmax, and for a map that is not finite.

    >>> overlay(Image.new("RGB", (40, 30)), np.eye(4), vmin=0, vmax=1).size
    (40, 30)
    """
    if not vmin < vmax:
        raise ValueError(f"expected vmin < vmax; found {vmin} and {vmax}")
    image = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    heat = np.asarray(heat, dtype=np.float32)
    if not np.isfinite(heat).all():
        raise ValueError("the map has NaN or infinite values, which have no colour")
    heat = np.asarray(Image.fromarray(heat).resize(image.size, Image.Resampling.BILINEAR))
    strength = _unit(heat, vmin, vmax)
    weight = Image.fromarray((255 * opacity * strength).round().astype(np.uint8))
    return Image.composite(_coloured(strength), image.convert("L").convert("RGB"), weight)
