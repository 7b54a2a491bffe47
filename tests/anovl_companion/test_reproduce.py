"""A new run against what is committed: what agrees stays, what differs is found."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_notebook, new_output

import anovl
from anovl_companion import run_notebooks as run
from anovl_companion.charts import MapRow, map_chart
from anovl_companion.records import verify
from anovl_companion.reproduce import (
    compare,
    compare_pictures,
    compare_texts,
    keep_outputs,
    outputs_of,
    results_of,
)
from anovl_companion.saving import save_figure, save_table

CATEGORIES = ("bottle", "wood")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.781", "0.782"),
        ("0.781234", "0.782234"),
        ("78.1%", "78.2%"),
        ("| 78.1 |", "| 78.2 |"),
        ("in 87% of these", "in 88% of these"),
        ("-0.000 (-0.009 to +0.015), not told apart", "0.000 (-0.010 to +0.015), not told apart"),
        ("+2.3 points", "+2.4 points"),
        ("5.48 times", "5.49 times"),
        ("4.103e-07", "2.912e-07"),
        ("10134.8", "10134.9"),
        ("| a |\n|:---|\n| 0.1 |", "| a    |\n|:------|\n|  0.1 |"),
    ],
)
def test_last_digits_and_the_width_of_columns_do_not_count(old, new):
    assert compare_texts(old, new) == compare_texts(new, old) == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0.781", "0.786", "'0.786' was '0.781'"),
        ("0.781", "0.783", "'0.783' was '0.781'"),
        ("78.1%", "78.6%", "'78.6%' was '78.1%'"),
        ("87%", "89%", "'89%' was '87%'"),
        ("| 78.1 |", "| 78.6 |", "'78.6' was '78.1'"),
        ("0.781", "78.1%", "'78.1%' was '0.781'"),
        ("11 reproduced, 10 not", "10 reproduced, 11 not", "'10' was '11'"),
        ("+0.02: better", "+0.02: undecided", "': undecided' was ': better'"),
        ("weights `d4cfd43363c4`", "weights `d4cfd43363c5`", "d4cfd43363c5"),
        ("0.5", "0.5 0.6", "'0.6' was ''"),
        ("0.500", "nan", "'nan' was"),
    ],
)
def test_more_than_that_and_every_word_and_count_are_found(old, new, said):
    assert said in compare_texts(old, new)


@pytest.fixture(name="tools", scope="module")
def pictures_and_their_features():
    clip = anovl.load_clip("pocket")
    data = anovl.load_dataset("pocket", categories=CATEGORIES, per_category=4)
    samples = {c: list(data.samples(c)) for c in CATEGORIES}
    words = {c: anovl.prompt_ensemble(c, level="states") for c in CATEGORIES}
    texts = {c: anovl.encode_prompts(clip, words[c]) for c in CATEGORIES}

    def features(attention: str) -> dict[str, torch.Tensor]:
        images = {c: [s.image for s in some] for c, some in samples.items()}
        return {
            c: anovl.encode_images(clip, images[c], attention=attention).patches for c in CATEGORIES
        }

    def save(folder: Path, patches: dict[str, torch.Tensor], moved: float = 0.0) -> Path:
        """What a notebook would save: a figure of maps, and a table of two metrics."""
        record, rows, first = {"notebook": "toy", "model": "toy"}, [], []
        for category, some in samples.items():
            masks = np.stack([s.mask for s in some])
            maps = anovl.anomaly_maps(patches[category], texts[category], size=masks.shape[1:])
            maps = maps.numpy()
            rows.append((category, anovl.auroc(maps, masks) + moved, anovl.aupro(maps, masks)))
            first.append(maps[-1])
        table = pd.DataFrame(rows, columns=["category", "auroc_px", "aupro"])
        save_table(table, folder / "toy_table", provenance=record, percent=["auroc_px"])
        images = [some[-1].image for some in samples.values()]
        maps, heads = np.stack(first), list(samples)
        masks = [np.eye(8, dtype=bool)] * len(maps)
        rows = [MapRow("map", maps, maps, maps.min(), maps.max())]
        words = {"masks": masks, "heads": heads, "title": "t", "note": "n"}
        fig = map_chart(images, images, rows, **words)
        save_figure(fig, folder / "toy_maps", provenance=record)
        return folder

    return features, save


def differences(old: Path, new: Path) -> list[str]:
    return compare(results_of(old, "toy"), results_of(new, "toy"))


def test_features_moved_by_a_millionth_change_nothing(tools, tmp_path):
    features, save = tools
    patches, noise = features("vv"), torch.Generator().manual_seed(0)
    near = {c: p + 1e-6 * torch.randn(p.shape, generator=noise) for c, p in patches.items()}
    old, new = save(tmp_path / "1", patches), save(tmp_path / "2", near)
    assert len(results_of(old, "toy")) == 5  # a picture, two tables and their two records
    assert differences(old, new) == []


def test_another_attention_is_found_in_the_table_and_in_the_figure(tools, tmp_path):
    features, save = tools
    old, new = save(tmp_path / "1", features("vv")), save(tmp_path / "2", features("kk"))
    said = "\n".join(differences(old, new))
    for file in ("toy_table.csv: ", "toy_table.md: ", "toy_maps.png: "):
        assert file in said


def test_one_metric_moved_by_half_a_point_is_found_with_its_row_and_column(tools, tmp_path):
    features, save = tools
    patches = features("vv")
    old, new = save(tmp_path / "1", patches), save(tmp_path / "2", patches, moved=5e-3)
    of_csv, of_markdown = sorted(differences(old, new))
    assert of_csv.startswith("toy_table.csv: row 1, column auroc_px: '0.")
    assert of_markdown.startswith("toy_table.md: ")


def folder_of(path: Path, **facts: str) -> Path:
    save_table(pd.DataFrame({"a": [0.5]}), path / "t", provenance={"notebook": "toy", **facts})
    return path


def test_results_that_are_new_gone_or_of_other_data_are_found(tmp_path):
    old = folder_of(tmp_path / "1", data_sha256="a", device="cpu", code_sha256="1")
    new = folder_of(tmp_path / "2", data_sha256="a", device="cuda", code_sha256="2")
    assert differences(old, new) == []
    [said] = differences(old, folder_of(tmp_path / "3", data_sha256="b"))
    assert said.startswith("t.provenance.json: ") and "data_sha256" in said
    save_table(pd.DataFrame({"a": [1]}), new / "more", provenance={"notebook": "toy"})
    files = {f"more.{end}" for end in ("csv", "md", "provenance.json")}
    assert set(differences(old, new)) == {f"{file} is new" for file in files}
    assert set(differences(new, old)) == {f"{file} is no longer made" for file in files}
    (old / "t.md").unlink()
    assert "t.md is new" in differences(old, new)
    save_table(pd.DataFrame({"b": [0.5]}), old / "t", provenance={"notebook": "toy"})
    assert any(said.startswith("t.csv: 1 rows of ['a']") for said in differences(old, new))


def drawn(folder: Path, height: float, width: float = 3) -> bytes:
    fig = Figure(figsize=(width, 2))
    fig.subplots().bar(["q-k", "v-v"], [0.5, height])
    return save_figure(fig, folder / "bars", provenance={}).read_bytes()


def test_pictures_that_are_near_each_other_agree(tmp_path):
    one = drawn(tmp_path, 0.8)
    assert compare_pictures(one, drawn(tmp_path, 0.8005)) == ""
    assert "of 255" in compare_pictures(one, drawn(tmp_path, 0.3))
    assert "another shape" in compare_pictures(one, drawn(tmp_path, 0.8, width=5))


def notebook_with(*outputs: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return new_notebook(cells=[new_code_cell("1", outputs=list(outputs), execution_count=7)])


def test_outputs_agree_as_tables_do(tmp_path):
    picture = base64.b64encode(drawn(tmp_path, 0.8)).decode()

    def shown(value: str, picture: str = picture) -> dict[str, object]:
        stream = new_output("stream", name="stdout", text=f"AUROC {value}")
        data = {"image/png": picture, "text/plain": "<Image>"}
        return outputs_of(notebook_with(stream, new_output("execute_result", data=data)))

    assert compare(shown("0.781"), shown("0.782")) == []
    [said] = compare(shown("0.781"), shown("0.786"))
    assert said == "cell 0, output 0, stdout: '0.786' was '0.781'"
    other = base64.b64encode(drawn(tmp_path, 0.3)).decode()
    [said] = compare(shown("1"), shown("1", other))
    assert said.startswith("cell 0, output 1, image/png: ")
    assert len(compare(shown("0.781"), outputs_of(notebook_with()))) == 3


def test_source_that_is_shown_is_no_result_and_is_always_the_new_one():
    def shown(comment: str, value: str) -> nbformat.NotebookNode:
        source = f"`anovl.maps`\n```python\nx = 1  # {comment}\n```"
        values = new_output("execute_result", data={"text/plain": value}, execution_count=1)
        return notebook_with(new_output("display_data", data={"text/markdown": source}), values)

    old, new = shown("one", "0.500"), shown("two", "0.501")
    assert compare(outputs_of(old), outputs_of(new)) == []
    keep_outputs(old, new)
    source, value = new.cells[0].outputs
    assert "# two" in source.data["text/markdown"]
    assert (value.data["text/plain"], value.execution_count) == ("0.500", 7)


CELLS = """
from pathlib import Path
import pandas as pd
from anovl_companion.records import provenance
from anovl_companion.saving import save_table
table = pd.DataFrame({"auroc": [float(Path("value.txt").read_text())]})
print(save_table(table, "figures/toy", provenance=provenance(notebook="toy"), percent=["auroc"]))
"""


def everything(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.suffix != ".tex" and p.is_file()}


@pytest.mark.notebook
def test_a_notebook_that_runs_again_stays_unless_a_result_really_changed(tmp_path):
    path, figures, value = tmp_path / "toy.ipynb", tmp_path / "figures", tmp_path / "value.txt"
    nbformat.write(new_notebook(cells=[new_code_cell(CELLS)]), path)
    value.write_text("0.7810")
    run.refresh(path, figures=figures)
    record = figures / "toy.provenance.json"
    old = {**json.loads(record.read_text()), "versions": {"torch": "1"}, "code_sha256": "older"}
    record.write_text(json.dumps(old, indent=2, sort_keys=True) + "\n")
    committed = everything(tmp_path)

    value.write_text("0.7816")
    assert run.reproduce([path], figures=figures) == []
    stamp = nbformat.read(path, as_version=4).metadata.anovl
    assert json.loads(record.read_text()) == {**old, "code_sha256": stamp["code"]}
    again = everything(tmp_path)
    assert {name for name in again if again[name] != committed[name]} == {record.name, value.name}
    assert "0.782" not in (figures / "toy.md").read_text()

    value.write_text("no number")
    with pytest.raises(Exception, match="could not convert"):
        run.refresh(path, figures=figures, compare=True)
    assert {n: b for n, b in everything(tmp_path).items() if n != value.name} == {
        n: b for n, b in again.items() if n != value.name
    }

    value.write_text("0.7860")
    found = run.reproduce([path], figures=figures)
    assert "toy.ipynb, toy.csv: row 1, column auroc: '0.786' was '0.781'" in found
    assert (figures / "toy.csv").read_text() == "auroc\n0.786\n"
    assert "78.6" in nbformat.read(path, as_version=4).cells[0].outputs[0].text
    assert verify(figures) == []
