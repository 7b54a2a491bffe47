"""The pocket model as open_clip's own class: what our code is compared with."""

from __future__ import annotations

from torch import nn

from anovl.clip import Clip
from anovl.models.pocket import CONFIG, PocketTokenizer


def open_clip_twin(clip: Clip) -> nn.Module:
    """Return open_clip's CLIP with the weights of a pocket model; other models are open_clip's.

    >>> import torch
    >>> from anovl import load_clip
    >>> clip = load_clip("pocket")
    >>> twin, image = open_clip_twin(clip), torch.zeros(1, 3, 112, 112)
    >>> torch.equal(twin.encode_image(image), clip.model.encode_image(image))
    True
    """
    if not isinstance(clip.tokenizer, PocketTokenizer):
        return clip.model
    import open_clip

    text = {**CONFIG["text_cfg"], "vocab_size": clip.tokenizer.vocab_size}
    twin = open_clip.CLIP(CONFIG["embed_dim"], CONFIG["vision_cfg"], text)
    twin.load_state_dict(clip.model.state_dict())
    return twin.eval().requires_grad_(False).to(clip.device)
