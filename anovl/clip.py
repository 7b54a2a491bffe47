"""The CLIP wrapper: model, tokenizer, image size, preprocessing, text tower.

The first of the seven files of the method; then come `prompts`, `attention`, `maps`, `adapt`,
`protocols` and `detector`. "The paper" is AnoVL (arXiv 2308.15939); "published" means: as in the
code that its authors released. None of CLIP's weights are trained.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from anovl.images import read_images

Images: TypeAlias = Tensor | Image.Image | str | Path | Sequence[Image.Image | str | Path]

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, eq=False)
class Clip:
    """An open_clip model with its tokenizer, image size, preprocessing and identity.

    `image_size` is one side or (height, width); `weights_hash` is the SHA-256 of the weights' file,
    by default of the state dict; `mean`, `std` and `interpolation` (Pillow's) are for `preprocess`;
    `precision` is that of both towers, by autocast; outputs are float32.

    >>> toy_clip.grid, toy_clip.embed_dim
    ((2, 2), 8)

    Raises ValueError for a model without class token and plain attention, another image size than
    the model's, or an unknown precision or interpolation.
    """

    model: nn.Module = field(repr=False)
    tokenizer: Callable[[list[str]], Tensor] = field(repr=False)
    _: KW_ONLY
    image_size: int | tuple[int, int]
    name: str = "custom"
    weights_hash: str = ""
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    interpolation: Image.Resampling = Image.Resampling.BICUBIC
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check_architecture(self.model, self.name)
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise ValueError(f"precision must be one of {known}; found {self.precision!r}")
        size = self.image_size
        height, width = (size, size) if isinstance(size, int) else size
        rows, columns = self.model.visual.patch_size
        if (height // rows, width // columns) != self.grid:
            expected = "x".join(map(str, self.model.visual.image_size))
            raise ValueError(
                f"{self.name} takes images of {expected} pixels (height x width), "
                f"not {height}x{width}: its position embeddings are for a grid of {self.grid}"
            )
        object.__setattr__(self, "image_size", (height, width))
        object.__setattr__(self, "interpolation", Image.Resampling(self.interpolation))
        if not self.weights_hash:
            object.__setattr__(self, "weights_hash", hash_state_dict(self.model.state_dict()))

    @property
    def grid(self) -> tuple[int, int]:
        """Patches from top to bottom and from left to right (h, w)."""
        return tuple(self.model.visual.grid_size)

    @property
    def embed_dim(self) -> int:
        """Width D of the space that images and texts share."""
        visual = self.model.visual
        return visual.conv1.out_channels if visual.proj is None else visual.proj.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.visual.conv1.weight.device


def preprocess(clip: Clip, images: Images) -> Tensor:
    """Resize and normalise images for the model: float32 (B, 3, H, W).

    Unlike CLIP's own transform this crops nothing, because defects may lie near the border: the
    whole picture is squeezed, antialiased. Tensors count as preprocessed.

    >>> preprocess(toy_clip, [Image.new("RGB", (50, 40)), Image.new("L", (9, 9))]).shape
    torch.Size([2, 3, 32, 32])

    Raises ValueError for an empty list, or a tensor of another shape or range.
    Source: published code (square resize, CLIP mean and standard deviation).
    """
    if isinstance(images, Tensor):
        check_pixels(clip, images)
        return images.float()
    images = as_list(images)
    if not images:
        raise ValueError("no images given: expected at least one picture or path")
    height, width = clip.image_size
    pictures = [one.resize((width, height), clip.interpolation) for one in read_images(images)]
    return normalise(clip, pictures)


def normalise(clip: Clip, pictures: Sequence[Image.Image]) -> Tensor:
    """Normalise RGB pictures of one size: (value / 255 - mean) / std, float32 (B, 3, H, W)."""
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    pixels = pixels.permute(0, 3, 1, 2).float() / 255  # (B, H, W, 3) → (B, 3, H, W)
    return (pixels - torch.tensor(clip.mean).view(3, 1, 1)) / torch.tensor(clip.std).view(3, 1, 1)


def as_list(images: Images) -> list[Image.Image | str | Path] | Tensor:
    """One image or several as a list, or as a tensor (B, 3, H, W)."""
    if isinstance(images, Tensor):
        return images[None] if images.ndim == 3 else images
    return [images] if isinstance(images, (Image.Image, str, Path)) else list(images)


def batches(clip: Clip, images: list | Tensor, size: int) -> list[list | Tensor]:
    """Split images into batches of one shape: equal images get equal results.

    Rounding depends on the shape. A CPU gets single images, a GPU `size`; copies fill the last.

    >>> batches(toy_clip, ["a", "b"], 16)
    [['a'], ['b']]
    """
    size = 1 if clip.device.type == "cpu" else size
    found = [images[start : start + size] for start in range(0, len(images), size)]
    if found and (spare := size - len(found[-1])):
        last, order = found[-1], [*range(size - spare), *[-1] * spare]
        found[-1] = last[order] if isinstance(last, Tensor) else [last[i] for i in order]
    return found


def encode_text(clip: Clip, texts: Sequence[str], *, batch_size: int = 256) -> Tensor:
    """Encode N texts as embeddings (N, D), float32, not normalised.

    The padding behind a batch's longest text is cut off: a causal text tower gives the same result
    without it, about five times faster. Equal texts are encoded once.

    >>> encode_text(toy_clip, ["a nut", "a bolt", "a nut"]).shape
    torch.Size([3, 8])

    Raises ValueError for an empty list or text; warns when the end of a text may be lost.
    """
    given = [] if isinstance(texts, str) else list(texts)
    if not given or not all(isinstance(text, str) and text.strip() for text in given):
        raise ValueError(f"expected a list of one or more texts, none empty; found {texts!r:.200}")
    unique = {text: row for row, text in enumerate(dict.fromkeys(given))}
    tokens = clip.tokenizer(list(unique))
    with torch.inference_mode(), inference_context(clip):
        batches = tokens.to(clip.device).split(batch_size)
        features = [encode_tokens(clip.model, batch).float() for batch in batches]
    return torch.cat(features)[[unique[text] for text in given]]


def encode_tokens(model: nn.Module, tokens: Tensor) -> Tensor:
    """Run the text tower on token ids (N, L) → (N, D), cut behind the last end of text.

    This holds for towers like CLIP's: causal, read at the largest token id. Others run their own
    `encode_text`.
    """
    tower = getattr(model, "text", model)  # in open_clip's CLIP the text tower is the model itself
    pooling = getattr(tower, "pool_type" if tower is not model else "text_pool_type", None)
    mask = getattr(tower, "attn_mask", None)
    if pooling != "argmax" or mask is None or getattr(tower, "cls_emb", None) is not None:
        return model.encode_text(tokens)
    end = tokens.argmax(dim=1)  # (N,)
    length = int(end.max()) + 1
    if length == tokens.shape[1]:
        says = f"a text fills all {length} tokens of the model; its end may be cut off"
        warnings.warn(says, stacklevel=3)
    dtype = tower.transformer.get_cast_dtype()
    x = tower.token_embedding(tokens[:, :length]).to(dtype)  # (N, length, width)
    x = x + tower.positional_embedding[:length].to(dtype)
    x = tower.transformer(x, attn_mask=mask[:length, :length])
    x = tower.ln_final(x)[torch.arange(len(x), device=x.device), end]  # (N, width)
    projection = tower.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Module) else x @ projection


def check_architecture(model: nn.Module, name: str) -> None:
    """Raise ValueError unless a model is open_clip's, with a class token and plain attention."""
    visual = getattr(model, "visual", None)
    pooling = getattr(visual, "pool_type", None)
    usable = hasattr(model, "encode_text") and pooling == "tok" and visual.attn_pool is None
    if not (usable and all(map(_is_plain, visual.transformer.resblocks))):
        raise ValueError(
            f"{name} cannot be used: the image tower must be a vision transformer of open_clip 3 "
            "with a class token and plain attention, as in ViT-B-16, but not in ResNets, CoCa and "
            f"SigLIP; found {type(model).__name__} with {type(visual).__name__}, pooling {pooling}"
        )


def _is_plain(block: nn.Module) -> bool:
    """Tell whether attention is W_O softmax(Q Kᵀ / √d) V, in one matrix W_QKV, batch first."""
    names = {name for name, _ in block.attn.named_parameters()}
    known = {"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"}
    after = getattr(block, "ln_attn", nn.Identity())
    plain = "in_proj_weight" in names and names <= known and isinstance(after, nn.Identity)
    return plain and getattr(block.attn, "batch_first", True)


def check_pixels(clip: Clip, pixels: Tensor) -> None:
    """Raise ValueError unless a tensor can be preprocessed images (B, 3, H, W) of the model.

    Warns once when all values lie in 0...1, as before normalisation.
    """
    height, width = clip.image_size
    black, white = ((end - torch.tensor(clip.mean)) / torch.tensor(clip.std) for end in (0, 1))
    limit = max(10.0, 2 * float(torch.stack([black, white]).abs().max()))
    expected = f"expected images (B, 3, {height}, {width}), normalised by the model's mean and std"
    if pixels.ndim != 4 or pixels.shape[1:] != (3, height, width) or not len(pixels):
        raise ValueError(f"{expected}; found shape {tuple(pixels.shape)}: give PIL images instead")
    low, high = pixels.aminmax()
    if not pixels.is_floating_point() or not -limit <= low <= high <= limit:  # false for NaN, too
        raise ValueError(
            f"{expected}; found {low:g} to {high:g}: give PIL images, or normalise them"
        )
    if 0 <= low < high <= 1 and high > 0.5 and (black.min() < 0 or white.max() > 1):
        says = f"{expected}; all values lie in 0...1: give PIL images, or normalise them"
        warnings.warn(says, stacklevel=2)  # one place, so that it is said once


@contextmanager
def inference_context(clip: Clip) -> Iterator[None]:
    """Compute in the model's precision, without dropout; restore the training flags after."""
    device, low = clip.device.type, clip.precision != "float32"
    try:
        autocast = torch.autocast(device, getattr(torch, clip.precision) if low else None, low)
    except RuntimeError as error:
        raise ValueError(f"no {clip.precision} on {device} ({error}); use float32") from None
    training = [module for module in clip.model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        with autocast:
            yield
    finally:
        for module in training:
            module.training = True


def hash_state_dict(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the sorted names and float32 values of a state dict.

    The same weights in float16 and float32 have one hash.

    >>> hash_state_dict({"a": torch.ones(2)}) == hash_state_dict({"a": torch.ones(2).half()})
    True
    """
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
