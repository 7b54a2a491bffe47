"""One picture beside its map, on a scale that is printed: what `localize` draws for each image.

Drawn by Pillow, not by matplotlib: a new figure for each image took longer than the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HEAT = "magma"  # dark to bright in grey print too, and safe for colour-blind readers
SIDE = 420  # pixels: the longer side of the image in its panel
_MARGIN, _BAR, _LABELS, _LINE = 10, 14, 150, 18
_OUTLINE = (0, 229, 255)


@dataclass(frozen=True)
class Scale:
    """The colours of maps: dark at `low` and below, bright at `high` and above.

    `says` is printed under the panel: which images set it. `level`, that of maps, where there is
    one, is a line on the colour bar with the promise `level_says` beside it. `score_level` is that
    of image scores, and `alarm_by`, "score" or "map", says which of the two decides.

    Raises ValueError unless low < high, both finite.
    """

    low: float
    high: float
    says: str
    level: float | None = None
    level_says: tuple[str, ...] = ()
    score_level: float | None = None
    alarm_by: str = "score"

    def __post_init__(self) -> None:
        if not -np.inf < self.low < self.high < np.inf:
            raise ValueError(
                f"the scale must rise, low before high; found {self.low} and {self.high}"
            )


def draw_panel(
    image: Image.Image,
    values: np.ndarray,
    scale: Scale,
    *,
    score: float,
    alarm: bool | None = None,
    mask: np.ndarray | None = None,
) -> Image.Image:
    """Draw an image, its map (h, w) and the colour bar: one RGB picture.

    The image score stands above the image and the highest value of the map above the map: they are
    two things, each with its own level, and the alarm stands beside the one that decides. `mask`
    (h, w), what lies above the level of maps, is outlined on the image.

    >>> scale = Scale(0.4, 0.6, "scale: these 2 pictures only")
    >>> draw_panel(Image.new("RGB", (300, 200)), np.full((7, 7), 0.5), scale, score=0.51).mode
    'RGB'
    """
    width, height = _shown_size(image.size)
    shown = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    if mask is not None and mask.any():
        shown.paste(_OUTLINE, mask=_outline(mask, (width, height)))
    left, top = 2 * _MARGIN + width, _MARGIN + _LINE
    bar = left + width + _MARGIN
    panel = Image.new("RGB", (bar + _BAR + _LABELS, top + height + 2 * _LINE + _MARGIN), "white")
    panel.paste(shown, (_MARGIN, top))
    panel.paste(_coloured(values, scale).resize((width, height)), (left, top))
    draw = ImageDraw.Draw(panel)
    by_map = scale.alarm_by == "map"
    said = _said(f"image score {score:.4f}", scale.score_level, None if by_map else alarm)
    _write(draw, (_MARGIN, _MARGIN), said)
    said = _said(f"map, highest {values.max():.4f}", scale.level, alarm if by_map else None)
    _write(draw, (left, _MARGIN), said)
    _write(draw, (_MARGIN, top + height + _MARGIN), scale.says)
    _draw_bar(panel, (bar, top), height, scale)
    return panel


def _said(what: str, level: float | None, alarm: bool | None) -> str:
    """
    >>> _said("image score 0.5512", 0.5503, True), _said("map, highest 0.5401", 0.6, None)
    ('image score 0.5512, level 0.5503: alarm', 'map, highest 0.5401, level 0.6000')
    """
    text = what if level is None else f"{what}, level {level:.4f}"
    return text + {None: "", True: ": alarm", False: ": no alarm"}[alarm]


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    share = SIDE / max(size)
    return tuple(max(1, round(length * share)) for length in size)


def _coloured(values: np.ndarray, scale: Scale) -> Image.Image:
    """A map in the colours of its scale, enlarged smoothly before it is coloured."""
    import matplotlib

    grey = Image.fromarray(np.asarray(values, dtype=np.float32))
    size = _shown_size(grey.size)
    smooth = np.asarray(grey.resize(size, Image.Resampling.BILINEAR))
    unit = ((smooth - scale.low) / (scale.high - scale.low)).clip(0, 1)
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
    panel.paste(_coloured_column(ramp, scale).resize((_BAR, height)), corner)
    draw, x = ImageDraw.Draw(panel), left + _BAR + 5
    _write(draw, (x, top), f"{scale.high:.4f}")
    _write(draw, (x, top + height - _LINE), f"{scale.low:.4f}")
    if scale.level is not None:
        share = (scale.high - scale.level) / (scale.high - scale.low)
        y = top + round(height * min(max(share, 0), 1))
        draw.line([(left - 4, y), (left + _BAR + 3, y)], fill=_OUTLINE, width=2)
        _write(draw, (x, y - _LINE // 2), f"level {scale.level:.4f}")
        for line, text in enumerate(scale.level_says):
            _write(draw, (x, y + _LINE // 2 + _LINE * line), text)


def _coloured_column(ramp: np.ndarray, scale: Scale) -> Image.Image:
    import matplotlib

    unit = (ramp - scale.low) / (scale.high - scale.low)
    return Image.fromarray(matplotlib.colormaps[HEAT](unit, bytes=True)[..., :3])


def _write(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str) -> None:
    draw.text(corner, text, fill="black", font=_font())


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), 12)


def overlay(
    image: Any, heat: Any, *, vmin: float, vmax: float, opacity: float = 0.7
) -> Image.Image:
    """Lay a map (h, w) over its image in grey: an RGB picture of the image's size.

    From `vmin` to `vmax` the colour goes from clear to `opacity`, so what is normal stays visible.
    The scale has no default: it has to be the same for all images that are to be compared.

    Raises ValueError unless vmin < vmax, and for a map that is not finite.

    >>> overlay(Image.new("RGB", (40, 30)), np.eye(4), vmin=0, vmax=1).size
    (40, 30)
    """
    import matplotlib

    if not vmin < vmax:
        raise ValueError(f"expected vmin < vmax; found {vmin} and {vmax}")
    image = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    heat = np.asarray(heat, dtype=np.float32)
    if not np.isfinite(heat).all():
        raise ValueError("the map has NaN or infinite values, which have no colour")
    heat = np.asarray(Image.fromarray(heat).resize(image.size, Image.Resampling.BILINEAR))
    strength = ((heat - vmin) / (vmax - vmin)).clip(0, 1)
    colours = Image.fromarray(matplotlib.colormaps[HEAT](strength, bytes=True)[..., :3])
    weight = Image.fromarray((255 * opacity * strength).round().astype(np.uint8))
    return Image.composite(colours, image.convert("L").convert("RGB"), weight)
