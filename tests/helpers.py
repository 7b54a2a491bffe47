"""What tests import: tiny models, pictures, and the numbers of the published implementation.

`tests/reference/` holds a compact set of those numbers; the full set is used too where it is at
hand (`../shared`, or the folder named by ANOVL_SHARED).
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from anovl.attention import project_to_clip_space
from anovl.clip import hash_state_dict, preprocess
from anovl.models.pocket import PocketTokenizer, token_ids
from anovl.prompts import TextFeatures

COMPACT = Path(__file__).parent / "reference"
SHARED = Path(os.environ.get("ANOVL_SHARED", Path(__file__).parents[2] / "shared"))
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
TEXT = {"width": 64, "heads": 1, "layers": 1, "vocab_size": 100}


def shared_path(*parts: str) -> Path:
    """A path in the shared folder; skips the test where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} of the shared folder (set ANOVL_SHARED to it)")
    return path


class Reference:
    """The published numbers for one model: `reference["tta/tta_map"]`, with what made them."""

    def __init__(self, size: str) -> None:
        self.size = size
        self.full = SHARED / "reference" / size
        self.name = "small" if size == "small" else "ViT-B-16-plus-240"
        hashes = json.loads((COMPACT / "hashes.json").read_text())
        self.weights_hash = hashes["weights"][size]
        folders = [self.full] if size == "full" else [COMPACT, self.full]
        self.arrays: dict[str, np.ndarray] = {}
        for file in (file for folder in folders for file in sorted(folder.glob("*.npz"))):
            with np.load(file) as npz:
                self.arrays |= {f"{file.stem}/{key}": npz[key] for key in npz.files}

    def __getitem__(self, key: str) -> torch.Tensor:
        """An array as a tensor; skips the test when only the full set has it."""
        if key not in self.arrays:
            pytest.skip(f"{key} is not in the compact reference (set ANOVL_SHARED)")
        return torch.from_numpy(self.arrays[key])

    @cached_property
    def model(self) -> torch.nn.Module:
        """The open_clip model with the reference weights, rebuilt from their seeds."""
        import open_clip

        if self.size == "full":
            torch.manual_seed(0)
            model = open_clip.create_model(self.name)
            randomise(model)
        else:
            model = compact_model()
            for parameter in model.parameters():
                parameter.data = parameter.data.half().float()
        if hash_state_dict(model.state_dict()) != self.weights_hash:
            self._load_stored_weights(model)
        return model.eval()

    def _load_stored_weights(self, model: torch.nn.Module) -> None:
        """For a torch that draws other random numbers: the weights as they were stored."""
        stored = self.full / "weights_fp16.safetensors"
        if not stored.exists():
            pytest.skip("this torch draws other random weights and the stored ones are not here")
        from safetensors.torch import load_file

        state = {name: value.float() for name, value in load_file(stored).items()}
        rows, ids = state.pop("token_embedding.rows"), state.pop("token_embedding.ids").long()
        model.load_state_dict(state, strict=False)
        model.token_embedding.weight.data[ids] = rows

    @cached_property
    def clip(self):
        """The reference model as an `anovl.Clip`."""
        import open_clip

        import anovl

        side = self["forward/images_u8"].shape[-1]
        return anovl.Clip(
            self.model,
            open_clip.tokenize,
            image_size=side,
            name=f"reference {self.name}",
            weights_hash=self.weights_hash,
        )

    @property
    def images(self) -> torch.Tensor:
        """The two test images, preprocessed (2, 3, S, S)."""
        return normalise(self["forward/images_u8"])

    @property
    def visa_images(self) -> torch.Tensor:
        """The two wide test images, preprocessed (2, 3, 64, 80)."""
        return normalise(self["visa/images_u8"])

    def noise(self, k: int, *, tiles: int = 1) -> torch.Tensor:
        """The k-th noise drawn (tiles, h, w, D): 0-4 for image 0's steps, 5-9 for image 1's."""
        h, w = self.clip.grid
        generator = torch.Generator().manual_seed(1000 + k)
        return 0.055 * torch.randn(tiles, h, w, self.clip.embed_dim, generator=generator)

    def adapter_init(self, i: int, *, outputs: int = 924) -> tuple[torch.Tensor, torch.Tensor]:
        """The adapter's initial weight (outputs, D) and bias (outputs,) at image i."""
        width = self.clip.embed_dim
        generator = torch.Generator().manual_seed(2000 + i)
        weight = 2 * torch.rand(outputs, width, generator=generator) - 1
        bias = 2 * torch.rand(outputs, generator=generator) - 1
        bound = 1 / math.sqrt(width)
        return weight * bound, bias * bound

    def random_text(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Prototypes (2, D) and prompts (924, D) of the `rand_*` arrays: [normal; abnormal]."""
        width = self.clip.embed_dim
        generator = torch.Generator().manual_seed(55)
        prompts = F.normalize(torch.randn(462, width, 2, generator=generator), dim=1)
        prototypes = F.normalize(torch.randn(width, 2, generator=generator), dim=0)
        return prototypes.T.contiguous(), prompts.permute(2, 0, 1).reshape(924, width)


def compact_model() -> torch.nn.Module:
    """A random CLIP: 64 px, patches of 16 (4x4), width 64, 4 blocks, 2 heads, embedding 32."""
    import open_clip

    torch.manual_seed(0)
    model = open_clip.CLIP(**json.loads((COMPACT / "config.json").read_text()))
    randomise(model)
    return model.eval()


def randomise(model: torch.nn.Module) -> None:
    """Shake biases, LayerNorms and class token: no test shall pass because they are 0 or 1."""
    generator = torch.Generator().manual_seed(1234)
    for _, parameter in sorted(model.named_parameters()):
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


def make_clip(*, quick_gelu=False, custom_text=False, **vision):
    """A random CLIP with the given vision settings, every parameter away from its default."""
    import open_clip

    import anovl

    settings = {"image_size": 32, "patch_size": 16, "width": 64, "head_width": 16, "layers": 3}
    settings |= vision
    torch.manual_seed(0)
    build = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    model = build(16, settings, dict(TEXT), quick_gelu=quick_gelu).eval()
    randomise(model)
    return anovl.Clip(model, open_clip.tokenize, image_size=settings["image_size"])


def make_images(clip, count=2):
    """Random preprocessed images (count, 3, H, W) for a model."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, 3, *clip.image_size, generator=generator)


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels.float() / 255 - MEAN) / STD


def write_picture(path: Path, *, value: int = 0, size: tuple[int, int] = (12, 8)) -> None:
    """A grey picture of one value, except for the pixel at (3, 2), which is 9 if it is a mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("L", size, value)
    if not value:
        picture.putpixel((3, 2), 9)
    picture.save(path)


def picture(seed, width=50, height=40):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def with_words(**vision):
    """A random CLIP that can read "normal nut" and "damaged nut"."""
    tokenizer = PocketTokenizer(token_ids(["normal damaged nut"]))
    return replace(make_clip(**vision), tokenizer=tokenizer)


def make_text(width=16):
    """Two random prototypes."""
    rows = F.normalize(torch.randn(2, width, generator=torch.Generator().manual_seed(5)), dim=1)
    return TextFeatures(rows, rows, [False, True])


def score_patches(detector, pixels, text):
    with torch.no_grad():
        return detector.score_patches(pixels, text)


def run_through(clip, tokens):
    """Class embeddings (B, D) of tokens (B, n, width) after all blocks."""
    for block in clip.model.visual.transformer.resblocks:
        tokens = block(tokens)
    return project_to_clip_space(clip.model.visual, tokens[:, 0])


def make_pixels(clip):
    return preprocess(clip, picture(0))


def random_maps(seed: int, *, levels: int | None = None, n: int = 6, side: int = 24):
    """Maps that know a little of their masks; with `levels`, full of ties. Image 0 is normal."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal((n, side, side)), (0, 2, 2))
    masks = smooth > 1.2 * smooth.std()
    masks[0] = False
    maps = rng.standard_normal(masks.shape) + masks
    return (np.floor(maps * levels) if levels else maps), masks
