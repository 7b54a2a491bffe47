"""Compare what notebooks make now with what is committed.

Processors and numbers of threads add up in another order, so the last digits of a result depend on
the machine. Numbers agree within TOLERANCE, words and counts must be equal, and pictures must be
near each other. Where all results of a notebook agree, the committed ones stay, and only the hash
of the code in their records is brought up to date. Where one differs, all new ones stay.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO, StringIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from pandas import read_csv
from PIL import Image

from anovl_companion.records import BESIDE, SUFFIX, dump_record

TOLERANCE = 1e-3  # of a fraction, such as an AUROC; of a number above 1, relative to it
ROUNDED = 1.5 * TOLERANCE  # the same between values that are rounded to three digits
PICTURE = 7.0  # root mean square of 0 to 255: colours reduced anew give up to 4.5, k-k for v-v 9.8

_NUMBER = re.compile(r"((?<![\w.])[-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?: ?%)?(?!\w|\.\d))")
_SOURCE = re.compile(r"`[\w.]+`\n```python\n")  # how `show_source` begins
_NOT_COMPARED = ("code_sha256", "versions", "device", "files")


def keep_what_agrees(
    old: Mapping[str, Any], new: Mapping[str, Any], aside: Path, folder: Path, notebook: str
) -> list[str]:
    """Compare a new run of a notebook with the old one, whose files are `aside`.

    Where all agrees, put the old outputs and files back. Return what differs.
    """
    before, after = results_of(aside, notebook), results_of(folder, notebook)
    differs = compare(before | outputs_of(old), after | outputs_of(new))
    if not differs:
        keep_outputs(old, new)
        move_results(aside, folder, notebook)
    return differs


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Compare results by name, PNG files as bytes and others as text; return what differs.

    >>> compare({"a.csv": "way,auroc\\nv-v,0.781"}, {"a.csv": "way,auroc\\nv-v,0.787", "b.md": "x"})
    ["a.csv: row 1, column auroc: '0.787' was '0.781'", 'b.md is new']
    """
    differs = []
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            differs.append(f"{name} {'is new' if name in new else 'is no longer made'}")
        elif said := _comparison(name)(old[name], new[name]):
            differs.append(f"{name}: {said}")
    return differs


def _comparison(name: str) -> Any:
    return {"png": compare_pictures, "csv": compare_tables}.get(name[-3:], compare_texts)


def compare_texts(old: str, new: str) -> str:
    """Return the first difference of two texts; "" if they agree. The width of tables is ignored.

    Numbers with a point or a percent sign may differ by TOLERANCE, or by one in the last digit.

    >>> compare_texts("v-v reaches 0.781: better", "v-v reaches 0.782: better")
    ''
    >>> compare_texts("0.781: better, 3 of 4", "0.781: better, 2 of 4")
    "'2' was '3'"
    """
    pieces = [_NUMBER.split(re.sub(r"--+", "--", " ".join(text.split()))) for text in (old, new)]
    for place, (one, two) in enumerate(zip_longest(*pieces, fillvalue="")):
        if one != two and not _are_near(one, two):
            end = place + (1 if place % 2 else 2)  # after words that differ, show the number too
            was, now = ("".join(parts[place:end]).strip()[:60] for parts in pieces)
            return f"{now!r} was {was!r}"
    return ""


def _are_near(old: str, new: str) -> bool:
    if not (_NUMBER.fullmatch(old) and _NUMBER.fullmatch(new)) or ("%" in old) != ("%" in new):
        return False
    one, two = (float(text.strip(" %").replace("−", "-")) for text in (old, new))
    digits = max(len(text.strip(" %").partition(".")[2].partition("e")[0]) for text in (old, new))
    if not digits and "%" not in old:
        return one == two  # counts
    scale = 100 if "%" in old else max(1, abs(one))
    return abs(one - two) <= max(ROUNDED * scale, 1.01 * 10.0**-digits)


def compare_tables(old: str, new: str) -> str:
    """Return the first cell of two CSV texts that differs; "" if they agree."""
    one, two = (read_csv(StringIO(text), dtype=str, keep_default_na=False) for text in (old, new))
    if list(one) != list(two) or len(one) != len(two):
        return f"{len(two)} rows of {list(two)} were {len(one)} rows of {list(one)}"
    for row, column in np.argwhere((one != two).to_numpy()):
        if said := compare_texts(one.iat[row, column], two.iat[row, column]):
            return f"row {row + 1}, column {two.columns[column]}: {said}"
    return ""


def compare_pictures(old: bytes, new: bytes) -> str:
    """Say how two PNG files differ, or "" if they are near each other.

    Both are shrunk to a quarter of the old one's side, so that dots of a reduced palette, or one
    pixel more of margin, do not count.
    """
    one, two = (Image.open(BytesIO(picture)).convert("RGB") for picture in (old, new))
    if not 0.98 < (one.width / one.height) / (two.width / two.height) < 1.02:
        return f"the picture has another shape: {two.size} was {one.size}"
    size = (max(one.width // 4, 1), max(one.height // 4, 1))
    small = [np.asarray(p.resize(size, Image.Resampling.BOX), dtype=float) for p in (one, two)]
    rms = np.sqrt(np.mean((small[1] - small[0]) ** 2))
    return "" if rms <= PICTURE else f"the picture differs by {rms:.0f} of 255"


def results_of(folder: Path, notebook: str) -> dict[str, Any]:
    """Return what a notebook has saved in a folder: its figures, tables, and facts in records."""
    results: dict[str, Any] = {}
    for name, record in records_of(folder, notebook).items():
        facts = {key: value for key, value in record.items() if key not in _NOT_COMPARED}
        results[name] = json.dumps(facts, sort_keys=True, ensure_ascii=False)
        for file in map((folder / name).with_name, record["files"]):
            if file.suffix not in BESIDE and file.is_file():
                content = file.read_bytes()
                shown = content if file.suffix == ".png" else content.decode()
                results[str(file.relative_to(folder))] = shown
    return results


def outputs_of(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a notebook shows, by cell and output; source of the package is no result."""
    results = {}
    for number, cell in enumerate(notebook["cells"]):
        for place, output in enumerate(cell.get("outputs", [])):
            shown = output.get("data") or {output.get("name"): output.get("text")}
            for kind, value in shown.items() if not _shows_source(output) else ():
                name = f"cell {number}, output {place}, {kind}"
                results[name] = base64.b64decode(value) if kind == "image/png" else str(value)
    return results


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


def records_of(folder: Path, notebook: str) -> dict[str, dict[str, Any]]:
    """Return the records of a notebook's figures and tables, by their names below a folder."""
    paths = sorted(folder.rglob(f"*{SUFFIX}"))
    read = {str(p.relative_to(folder)): json.loads(p.read_text(encoding="utf-8")) for p in paths}
    return {name: record for name, record in read.items() if record.get("notebook") == notebook}


def record_code(folder: Path, notebook: str, code: str) -> None:
    """Write the hash of the code that made a notebook's results into their records."""
    for name, record in records_of(folder, notebook).items():
        dump_record(folder / name, {**record, "code_sha256": code})


def move_results(source: Path, target: Path, notebook: str) -> None:
    """Move a notebook's results with their records to another folder, in place of those there."""
    for name, record in records_of(source, notebook).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        for file in (Path(name), *(Path(name).with_name(file) for file in record["files"])):
            if (source / file).is_file():
                shutil.move(source / file, target / file)


@contextmanager
def set_aside(folder: Path, notebook: str, aside: Path) -> Iterator[None]:
    """Move a notebook's results to another folder while it runs; back again when it fails."""
    move_results(folder, aside, notebook)
    try:
        yield
    except BaseException:
        move_results(folder, aside.with_name("failed"), notebook)
        move_results(aside, folder, notebook)
        raise
