"""Windows of patches, each shown to the network alone: the image as WinCLIP sees it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anovl.attention import read_out


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
    """Class embeddings (B, W, D) of the image as W subsets of its tokens show it, all at once.

    `tokens` (B, 1 + h·w, width) are embedded, positions and all; `subsets` (W, n) picks from them.
    """
    z = tokens[:, subsets.to(tokens.device)].flatten(0, 1)
    for block in visual.transformer.resblocks:
        z = block(z)
    return read_out(visual, z[:, 0]).unflatten(0, (len(tokens), len(subsets)))


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
