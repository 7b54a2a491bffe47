"""A notebook's parameters, the folder of its figures, and how it shows code and figures.

A notebook begins with

    from anovl_companion.notebook import check_parameters
    before = set(globals())

then comes its `parameters` cell, and after that

    p = check_parameters(before, globals())
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from IPython.display import Image, Markdown
from matplotlib.figure import Figure

from anovl._shared.code import PACKAGE
from anovl._shared.messages import unknown
from anovl_companion.saving import save_figure

_LIKE_TEXT = " (in quotes; '' for none; papermill's -r NAME TEXT keeps text such as 01 as it is)"
STANDARD = {"weights": "", "seed": 0, "class_name": "", "false_alarms": 0.05, "device": "cpu"}
"""The values of a standard run; model, data set, their parts and `quick` name its folder, too."""


@dataclass(frozen=True)
class Parameters:
    """The parameters that all notebooks have; a notebook with more has a class of its own.

    Raises ValueError for a value of another type, or a device that is not here.

    >>> Parameters("pocket", "", "pocket", "", "", "cpu", 0, "true")
    Traceback (most recent call last):
    ValueError: parameter quick must be of type bool (True or False), not the str 'true'
    """

    model: str
    weights: str
    dataset: str
    data_root: str
    out: str
    device: str
    seed: int
    quick: bool

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if type(value) is not kind:
                like = {bool: " (True or False)", str: _LIKE_TEXT}.get(kind, "")
                raise ValueError(
                    f"parameter {name} must be of type {kind.__name__}{like}, "
                    f"not the {type(value).__name__} {value!r}"
                )
        for name in ("model", "dataset", "device"):
            if not getattr(self, name).strip():
                raise ValueError(f"parameter {name} is empty; papermill's -p {name} VALUE sets it")
        if self.seed < 0:
            raise ValueError(f"parameter seed must be 0 or more, not {self.seed}")
        _check_device(self.device)


Known = TypeVar("Known", bound=Parameters)


def check_parameters(
    before: Collection[str],
    after: Mapping[str, Any],
    kind: type[Known] = Parameters,
) -> Known:
    """Return a notebook's parameters if they are all there, rightly spelt and of the right type.

    `before` holds the global names before the `parameters` cell, `after` is `globals()` behind it;
    `kind` is the class of its parameters, a subclass of `Parameters` where it has more of its own.
    papermill only warns of a parameter that a notebook does not have, and then runs with the
    default of the one that was meant: hours later nobody knows.

    Raises ValueError for an unknown parameter, a missing one, or one of the wrong type.

    >>> given = dict(model="pocket", weights="", dataset="pocket", data_root="", out="")
    >>> check_parameters(set(), given | dict(device="cpu", sede=1, seed=0, quick=True))
    Traceback (most recent call last):
    ValueError: unknown parameter: 'sede'. Did you mean 'seed'? Known are: model, weights, ...
    """
    known = [field.name for field in fields(kind)]
    for name, value in after.items():
        if name in known or name in before or name.startswith("_") or value is before:
            continue
        raise ValueError(unknown("parameter", name, known))
    if missing := [name for name in known if name not in after]:
        raise ValueError(f"the parameters cell must set {', '.join(missing)}; run it first")
    return kind(**{name: after[name] for name in known})


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"parameter device: {device!r} cannot be used ({reason})") from None


def figure_folder(p: Parameters, part: str = "") -> Path:
    """Return the folder for a notebook's figures, and make it; it does not depend on where we are.

    That is `out` if given. Otherwise it is in `figures/` of the repository, or of the current
    folder where the package is not run from a repository: `pocket` for the pocket model on its own
    images, such as `pocket-photos` or `paper-mvtec` for another model or data set, and `quick` for
    a quick run. A folder of one's own gives its name and six digits that stand for its place, such
    as `pocket-folder-cells-1f00aa`, and `part` is what of a data set is asked for. Weights, a
    seed and what else is not as in a standard run follow: `pocket-seed-1`. So only the standard run
    replaces the committed figures, and no run those of another one.
    """
    home = PACKAGE.parent if (PACKAGE.parent / "notebooks").is_dir() else Path.cwd()
    model = "paper" if p.model == "ViT-B-16-plus-240" else p.model
    names = ["pocket"] if p.model == p.dataset == "pocket" else [model, p.dataset]
    if p.dataset == "folder" and p.data_root:
        names.append(_place(Path(p.data_root)))
    if part:
        names.append(part)
    for parameter, standard in STANDARD.items():
        if (value := getattr(p, parameter, standard)) != standard:
            is_file = parameter == "weights" and Path(value).expanduser().exists()
            names += [parameter, _place(Path(value)) if is_file else str(value)]
    if p.quick:
        names = ["quick"] if names == ["pocket"] else ["quick", *names]
    name = re.sub(r"[^\w.-]+", "_", "-".join(names))
    folder = Path(p.out).expanduser() if p.out else home / "figures" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _place(path: Path) -> str:
    """The last name of a path, and six digits that stand for all of it."""
    path = path.expanduser().resolve()
    return f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"


def show_source(thing: Callable[..., Any] | type, *, docstring: bool = False) -> Markdown:
    """Show the source of a function or class as it is in the package, never a second copy of it."""
    source = textwrap.dedent(inspect.getsource(thing))
    if not docstring:
        definition = ast.parse(source).body[0]
        if ast.get_docstring(definition) is not None:
            said, lines = definition.body[0], source.splitlines()
            source = "\n".join(lines[: said.lineno - 1] + lines[said.end_lineno :])
    return Markdown(f"`{thing.__module__}`\n```python\n{source.strip()}\n```")


def show_figure(fig: Figure, stem: Path, *, provenance: Mapping[str, Any], alt: str = "") -> Image:
    """Save a figure as `figures.save_figure` does, and show the PNG that was saved.

    `alt` says in words what there is to see, for readers who cannot.
    """
    png = save_figure(fig, stem, provenance=provenance)
    width = round(100 * fig.get_figwidth())
    return Image(filename=str(png), width=width, alt=alt or None)
