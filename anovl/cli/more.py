"""`anovl export` and `anovl download`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anovl.cli.options import add_weights, make_detectors, refuse_idle

if TYPE_CHECKING:
    from anovl.cli.options import Commands


_PREPARE = """\
    Squeeze the whole picture, uncropped, to {width} x {height} pixels, with antialiasing, as
    Pillow's resize((w, h), Image.Resampling.{filter}) does. Divide its 8-bit values by 255, and
    put colours before rows: (3, {height}, {width}). The file subtracts the model's mean itself.
    Not allowed: values of 0 to 255. Pictures of more than 8 bits (16-bit ones): scale them first,
    all with one range, as `anovl localize` does; in Python, anovl.read_images(files)."""


def export(options: argparse.Namespace) -> int:
    """Write AnoVL for one object to an ONNX file."""
    from anovl.models.export import export_onnx

    detector = replace(make_detectors(["anovl"], options)[0], attention=options.attention)
    written = export_onnx(detector, options.object, options.to)
    height, width = detector.clip.image_size
    print(f"{written}, {written.stat().st_size / 1e6:.1f} MB")
    print(f"in: picture (B, 3, {height}, {width}), float32, RGB, 0 to 1")
    filter_ = detector.clip.interpolation.name
    print(_PREPARE.format(height=height, width=width, filter=filter_))
    print(f"out: map (B, {height}, {width}) and score (B,), higher where it looks more anomalous")
    return 0


def download(options: argparse.Namespace) -> int:
    """Fetch a published data set, or the paper's weights."""
    from anovl.data.download import download
    from anovl.models.hf_clip import download_tinyclip
    from anovl.models.weights import download_weights

    if options.name != "weights":
        refuse_idle(options, ["model"], "on a data set: it says which weights to fetch")
    if Path(options.to).expanduser().is_file():
        raise ValueError(f"--to {options.to} is a file: give a folder")
    if options.name == "weights":
        fetch = download_tinyclip if options.model == "tinyclip" else download_weights
        fetch(options.to, url=options.url)
    else:
        download(options.name, options.to, url=options.url)
    return 0


def add_export(commands: Commands) -> None:
    command = commands.add_parser(
        "export",
        help="AnoVL for one object as an ONNX file",
        description="Write an ONNX file that takes a picture and gives a map and a score, with the "
        "words baked in: for ONNX Runtime, OpenVINO or a browser, as the docstring of "
        "anovl.models.export shows. Takes up to a minute, and needs (in the checkout) "
        "pip install -e '.[export]'.",
    )
    add = command.add_argument
    add("--object", required=True, help='what the pictures will show: "metal nut", ...')
    add("--to", required=True, metavar="FILE.onnx")
    add("--attention", choices=("vv", "qk", "qq", "kk"), default="vv", help="default: %(default)s")
    add_weights(command)
    command.set_defaults(command=export)


def add_download(commands: Commands) -> None:
    from anovl.data.download import ARCHIVES

    command = commands.add_parser(
        "download",
        help="fetch a published data set or the paper's weights",
        description="Fetch, prove by SHA-256 and unpack. A broken download begins anew when it is "
        "started again. For a bad connection, fetch the archive with a browser or with curl, which "
        "can resume: it is taken when it lies in the folder.",
    )
    add = command.add_argument
    add("name", metavar="NAME", help=", ".join([*ARCHIVES, "weights"]))
    add("--to", required=True, metavar="DIR", help="folder for the archive and its content")
    add("--url", default="", help="another link to the same file")
    add(
        "--model",
        choices=("paper", "tinyclip"),
        help="which weights: the paper's (default), or TinyCLIP, a small real CLIP (94 MB)",
    )
    command.set_defaults(command=download)
