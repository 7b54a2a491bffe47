"""Train the pocket CLIP from scratch: pictures and captions in, a contrastive loss, nothing else.

What pays, on two cores:
- few categories and healthy/damaged twins in a batch: then damage is what tells pictures apart;
- every true caption counts as a match (`contrastive_loss`);
- close-ups first: a quarter of the patches, as fine as in the whole picture (`embed_pictures`), and
  large, clear damage (`ease`) before damage as it is;
- patches decorrelated from the first step (`whiten_patches`), Muon for the matrices;
- the shipped weights are a running average of the trained ones.

Masks are never read here: `Batch` has no field for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from anovl.attention import project_to_clip_space
from anovl.clip import encode_tokens
from anovl.models.pocket import PocketTokenizer, build_model, save_pocket, token_ids
from anovl.training.batches import CLOSE_UP, Batch, batches, pixels
from anovl.training.recipe import Recipe
from anovl.training.validate import VALIDATED, validate
from anovl.world.captions import vocabulary_texts
from anovl.world.scenes import SEEN, draw_scene


def contrastive_loss(images: Tensor, texts: Tensor, truth: Tensor, scale: Tensor) -> Tensor:
    """Image-text contrastive loss in which every true pair is a match.

    Each picture spreads its probability evenly over the captions that are true of it, and each
    caption over its pictures. With one true pair a row and column this is CLIP's own loss.

    `images` (B, D) and `texts` (C, D) are unit-norm, `truth` is bool (B, C), `scale` multiplies the
    cosines.

    >>> eye = torch.eye(3)
    >>> loss = contrastive_loss(eye, eye, torch.eye(3, dtype=torch.bool), torch.tensor(1.0))
    >>> round(float(loss), 4) == round(math.log(math.e + 2) - 1, 4)
    True
    """
    logits = scale * images @ texts.T
    by_image = truth / truth.sum(dim=1, keepdim=True)
    by_text = truth / truth.sum(dim=0, keepdim=True)
    image_loss = -(by_image * logits.log_softmax(dim=1)).sum(dim=1).mean()
    text_loss = -(by_text * logits.log_softmax(dim=0)).sum(dim=0).mean()
    return (image_loss + text_loss) / 2


def embed_pictures(visual: nn.Module, images: Tensor, corners: Tensor) -> Tensor:
    """Class embeddings (B, D) of pictures (B, 3, S, S) that may be windows of larger ones.

    `corners` (B, 2) say at which patch of the model's grid, row and column, each picture begins:
    its patches have the positions that they would have there. Whole pictures begin at (0, 0), and
    then this is what the model itself computes.
    """
    patches = visual.conv1(images)
    height, width = patches.shape[2:]
    cls, grid = visual.positional_embedding[0], visual.positional_embedding[1:]
    rows = corners[:, :1] + torch.arange(height)
    columns = corners[:, 1:] + torch.arange(width)
    positions = grid[rows[:, :, None] * visual.grid_size[1] + columns[:, None]].flatten(1, 2)
    tokens = patches.flatten(2).transpose(1, 2) + positions
    cls = (visual.class_embedding + cls).to(tokens.dtype).expand(len(images), 1, -1)
    z = visual.transformer(visual.ln_pre(torch.cat([cls, tokens], dim=1)))
    return project_to_clip_space(visual, z[:, 0])


@torch.no_grad()
def whiten_patches(model: nn.Module, images: Tensor) -> None:
    """Start the patch embedding from the principal components of patches, each at equal size.

    Neighbouring pixels are alike: without this, brightness drowns the fine marks that damage makes.
    """
    conv = model.visual.conv1
    patch = conv.kernel_size[0]
    patches = F.unfold(images, patch, stride=patch).transpose(1, 2).flatten(0, 1).double()
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    whitening = vectors / (values + 1e-2 * values.mean()).sqrt()
    filters = whitening.T.flip(0)[: conv.out_channels].float()
    conv.weight.copy_(filters.view(conv.weight.shape) * 0.5)


def train_pocket(
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    resume: bool = True,
    workers: int = 1,
    checkpoint_every: int = 100,
    validate_every: int = 500,
    progress: bool = True,
) -> Path:
    """Train a pocket CLIP and write its weights, its vocabulary and two logs under `out`.

    training.csv has the loss of every step, validation.csv how the running average does on
    validation scenes (`validate`), each `validate_every` steps. A killed run that is started again
    goes on from its last checkpoint and ends with the same weights and logs. `workers` processes
    draw the pictures; 0 = this one.

    Raises ValueError if `out` holds a checkpoint of another recipe.
    """
    recipe, out = recipe or Recipe(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = PocketTokenizer(token_ids(vocabulary_texts()))
    model, average, optimizers, first = _start(recipe, tokenizer, out, resume)
    total = recipe.steps_close + recipe.steps_full
    steps = batches(recipe, tokenizer, first, workers)
    losses = _log(out / "training.csv", ("step", "size_px", "loss", "accuracy"), first)
    checks = _log(out / "validation.csv", ("step", "group", *VALIDATED), first)
    with losses, checks:
        for step, batch in _progress(steps, first, total, shown=progress):
            loss, accuracy = _step(model, average, optimizers, batch, step, recipe)
            losses.write(f"{step},{batch.images.shape[1]},{loss:.4f},{accuracy:.4f}\n")
            done = step + 1
            if done % validate_every == 0 or done == total:
                for group, values in validate(average, tokenizer).items():
                    checks.write(
                        f"{step},{group},{','.join(f'{v:.4f}' for v in values.values())}\n"
                    )
            if done % checkpoint_every == 0 or done == total:
                losses.flush()
                checks.flush()
                _save_checkpoint(out, recipe, model, average, optimizers, done)
    save_pocket(average, tokenizer, out)
    return out


def _log(path: Path, columns: Sequence[str], first: int) -> TextIO:
    """Open a log behind the rows of the steps before `first`."""
    rows = path.read_text().splitlines()[1:] if first and path.exists() else []
    kept = [row for row in rows if int(row.partition(",")[0]) < first]
    path.write_text("\n".join([",".join(columns), *kept]) + "\n")
    return open(path, "a")


def keep_memory() -> None:
    """Have Linux's allocator keep freed memory, for the whole process, instead of asking anew."""
    import ctypes

    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, size in (
            (mmap_threshold, 2**30),
            (trim_threshold, 2**31 - 1),
            (top_pad, 2**28),
        ):
            mallopt(option, size)


def _start(recipe: Recipe, tokenizer: PocketTokenizer, out: Path, resume: bool):
    """Fresh models and optimisers, or those of the checkpoint."""
    torch.manual_seed(recipe.seed)
    path = out / "checkpoint.pt"
    kept = torch.load(path, weights_only=True) if resume and path.exists() else None
    if kept and kept["recipe"] != asdict(recipe):
        raise ValueError(
            f"{path} belongs to another recipe, {kept['recipe']}: choose another folder, or pass "
            "resume=False to begin anew."
        )
    model, average = (build_model(tokenizer.vocab_size) for _ in range(2))
    if kept:
        model.load_state_dict(kept["model"])
        average.load_state_dict(kept["average"])
        optimizers = _optimizers(model, recipe)
        for optimizer, state in zip(optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        return model, average, optimizers, kept["step"]
    scenes = [draw_scene(c, seed=s, size=CLOSE_UP).image for c in SEEN for s in range(16)]
    whiten_patches(model, pixels(torch.from_numpy(np.stack(scenes))))
    average.load_state_dict(model.state_dict())
    return model, average, _optimizers(model, recipe), 0


def _optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the two towers, AdamW for everything else."""
    inner, outer = [], []
    for name, parameter in model.named_parameters():
        (inner if "resblocks" in name and parameter.ndim == 2 else outer).append(parameter)
    return [
        torch.optim.Muon(
            inner, lr=recipe.lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(outer, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _step(model, average, optimizers, batch: Batch, step: int, recipe: Recipe):
    """One update; returns the loss and how often a picture's best caption is a true one."""
    rate = _rate(step, recipe)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
    loss, accuracy = _backward(model, batch)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(100))
        for kept, new in zip(average.parameters(), model.parameters(), strict=True):
            kept.lerp_(new, 1 - min(recipe.average, (1 + step) / (10 + step)))
    return loss, accuracy


def _backward(model: nn.Module, batch: Batch) -> tuple[float, float]:
    """Leave the gradients of a batch in the model; returns its loss and accuracy."""
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(_attention_kernel(batch)):
        images = embed_pictures(model.visual, pixels(batch.images), batch.corners).float()
        texts = encode_tokens(model, batch.tokens).float()
    images, texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
    loss = contrastive_loss(images, texts, batch.truth, model.logit_scale.exp())
    loss.backward()
    best = (images @ texts.T).argmax(dim=1, keepdim=True)
    return loss.item(), batch.truth.gather(1, best).float().mean().item()


def _attention_kernel(batch: Batch) -> SDPBackend:
    """The faster of two equal kernels: on two cores, short sequences lose time in the fused one."""
    small = batch.images.shape[1] <= CLOSE_UP
    return SDPBackend.MATH if small else SDPBackend.FLASH_ATTENTION


def _rate(step: int, recipe: Recipe) -> float:
    """Warm up, hold until `steps_hold`, and fall in a straight line to zero."""
    total = recipe.steps_close + recipe.steps_full
    falling = (total - step) / max(1, total - min(recipe.steps_hold, total - 1))
    return recipe.lr * min(1.0, (step + 1) / recipe.warm_up, falling)


def _save_checkpoint(out: Path, recipe: Recipe, model, average, optimizers, step: int) -> None:
    """Write the checkpoint beside the old one, then swap: a kill leaves one of the two whole."""
    state = {
        "recipe": asdict(recipe),
        "step": step,
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    torch.save(state, out / "checkpoint.tmp")
    (out / "checkpoint.tmp").replace(out / "checkpoint.pt")


def _progress(batches: Iterator, first: int, total: int, *, shown: bool) -> Iterator:
    from tqdm import tqdm

    described = {"desc": "train-pocket", "unit": "step", "disable": not shown}
    return tqdm(batches, initial=first, total=total, **described)
