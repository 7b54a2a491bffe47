"""A notebook's parameters, model and pictures, and how it shows figures, tables and findings.

After its `parameters` cell a notebook says

    from anovl_companion.notebook import Notebook
    nb = Notebook.begin(globals())
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from IPython.display import HTML, Image, Markdown
from matplotlib.figure import Figure
from pandas import DataFrame

from anovl import Clip, Dataset, load_clip, load_dataset
from anovl._shared.code import PACKAGE
from anovl._shared.messages import unknown
from anovl.baselines import make_detector
from anovl.data.dataset import Sample
from anovl.data.readers import READERS
from anovl.data.synthetic import DrawnEntry
from anovl.detector import Detector
from anovl.models.pocket import SHIPPED
from anovl_companion.charts import map_chart
from anovl_companion.figures import PAGE, use_house_style
from anovl_companion.findings import FINDINGS, state
from anovl_companion.my_anovl import FILE, save_part
from anovl_companion.questions import ask
from anovl_companion.records import provenance
from anovl_companion.saving import save_figure, save_table
from anovl_companion.shared_run.measure import measure_run
from anovl_companion.shared_run.reader import SharedRun, shared_runs
from anovl_companion.thread import HERO, Pair, first_ones, map_row, pair, ranked

_LIKE_TEXT = " (in quotes; '' for none; papermill's -r NAME TEXT keeps text such as 01 as it is)"
STANDARD = {
    "category": "",
    "weights": "",
    "seed": 0,
    "class_name": "",
    "false_alarms": 0.05,
    "device": "cpu",
}
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


def figure_folder(p: Parameters) -> Path:
    """Return the folder for a notebook's figures, and make it; it does not depend on where we are.

    That is `out` if given. Otherwise it is in `figures/` of the repository, or of the current
    folder where the package is not run from a repository: `pocket` for the pocket model on its own
    images, such as `pocket-photos` or `paper-mvtec` for another model or data set, and `quick` for
    a quick run. A folder of one's own gives its name and six digits that stand for its place, such
    as `pocket-folder-cells-1f00aa`. Weights, a seed and what else is not as in a standard run
    follow: `pocket-seed-1`. So only the standard run replaces the committed figures, and no run
    those of another one.
    """
    home = PACKAGE.parent if (PACKAGE.parent / "notebooks").is_dir() else Path.cwd()
    model = "paper" if p.model == "ViT-B-16-plus-240" else p.model
    names = ["pocket"] if p.model == p.dataset == "pocket" else [model, p.dataset]
    if p.dataset == "folder" and p.data_root:
        names.append(_place(Path(p.data_root)))
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


@dataclass(frozen=True, eq=False)
class Notebook:
    """A notebook: its parameters `p`, its model and pictures, and one call for each thing it shows.

    Figures, tables, findings and questions have names that begin with the number of the notebook,
    such as "02_square" or "02-square". `methods` and `parts` of the shared run are measured anew
    where other pictures or another model are asked for.
    """

    p: Parameters
    folder: Path
    methods: tuple[str, ...]
    parts: tuple[str, ...]

    @classmethod
    def begin(
        cls,
        names: Mapping[str, Any],
        kind: type[Parameters] = Parameters,
        *,
        methods: Sequence[str] = ("clip", "anovl"),
        parts: Sequence[str] = (),
    ) -> Notebook:
        """Begin with a notebook's `globals()`: check its parameters, make the folder of figures.

        Every plain value among the names must be a parameter. Raises ValueError as
        `check_parameters` does.
        """
        plain = {name: one for name, one in names.items() if type(one) in (str, int, float, bool)}
        p = check_parameters((), plain, kind)
        use_house_style()
        return cls(p, figure_folder(p), tuple(methods), tuple(parts))

    @cached_property
    def clip(self) -> Clip:
        """The model of the parameters."""
        return load_clip(self.p.model, weights=self.p.weights or None, device=self.p.device)

    @property
    def is_shipped(self) -> bool:
        """Whether the shared run is of this model and of these pictures."""
        p = self.p
        return p.model in SHIPPED and p.dataset == "pocket" and not (p.weights or p.seed)

    @cached_property
    def data(self) -> Dataset:
        """The pictures of the run."""
        name, count = self.p.dataset, 16
        if name in READERS:
            return load_dataset(name, root=self.p.data_root or None)
        if self.p.quick and not self.is_shipped:
            count = 4
        return load_dataset(name, seed=self.p.seed, per_category=count)

    @cached_property
    def runs(self) -> list[SharedRun]:
        """The shared runs, this model's first; else one measured now, where there are labels."""
        if self.is_shipped:
            return sorted(shared_runs(), key=lambda run: run.path.name != self.p.model)
        entries = [entry for name in self.data.categories for entry in self.data.entries(name)]
        if any(entry.label is None for entry in entries):
            return []
        parts, out = self.parts if self.has_masks else (), self.folder / "run"
        return [measure_run(self.clip, self.data, out, methods=self.methods, parts=parts)]

    @property
    def has_masks(self) -> bool:
        """Whether each picture has a mask, or needs none because it is normal."""
        entries = [entry for name in self.data.categories for entry in self.data.entries(name)]
        return all(
            isinstance(entry, DrawnEntry) or entry.label == 0 or entry.mask for entry in entries
        )

    @cached_property
    def picture(self) -> Sample:
        """The median picture by its v-v map, which goes through all notebooks."""
        ((category, number),) = self._ranked([0.5])
        return self.data.entries(category)[number].sample(category)

    def pairs(self, ranks: Sequence[float]) -> list[Pair]:
        """Pictures by the rank of their v-v map, each beside its normal counterpart.

        Without masks they are the first anomalous ones of the categories in turn.
        """
        return [pair(self.data, *one) for one in self._ranked(ranks)]

    def _ranked(self, ranks: Sequence[float]) -> list[tuple[str, int]]:
        chosen = ranked(self.runs[0].images(), ranks) if self.runs else []
        return chosen or first_ones(self.data, len(ranks))

    def maps(
        self, pairs: Sequence[Pair], methods: Mapping[str, Detector], *, title: str, chosen: str
    ) -> Figure:
        """Draw pictures with the maps of methods, on the scale of normal pictures.

        `chosen` says by which rule the pictures were chosen.
        """
        rows = [map_row(label, one, pairs, self.data) for label, one in methods.items()]
        kind = "normal" if pairs[0].sample.label is not None else "other"
        twin = "the same scene without its defect" if pairs[0].is_twin else f"one {kind} picture"
        note = (
            f"Corner: {twin}, on the same scale. Number: AUROC within the picture. Blue line: the "
            f"true defect.\nDark: below the median of {kind} pictures. {chosen}"
        )
        return map_chart(
            [one.sample.image for one in pairs],
            [one.normal for one in pairs],
            rows,
            masks=[one.sample.mask for one in pairs],
            heads=[f"{one.sample.category}\n{one.sample.kind.replace('_', ' ')}" for one in pairs],
            title=title,
            note=note,
        )

    def hero(self) -> Figure:
        """Draw six pictures by rank, with the maps of CLIP's own patches and of V-V attention."""
        methods = {
            "CLIP's own\npatches (q-k)": make_detector("clip", self.clip),
            "V-V attention": make_detector("anovl", self.clip),
        }
        chosen = "Pictures: from the best v-v map to the worst, by fixed ranks."
        title = "The same network, the same words: what V-V attention changes"
        return self.maps(self.pairs(HERO), methods, title=title, chosen=chosen)

    def chart(self, draw: Callable[[SharedRun], Figure]) -> Figure:
        """Draw a chart of the run, by a function of `run_charts`; what is not measured it says."""
        with self._unless_unmeasured():
            if self.runs:
                return draw(self.runs[0])
        fig = Figure(figsize=(PAGE, 1))
        fig.text(0.5, 0.5, "not measured: these pictures lack labels or masks", ha="center")
        return fig

    def record(self, name: str, **facts: Any) -> dict[str, Any]:
        """Return what made a figure or a table; `facts` are those of `provenance`."""
        number = re.split("[_-]", name)[0]
        stem = next((PACKAGE.parent / "notebooks").glob(f"{number}_*.ipynb")).stem
        return provenance(parameters=asdict(self.p), notebook=stem, **facts)

    def show(self, fig: Figure, name: str, alt: str, *, is_measured: bool = True) -> Image:
        """Save a figure and show it; `alt` says in words what there is to see.

        A diagram is not measured: it owes nothing to a model or to pictures.
        """
        facts = {"clip": self.clip, "dataset": self.data} if is_measured else {}
        record = self.record(name, **facts)
        return show_figure(fig, self.folder / name, provenance=record, alt=alt)

    def table(
        self, frame: DataFrame, name: str, *, is_measured: bool = True, **style: Any
    ) -> Markdown:
        """Save a table and show it; `style` is that of `save_table`. An empty one is not saved."""
        if frame.empty:
            return Markdown("Not measured: these pictures have no labels or no masks.")
        facts = {"clip": self.clip, "dataset": self.data} if is_measured else {}
        record = self.record(name, **facts)
        return Markdown(save_table(frame, self.folder / name, provenance=record, **style))

    def finding(self, name: str) -> Markdown:
        """State a finding of `FINDINGS` with the numbers of this notebook's run."""
        said = state(FINDINGS[name], [], is_shipped=False)
        with self._unless_unmeasured():
            said = state(FINDINGS[name], self.runs, is_shipped=self.is_shipped)
        return Markdown(f"> **{'Found' if self.is_shipped else 'Found here'}** ({name}). {said}")

    def _unless_unmeasured(self) -> AbstractContextManager[None]:
        """Go on without a table that pictures without masks do not have; a shipped run has all."""
        return nullcontext() if self.is_shipped else suppress(KeyError)

    def findings(self) -> Markdown:
        """State the findings of all notebooks whose tables are in the run."""
        said = []
        for name, finding in FINDINGS.items():
            try:
                text = state(finding, self.runs, is_shipped=self.is_shipped)
            except KeyError:
                continue  # another notebook measures its table
            said.append(f"- **{name}** {text} *A real CLIP:* {finding.real_clip}")
        return Markdown("\n".join(said))

    def mine(self, number: str, *functions: Callable) -> Markdown:
        """Add functions of the reader's to `my_anovl.py`; other parts stay."""
        save_part(self.folder, number, *functions)
        return Markdown(f"Saved in `{FILE}` as the part of notebook {number}.")

    def source(self, thing: Callable) -> Markdown:
        """Show the source of a function of the library."""
        return show_source(thing)

    def predict(self, name: str) -> HTML:
        """Ask a question of the notebook; the answer unfolds."""
        return HTML(ask(name))
