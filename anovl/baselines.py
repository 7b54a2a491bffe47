"""What AnoVL is compared with, behind its signature: `method.localize(images, category)`.

Four ways in which others make CLIP point at a place. They use AnoVL's prompts, so that only the way
of looking differs; for a paper's own prompts, give a `PromptEnsemble` as the category. Plain CLIP
is AnoVL with ordinary attention. Methods that know no words are in `anovl.controls`.
"""

from __future__ import annotations

import difflib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from anovl.attention import (
    check_first_block,
    embed,
    encode_images,
    feed_forward,
    join_heads,
    project,
    read_out,
)
from anovl.clip import Clip, Images, at_work, preprocess
from anovl.controls import Centre, DifferenceOfGaussians, PatchOutlier, Shuffled
from anovl.detector import AnoVL, Category, ClipDetector, Detector, Localization, as_list
from anovl.maps import (
    Size,
    abnormal_probability,
    cosines,
    image_scores,
    smooth_and_upsample,
    upsample,
)
from anovl.prompts import TextFeatures
from anovl.relevance import relevance
from anovl.windows import encode_subsets, harmonic_mean_of_windows, window_tokens


@dataclass(frozen=True)
class Baseline(ClipDetector):
    """A method that says in `look` how abnormal each patch and each image of a batch is.

    What it says of patches is enlarged to a map as AnoVL's is: a 3x3 mean, then bilinear.
    """

    enlarge = staticmethod(smooth_and_upsample)

    @abstractmethod
    def look(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Values on the grid (B, h, w) and scores (B,) of preprocessed images (B, 3, H, W)."""

    def localize(
        self, images: Images, category: Category, *, size: Size | None = None
    ) -> list[Localization]:
        images, results = as_list(images), []
        size = self.clip.image_size if size is None else size
        weight = self.clip.model.visual.conv1.weight
        with torch.inference_mode(False), torch.no_grad(), at_work(self.clip):
            text = self.text(category)
            for start in range(0, len(images), self.batch_size):
                batch = preprocess(self.clip, images[start : start + self.batch_size])
                values, scores = self.look(batch.to(weight), text)
                maps = self.enlarge(values, size=size).cpu().numpy()
                results += map(Localization, maps, scores.tolist())
        return results


@dataclass(frozen=True)
class MaskCLIP(Baseline):
    """The last block's values in place of what its attention would mix from them.

    From MaskCLIP (Zhou et al., ECCV 2022, "Extract Free Dense Labels from CLIP"): drop queries and
    keys of the last block, keep its values and W_O. As in the published code for transformers, the
    rest of the block, skip connection and MLP, stays; `values_only` leaves it out. Not taken:
    prompt denoising and key smoothing, which mend label maps of many classes. The image score is
    plain CLIP's.

    >>> import open_clip
    >>> vision = dict(image_size=32, patch_size=16, width=64, layers=2)
    >>> model = open_clip.CLIP(8, vision, dict(width=64, heads=1, layers=1))
    >>> method = MaskCLIP(Clip(model, open_clip.tokenize, image_size=32), level="word")
    >>> method(torch.zeros(1, 3, 32, 32), "nut").map.shape
    (32, 32)
    """

    _: KW_ONLY
    values_only: bool = False
    name = "maskclip"

    def look(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        visual = self.clip.model.visual
        z, u = value_path(visual, pixels, values_only=self.values_only)
        patches = read_out(visual, u[:, 1:]).unflatten(1, self.clip.grid)
        return abnormal_probability(patches, text), image_scores(read_out(visual, z[:, 0]), text)


def value_path(
    visual: nn.Module, images: Tensor, *, values_only: bool = False
) -> tuple[Tensor, Tensor]:
    """Run images (B, 3, H, W) to the end in two ways: tokens z and u (B, 1 + h·w, width).

    Stream z is the model's own. Stream u is the same up to the last block, where each token keeps
    its own value: attention whose weights are the identity matrix.

        a = W_O W_V LN(z)        u = z + a + MLP(LN(z + a)), or u = a if `values_only`
    """
    *blocks, last = visual.transformer.resblocks
    z = embed(visual, images)
    for block in blocks:
        z = block(z)
    added = join_heads(last, project(last, z, "v"))
    return last(z), added if values_only else feed_forward(last, z + added)


@dataclass(frozen=True)
class ClipSurgery(Baseline):
    """The local path through the last blocks only and, if asked for, feature surgery.

    From CLIP Surgery (Li et al., arXiv 2304.05653): V-V attention beside the ordinary path, without
    MLP, in the last six blocks. `first_block` is where it starts; None is six blocks from the end
    or, in a model of fewer than twelve, in the middle, so that it does not become AnoVL's path.
    `surgery` adds the second half of the paper, `feature_surgery`. Not taken: its templates, made
    for ImageNet, and stretching each map to 0-1, which makes every image look damaged. The image
    score is plain CLIP's.

    Raises ValueError for a block that the model does not have.
    """

    _: KW_ONLY
    first_block: int | None = None
    surgery: bool = False
    name = "clip-surgery"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_first_block(self.clip, self.start)

    @property
    def start(self) -> int:
        """The first block of the local path, counted from 1."""
        depth = len(self.clip.model.visual.transformer.resblocks)
        published = depth + 1 - min(6, (depth + 1) // 2)
        return published if self.first_block is None else self.first_block

    def look(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        features = encode_images(
            self.clip, pixels, first_block=self.start, batch_size=self.batch_size
        )
        scores = image_scores(features.cls, text)
        if not self.surgery:
            return abnormal_probability(features.patches, text), scores
        similarity = feature_surgery(cosines(features.patches, text), cosines(features.cls, text))
        return similarity.softmax(dim=-1)[..., 1], scores


def feature_surgery(patches: Tensor, cls: Tensor) -> Tensor:
    """Take from each patch's cosines (B, h, w, C) to C texts what all the texts share.

    The shared part is the mean over texts, each weighted by how much of the image it claims: the
    softmax of twice the cosines (B, C) of the class token, divided by its mean. Summed over the
    channels this is the published subtraction of "redundant features".

    >>> feature_surgery(torch.tensor([[[[0.1, 0.3]]]]), torch.tensor([[0.2, 0.2]]))
    tensor([[[[-0.1000,  0.1000]]]])

    Source: CLIP Surgery's published code.
    """
    claims = (2 * cls).softmax(dim=-1)
    weights = claims / claims.mean(dim=-1, keepdim=True)
    weighted = patches * weights[:, None, None]
    return weighted - weighted.mean(dim=-1, keepdim=True)


@dataclass(frozen=True)
class WinCLIP(Baseline):
    """How abnormal is each window of the image, by itself? A patch asks all windows that hold it.

    From WinCLIP (Jeong et al., CVPR 2023, arXiv 2303.14814), zero-shot: windows of 2x2 and 3x3
    patches, each encoded without seeing the rest; harmonic means over the windows that hold a
    patch, then over the scales, of which the whole image is one. The `temperature`, on which
    harmonic means depend, is that of anomalib's implementation. Not taken: its lists of prompts,
    shorter than AnoVL's, and its memory of normal images (few-shot). The image score is plain
    CLIP's, at this temperature.

    Raises ValueError for windows that do not fit into the model's grid, or a temperature not
    above 0.
    """

    _: KW_ONLY
    windows: tuple[int, ...] = (2, 3)
    temperature: float = 0.07
    name = "winclip"
    enlarge = staticmethod(upsample)

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

    def look(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        visual, grid = self.clip.model.visual, self.clip.grid
        probability = partial(abnormal_probability, text=text, temperature=self.temperature)
        tokens = embed(visual, pixels)
        scores = probability(encode_subsets(visual, tokens, window_tokens(grid, grid))[:, 0])
        scales = [scores[:, None, None].expand(-1, *grid)]
        for side in self.windows:
            inside = window_tokens(grid, (side, side))
            found = probability(encode_subsets(visual, tokens, inside))
            scales.append(harmonic_mean_of_windows(found, grid, side))
        return len(scales) / sum(1 / scale for scale in scales), scores


@dataclass(frozen=True)
class TransMM(Baseline):
    """Which patches made the image look abnormal? Attention, weighted by its gradient.

    From Chefer et al. (ICCV 2021, "Generic Attention-model Explainability"), for CLIP: what the
    logit of an image with a text owes to each patch, by `relevance`. The text is the abnormal
    prototype. `first_block=1` goes through all blocks, as the paper's rule does; the authors'
    notebook for CLIP takes the last one alone. Not taken: stretching each map to 0-1. A map holds
    relevance from 0 on, not probability; the image score is plain CLIP's.

    Raises ValueError for a block that the model does not have.
    """

    _: KW_ONLY
    first_block: int = 1
    batch_size: int = 4  # the attention of all blocks is in memory, with its gradients
    name = "transmm"
    enlarge = staticmethod(upsample)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_first_block(self.clip, self.first_block)

    def look(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        def logits(cls: Tensor) -> Tensor:
            return self.clip.model.logit_scale.exp() * cosines(cls, text)[:, 1]

        relevant, cls = relevance(
            self.clip.model.visual, pixels, logits, first_block=self.first_block
        )
        return relevant.unflatten(1, self.clip.grid), image_scores(cls, text)


METHODS: dict[str, Callable[..., Detector]] = {
    "clip": partial(AnoVL, attention="qk"),
    "transmm": TransMM,
    "maskclip": MaskCLIP,
    "clip-surgery": ClipSurgery,
    "winclip": WinCLIP,
    "anovl": AnoVL,
    "anovl-tta": partial(AnoVL, tta=True),
    "centre": lambda clip, **options: Centre(clip.image_size, **options),
    "shuffled": lambda clip, **options: Shuffled(AnoVL(clip, **options)),
    "outlier": lambda clip, **options: PatchOutlier(clip.image_size, **options),
    "dog": lambda clip, **options: DifferenceOfGaussians(clip.image_size, **options),
}
VARIANTS: dict[str, Callable[..., Detector]] = {
    "anovl-qq": partial(AnoVL, attention="qq"),
    "anovl-kk": partial(AnoVL, attention="kk"),
}
"""Methods that are there to be compared with AnoVL, and that no paper proposes."""


def make_detector(name: str, clip: Clip, **options: Any) -> Detector:
    """Make a method by its name in tables; the options are those of its class.

    >>> list(METHODS)[:5]
    ['clip', 'transmm', 'maskclip', 'clip-surgery', 'winclip']

    Raises ValueError for an unknown name, or for options that would make it another method.
    """
    known = METHODS | VARIANTS
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no method {name!r}: {hint}There are {', '.join(known)}")
    detector = known[name](clip, **options)
    if detector.name != name:
        raise ValueError(f"with these options, {name!r} is {detector.name!r}: ask for that name")
    return detector


# How the published code runs on a data set, where that differs: image scores over 22 views, or
# square tiles (with which test-time adaptation has the linear adapter).
PROTOCOLS: dict[str, dict[str, Any]] = {"mvtec": {"views": 22}, "visa": {"tiles": True}}
_WITH_PROTOCOL = ("clip", "anovl", "anovl-tta", "shuffled")


def published_options(method: str, dataset: str) -> dict[str, Any]:
    """Return the options for `make_detector` with which a method keeps a data set's protocol.

    Methods compared with AnoVL keep it too where they can; the others, and other data sets, have
    none.

    >>> published_options("anovl-tta", "visa"), published_options("dog", "visa")
    ({'tiles': True}, {})

    Source: published code (its scripts for MVTec AD and for VisA).
    """
    return dict(PROTOCOLS.get(dataset, {})) if method in _WITH_PROTOCOL else {}
