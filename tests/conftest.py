"""What the tests share: tiny models, and the numbers of the published implementation.

`tests/reference/` holds a compact set of those numbers; the full set is used too where it is at
hand (`../shared`, or the folder named by ANOVL_SHARED). No test touches the network.
"""

from __future__ import annotations

import json
import math
import os
import threading
from functools import cached_property, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anovl.clip import hash_state_dict
from anovl.data.published import LIKE_MVTEC

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, when huggingface_hub is imported

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


@pytest.fixture(name="shared_path", scope="session")
def shared_path_fixture():
    return shared_path


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

        torch.manual_seed(0)
        if self.size == "small":
            model = open_clip.CLIP(**json.loads((COMPACT / "config.json").read_text()))
        else:
            model = open_clip.create_model(self.name)
        randomise(model)
        if self.size == "small":
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
        prompts = torch.nn.functional.normalize(
            torch.randn(462, width, 2, generator=generator), dim=1
        )
        prototypes = torch.nn.functional.normalize(
            torch.randn(width, 2, generator=generator), dim=0
        )
        return prototypes.T.contiguous(), prompts.permute(2, 0, 1).reshape(924, width)


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


def write_picture(path: Path, *, value: int = 0, size: tuple[int, int] = (12, 8), mode="L") -> None:
    """A picture of one value, except for the pixel at (3, 2), which is 9 if it is a mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new(mode, size, value)
    if not value:
        picture.putpixel((3, 2), 9)
    picture.save(path)


def miniature_mvtec(root: Path) -> None:
    """All 15 categories, grey or RGB, with two good images and two kinds of defect."""
    for category in LIKE_MVTEC["mvtec"]:
        mode = "L" if category in ("grid", "screw", "zipper") else "RGB"
        for name in ("000", "001"):
            write_picture(root / category / "test/good" / f"{name}.png", value=128, mode=mode)
        for kind in ("cut", "hole"):
            write_picture(root / category / "test" / kind / "000.png", value=60, mode=mode)
            write_picture(root / category / "ground_truth" / kind / "000_mask.png")
        write_picture(root / category / "train/good/000.png", value=128, mode=mode)


def miniature_visa(root: Path) -> None:
    """Two categories of oblong images; masks with class indices; a list with training images."""
    rows = ["object,split,label,image,mask"]
    for category in ("candle", "macaroni1"):
        images, masks = f"{category}/Data/Images", f"{category}/Data/Masks/Anomaly"
        for number, split in ((7, "train"), (3, "test"), (1, "test")):
            write_picture(root / images / f"Normal/{number:04d}.JPG", value=128, size=(12, 8))
            rows.append(f"{category},{split},normal,{images}/Normal/{number:04d}.JPG,")
        for name in ("000", "001"):
            write_picture(root / images / f"Anomaly/{name}.JPG", value=60, size=(12, 8))
            write_picture(root / masks / f"{name}.png")
            rows.append(f"{category},test,anomaly,{images}/Anomaly/{name}.JPG,{masks}/{name}.png")
    (root / "split_csv").mkdir(parents=True)
    (root / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")


def miniature_magnetic_tile(root: Path) -> None:
    """Every kind, with two images of different sizes; empty masks beside the good ones."""
    for kind in ("Free", "Blowhole", "Break", "Crack", "Fray", "Uneven"):
        for name, size in (("exp1_num_1", (12, 8)), ("exp1_num_2", (9, 10))):
            image = root / f"MT_{kind}/Imgs/{name}.jpg"
            write_picture(image, value=128, size=size)
            write_picture(image.with_suffix(".png"), size=size)
            if kind == "Free":
                Image.new("L", size).save(image.with_suffix(".png"))


def miniature_like_mvtec(
    root: Path, categories, *, normal="good", test="test", truth="ground_truth", kinds=("bad",)
) -> None:
    """Categories in MVTec AD's layout: two normal images, one of each kind, one for training."""
    for category in categories:
        for name in ("000", "001"):
            write_picture(root / category / test / normal / f"{name}.png", value=128)
        for kind in kinds:
            write_picture(root / category / test / kind / "000.png", value=60)
            write_picture(root / category / truth / kind / "000_mask.png")
        write_picture(root / category / "train" / normal / "000.png", value=128)


def miniature_mpdd(root: Path) -> None:
    miniature_like_mvtec(root, LIKE_MVTEC["mpdd"], kinds=("hole", "scratches"))


def miniature_btad(root: Path) -> None:
    """Bitmaps; the masks of the second product are PNG, called after the image's whole name."""
    miniature_like_mvtec(root, LIKE_MVTEC["btad"], normal="ok", kinds=("ko",))
    for category in LIKE_MVTEC["btad"]:
        image = root / category / "test/ko/000.png"
        Image.open(image).save(image.with_suffix(".bmp"))
        image.unlink()
        mask = root / category / "ground_truth/ko/000_mask.png"
        mask.rename(mask.with_name("000.bmp.png" if category == "02" else "000.png"))


def miniature_mvtec_ad_2(root: Path) -> None:
    """With the private tests, which have no masks and are not read."""
    names = {"test": "test_public", "truth": "test_public/ground_truth"}
    miniature_like_mvtec(root, LIKE_MVTEC["mvtec-ad-2"], **names)
    for category in LIKE_MVTEC["mvtec-ad-2"]:
        write_picture(root / category / "test_private/000.png", value=90)
        write_picture(root / category / "validation/good/000.png", value=128)


def miniature_kolektor_sdd(root: Path) -> None:
    """Two commutators, of which the second has one defective surface."""
    for folder in ("kos01", "kos02"):
        for part in ("Part0", "Part1"):
            write_picture(root / folder / f"{part}.jpg", value=128)
            label = root / folder / f"{part}_label.bmp"
            write_picture(label, value=0)
            if (folder, part) != ("kos02", "Part1"):
                Image.new("L", (12, 8)).save(label)


def miniature_elpv(root: Path) -> None:
    """Cells of both crystals, of all four probabilities."""
    rows = []
    probabilities = (0.0, 0.3333333333333333, 0.6666666666666666, 1.0)
    for number, (crystal, probability) in enumerate(product(("mono", "poly"), probabilities), 1):
        path = f"images/cell{number:04d}.png"
        write_picture(root / path, value=100 + number)
        rows.append(f"{path}  {probability}  {crystal}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")


MINIATURES = {
    "mvtec": miniature_mvtec,
    "visa": miniature_visa,
    "magnetic-tile": miniature_magnetic_tile,
    "kolektor-sdd": miniature_kolektor_sdd,
    "btad": miniature_btad,
    "mpdd": miniature_mpdd,
    "mvtec-ad-2": miniature_mvtec_ad_2,
    "elpv": miniature_elpv,
}


@pytest.fixture
def miniature(tmp_path):
    """Lay out a small copy of a data set as it is published: `miniature("visa")` is its root."""

    def lay_out(name: str, root: Path = tmp_path / "published") -> Path:
        MINIATURES[name](root / name)
        return root / name

    return lay_out


class Server:
    """An HTTP server on this machine that may break a connection after some bytes.

    `files` are its content by path; `asked` the paths of all requests.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.break_after: int | None = None
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self))
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *arguments) -> None:
        self.site = server
        super().__init__(*arguments)

    def do_GET(self) -> None:
        content = self.site.files.get(self.path)
        self.site.asked.append(self.path)
        if content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.site.break_after])
        return None

    def log_message(self, *arguments) -> None:
        """Stay quiet."""


@pytest.fixture
def server():
    server = Server()
    yield server
    if server.thread.is_alive():
        server.stop()


@pytest.fixture(scope="session")
def small_reference() -> Reference:
    return Reference("small")


@pytest.fixture(scope="session")
def full_reference() -> Reference:
    shared_path("reference", "full", "forward.npz")
    return Reference("full")


@pytest.fixture(scope="session")
def tiny_clip():
    """A random CLIP: 64 px, patches of 16 (4x4), width 64, 4 blocks, 2 heads, embedding 32."""
    import open_clip

    import anovl

    torch.manual_seed(0)
    model = open_clip.CLIP(**json.loads((COMPACT / "config.json").read_text()))
    randomise(model)
    name = "tiny [random weights]"
    return anovl.Clip(model.eval(), open_clip.tokenize, image_size=64, name=name)
