"""Did a new run find what is committed? Then what is committed stays as it is.

Processors and numbers of threads add up in another order, so the last digits of a result depend on
the machine. A number agrees with the committed one within TOLERANCE; all words must be equal, the
verdicts among them; a picture must be near the committed one. A notebook is taken as a whole: where
all of it agrees, its outputs, figures and tables stay, and only the hash of the code in its records
is brought up to date. Where something differs, all that it made is new.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anovl._shared.messages import counted
from anovl_companion.records import BESIDE, SUFFIX, dump_record

TOLERANCE = 1e-3  # of a fraction, such as an AUROC; of a number above 1, relative to it
ROUNDED = 1.5 * TOLERANCE  # the same between values that are rounded to three digits
PICTURE = 7.0  # root mean square of 0 to 255: colours reduced anew give up to 4.5, k-k for v-v 9.8

_NUMBER = r"(?<![\w.])[-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?: ?%)?(?!\w|\.\d)"
_PIECES = re.compile(rf"(```.*?```|{_NUMBER})", re.DOTALL)
_SOURCE = re.compile(r"`[\w.]+`\n```python\n")  # how `show_source` begins
_NOT_COMPARED = ("code_sha256", "versions", "device", "files")


@dataclass(frozen=True)
class Comparison:
    """How many results were compared, by how much their numbers differ at most, and what differs.

    >>> print(Comparison(results=2, largest=4e-4) + Comparison(results=1))
    3 results, all as committed (largest difference 4e-04)
    """

    results: int = 0
    largest: float = 0.0
    differs: tuple[str, ...] = ()

    def __add__(self, other: Comparison) -> Comparison:
        largest = max(self.largest, other.largest)
        return Comparison(self.results + other.results, largest, self.differs + other.differs)

    def __str__(self) -> str:
        if self.differs:
            return "\n".join(["Not as committed:", *(f"  {what}" for what in self.differs)])
        same = f"{counted(self.results, 'result')}, all as committed"
        return f"{same} (largest difference {self.largest:.0e})"


def compare_texts(old: str, new: str) -> tuple[float, str]:
    """Return the largest difference of numbers, and the first place that differs ("" for none).

    Numbers with a point or a percent sign may differ by TOLERANCE, or by one in the last digit that
    is printed. Counts, words, and whatever stands between ``` must be equal; spaces do not count.

    >>> compare_texts("v-v reaches 0.781: better", "v-v reaches 0.782: better")[1]
    ''
    >>> compare_texts("v-v reaches 0.781: better", "v-v reaches 0.787: better")[1]
    "'0.787' was '0.781'"
    >>> compare_texts("0.781: better, 3 of 4", "0.781: better, 2 of 4")[1]
    "'2' was '3'"
    """
    largest, pieces = 0.0, [_PIECES.split(text) for text in (old, new)]
    for place, (one, two) in enumerate(zip_longest(*pieces, fillvalue="")):
        number = place % 2 and not (one + two).startswith("```")
        if number:
            difference, allowed = _difference(one, two)
            largest, same = max(largest, difference), difference <= allowed
        else:
            same = _squeezed(one) == _squeezed(two)
        if not same:
            end = place + (1 if number else 2)  # of words, show what follows too
            before, now = (_short("".join(part[place:end])) for part in pieces)
            return largest, f"{now} was {before}"
    return largest, ""


def _difference(old: str, new: str) -> tuple[float, float]:
    """Return how far apart two printed numbers are, and how far they may be: as fractions."""
    values = [re.sub(r"[ %]", "", text).replace("−", "-") for text in (old, new)]
    if "" in values or ("%" in old) != ("%" in new):
        return float("inf"), 0.0
    one, two = map(Decimal, values)
    gap, unit = abs(one - two), min(Decimal(1).scaleb(x.as_tuple().exponent) for x in (one, two))
    if "%" in old:
        return float(gap / 100), max(ROUNDED, 1.01 * float(unit / 100))
    if unit >= 1:  # a count
        return float(gap), 0.0
    scale = max(Decimal(1), abs(one))
    return float(gap / scale), max(ROUNDED, 1.01 * float(unit / scale))


def _squeezed(text: str) -> str:
    """Without what only aligns a table."""
    return re.sub(r"\s+", " ", re.sub(r"--+", "--", text))


def _short(text: str) -> str:
    text = _squeezed(text).strip()
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def compare_pictures(old: bytes, new: bytes) -> str:
    """Say how two PNG files differ, or "" if they are near each other.

    Both are shrunk to a quarter of the old one's side, so that dots of a reduced palette, or one
    pixel more of margin, do not count.
    """
    from matplotlib.testing.compare import calculate_rms

    if old == new:
        return ""
    one, two = (Image.open(BytesIO(picture)).convert("RGB") for picture in (old, new))
    if not 0.98 < (one.width / one.height) / (two.width / two.height) < 1.02:
        return f"the picture has another shape: {two.size} was {one.size}"
    size = (max(one.width // 4, 1), max(one.height // 4, 1))
    small = [np.asarray(p.resize(size, Image.Resampling.BOX), dtype=float) for p in (one, two)]
    rms = calculate_rms(*small)
    return "" if rms <= PICTURE else f"the picture looks different (by {rms:.0f} of 255)"


def compare_results(old: Path, new: Path, notebook: str) -> Comparison:
    """Compare the figures and tables that a notebook has saved in two folders."""
    before, after = records_of(old, notebook), records_of(new, notebook)
    found = Comparison(results=len(before))
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            what = "is new" if name in after else "is no longer made"
            found += Comparison(differs=(f"{name.removesuffix(SUFFIX)} {what}",))
            continue
        found += _compare_facts(name, before[name], after[name])
        for file in (file for file in before[name]["files"] if Path(file).suffix not in BESIDE):
            found += _compare_files((old / name).with_name(file), (new / name).with_name(file))
    return found


def _compare_facts(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    keys = sorted((old.keys() | new.keys()) - set(_NOT_COMPARED))
    changed = ", ".join(key for key in keys if old.get(key) != new.get(key))
    return Comparison(differs=(f"{name}: other {changed}",) if changed else ())


def _compare_files(old: Path, new: Path) -> Comparison:
    if missing := [file for file in (old, new) if not file.is_file()]:
        return Comparison(differs=(f"{missing[0].name} is missing",))
    if old.suffix == ".png":
        said, largest = compare_pictures(old.read_bytes(), new.read_bytes()), 0.0
    else:
        largest, said = compare_texts(*(f.read_text(encoding="utf-8") for f in (old, new)))
    counts = largest if old.suffix == ".csv" and not said else 0.0  # there all are fractions
    return Comparison(largest=counts, differs=(f"{new.name}: {said}",) if said else ())


def compare_outputs(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> Comparison:
    """Compare what two runs of a notebook show; the source of the package is not a result."""
    found = []
    for number, (one, two) in enumerate(zip(old["cells"], new["cells"], strict=True)):
        pairs = zip_longest(one.get("outputs", []), two.get("outputs", []), fillvalue={})
        said = next(filter(None, (_compare_output(*pair) for pair in pairs)), "")
        found += [f"{name}, cell {number}: {said}"] if said else []
    return Comparison(differs=tuple(found))


def _compare_output(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if _shows_source(old) and _shows_source(new):
        return ""
    one, two = (_contents(output) for output in (old, new))
    if one.keys() != two.keys():
        return f"the output is {', '.join(two) or 'nothing'}; it was {', '.join(one) or 'nothing'}"
    for kind, value in one.items():
        if kind == "image/png":
            said = compare_pictures(*(base64.b64decode(value) for value in (value, two[kind])))
        else:
            said = compare_texts(str(value), str(two[kind]))[1]
        if said:
            return said
    return ""


def _contents(output: Mapping[str, Any]) -> dict[str, Any]:
    stream = {output["name"]: output["text"]} if "text" in output else {}
    return {**stream, **output.get("data", {})}


def _shows_source(output: Mapping[str, Any]) -> bool:
    return bool(_SOURCE.match(output.get("data", {}).get("text/markdown", "")))


def keep_outputs(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Put the outputs of the old notebook into the new one; source that is shown stays new."""
    for before, after in zip(old["cells"], new["cells"], strict=True):
        for place, output in enumerate(before.get("outputs", [])):
            if not _shows_source(output):
                if "execution_count" in output:
                    output["execution_count"] = after["execution_count"]
                after["outputs"][place] = output


def keep_results(old: Path, new: Path, notebook: str) -> None:
    """Put the old figures, tables and records of a notebook in place of the new ones."""
    for name, record in records_of(old, notebook).items():
        for file in (file for file in record["files"] if Path(file).suffix not in BESIDE):
            shutil.copy2((old / name).with_name(file), (new / name).with_name(file))
        shutil.copy2(old / name, new / name)


def records_of(folder: Path, notebook: str) -> dict[str, dict[str, Any]]:
    """Return the records of a notebook's figures and tables, by their names below a folder."""
    paths = sorted(folder.rglob(f"*{SUFFIX}"))
    read = {str(p.relative_to(folder)): json.loads(p.read_text(encoding="utf-8")) for p in paths}
    return {name: record for name, record in read.items() if record.get("notebook") == notebook}


def record_code(folder: Path, notebook: str, code: str) -> None:
    """Write the hash of the code that made a notebook's results into their records."""
    for name, record in records_of(folder, notebook).items():
        dump_record(folder / name, {**record, "code_sha256": code})


@contextmanager
def set_aside(folder: Path, notebook: str, aside: Path) -> Iterator[None]:
    """Move a notebook's results to another folder while it runs; back again when it fails."""

    def move(source: Path, target: Path) -> None:
        for name, record in records_of(source, notebook).items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            for file in (name, *((Path(name).with_name(f)) for f in record["files"])):
                if (source / file).is_file():
                    shutil.move(source / file, target / file)

    move(folder, aside)
    try:
        yield
    except BaseException:
        move(folder, aside / "failed")
        move(aside, folder)
        raise
