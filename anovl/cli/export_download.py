"""`anovl export` and `anovl download`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from anovl.cli.options import Commands, add_model, load_model, path_text

_PREPARE = """\
in: picture (B, 3, {height}, {width}), float32, RGB, 0 to 1
    Squeeze the whole picture, uncropped, to {width} x {height} pixels, with antialiasing, as
    Pillow's resize((w, h), Image.Resampling.{filter}) does. Divide its 8-bit values by 255, and
    put colours before rows: (3, {height}, {width}). The file subtracts the model's mean itself.
    Pictures of more than 8 bits: scale all with one range first, as anovl.read_images(files) does.
out: map (B, {height}, {width}) and score (B,), higher for more anomalous pictures"""
_RAW = """\
    The map is the raw one, without levels. `localize --normal` subtracts the mean map of normal
    pictures from it, and raises alarms: --calibration localize.json of such a run exports that."""


def export(options: argparse.Namespace) -> int:
    """Write AnoVL for one object to an ONNX file, with the alarms of a run of `localize`."""
    from anovl.cli.alarms import about_level
    from anovl.cli.image_files import record_in
    from anovl.cli.localize_files import FACTS, calibrated_again
    from anovl.detector import AnoVL
    from anovl.models.export import check_target, export_onnx

    check_target(options.to)
    if bool(options.object) == bool(options.calibration):
        raise ValueError(
            'give --object, such as --object "metal nut", or --calibration, which has it'
        )
    record = record_in(Path(options.calibration)) if options.calibration else {}
    if options.calibration and "made_by" not in record:
        says = "is not the localize.json of a run of `localize` with --normal"
        raise ValueError(f"{options.calibration} {says}")
    clip, own = load_model(options)
    detector, words = AnoVL(clip, attention=options.attention, **own), options.object
    given, says = {"facts": {"map": "as it is"}}, _RAW
    if record:
        calibrated = calibrated_again(record, detector, options.calibration)
        words, facts = calibrated.class_name, {name: json.dumps(record[name]) for name in FACTS}
        limits, mean = calibrated.thresholds, calibrated.mean_logit
        given = {"facts": facts, "thresholds": limits, "mean_logit": mean}
        alarm = "" if limits is None else "    alarm (B,): whether the picture raises an alarm\n"
        says = f"    map: {record['map']}\n{alarm}{about_level(calibrated)}"
    written = export_onnx(detector, words, options.to, **given)
    height, width = clip.image_size
    print(f"{written}, {written.stat().st_size / 1e6:.1f} MB")
    print(_PREPARE.format(height=height, width=width, filter=clip.interpolation.name))
    print(says)
    return 0


def download(options: argparse.Namespace) -> int:
    """Download a published data set, or the paper's weights."""
    from anovl.data.download import download
    from anovl.models.hf_clip import download_tinyclip
    from anovl.models.weights import download_weights

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
        description="Write an ONNX file that takes a picture and returns a map and a score for one "
        "object: for ONNX Runtime, OpenVINO or a browser; the docstring of anovl.models.export "
        "shows how. Takes up to a minute, and needs pip install -e '.[export]' in the checkout.",
    )
    add = command.add_argument
    add("--object", help='the object in the pictures: "metal nut", ...')
    add("--to", required=True, type=path_text, metavar="FILE.onnx")
    add("--attention", choices=("vv", "qk", "qq", "kk"), default="vv", help="default: %(default)s")
    says = "of a run of `localize` with --normal: its object, mean map of normal images and alarms"
    add("--calibration", type=path_text, metavar="localize.json", help=says)
    add_model(command, exported=True)
    command.set_defaults(command=export)


def add_download(commands: Commands) -> None:
    from anovl.data.download import ARCHIVES

    command = commands.add_parser(
        "download",
        help="download a published data set or the paper's weights",
        description="Download, verify by SHA-256 and unpack. A broken download begins anew: over a "
        "bad connection, fetch the archive with curl or a browser, which can resume. An archive "
        "that is already in the folder is used.",
    )
    add = command.add_argument
    add("name", metavar="NAME", help=", ".join([*ARCHIVES, "weights"]))
    add("--to", required=True, type=path_text, metavar="DIR", help="folder for archive and content")
    add("--url", default="", help="another link to the same file")
    says = "of weights: the paper's (default), or TinyCLIP, a small real CLIP (94 MB)"
    add("--model", choices=("paper", "tinyclip"), help=says)
    command.set_defaults(command=download)
