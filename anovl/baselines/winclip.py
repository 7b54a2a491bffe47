"""WinCLIP: each window of the image, encoded by itself."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anovl.attention import embed, project_to_clip_space
from anovl.baselines._base import Baseline
from anovl.detector import Words
from anovl.maps import anomalous_probability
from anovl.prompts import NORMAL_STATES, PromptEnsemble, TextFeatures


@dataclass(frozen=True)
class WinCLIP(Baseline):
    """Score each window of the image by itself; a patch has the mean of the windows that hold it.

    From WinCLIP (Jeong et al., CVPR 2023, arXiv 2303.14814), zero-shot: windows of 2x2 and 3x3
    patches, each encoded without seeing the rest; harmonic means over the windows that hold a
    patch, then over the scales, of which the whole image is one. The `temperature`, on which
    harmonic means depend, is that of anomalib's implementation. Not taken: its memory of normal
    images (few-shot). The image score is plain CLIP's, at this temperature.

    `prompts` are "anovl", so that only the method differs, or "winclip", its own list. Maps are
    enlarged from corner to corner, as AnoVL's; anomalib's interpolation (`align_corners=False`)
    stretches the same grid a little less. On the same weights and prompts, and with the same
    interpolation, maps differ from anomalib's by 6e-8.

    Raises ValueError for windows that do not fit into the model's grid, a temperature not above 0,
    or other prompts.
    """

    _: KW_ONLY
    windows: tuple[int, ...] = (2, 3)
    temperature: float = 0.07
    prompts: Literal["anovl", "winclip"] = "anovl"
    name = "winclip"
    smooth = False

    def __post_init__(self) -> None:
        super().__post_init__()
        sides = range(1, min(self.clip.grid) + 1)
        if not self.windows or any(side not in sides for side in self.windows):
            raise ValueError(
                f"windows must be sides of 1 to {sides[-1]} patches, for the grid of "
                f"{self.clip.grid} of {self.clip.name}; found {self.windows!r}"
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0; found {self.temperature!r}")
        if self.prompts not in ("anovl", "winclip"):
            raise ValueError(f"prompts must be 'anovl' or 'winclip'; found {self.prompts!r}")

    def text(self, class_name: Words) -> TextFeatures:
        if self.prompts == "winclip" and isinstance(class_name, str):
            class_name = winclip_prompts(class_name)
        return super().text(class_name)

    def score_patches(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        visual, grid = self.clip.model.visual, self.clip.grid
        probability = partial(anomalous_probability, text=text, temperature=self.temperature)
        tokens = embed(visual, pixels)
        scores = probability(encode_subsets(visual, tokens, window_tokens(grid, grid))[:, 0])
        scales = [scores[:, None, None].expand(-1, *grid)]
        for side in self.windows:
            inside = window_tokens(grid, (side, side))
            found = probability(encode_subsets(visual, tokens, inside))
            scales.append(harmonic_mean_of_windows(found, grid, side))
        return len(scales) / sum(1 / scale for scale in scales), scores


# Its templates, with the articles that go into each, and its states. One stands twice in anomalib's
# list, and counts twice in the mean.
_TEMPLATES = (
    ("a cropped photo of {} {{}}.", "the"),
    ("a close-up photo of {} {{}}.", "a the"),
    ("a bright photo of {} {{}}.", "a the"),
    ("a dark photo of {} {{}}.", "the a"),
    ("a jpeg corrupted photo of {} {{}}.", "the the"),
    ("a blurry photo of {} {{}}.", "the a"),
    ("a photo of {} {{}}.", "a the"),
    ("a photo of {} small {{}}.", "a the"),
    ("a photo of {} large {{}}.", "a the"),
    ("a photo of {} {{}} for visual inspection.", "the a"),
    ("a photo of {} {{}} for anomaly detection.", "the a"),
)
_NORMAL = ("{}", *NORMAL_STATES[1:])
_ANOMALOUS = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")


def winclip_prompts(class_name: str) -> PromptEnsemble:
    """WinCLIP's own prompts: 7 normal and 4 anomalous states in 21 templates, "photo" alone.

    >>> ensemble = winclip_prompts("bottle")
    >>> len(ensemble.normal), len(ensemble.anomalous), ensemble.anomalous[0]
    (147, 84, 'a cropped photo of the damaged bottle.')

    Raises ValueError for an empty name.
    Source: anomalib, models/image/winclip/prompting.py.
    """
    if not isinstance(class_name, str) or not class_name.strip():
        raise ValueError(f"the class name must be words; found {class_name!r}")
    templates = [t.format(article) for t, articles in _TEMPLATES for article in articles.split()]
    prompts = (
        tuple(t.format(state.format(class_name)) for state in states for t in templates)
        for states in (_NORMAL, _ANOMALOUS)
    )
    return PromptEnsemble(*prompts, class_name)


def window_tokens(grid: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """The tokens of every window (rows, columns) that fits into a grid: (windows, 1 + patches).

    Token 0 is the class token, which is in all of them; windows go from left to right, then down.

    >>> window_tokens((2, 3), (2, 2))
    tensor([[0, 1, 2, 4, 5],
            [0, 2, 3, 5, 6]])
    """
    numbers = torch.arange(1.0, 1 + grid[0] * grid[1]).view(1, *grid)
    return F.pad(F.unfold(numbers, window).T.long(), (1, 0))


def encode_subsets(visual: nn.Module, tokens: Tensor, subsets: Tensor) -> Tensor:
    """Class embeddings (B, W, D) of W subsets of the tokens of each image, all at once.

    `tokens` (B, 1 + h·w, width) are embedded, positions and all; `subsets` (W, n) picks from them.
    """
    z = tokens[:, subsets.to(tokens.device)].flatten(0, 1)
    for block in visual.transformer.resblocks:
        z = block(z)
    return project_to_clip_space(visual, z[:, 0]).unflatten(0, (len(tokens), len(subsets)))


def harmonic_mean_of_windows(scores: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Give each patch the harmonic mean (B, h, w) of the scores (B, W) of windows that hold it.

    >>> harmonic_mean_of_windows(torch.tensor([[0.2, 0.6]]), (2, 3), 2)
    tensor([[[0.2000, 0.3000, 0.6000],
             [0.2000, 0.3000, 0.6000]]])

    Source: WinCLIP's paper.
    """
    inverse = torch.stack([1 / scores, torch.ones_like(scores)])
    spread = inverse[:, :, None].expand(-1, -1, side * side, -1).flatten(0, 1)
    total, count = F.fold(spread, grid, side).unflatten(0, inverse.shape[:2])[:, :, 0]
    return count / total
