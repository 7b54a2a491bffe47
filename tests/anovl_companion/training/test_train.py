"""Training from beginning to end, stopped, killed, continued, and moved between devices."""

from __future__ import annotations

import dataclasses
import errno
import json
import signal
from pathlib import Path

import pytest
import torch

from anovl.models.pocket import FOLDER, PocketTokenizer, load_pocket, token_ids
from anovl.world.captions import vocabulary_texts
from anovl_companion.training import train
from anovl_companion.training.checkpoint import PARTS, load_checkpoint
from anovl_companion.training.recipe import Recipe, named_recipe
from anovl_companion.training.step import faster_arithmetic
from anovl_companion.training.train import train_pocket

TINY = Recipe(steps_close=2, steps_full=2, easy_steps=2, categories=1, twins=1, captions=1)
OPTIONS = {
    **{"recipe": TINY, "workers": 0, "arithmetic": "float32", "snapshot_every": 0.0},
    **{"validate_every": 2, "progress": False},
}


def bias(model, _):
    return {"seen": {"bias": model.visual.proj.mean().item()}}


def light_optimizers(model, recipe):
    """Muon, which is slow on some processors, for one small matrix only."""
    name = "transformer.resblocks.0.attn.out_proj.weight"
    others = [p for own, p in model.named_parameters() if own != name]
    muon = torch.optim.Muon([model.get_parameter(name)], lr=recipe.lr)
    return [muon, torch.optim.SGD(others, lr=recipe.lr, momentum=0.9)]


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Two numbers of the average instead of a validation, and a start that takes no seconds."""
    tokenizer = PocketTokenizer(token_ids(vocabulary_texts()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "PocketTokenizer", lambda ids: tokenizer)
        patch.setattr(train, "token_ids", lambda texts: tokenizer.ids)
        patch.setattr(train, "SEEN", ("wood",))
        patch.setattr(train, "validate", bias)
        patch.setattr(train, "make_optimizers", light_optimizers)
        yield


@pytest.fixture(scope="module")
def whole(quick, tmp_path_factory):
    return train_pocket(tmp_path_factory.mktemp("whole"), **OPTIONS)


def before_step(monkeypatch, number, action):
    """Have something happen as a training begins this step."""
    own = train.train_step

    def step(state, *rest):
        if state.step == number:
            action()
        return own(state, *rest)

    monkeypatch.setattr(train, "train_step", step)


def killed():
    raise RuntimeError("killed")


def assert_same(one, other):
    weights = [folder / "model.safetensors" for folder in (one, other)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    for log, rows in (("training.csv", 4), ("validation.csv", 2)):
        assert (one / log).read_text() == (other / log).read_text()
        assert len((one / log).read_text().splitlines()) == 1 + rows


def test_a_training_leaves_all_that_it_made_in_files_below_16_mb(whole):
    parts = {f"checkpoint-4-{part}.pt" for part in PARTS}
    others = {"model.safetensors", "vocabulary.json", "recipe.json", "training.csv"}
    assert {path.name for path in whole.iterdir()} == parts | others | {"validation.csv"}
    assert all(path.stat().st_size < 16e6 for path in whole.iterdir())
    recipe = json.loads((whole / "recipe.json").read_text())
    assert recipe == {"name": None, **dataclasses.asdict(TINY)}
    model, _, _ = load_pocket(whole)
    average = torch.load(whole / "checkpoint-4-average.pt", weights_only=True)["average"]
    torch.testing.assert_close(model.visual.proj, average["visual.proj"].half().float())
    before = (whole / "model.safetensors").read_bytes()
    assert train_pocket(whole, **OPTIONS) == whole, "it is finished, and stays as it is"
    assert (whole / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("snapshot_every", [0.0, 1e9], ids=["each step", "only at the end"])
def test_a_killed_training_ends_with_the_same_weights(tmp_path, monkeypatch, whole, snapshot_every):
    options = OPTIONS | {"snapshot_every": snapshot_every}
    with monkeypatch.context() as patch:
        before_step(patch, 3, killed)
        with pytest.raises(RuntimeError, match="killed"):
            train_pocket(tmp_path, **options)
    found = load_checkpoint(tmp_path, TINY)
    assert found is None if snapshot_every else found["step"] == 3
    assert_same(train_pocket(tmp_path, **options), whole)


def test_snapshots_come_by_the_clock(tmp_path, monkeypatch):
    now, steps = [0.0], []
    own = train.save_snapshot

    def save(out, state, *rest):
        steps.append(state.step)
        return own(out, state, *rest)

    monkeypatch.setattr(train, "save_snapshot", save)
    for number in (0, 1, 2, 3):
        before_step(monkeypatch, number, lambda: now.__setitem__(0, now[0] + 40))
    monkeypatch.setattr(train.time, "monotonic", lambda: now[0])
    train_pocket(tmp_path, **OPTIONS | {"snapshot_every": 60.0})
    assert steps == [2, 4]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_finishes_the_step_and_writes_a_checkpoint(
    tmp_path, monkeypatch, whole, number
):
    options, handler = OPTIONS | {"snapshot_every": 1e9}, signal.getsignal(number)
    with monkeypatch.context() as patch:
        before_step(patch, 2, lambda: signal.raise_signal(number))
        with pytest.raises(KeyboardInterrupt):
            train_pocket(tmp_path, **options)
    assert signal.getsignal(number) is handler
    assert load_checkpoint(tmp_path, TINY)["step"] == 3
    assert len((tmp_path / "training.csv").read_text().splitlines()) == 1 + 3
    assert_same(train_pocket(tmp_path, **options), whole)


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_stops_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "save_snapshot", lambda *a: pytest.fail("it went on"))

    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before_step(monkeypatch, 1, twice)
    with pytest.raises(KeyboardInterrupt):
        train_pocket(tmp_path, **OPTIONS | {"snapshot_every": 1e9})
    assert load_checkpoint(tmp_path, TINY) is None


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("full", [False, True], ids=["killed", "disk is full"])
def test_what_stops_the_writing_of_a_checkpoint_leaves_the_one_before(
    tmp_path, monkeypatch, whole, part, full
):
    own = Path.write_bytes

    def write(path, data):
        if path.name.startswith(f"checkpoint-2-{part}."):
            own(path, bytes(data)[:100])
            raise OSError(errno.ENOSPC, "No space left") if full else RuntimeError("killed")
        own(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write)
        with pytest.raises(OSError if full else RuntimeError, match=r"No space left|killed"):
            train_pocket(tmp_path, **OPTIONS)
    assert load_checkpoint(tmp_path, TINY)["step"] == 1
    assert not list(tmp_path.glob("*.tmp"))
    assert_same(train_pocket(tmp_path, **OPTIONS), whole)


def test_a_place_that_cannot_be_written_is_said_before_the_training(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    before_step(monkeypatch, 0, killed)
    with pytest.raises(NotADirectoryError, match=r"file/m/training\.csv"):
        train_pocket(tmp_path / "file/m", **OPTIONS)


def test_a_checkpoint_of_another_device_and_precision_is_continued(tmp_path, monkeypatch, whole):
    """Storages tagged as a GPU's, as torch.save tags them there, and one part in float16."""
    before_step(monkeypatch, 3, killed)
    with pytest.raises(RuntimeError, match="killed"):
        train_pocket(tmp_path, **OPTIONS)
    monkeypatch.undo()
    registry = list(torch.serialization._package_registry)
    torch.serialization.register_package(0, lambda storage: "cuda:0", lambda storage, where: None)
    try:
        for part in PARTS:
            path = tmp_path / f"checkpoint-3-{part}.pt"
            found = torch.load(path, weights_only=True, map_location="cpu")
            if part == "average":
                found[part] = {name: value.half() for name, value in found[part].items()}
            torch.save(found, path)
    finally:
        torch.serialization._package_registry[:] = registry
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(path, weights_only=True)
    model, _, _ = load_pocket(train_pocket(tmp_path, **OPTIONS))
    same, _, _ = load_pocket(whole)
    assert model.visual.proj.dtype == torch.float32
    torch.testing.assert_close(model.visual.proj, same.visual.proj, rtol=0, atol=2e-3)


def test_bfloat16_is_taken_where_there_are_matrix_units_for_it(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(train, "train_step", lambda state, *a: taken.append(a[-1]) or killed())
    for units in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda units=units: units)
        with pytest.raises(RuntimeError, match="killed"):
            train_pocket(tmp_path, **OPTIONS | {"arithmetic": None})
    assert taken == ["bfloat16", "float32"]
    assert faster_arithmetic(torch.device("cuda")) == "bfloat16"


def test_a_folder_of_another_recipe_is_refused_or_begun_anew(tmp_path, whole):
    other = dataclasses.replace(TINY, seed=1, steps_close=0, steps_full=1)
    train_pocket(tmp_path, **OPTIONS | {"recipe": other})
    with pytest.raises(ValueError, match="belongs to another recipe"):
        train_pocket(tmp_path, **OPTIONS)
    assert_same(train_pocket(tmp_path, **OPTIONS, resume=False), whole)
    assert json.loads((tmp_path / "recipe.json").read_text())["seed"] == 0


@pytest.mark.parametrize("device", ["mps", "gpu"])
def test_a_device_that_cannot_be_used_is_an_error(tmp_path, device):
    with pytest.raises(ValueError, match="cuda"):
        train_pocket(tmp_path / "x", **OPTIONS, device=device)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="GPU"):
            train_pocket(tmp_path / "x", **OPTIONS, device="cuda")
    assert not (tmp_path / "x").exists()


def test_the_longer_recipe_is_the_one_that_was_tried_on_a_gpu():
    recipe = named_recipe("gpu", seed=1)
    assert (recipe.seed, recipe.pictures, recipe.steps) == (1, 256, 5584)
    assert (recipe.steps_hold, recipe.warm_up, recipe.easy_steps) == (2792, 200, None)
    same = {"lr": 2e-3, "weight_decay": 0.05, "average": 0.998, "captions": 2}
    assert same.items() <= vars(recipe).items() and same.items() <= vars(Recipe()).items()
    with pytest.raises(ValueError, match="laptop"):
        named_recipe("laptob")


def test_the_shipped_weights_are_of_the_longer_recipe():
    record = json.loads((FOLDER / "recipe.json").read_text())
    assert record == {"name": "gpu", **dataclasses.asdict(named_recipe("gpu"))}
