"""How many images a network may see together: few on a CPU, as many as fit on a GPU."""

from __future__ import annotations

import torch

from anovl.clip import Clip

ON_A_CPU = 16  # more is no faster there
MOST = 256


def default_batch_size(clip: Clip, *, free: int | None = None) -> int:
    """Return a batch size for a model: 16, or on CUDA the power of two that fits into free memory.

    `free` are bytes of memory of the GPU, None to ask it; half of them are left to others. An image
    is reckoned at its 22 views in float32, twice, and 24 values a token and channel.
    """
    if free is None:
        if clip.device.type != "cuda":
            return ON_A_CPU
        free = torch.cuda.mem_get_info(clip.device)[0]
    height, width = clip.image_size
    rows, columns = clip.grid
    tokens = (1 + rows * columns) * clip.model.visual.conv1.out_channels
    each = 4 * (2 * 22 * 3 * height * width + 24 * tokens)
    fits = max(1, free // 2 // each)
    return min(MOST, 1 << (fits.bit_length() - 1))
