"""The pocket CLIP: open_clip's model at a small size, with a short vocabulary."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from anovl._shared.files import write_atomically
from anovl.models.pocket_network import PocketCLIP
from anovl.models.weights import fill, read_state_dict

if TYPE_CHECKING:
    from anovl.clip import Clip

FOLDER = Path(__file__).with_suffix("")
SHIPPED = {"pocket": FOLDER, "pocket-2": FOLDER.with_name("pocket_2")}
"""Where the two trained models lie; the second is of another seed, and not in the wheel."""
CONFIG = {
    "embed_dim": 512,
    "vision_cfg": {
        "image_size": 112, "patch_size": 8, "width": 192, "layers": 4, "head_width": 64,
    },
    "text_cfg": {"context_length": 32, "width": 128, "heads": 2, "layers": 2},
}  # fmt: skip
CONTEXT_LENGTH = CONFIG["text_cfg"]["context_length"]
IMAGE_SIZE = CONFIG["vision_cfg"]["image_size"]
PATCH_SIZE = CONFIG["vision_cfg"]["patch_size"]
PADDING, UNKNOWN = 0, 1


@cache
def _open_clip_tokenizer() -> Any:
    """open_clip's tokenizer from its file alone: importing all of open_clip takes seconds.

    The rest of open_clip imports torchvision, timm and, where it is installed, transformers; a
    tokenizer needs none.
    """
    path = Path(find_spec("open_clip").origin).with_name("tokenizer.py")
    spec = spec_from_file_location("anovl_open_clip_tokenizer", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module._tokenizer  # the one that the file makes for itself: another takes time


class PocketTokenizer:
    """open_clip's tokenizer on a short vocabulary: every other token becomes one <unknown>.

    `ids` are the tokens of open_clip that it knows, ascending, so that the end-of-text token stays
    the largest, as CLIP's pooling expects. Row 0 is the padding, row 1 the unknown token.

    >>> tokenizer = PocketTokenizer(token_ids(["a nut"]), context_length=8)
    >>> with warnings.catch_warnings(record=True):
    ...     tokenizer(["a nut", "a zebra"]).tolist()
    [[4, 2, 3, 5, 0, 0, 0, 0], [4, 2, 1, 5, 0, 0, 0, 0]]
    """

    def __init__(self, ids: Sequence[int], context_length: int = CONTEXT_LENGTH) -> None:
        self.ids = tuple(ids)
        self.context_length = context_length
        self._tokenizer = _open_clip_tokenizer()
        self._row = torch.full((self._tokenizer.vocab_size,), UNKNOWN)
        self._row[torch.tensor(self.ids)] = torch.arange(len(self.ids)) + UNKNOWN + 1
        self._row[0] = PADDING
        self._named: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as the arguments that make it anew."""
        return type(self), (self.ids, self.context_length), {"_named": self._named}

    @property
    def vocab_size(self) -> int:
        """Rows of the token table."""
        return len(self.ids) + UNKNOWN + 1

    def __call__(self, texts: Sequence[str] | str, context_length: int | None = None) -> Tensor:
        """Token rows of texts: int64 (N, context_length), padded with 0.

        Warns of each unknown word once.
        """
        length = context_length or self.context_length
        rows = self._row[self._tokenizer(texts, context_length=length)]
        if (rows == UNKNOWN).any():
            for word in self._new_words([texts] if isinstance(texts, str) else texts):
                warnings.warn(
                    f"the pocket model does not know the word {word!r}: it reads <unknown>",
                    stacklevel=2,
                )
        return rows

    def _new_words(self, texts: Sequence[str]) -> list[str]:
        """The unknown words of texts without an earlier warning."""
        words = dict.fromkeys(word for text in texts for word in text.split())
        new = [word for word in words if word not in self._named and self._is_unknown(word)]
        self._named.update(new)
        return new

    def _is_unknown(self, word: str) -> bool:
        tokens = self._tokenizer([word], context_length=self.context_length)
        return bool((self._row[tokens] == UNKNOWN).any())


def expectation(clip: Clip) -> str:
    """Say in one sentence how well a pocket model does on real images; "" for another model.

    The numbers are those of its model card (bars.csv).
    """
    if not isinstance(clip.tokenizer, PocketTokenizer):
        return ""
    with (FOLDER / "bars.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == clip.name]
    found = ", ".join(_measured(row) for row in rows if row["on"] not in ("seen", "unseen"))
    said = f"{clip.name} was trained on drawn pictures; on real ones expect little"
    return f"{said}{f': {found}' if found else ''} (50 is chance; see its model card)"


def _measured(bar: dict[str, str]) -> str:
    value, low, high = (f"{100 * float(bar[end]):.0f}" for end in ("value", "low", "high"))
    name, _, part = bar["on"].partition(", ")
    where = "photographs with drawn anomalies" if name == "photos" else f"{name} ({part})"
    what = bar["says"].removeprefix("v-v, ").rstrip("*")
    return f"{what} {value} [{low}, {high}] on {where}"


def token_ids(texts: Sequence[str]) -> list[int]:
    """The open_clip tokens that the texts use, with start and end of text, ascending."""
    tokenizer = _open_clip_tokenizer()
    used = {token for text in texts for token in tokenizer.encode(text)}
    return sorted(used | {tokenizer.sot_token_id, tokenizer.eot_token_id})


def build_model(vocab_size: int) -> nn.Module:
    """An untrained pocket CLIP."""
    text = {**CONFIG["text_cfg"], "vocab_size": vocab_size}
    return PocketCLIP(CONFIG["embed_dim"], CONFIG["vision_cfg"], text)


def save_pocket(model: nn.Module, tokenizer: PocketTokenizer, folder: Path) -> None:
    """Write the weights (float16) and the vocabulary of a trained pocket model, each file whole."""
    from safetensors.torch import save

    state = {
        name: value.detach().half().cpu().contiguous()
        for name, value in model.state_dict().items()
        if name != "attn_mask"
    }
    write_atomically(folder / "model.safetensors", lambda file: file.write(save(state)))
    write_atomically(folder / "vocabulary.json", json.dumps(list(tokenizer.ids)) + "\n")


def shipped_here() -> list[str]:
    """Return the names of the trained pocket models that are here.

    >>> "pocket" in shipped_here()
    True
    """
    return [name for name, folder in SHIPPED.items() if folder.is_dir()]


def shipped_folder(name: str) -> Path:
    """Return the folder of the pocket model of this name, one of `SHIPPED`.

    Raises FileNotFoundError when the second model is not there.
    """
    folder = SHIPPED[name]
    if name != "pocket" and not folder.is_dir():
        raise FileNotFoundError(
            f"{name!r} is not here ({folder}): it is trained from another seed, and no installed "
            "package holds it. Train it: `python -m anovl_companion train --recipe gpu --seed 1 "
            "--out DIR`, then load_clip('pocket', weights='DIR')"
        )
    return folder


def load_tokenizer(folder: Path = FOLDER) -> PocketTokenizer:
    """Read the tokenizer of a pocket model."""
    return PocketTokenizer(json.loads((folder / "vocabulary.json").read_text()))


def load_pocket(folder: str | Path | None = None) -> tuple[nn.Module, PocketTokenizer, int]:
    """Read a pocket model: the network in float32, its tokenizer, its image size.

    `folder` holds `model.safetensors` and `vocabulary.json`; None = the shipped model.

    Raises FileNotFoundError if a file is missing, ValueError if the weights do not fit.
    """
    folder = FOLDER if folder is None else Path(folder).expanduser()
    for name in ("model.safetensors", "vocabulary.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"no pocket model in {folder}: {name} is missing. Name the model of other weights, "
                "such as --model ViT-B-16-plus-240; of a pocket model, give the folder that "
                "`python -m anovl_companion train` wrote, or reinstall anovl for the shipped one"
            )
    tokenizer = load_tokenizer(folder)
    path = folder / "model.safetensors"
    model = fill(build_model(tokenizer.vocab_size), read_state_dict(path), "a pocket model", path)
    return model.eval(), tokenizer, IMAGE_SIZE
