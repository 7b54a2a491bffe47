"""The two streams taken apart: what each block adds to u, and to the embedding.

`anovl.attention` computes both streams fast. Here the same terms come one by one, so that a
notebook can show them and compare them with open_clip's own model.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anovl.attention import Attention, embed, merge_heads, project_qkv
from anovl.clip import Clip
from anovl.models.pocket import CONFIG, PocketTokenizer


def local_attention(block: nn.Module, z: Tensor, attention: Attention = "vv") -> Tensor:
    """What a block adds to the local stream u, given the ordinary tokens z (B, N, width).

    W_O softmax(A Aᵀ / √d) V        A = V, or Q with "qq", or K with "kk"
    """
    q, k, v = project_qkv(block, z)
    a = {"q": q, "k": k, "v": v}[attention[0]]
    return merge_heads(block, F.scaled_dot_product_attention(a, a, v))


def local_terms(
    visual: nn.Module, pixels: Tensor, attention: Attention = "vv", first_block: int = 1
) -> Tensor:
    """What the local stream is the sum of: tokens (1 + n, B, N, width) that add up to u.

    First the tokens from which it starts, those of the ordinary stream before block `first_block`;
    then what each of the n blocks from there on adds. The sum of the first 1 + l is u after l.

    >>> local_terms(toy_clip.model.visual, torch.zeros(2, 3, 32, 32)).shape
    torch.Size([3, 2, 5, 64])
    """
    blocks = list(visual.transformer.resblocks)
    z = embed(visual, pixels)
    for block in blocks[: first_block - 1]:
        z = block(z)
    terms = [z]
    for block in blocks[first_block - 1 :]:
        terms.append(local_attention(block, z, attention))
        z = block(z)
    return torch.stack(terms)


def projection_shares(visual: nn.Module, terms: Tensor) -> Tensor:
    """What each term (T, ..., width) of a sum adds to its projection: embeddings (T, ..., D).

    The final LayerNorm divides by the spread of the whole sum. With that one number held fixed the
    rest is linear, so the shares add up to `project_to_clip_space` of the sum, less that of zero
    (what the LayerNorm adds to every token). A share is not the projection of its term alone.

    >>> projection_shares(toy_clip.model.visual, torch.zeros(3, 2, 5, 64)).shape
    torch.Size([3, 2, 5, 8])
    """
    norm = visual.ln_post
    spread = (terms.sum(dim=0).var(dim=-1, keepdim=True, correction=0) + norm.eps).sqrt()
    shares = (terms - terms.mean(dim=-1, keepdim=True)) / spread * norm.weight
    return shares if visual.proj is None else shares @ visual.proj


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
