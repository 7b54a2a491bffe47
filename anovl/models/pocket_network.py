"""The network of the pocket CLIP: open_clip's `CLIP` at this size, without its imports.

Parts, names, random initialization and arithmetic are the same: a test compares them bit by bit.
Importing open_clip takes seconds, longer than localizing an image.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """torch's LayerNorm, in the precision of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)


class Block(nn.Module):
    """Attention and an MLP, each after a LayerNorm and added to the tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = nn.Identity()
        self.ln_2 = LayerNorm(width)
        layers = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(OrderedDict(zip(("c_fc", "gelu", "c_proj"), layers, strict=True)))
        self.ls_2 = nn.Identity()

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Tokens (B, N, width) → (B, N, width)."""
        z = self.ln_1(x)
        mask = None if attn_mask is None else attn_mask.to(z.dtype)
        x = x + self.ls_1(self.attn(z, z, z, need_weights=False, attn_mask=mask)[0])
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class Transformer(nn.Module):
    """Blocks, one after the other."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.width, self.layers = width, layers
        self.resblocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])

    def get_cast_dtype(self) -> torch.dtype:
        return self.resblocks[0].mlp.c_fc.weight.dtype

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, attn_mask=attn_mask)
        return x


class VisionTransformer(nn.Module):
    """Images (B, 3, S, S) → features of their class token (B, D)."""

    pool_type = "tok"
    attn_pool = None

    def __init__(
        self,
        dim: int,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        layers: int,
        head_width: int,
    ) -> None:
        super().__init__()
        side, scale = image_size // patch_size, width**-0.5
        self.image_size, self.patch_size = (image_size, image_size), (patch_size, patch_size)
        self.grid_size = side, side
        self.conv1 = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(side**2 + 1, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, width // head_width)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, dim))

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv1(images).flatten(2).transpose(1, 2)  # (B, h·w, width)
        cls = self.class_embedding.expand(len(x), 1, -1).to(x.dtype)
        x = torch.cat([cls, x], dim=1) + self.positional_embedding.to(x.dtype)
        return self.ln_post(self.transformer(self.ln_pre(x)))[:, 0] @ self.proj


class PocketCLIP(nn.Module):
    """Both towers. The text tower is causal; its output is that of the end-of-text token."""

    text_pool_type = "argmax"
    logit_bias = None

    def __init__(
        self, embed_dim: int, vision_cfg: dict[str, Any], text_cfg: dict[str, Any]
    ) -> None:
        super().__init__()
        self.visual = VisionTransformer(embed_dim, **vision_cfg)
        width, length = text_cfg["width"], text_cfg["context_length"]
        self.context_length, self.vocab_size = length, text_cfg["vocab_size"]
        token_embedding = nn.Embedding(self.vocab_size, width)
        self.transformer = Transformer(width, text_cfg["layers"], text_cfg["heads"])
        self.token_embedding = token_embedding
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        mask = torch.full((length, length), float("-inf")).triu_(1)
        self.register_buffer("attn_mask", mask, persistent=False)
        self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))
        self._draw_text_tower(width, text_cfg["layers"])

    def _draw_text_tower(self, width: int, layers: int) -> None:
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        for block in self.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        features = self.visual(images)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        dtype = self.transformer.get_cast_dtype()
        x = self.token_embedding(tokens).to(dtype) + self.positional_embedding.to(dtype)
        x = self.ln_final(self.transformer(x, attn_mask=self.attn_mask))
        x = x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)] @ self.text_projection
        return F.normalize(x, dim=-1) if normalize else x

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, text = self.encode_image(images, True), self.encode_text(tokens, True)
        return image, text, self.logit_scale.exp()
