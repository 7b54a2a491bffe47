"""The project's own files agree with each other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
IN_TEST = ("dask", "export")  # what the extra "test" brings along
INSTALLED = ",".join(extra for extra in EXTRAS if extra not in (*IN_TEST, "elpv"))  # 90 MB
TARGETS = ("setup", "test", "reproduce", "run", "notebooks", "exercises", "lint", "clean")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def pins(python: str) -> dict[str, str]:
    """The pinned version of each distribution, for a Python on Linux."""
    place = {"python_version": python, "python_full_version": f"{python}.9", "extra": ""}
    place |= {"sys_platform": "linux", "platform_machine": "x86_64", "os_name": "posix"}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found: dict[str, str] = {}
    for pin in (Requirement(line) for line in lines if line and not line.startswith("#")):
        if pin.marker is None or pin.marker.evaluate(place):
            [exact] = pin.specifier
            assert exact.operator == "==", f"{pin} is not an exact version"
            assert pin.url is None
            assert canonicalize_name(pin.name) not in found, f"{pin.name} is pinned twice"
            found[canonicalize_name(pin.name)] = exact.version
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_pinned_within_its_range(python):
    pinned = pins(python)
    for text in [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]:
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"python_version": python}):
            assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)]), text


def test_all_extras_are_installed_for_tests():
    for extra in IN_TEST:
        assert set(EXTRAS[extra]) <= set(EXTRAS["test"])


def test_data_files_are_installed_with_the_code():
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["anovl"]
    installed = {path for pattern in patterns for path in (ROOT / "anovl").glob(pattern)}
    files = (path for path in (ROOT / "anovl").rglob("*") if path.is_file())
    assert installed == {path for path in files if path.suffix not in (".py", ".pyc")}


@pytest.mark.parametrize("python", PYTHONS)
def test_torch_and_torchvision_are_the_pair_that_reproduces_the_reference(python):
    assert (pins(python)["torch"], pins(python)["torchvision"]) == ("2.14.1", "0.29.1")


def test_conda_has_no_package_list_of_its_own():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, wheels = conda["dependencies"]
    assert re.fullmatch(r"python=(3\.\d+)", python)[1] in PYTHONS
    assert pip == "pip"
    assert wheels == {"pip": ["-c constraints.txt", f"-e .[{INSTALLED}]"]}


def test_make_and_conda_install_the_same():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--constraint constraints.txt" in makefile
    assert f"--editable '.[{INSTALLED}]'" in makefile


def test_citation_speaks_of_this_version_and_prefers_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Deng", "Zhang", "Bao", "Li"]
    assert "2308.15939" in paper["url"]


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_and_explains_the_target(target):
    explained = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True)
    assert f"make {target} " in explained.stdout
    dry = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
    assert dry.returncode == 0, dry.stderr


@pytest.mark.parametrize(
    ("version", "said"),
    [("3.9.1", "Python 3.10 or newer is needed, and this is Python 3.9.1"), (None, "There is no")],
)
def test_make_says_what_is_wrong_with_the_python(tmp_path, version, said):
    python = tmp_path / "python"
    if version:
        python.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo Python {version}\nexit 1\n')
        python.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    made = subprocess.run(
        ["make", "setup", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert made.returncode != 0
    assert said in made.stdout
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").rstrip().endswith("make test")


def test_what_the_notices_point_to_is_there():
    text = (ROOT / "NOTICES.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert "anovl/prompts.py" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "SCALING.md"])
def test_extras_are_installed_from_the_checkout_because_no_registry_has_the_package(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    asked = re.findall(r"pip install (.*)'(.*)\[(\w+)\]'", text)
    assert asked and {(how, where) for how, where, _ in asked} == {("-e ", ".")}
    assert {extra for *_, extra in asked} <= set(EXTRAS)


def test_the_jobs_of_slurm_have_a_shell_and_the_environment():
    text = (ROOT / "SCALING.md").read_text(encoding="utf-8")
    [script] = [part for part in text.split("\n\n") if "#SBATCH" in part]
    first, _, activate, *_, last = (line.strip() for line in script.splitlines())
    assert first == "#!/bin/bash" and "/.venv/bin/activate" in activate
    assert last.startswith("python -m anovl evaluate")


def test_the_readme_tells_of_the_export():
    assert "python -m anovl export --object" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_clone_called_anovl_does_not_hide_the_package(tmp_path):
    (tmp_path / "anovl").symlink_to(ROOT)
    told = subprocess.run(
        [sys.executable, "-c", "import anovl; print(anovl.AnoVL.__name__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == "AnoVL", told.stderr


def test_set_up_ends_with_what_to_type_next():
    dry = subprocess.run(
        ["make", "--dry-run", "--always-make", "setup"], cwd=ROOT, capture_output=True, text=True
    )
    said = dry.stdout.split("Ready.")[1]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in ("source .venv/bin/activate", "python -m anovl localize notebooks/pictures"):
        assert line in said and line in readme


def test_the_script_in_the_readme_runs(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [script] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.count(".jpg") == 8 and "alarm" in told.stdout
    assert (tmp_path / "out" / "overlay.png").is_file()
