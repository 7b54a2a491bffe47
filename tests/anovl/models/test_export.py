"""ONNX files: the same maps and scores as PyTorch, and what they say of themselves."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import randomise
from PIL import Image

import anovl
from anovl.cli import main
from anovl.models.export import Exportable, export_onnx

onnxruntime = pytest.importorskip("onnxruntime", reason="needs pip install -e '.[export]'")
pytest.importorskip("onnx", reason="needs pip install -e '.[export]'")
pytest.importorskip("onnxscript", reason="needs pip install -e '.[export]'")


@pytest.fixture(scope="module")
def clip():
    """A random CLIP of two blocks with CLIP's vocabulary, and a normalisation of its own."""
    import open_clip

    torch.manual_seed(0)
    vision = {"image_size": 48, "patch_size": 16, "width": 64, "head_width": 16, "layers": 2}
    model = open_clip.CLIP(16, vision, {"width": 64, "heads": 1, "layers": 1}).eval()
    randomise(model)
    own = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
    return anovl.Clip(model, open_clip.tokenize, image_size=48, name="two blocks", **own)


def pictures(clip, count):
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, 3, *clip.image_size, generator=generator)


def normalised(clip, pixels):
    return (pixels - torch.tensor(clip.mean).view(3, 1, 1)) / torch.tensor(clip.std).view(3, 1, 1)


@pytest.mark.parametrize("attention", ["qk", "vv"])
def test_onnxruntime_gives_the_maps_and_scores_of_pytorch(clip, tmp_path, attention):
    detector = anovl.AnoVL(clip, attention=attention, level="states")
    path = export_onnx(detector, "metal nut", tmp_path / "new" / "nut.onnx")
    session = onnxruntime.InferenceSession(str(path))
    for count in (1, 3):
        pixels = pictures(clip, count)
        maps, scores = session.run(["map", "score"], {"picture": pixels.numpy()})
        expected = detector.localize(normalised(clip, pixels), "metal nut")
        assert (maps.dtype, maps.shape) == (np.float32, (count, 48, 48))
        for i, one in enumerate(expected):
            np.testing.assert_allclose(maps[i], one.map, atol=1e-4, rtol=0)
            assert scores[i] == pytest.approx(one.score, abs=1e-4)
        assert np.ptp(maps) > 1e-3, "a flat map would equal anything"
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["model"], facts["weights_sha256"]) == (clip.name, clip.weights_hash)
    assert (facts["class_name"], facts["method"]) == ("metal nut", detector.name)


@pytest.mark.parametrize("options", [{"attention": "kk"}, {"first_block": 2}])
def test_the_graph_follows_the_options(clip, options):
    detector = anovl.AnoVL(clip, level="word", **options)
    module = Exportable(detector, detector.text("nut"))
    pixels = pictures(clip, 2)
    with torch.no_grad():
        maps, scores = module(pixels)
    for found, score, one in zip(
        maps, scores, detector.localize(normalised(clip, pixels), "nut"), strict=True
    ):
        np.testing.assert_allclose(found, one.map, atol=1e-6)
        assert float(score) == pytest.approx(one.score, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"tta": True}, "tta"), ({"views": 22}, "views"), ({"tiles": True}, "til"), ({}, "half")],
)
def test_what_one_pass_in_float32_cannot_do_is_refused(clip, tmp_path, options, said):
    chosen = clip if options else replace(clip, precision="bfloat16")
    with pytest.raises(ValueError, match=said):
        export_onnx(anovl.AnoVL(chosen, level="word", **options), "nut", tmp_path / "nut.onnx")


def test_another_suffix_and_missing_libraries_are_refused(clip, tmp_path, monkeypatch):
    detector = anovl.AnoVL(clip, level="word")
    with pytest.raises(ValueError, match=r"nut\.pt"):
        export_onnx(detector, "nut", tmp_path / "nut.pt")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match="onnxscript"):
        export_onnx(detector, "nut", tmp_path / "nut.onnx")


def test_the_command_line_hands_everything_on(tmp_path, monkeypatch, capsys):
    asked = {}

    def write(detector, class_name, to, **given):
        asked.update(detector=detector, class_name=class_name)
        Path(to).write_bytes(b"onnx")
        return Path(to)

    monkeypatch.setattr("anovl.models.export.export_onnx", write)
    options = ["--attention", "qk", "--image-size", "56", "--no-cache"]
    to = str(tmp_path / "nut.onnx")
    assert main(["export", "--object", "metal nut", "--to", to, *options]) == 0
    detector = asked["detector"]
    assert (asked["class_name"], detector.attention) == ("metal nut", "qk")
    assert detector.clip.name == "pocket at 56 px"
    said = capsys.readouterr().out
    assert "(B, 3, 56, 56)" in said and "raw" in said and "--calibration" in said


@pytest.fixture
def command(clip, tmp_path, monkeypatch, capsys):
    """A function: run a command with the CLIP of two blocks; return its code, and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("anovl.models.load.load_clip", lambda *names, **options: clip)
    rng = np.random.default_rng(0)
    for i in range(28):  # the new ones have one colour less, two or three
        path = tmp_path / ("normal" if i < 20 else "new") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 255, (60, 50, 3), dtype=np.uint8)
        if i >= 20:
            pixels *= np.array([i & 1, i >> 1 & 1, i >> 2 & 1], dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    def run(*arguments):
        code = main([*map(str, arguments), "--no-cache"])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


LOCALIZE = ("localize", "new", "--normal", "normal", "--out", "out")
EXPORT = ("export", "--calibration", "out/localize.json", "--to", "nut.onnx")


@pytest.mark.parametrize("by", ["score", "either"])
def test_a_calibrated_file_gives_the_maps_scores_and_alarms_of_the_command(command, by):
    """Also with words of one's own, which the run recorded."""
    Path("mine.json").write_text('{"states": {"anomalous": ["torn {}", "dark {}"]}}')
    options = ("--object", "nut", "--prompts", "mine.json", "--false-alarms", 0.3)
    assert command(*LOCALIZE, *options, "--alarm-by", by)[0] == 0
    code, said = command(*EXPORT)
    assert code == 0 and "at most 30% raise an alarm" in said and "Not promised" in said
    session = onnxruntime.InferenceSession("nut.onnx")
    record, alarms = json.loads(Path("out/localize.json").read_text()), []
    for row in csv.DictReader(Path("out/scores.csv").read_text().splitlines()):
        small = anovl.read_image(row["image"]).resize((48, 48), Image.Resampling.BICUBIC)
        pixels = np.asarray(small, dtype=np.float32).transpose(2, 0, 1)[None] / 255
        (found,), (score,), (alarm,) = session.run(["map", "score", "alarm"], {"picture": pixels})
        np.testing.assert_allclose(found, np.load(f"out/{row['map']}"), atol=1e-6, rtol=0)
        assert score == pytest.approx(float(row["score"]), abs=1.5e-6)  # of six decimals
        assert alarm == bool(int(row["alarm"]))
        alarms.append(alarm)
    assert 0 < sum(alarms) < len(alarms)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["scale"]) == record["scale"] and facts["alarm_by"] == f'"{by}"'
    assert json.loads(facts["levels"]) == record["levels"]


def test_too_few_normal_images_are_subtracted_and_set_no_level(command):
    for image in sorted(Path("normal").iterdir())[3:]:
        image.unlink()
    assert command(*LOCALIZE, "--object", "nut")[0] == 0
    assert "No level" in command(*EXPORT)[1]
    session = onnxruntime.InferenceSession("nut.onnx")
    assert [one.name for one in session.get_outputs()] == ["map", "score"]


@pytest.mark.parametrize("other", [["--tta"], ["--tiles"], ["--method", "pca-normal"], []])
def test_only_the_run_of_the_same_model_is_exported(command, clip, monkeypatch, other):
    assert command(*LOCALIZE, "--object", "nut", *other)[0] == 0
    if not other:
        changed = replace(clip, weights_hash="0" * 64)
        monkeypatch.setattr("anovl.models.load.load_clip", lambda *names, **options: changed)
    code, said = command(*EXPORT)
    assert code == 2 and "out/localize.json" in said and not Path("nut.onnx").exists()


def test_what_cannot_be_exported_is_said_before_the_model_is_loaded(command, monkeypatch):
    monkeypatch.setattr("anovl.models.load.load_clip", None)
    Path("other.json").write_text("[]")
    for given, named in (
        (["--object", "nut", "--to", "nut.pt"], "nut.pt"),
        (["--to", "nut.onnx"], "--object"),
        (["--object", "nut", "--calibration", "x", "--to", "nut.onnx"], "--calibration"),
        (["--calibration", "nowhere.json", "--to", "nut.onnx"], "nowhere.json"),
        (["--calibration", "other.json", "--to", "nut.onnx"], "other.json"),
    ):
        code, said = command("export", *given)
        assert code == 2 and named in said


def test_pictures_prepared_as_the_command_says_give_the_maps_of_localize(clip, tmp_path):
    shades = np.random.default_rng(0).integers(0, 4096, (90, 130), dtype=np.uint16)
    deep, plain = tmp_path / "deep.png", tmp_path / "plain.png"
    Image.fromarray(shades).save(deep)
    Image.fromarray((shades >> 4).astype(np.uint8)).convert("RGB").rotate(30).save(plain)
    detector = anovl.AnoVL(clip, level="word")
    module = Exportable(detector, detector.text("nut"))
    for file in (deep, plain):
        (picture,) = anovl.read_images([file])
        small = picture.resize((48, 48), Image.Resampling.BICUBIC)
        rows = np.asarray(small, dtype=np.float32).transpose(2, 0, 1) / 255
        with torch.no_grad():
            (found,), _ = module(torch.from_numpy(rows)[None])
        np.testing.assert_allclose(found, detector(file, "nut").map, atol=1e-6)
