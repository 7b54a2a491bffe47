"""Train the pocket CLIP from scratch: pictures and captions in, a contrastive loss, nothing else.

`step` has one step of training, `recipe` the number and the content of the batches.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from tqdm import tqdm

from anovl.models.pocket import PocketTokenizer, build_model, token_ids
from anovl.world.captions import vocabulary_texts
from anovl.world.scenes import SEEN, draw_scene
from anovl_companion.training.batches import CLOSE_UP, batches, pixels
from anovl_companion.training.checkpoint import PATTERN, load_checkpoint, open_log, save_snapshot
from anovl_companion.training.recipe import Recipe
from anovl_companion.training.step import (
    Arithmetic,
    State,
    faster_arithmetic,
    make_optimizers,
    train_step,
    whiten_patches,
)
from anovl_companion.training.validate import VALIDATED, validate


def train_pocket(
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    resume: bool = True,
    device: str | torch.device = "cpu",
    arithmetic: Arithmetic | None = None,
    workers: int = 1,
    snapshot_every: float = 60.0,
    validate_every: int = 500,
    progress: bool = True,
) -> Path:
    """Train a pocket CLIP and write its weights, vocabulary, recipe and two logs under `out`.

    training.csv has the loss of every step, validation.csv how the running average does on
    validation scenes (`validate`), each `validate_every` steps. Every `snapshot_every` seconds, and
    when it is interrupted (Ctrl-C, or SIGTERM), the training writes all of this anew with a
    checkpoint. A stopped run that is started again goes on from there, on another `device` too
    ("cpu" or "cuda"); with the same `arithmetic` it ends with the same weights and logs.
    `arithmetic` is that of the towers, None = `faster_arithmetic`. `workers` processes draw the
    pictures; 0 = this one. `recipe` None = "laptop".

    Raises ValueError if `out` holds a checkpoint of another recipe, or for a device that cannot be
    used; OSError if `out` cannot be written; KeyboardInterrupt after an interrupt, when everything
    is written.
    """
    recipe, out, device = recipe or Recipe(), Path(out), _usable(device)
    arithmetic = arithmetic or faster_arithmetic(device)
    tokenizer = PocketTokenizer(token_ids(vocabulary_texts()))
    state = _start(out, recipe, tokenizer, device, resume=resume)
    coming = batches(recipe, tokenizer, state.step, workers)
    losses = open_log(out / "training.csv", ("step", "size_px", "loss", "accuracy"), state.step)
    checks = open_log(out / "validation.csv", ("step", "group", *VALIDATED), state.step)
    bar = tqdm(total=recipe.steps, initial=state.step, desc="train", disable=not progress)
    saved = time.monotonic()
    with losses, checks, bar, _noted_interrupts() as asked:
        for batch in coming:
            step, side = state.step, batch.images.shape[1]
            loss, accuracy = train_step(state, batch.to(device), recipe, arithmetic)
            losses.write(f"{step},{side},{loss:.4f},{accuracy:.4f}\n")
            bar.set_postfix(loss=loss, accuracy=accuracy, refresh=False)
            bar.update()
            done = state.step == recipe.steps
            if done or state.step % validate_every == 0:
                for group, values in validate(state.average, tokenizer).items():
                    numbers = ",".join(f"{value:.4f}" for value in values.values())
                    checks.write(f"{step},{group},{numbers}\n")
            if done or asked.to_stop or time.monotonic() - saved >= snapshot_every:
                losses.flush()
                checks.flush()
                save_snapshot(out, state, recipe, tokenizer)
                saved = time.monotonic()
            if asked.to_stop and not done:
                raise KeyboardInterrupt
    return out


def keep_memory() -> None:
    """Have Linux's allocator keep freed memory, for the whole process, instead of asking anew."""
    import ctypes

    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 2**28)


def _usable(device: str | torch.device) -> torch.device:
    if str(device).partition(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"the pocket model is trained on 'cpu' or 'cuda', not on '{device}'")
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch finds no GPU here (cuda); train on 'cpu'")
    return device


def _start(
    out: Path, recipe: Recipe, tokenizer: PocketTokenizer, device: torch.device, *, resume: bool
) -> State:
    """Begin a training, or go on with that of the checkpoint."""
    torch.manual_seed(recipe.seed)
    if not resume:
        for path in out.glob(PATTERN):
            path.unlink()
    found = load_checkpoint(out, recipe)
    model, average = (build_model(tokenizer.vocab_size) for _ in range(2))
    if not found:
        scenes = [draw_scene(c, seed=s, size=CLOSE_UP).image for c in SEEN for s in range(16)]
        whiten_patches(model, pixels(torch.from_numpy(np.stack(scenes))))
        average.load_state_dict(model.state_dict())
    model, average = model.to(device), average.to(device)
    state = State(model, average, make_optimizers(model, recipe), 0)
    if found:
        model.load_state_dict(found["model"])
        average.load_state_dict(found["average"])
        for optimizer, before in zip(state.optimizers, found["optimizers"], strict=True):
            optimizer.load_state_dict(before)
        state.step = found["step"]
    return state


@contextmanager
def _noted_interrupts() -> Iterator[SimpleNamespace]:
    """Note an interrupt instead of stopping in the middle of a step; a second one stops at once."""
    asked = SimpleNamespace(to_stop=False)
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may handle signals
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def note(*_: object) -> None:
        asked.to_stop = True
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in signals:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
