"""The notebooks as committed: how they are made, and that this source made their outputs."""

from __future__ import annotations

import base64
import getpass
import importlib.util
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import nbformat
import numpy as np
import papermill
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from PIL import Image

from anovl_companion.notebook import Parameters
from anovl_companion.own_images import OwnParameters
from anovl_companion.records import verify
from anovl_companion.run_notebooks import HERE, KERNEL, belongs_to
from anovl_companion.saving import PNG_BYTES

NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
MACHINE = re.compile(r"/(home|root|Users|tmp|work|var|private)/|[A-Z]:\\\\")
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


@each
def test_it_has_the_common_format_and_was_run_from_top_to_bottom_without_error(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec == KERNEL
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert outputs(notebook)
    assert not [output for output in outputs(notebook) if output.output_type == "error"]


@each
def test_it_has_one_parameters_cell_with_the_common_names_each_explained(path):
    tagged = [cell for cell in read(path).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    found = papermill.inspect_notebook(str(path))
    kind = OwnParameters if path.stem.startswith("A2_") else Parameters
    assert list(found) == [field.name for field in fields(kind)]
    types = get_type_hints(kind)
    for name, parameter in found.items():
        assert parameter["inferred_type_name"] == types[name].__name__
        assert parameter["help"], f"{name} has no help"


@each
def test_its_outputs_belong_to_the_present_source(path):
    notebook = read(path)
    assert notebook.metadata.get("anovl") == belongs_to(notebook), (
        f"what {path.name} shows was made by other code, or by another pocket model: "
        "`make notebooks` makes it anew"
    )


SHOWN = re.compile(r"`(anovl[\w.]*)`\n```python\n(.*)\n```", re.DOTALL)


@each
def test_the_source_that_it_shows_is_that_of_today(path):
    """Comments are not part of the stamp, and readers see them."""
    for output in outputs(read(path)):
        if shown := SHOWN.fullmatch(output.get("data", {}).get("text/markdown", "")):
            module = importlib.util.find_spec(shown[1])
            assert module, f"there is no {shown[1]} any more: `make reproduce` shows what there is"
            lines = iter(Path(module.origin).read_text(encoding="utf-8").splitlines())
            today = map(str.strip, lines)
            missing = [line for line in shown[2].splitlines() if line.strip() not in today]
            assert not missing, f"{shown[1]} has changed: `make reproduce` shows the new source"


@each
def test_its_outputs_are_small_and_tell_nothing_of_the_machine(path):
    for output in outputs(read(path)):
        for kind, value in {"text/plain": output.get("text", ""), **output.get("data", {})}.items():
            if kind == "image/png":
                assert len(base64.b64decode(value)) <= PNG_BYTES
                continue
            text = value if isinstance(value, str) else json.dumps(value)
            assert not MACHINE.search(text), text
            assert str(Path.home()) not in text
            if getpass.getuser() != "root":
                assert getpass.getuser() not in text


@each
def test_a_misspelt_parameter_stops_it_at_once(path):
    notebook = parameterize_notebook(load_notebook_node(str(path)), {"quik": True})
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    injected = tags.index(["injected-parameters"])
    start = [cell.source for cell in notebook.cells[: injected + 1] if cell.cell_type == "code"]
    check = next(cell for cell in notebook.cells[injected + 1 :] if cell.cell_type == "code")
    namespace: dict[str, object] = {}
    exec("\n".join(start), namespace)
    with pytest.raises(ValueError, match="Did you mean 'quick'"):
        exec(check.source, namespace)


def typed_numbers(prose: str) -> list[str]:
    """Decimals and percentages typed into prose; formulas, code and references may have them."""
    without = re.sub(r"```.*?```|\$\$.*?\$\$", " ", prose, flags=re.DOTALL)
    without = re.sub(r"`[^`]*`|\$[^$]*\$|\]\([^)]*\)", " ", without)
    without = re.sub(r"(?m)^#+ [\d.]+|^\| \*\*Takes\*\* .*$|arXiv[: ]\d+\.\d+", " ", without)
    without = re.sub(
        r"\b(section|experiment|notebook|part|exercise) [\d.]+", " ", without, flags=re.I
    )
    return re.findall(r"\d+\.\d+|\d+ ?(?:%|per ?cent)", without)


@each
def test_no_number_of_a_result_is_typed_into_its_prose(path):
    found = {
        number: cell.source
        for cell in read(path).cells
        if cell.cell_type == "markdown"
        for number in typed_numbers(cell.source)
        if number not in ("95 %", "95%")  # the level of intervals is no result
    }
    assert not found, f"render these from results: {found}"


def test_typed_numbers_are_found_and_formulas_are_not_mistaken_for_them():
    assert typed_numbers("v-v reaches 0.81, which is 81 % of") == ["0.81", "81 %"]
    harmless = "## 4.1 Why\n$e^{0.8}$ and `lr=0.001` in arXiv 2308.15939, section 4.1, 22 views"
    assert typed_numbers(harmless) == []


def run(path: Path, out: Path, **given: object) -> nbformat.NotebookNode:
    given = {"quick": True, "out": str(out), **given}
    to, options = str(out.with_suffix(".ipynb")), {"start_timeout": 300, "progress_bar": False}
    return papermill.execute_notebook(str(path), to, given, kernel_name="python3", **options)


@pytest.mark.notebook
@each
def test_a_quick_run_works_from_anywhere_and_leaves_sound_figures(path, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run(path, tmp_path / "figures")
    assert verify(tmp_path / "figures") == []
    assert not any((tmp_path / "elsewhere").iterdir())


A2 = HERE / "A2_your_own_images.ipynb"


def run_on_folder(root: Path, to: Path, **given: object) -> str:
    """Run A2 on a folder, and return all that it says."""
    done = run(A2, to, dataset="folder", data_root=str(root), **given)
    said = (output.get("data", output) for output in outputs(done))
    return "\n".join(one.get("text/markdown", one.get("text", "")) for one in said)


def levels_of_grey(folder: Path, count: int, *, low: int) -> None:
    """Write small pictures of noise that differ."""
    folder.mkdir(parents=True)
    for i in range(count):
        noise = np.random.default_rng([low, i]).integers(low, low + 60, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"cell {i}.png")


@pytest.mark.notebook
def test_on_ones_own_folder_every_category_is_judged_by_file_name(tmp_path):
    root, out = tmp_path / "mine", tmp_path / "out"
    for name, normal in (("front", 4), ("rear", 0)):
        levels_of_grey(root / name / "test" / "good", 3, low=60)
        levels_of_grey(root / name / "test" / "crack", 3, low=150)
        if normal:
            levels_of_grey(root / name / "train" / "good", normal, low=61)
    before = {path: path.read_bytes() for path in root.rglob("*.png")}
    said = run_on_folder(root, out, false_alarms=0.25)
    assert "front: 3 normal pictures (beside the test) set the level" in said
    assert "rear: no level. At most 25.0% false alarms need 3 normal pictures; found 1 " in said
    assert "of 3 images known to be anomalous" in said and "all pictures: " in said
    assert "rear: what is missed is not measured" in said
    alarms = (out / "A2_alarms_front.csv").read_text(encoding="utf-8")
    assert sorted(line.split(",")[0] for line in alarms.splitlines()[1:]) == [
        f"front/test/{kind}/cell {i}.png" for kind in ("crack", "good") for i in range(3)
    ]
    assert {line.split(",")[2] for line in alarms.splitlines()[1:]} <= {"yes", "no"}
    assert len(list((out / "A2_localized" / "front").glob("*cell 0*.png"))) >= 2  # of both kinds
    assert {path: path.read_bytes() for path in root.rglob("*.png")} == before
    assert verify(out) == []


@pytest.mark.notebook
@pytest.mark.parametrize("has_normal", [True, False], ids=["normal ones", "nothing else"])
def test_a_folder_without_labels_is_judged_to_the_end(tmp_path, has_normal):
    root, out = tmp_path / "mine", tmp_path / "out"
    levels_of_grey(root / "new", 3, low=60)
    (root / "new" / "broken.png").write_bytes(b"no picture")
    if has_normal:
        levels_of_grey(root / "train" / "good", 4, low=61)
    said = run_on_folder(root, out, false_alarms=0.25)
    for part in ("broken.png is not", "what is missed is not measured", "auroc: not measured"):
        assert part in said.replace("AUROC", "auroc")
    level = "3 normal pictures (beside the test) set the level" if has_normal else "no level"
    assert level in said
    rows = (out / "A2_alarms.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert sorted(row.split(",")[0] for row in rows) == [f"new/cell {i}.png" for i in range(3)]
    assert {row.split(",")[2] for row in rows} <= ({"yes", "no"} if has_normal else {""})
    assert len(list((out / "A2_localized" / "mine").glob("*cell 0.png"))) == 1
    assert verify(out) == []


@pytest.mark.notebook
def test_on_real_pictures_it_says_what_the_numbers_bear(tmp_path, shared_path):
    root, out = shared_path("data", "magnetic_tile_sample"), tmp_path / "out"
    said = run_on_folder(root, out, false_alarms=0.15, class_name="metal tile")
    for part in ("6 normal pictures (", "images known to be anomalous [95% interval]"):
        assert part in said
    for part in ("Image AUROC: AnoVL", "brightness", "Missed"):
        assert part in said
    names = (out / "A2_alarms.csv").read_text(encoding="utf-8")
    assert "magnetic_tile/test/fray/000.png" in names
    assert verify(out) == []


def test_the_committed_figures_are_those_that_were_recorded():
    assert verify(HERE.parent / "figures" / "pocket") == []


@each
def test_the_committed_figures_were_made_by_the_code_that_made_the_notebook(path):
    number = path.stem.partition("_")[0]
    files = list(HERE.parent.glob(f"figures/pocket/{number}_*.provenance.json"))
    assert files, f"{path.name} has saved nothing in figures/pocket"
    made_by = {json.loads(file.read_text(encoding="utf-8"))["code_sha256"] for file in files}
    assert made_by == {read(path).metadata.anovl["code"]}
