"""The table of published numbers: its format, its check, and the number to print beside ours."""

from __future__ import annotations

import re
from pathlib import Path

from pandas import DataFrame, Series, read_csv

NUMBERS = Path(__file__).with_name("numbers.csv")
AFTER = Path(__file__).with_name("after_anovl.csv")  # works that followed AnoVL
COLUMNS = ("dataset", "method", "metric", "percent", "setting", "backbone", "resolution",
           "reported_by", "where", "certainty", "note")  # fmt: skip
DATASETS = ("mvtec", "visa", "mpdd", "btad", "mvtec-ad-2", "real-iad", "real-iad-variety",
            "dtd-synthetic", "kolektor-sdd", "ksdd2", "dagm", "rsdd", "bsd", "gc", "aitex", "elpv",
            "headct", "brainmri", "br35h", "isic", "colondb", "clinicdb", "tn3k")  # fmt: skip
METRICS = ("auroc_px", "f1_px", "ap_px", "aupro", "auroc_sp", "f1_sp", "ap_sp")
# from the one that needs least of the data set to the one that needs most
SETTINGS = ("zero-shot, training-free", "zero-shot, synthetic training",
            "zero-shot, auxiliary training", "whole unlabelled test set", "1-shot", "2-shot",
            "4-shot", "8-shot", "16-shot", "few-shot, number not stated",
            "all normal images")  # fmt: skip
CERTAINTY = ("read", "second hand")
KINDS = ("quoted", "re-run", "unclear")  # the first words of the note, unless `own` reports it
_ONE_ROW = list(COLUMNS[:-2])  # two rows that differ in certainty or note alone are one number


def numbers(path: str | Path = NUMBERS) -> DataFrame:
    """Read the table and check it: one row a number, the columns `COLUMNS`, in percent.

    `reported_by` is "own" for the method's authors, else whoever printed the number; `where` is
    the place. "second hand" means that the place says what another source reports. `note` is a list
    of remarks with "; " between them; README.md says what the first words of a remark mean. Rows
    come sorted by the columns from left to right.

    Raises ValueError, with the line of the file, for a row that breaks the format.

    >>> table = numbers()
    >>> sorted(set(table["certainty"]))
    ['read', 'second hand']
    """
    table = read_csv(path, keep_default_na=False, dtype=str)
    if tuple(table.columns) != COLUMNS:
        raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}")
    for line, row in enumerate(table.to_dict("records"), start=2):
        if problem := _problem(row):
            raise ValueError(f"{path}, line {line}: {problem}")
    table["percent"] = table["percent"].astype(float)
    if (double := table.duplicated(_ONE_ROW)).any():
        raise ValueError(f"{path}, line {double.idxmax() + 2}: this number is already in the table")
    return table.sort_values(list(COLUMNS), ignore_index=True)


def _problem(row: dict[str, str]) -> str:
    """Say what is wrong with a row of text; "" for nothing."""
    known = {"dataset": DATASETS, "metric": METRICS, "setting": SETTINGS, "certainty": CERTAINTY}
    for column, names in known.items():
        if row[column] not in names:
            return f"unknown {column} {row[column]!r}; known are {'; '.join(names)}"
    for column in ("method", "reported_by", "where"):
        if not row[column].strip():
            return f"{column} is empty"
    if not re.fullmatch(r"\d{1,3}(\.\d+)?", row["percent"]) or float(row["percent"]) > 100:
        return f"percent is {row['percent']!r}; expected a number from 0 to 100"
    if not kind_of(row) or (row["reported_by"] == "own" and row["note"].startswith(KINDS)):
        return f"the note must begin with one of {', '.join(KINDS)}, except where own reports it"
    return ""


def kind_of(row: dict[str, str]) -> str:
    """Return how a number came about: "own", one of `KINDS`, or "" if the row does not say so."""
    first = row["note"].split("; ")[0]
    return "own" if row["reported_by"] == "own" else first if first in KINDS else ""


def remarks(table: DataFrame, first_words: str) -> Series:
    """Say for each row whether one of its remarks begins with these words ("wrong:", "by eye")."""
    return table["note"].str.contains(rf"(?:^|; ){re.escape(first_words)}")


def family_of(method: str) -> str:
    """Return the method without its variant: which AnoVL a table means is often the question.

    >>> family_of("anovl-tta"), family_of("anovl (variant unspecified)")
    ('anovl', 'anovl')
    """
    return method.removesuffix(" (variant unspecified)").removesuffix("-tta")


def best_numbers(table: DataFrame | None = None) -> DataFrame:
    """Return the number to print for each data set, method and metric, chosen by this rule.

    1. Cells known to be wrong are left out. There are two numbers at most, by `reported`: "paper",
       what the method's authors report (`own`) or others quote of it, and "re-run", what others
       measured. What is unclear is neither.
    2. Of several settings, the one that needs least of the data set (the order of `SETTINGS`).
    3. Own before quoted; the headline before a side result; read before second hand.
    4. The newest, by the arXiv number or the date in `reported_by` or `where` (none: the oldest).
    5. If several are left, the first in the order of the table.

    Columns: those of the table, `reported`, `value` (a fraction 0-1), and `source`: all places of
    that setting and kind that print this number, the chosen one first.

    >>> best = best_numbers().set_index(["dataset", "method", "metric", "reported"])
    >>> float(best.loc[("mvtec", "anovl-tta", "aupro", "paper"), "value"])
    0.778
    """
    table = numbers() if table is None else table
    kinds = table.apply(kind_of, axis="columns")
    table = table.assign(
        kind=kinds,
        reported=kinds.map({"own": "paper", "quoted": "paper", "re-run": "re-run"}),
        value=(table["percent"] / 100).round(6),
        source=table["where"].where(kinds == "own", table["reported_by"] + ": " + table["where"]),
        _setting=table["setting"].map(SETTINGS.index),
        _side=remarks(table, "side result"),
        _age=[-_month(row.reported_by + " " + row.where) for row in table.itertuples()],
    )[(kinds != "unclear") & ~remarks(table, "wrong:")]
    rank = ["_setting", "kind", "_side", "certainty", "_age"]  # own < quoted, read < second hand
    table = table.sort_values(rank, kind="stable")
    key = ["dataset", "method", "metric", "reported"]
    same = table.groupby([*key, "setting", "kind", "percent"], sort=False)["source"]
    table["source"] = same.transform(lambda places: "; ".join(dict.fromkeys(places)))
    best = table.drop_duplicates(key).drop(columns=["_setting", "_side", "_age"])
    return best.sort_values(key, ignore_index=True)


def after_anovl() -> DataFrame:
    """Return where the field went after AnoVL, one work a row: `line`, `what`, `source`.

    Beside it stand its own numbers on MVTec AD, in percent, where the atlas has them; `setting`
    says what they need.
    """
    works, best = read_csv(AFTER, keep_default_na=False), best_numbers()
    own = best.query("dataset == 'mvtec' and reported == 'paper'")
    values = own.pivot(index="method", columns="metric", values="percent")
    shown = works.join(values[["auroc_sp", "auroc_px", "aupro"]], on="method")
    settings = own.drop_duplicates("method").set_index("method")["setting"]
    return shown.join(settings, on="method").fillna({"setting": "–"}).drop(columns="method")


def _month(text: str) -> int:
    """Return the latest year and month in a text, as 202504, from arXiv numbers and dates."""
    arxiv = [(f"20{y}", m) for y, m in re.findall(r"\b(\d\d)([01]\d)\.\d{5}", text)]
    dates = re.findall(r"\b(20\d\d)(?:-([01]\d))?\b(?!\.)", text)
    return max((int(year) * 100 + int(month or 0) for year, month in arxiv + dates), default=0)
