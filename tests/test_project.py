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

from anovl.models.pocket import SHIPPED

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


def run(*command: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)


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
    reference = (pinned["torch"], pinned["torchvision"])
    assert reference == ("2.14.1", "0.29.1"), "the pair that reproduces the reference"


def test_all_extras_are_installed_for_tests():
    for extra in IN_TEST:
        assert set(EXTRAS[extra]) <= set(EXTRAS["test"])


def test_data_files_are_installed_with_the_code_but_for_the_second_model():
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["anovl"]
    installed = {path for pattern in patterns for path in (ROOT / "anovl").glob(pattern)}
    second = SHIPPED["pocket-2"]
    files = (path for path in (ROOT / "anovl").rglob("*") if path.is_file())
    data = {path for path in files if path.suffix not in (".py", ".pyc")}
    assert installed == {path for path in data if second not in path.parents}
    weights = (second / "model.safetensors").relative_to(ROOT / "anovl")
    assert not any(weights.match(pattern) for pattern in patterns)


def test_make_and_conda_install_the_same():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, wheels = conda["dependencies"]
    assert re.fullmatch(r"python=(3\.\d+)", python)[1] in PYTHONS
    assert pip == "pip"
    assert wheels == {"pip": ["-c constraints.txt", f"-e .[{INSTALLED}]"]}
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


def test_make_knows_and_explains_its_targets():
    explained = run("make", "help").stdout
    for target in TARGETS:
        assert f"make {target} " in explained
        assert run("make", "--dry-run", target).returncode == 0, target


@pytest.mark.parametrize("version", ["3.9.1", None])
def test_make_refuses_an_old_python_or_none(tmp_path, version):
    python = tmp_path / "python"
    if version:
        python.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo Python {version}\nexit 1\n')
        python.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    made = run("make", "setup", f"PYTHON={python}", cwd=tmp_path)
    assert made.returncode != 0
    assert (version or str(python)) in made.stdout
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


def test_a_clone_called_anovl_does_not_hide_the_package(tmp_path):
    (tmp_path / "anovl").symlink_to(ROOT)
    told = run(sys.executable, "-c", "import anovl; print(*anovl.__all__)", cwd=tmp_path)
    assert "AnoVL" in told.stdout, told.stderr


def test_the_script_in_the_readme_runs(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [script] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    told = run(sys.executable, "-c", script, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count(".jpg") == 8 and "alarm" in told.stdout
    assert (tmp_path / "out" / "overlay.png").is_file()
