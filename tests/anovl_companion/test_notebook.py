"""The tools of notebooks: strict parameters, shown source, and the runner, on a toy notebook."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from anovl_companion import notebook
from anovl_companion import run_notebooks as run
from anovl_companion.notebook import (
    Parameters,
    check_parameters,
    figure_folder,
    show_figure,
    show_source,
)
from anovl_companion.own_images import OwnParameters

GIVEN = Parameters("pocket", "", "pocket", "", "", "cpu", 0, False)
PARAMETERS = "\n".join(
    f"{name}: {type(value).__name__} = {value!r}  # help" for name, value in asdict(GIVEN).items()
)


def toy(*cells: str) -> nbformat.NotebookNode:
    """A notebook that begins as all of them do, and goes on with `cells`."""
    parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    start = (
        "import sys\nfrom anovl_companion.notebook import check_parameters\nbefore = set(globals())"
    )
    check = "p = check_parameters(before, globals())"
    rest = [new_code_cell(cell) for cell in cells]
    head = [new_markdown_cell("# Toy"), new_code_cell(start), parameters, new_code_cell(check)]
    return new_notebook(cells=head + rest, metadata={"kernelspec": run.KERNEL})


def test_right_parameters_come_back_as_one_object():
    """Names from before and IPython's own are no parameters; all cells can be run again."""
    before = {"np", "earlier"}
    after = asdict(GIVEN) | {"np": 1, "earlier": 2, "_i3": "x", "before": before}
    assert check_parameters(before, after) == GIVEN
    everything = after | {"maps": 1, "p": GIVEN}
    assert check_parameters(set(everything), everything) == GIVEN
    own = check_parameters(set(), asdict(GIVEN) | OWN, OwnParameters)
    assert (own.category, own.false_alarms) == ("wood", 0.1)


OWN = {"category": "wood", "class_name": "", "false_alarms": 0.1}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"modle": "x"}, "'modle'.*'model'"),
        ({"zzz": 1}, "'zzz'"),
        ({"category": "wood"}, "'category'"),
        ({"quick": "true"}, "quick.* bool .*'true'"),
        ({"quick": 1}, "quick.* bool"),
        ({"seed": True}, "seed.* int.*True"),
        ({"seed": 1.0}, "seed.* int.*1.0"),
        ({"seed": -1}, "seed.*-1"),
        ({"weights": None}, "weights.* str.*None"),
        ({"model": " "}, "model"),
        ({"device": "gpu"}, "device.*'gpu'"),
        (OWN | {"falsealarms": 0.1}, "'falsealarms'.*'false_alarms'"),
        (OWN | {"false_alarms": 1}, "false_alarms.* float.*1"),
        (OWN | {"false_alarms": 1.0}, "false_alarms.*1.0"),
        (OWN | {"seed": -1}, "seed.*-1"),
    ],
)
def test_a_wrong_parameter_is_named(change, named):
    kind = OwnParameters if "class_name" in change else Parameters
    with pytest.raises(ValueError, match=named):
        check_parameters(set(), asdict(GIVEN) | change, kind)


def test_a_parameters_cell_that_was_not_run_is_noticed():
    after = {name: value for name, value in asdict(GIVEN).items() if name not in ("out", "seed")}
    with pytest.raises(ValueError, match="out, seed"):
        check_parameters(set(), after)
    with pytest.raises(ValueError, match="category, class_name, false_alarms"):
        check_parameters(set(), asdict(GIVEN), OwnParameters)


def test_figures_go_to_the_repository_wherever_the_notebook_runs(tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    (repository / "notebooks").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(notebook, "PACKAGE", repository / "anovl")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name, changes in {
        "pocket": {},
        "quick": {"quick": True},
        "pocket-photos": {"dataset": "photos"},
        "paper-mvtec": {"model": "ViT-B-16-plus-240", "dataset": "mvtec"},
        "hub_a_b-pocket": {"model": "hub:a/b"},
        "pocket-seed-1": {"seed": 1},
        "quick-pocket-seed-1": {"seed": 1, "quick": True},
        "pocket-device-meta": {"device": "meta"},
        "paper-mvtec-weights-e32": {
            "model": "ViT-B-16-plus-240",
            "dataset": "mvtec",
            "weights": "e32",
        },
    }.items():
        assert figure_folder(replace(GIVEN, **changes)) == repository / "figures" / name
    assert figure_folder(replace(GIVEN, out="mine")) == Path("mine")
    assert (tmp_path / "elsewhere" / "mine").is_dir()
    monkeypatch.setattr(notebook, "PACKAGE", tmp_path / "installed" / "anovl")
    assert figure_folder(GIVEN) == tmp_path / "elsewhere" / "figures" / "pocket"


def test_every_parameter_that_changes_a_result_gives_another_folder(tmp_path, monkeypatch):
    """Only the standard run may write over the figures that are kept."""
    monkeypatch.setattr(notebook, "PACKAGE", tmp_path / "anovl")
    (tmp_path / "notebooks").mkdir()
    weights = [tmp_path / one / "model.safetensors" for one in ("mine", "theirs")]
    for file in weights:
        file.parent.mkdir()
        file.touch()
    standard = OwnParameters(*asdict(GIVEN).values(), "", "", 0.05)
    changes = [{"weights": str(file)} for file in weights]
    changes += [{"model": "other"}, {"dataset": "photos"}, {"dataset": "folder", "data_root": "x"}]
    changes += [{"device": "meta"}, {"seed": 3}, {"quick": True}]
    changes += [{"category": "wood"}, {"class_name": "nut"}, {"false_alarms": 0.1}]
    changed = {name for change in changes for name in change} | {"out"}
    assert changed == set(asdict(standard)), "a parameter has no part in the folder's name"
    folders = {figure_folder(replace(standard, **change)) for change in ({}, *changes)}
    assert len(folders) == len(changes) + 1
    assert figure_folder(standard) == figure_folder(GIVEN) == tmp_path / "figures" / "pocket"


def test_figures_of_one_folder_never_lie_among_those_of_another(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "PACKAGE", tmp_path / "anovl")
    (tmp_path / "notebooks").mkdir()
    roots = [tmp_path / one / "cells" for one in ("mono", "poly")]
    given = [replace(GIVEN, dataset="folder", data_root=str(root)) for root in roots]
    given += [replace(one, quick=True) for one in given]
    wood = [OwnParameters(*asdict(one).values(), "wood", "", 0.05) for one in (*given, GIVEN)]
    folders = [*map(figure_folder, [*given, GIVEN, *wood])]
    assert len(set(folders)) == len(folders) == 10
    assert folders[0].name.startswith("pocket-folder-cells-")
    assert folders[2].name == f"quick-{folders[0].name}"
    assert folders[-1].name == "pocket-category-wood"
    monkeypatch.chdir(tmp_path / "notebooks")
    assert figure_folder(replace(given[0], data_root="../mono/cells")) == folders[0]


def test_source_is_shown_as_it_is_with_or_without_its_docstring():
    shown = show_source(figure_folder).data
    assert shown.startswith("`anovl_companion.notebook`\n```python\ndef figure_folder(p: ")
    assert "return folder\n```" in shown and '"""' not in shown
    assert '"""Return the folder' in show_source(figure_folder, docstring=True).data
    assert "def __post_init__" in show_source(Parameters).data
    assert "type(value) is not kind" in show_source(Parameters.__post_init__).data


def test_a_shown_figure_is_the_saved_one(tmp_path):
    from matplotlib.figure import Figure

    image = show_figure(Figure((3, 2)), tmp_path / "a", provenance={}, alt="nothing")
    assert image.data == (tmp_path / "a.png").read_bytes()
    assert (image.width, image.alt) == (300, "nothing")


@pytest.mark.notebook
def test_a_run_keeps_what_lasts_and_says_what_it_belongs_to_and_costs(tmp_path):
    path = tmp_path / "toy.ipynb"
    printed = "print('one', flush=True)\nprint('two')\nprint('a warning', file=sys.stderr)"
    notebook = toy(printed, "p.seed", "much = bytearray(b'1' * 700_000_000)")
    notebook.cells[0].source = "| | |\n|---|---|\n| **Takes** | a guess |\n| **With** | more |"
    nbformat.write(notebook, path)
    cost = run.write_cost(path)
    assert cost.startswith("about ") and 0.7 <= float(cost.split()[-2]) < 3
    kept = nbformat.read(path, as_version=4)
    nbformat.validate(kept)
    said = kept.cells[0].source
    assert f"| **Takes** | {cost} on two cores" in said and said.endswith("| **With** | more |")
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4, 5, 6]
    assert [output.text for output in code[3].outputs] == ["one\ntwo\n"]
    assert code[4].outputs[0].data["text/plain"] == "0"
    assert [dict(cell.metadata) for cell in code] == [{}, {"tags": ["parameters"]}, {}, {}, {}, {}]
    assert set(kept.metadata) == {"kernelspec", "language_info", "anovl"}
    assert kept.metadata.anovl == run.belongs_to(kept)
    nbformat.write(toy("1"), path)
    with pytest.raises(RuntimeError, match="toy"):  # it has no card
        run.write_cost(path)


def test_the_summary_runs_after_what_it_sums_up(tmp_path):
    for name in ("01_b", "00_a", "A1_c"):
        (tmp_path / f"{name}.ipynb").touch()
    assert [path.stem for path in run.in_order(tmp_path)] == ["01_b", "A1_c", "00_a"]


def test_what_lasts_has_no_progress_bars_and_no_times():
    bar = new_output("display_data", data={run.WIDGET: {}, "text/plain": "0%"})
    words = [new_output("stream", name=name, text=f"{name} ") for name in ("stdout", "stderr")]
    value = new_output("execute_result", data={"text/plain": "1"})
    cell = new_code_cell("1", outputs=[words[0], bar, words[1], words[0], value])
    cell.metadata["papermill"] = {"duration": 1.5}
    kept = run.without_volatile(new_notebook(cells=[cell], metadata={"papermill": {}}))
    texts = [output.get("text", "value") for output in kept.cells[0].outputs]
    assert texts == ["stdout stdout ", "value"]
    assert not kept.cells[0].metadata
    assert "papermill" not in kept.metadata


def test_outputs_belong_to_code_and_weights_and_not_to_prose(tmp_path, monkeypatch):
    def changed(other: nbformat.NotebookNode) -> set[str]:
        return {key for key, value in run.belongs_to(other).items() if value != stamp[key]}

    stamp, commented = run.belongs_to(toy("1")), toy("1")
    commented.cells[0].source = "# Better words"
    commented.cells[1].source += "  # a comment"
    assert changed(commented) == set()
    assert changed(toy("2")) == {"cells"}
    assert changed(toy("%pip --version\nimport anovl.models.export")) == {"cells", "code"}
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError):
        run.belongs_to(toy("1"))
    (tmp_path / "weights.safetensors").write_bytes(b"new")
    assert changed(toy("1")) == {"weights"}
