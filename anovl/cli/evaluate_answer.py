"""What `anovl evaluate` prints: the tables, what is to be known of them, and what was not read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from anovl._shared.messages import counted

if TYPE_CHECKING:
    from pandas import DataFrame

    from anovl.data.dataset import Dataset


def print_results(table: DataFrame, dataset: Dataset, options: argparse.Namespace) -> None:
    """Print the means, those of groups, categories where they are few, and what to know of them."""
    from anovl.cli.remarks import caveat, mark_of
    from anovl.evaluation.results import missing_numbers, read_groups, read_timing, terminal_table

    means = table[table["level"] == "mean"].merge(read_timing(options.out))
    print(terminal_table(means, mark=mark_of))
    for line in missing_numbers(table):
        print(f"-: {line}")
    if len(dataset.groups) > 1:
        groups = read_groups(options.out)
        for group, categories in dataset.groups.items():
            print(f"\n{group}: {', '.join(categories)}")
            print(terminal_table(groups[groups["category"] == group], mark=mark_of))
    _print_categories(table)
    n = counted(len(dataset.categories), "category")
    print(f"\n{n} of {dataset.name}; percent; [95 % interval]")
    for line in _remarks(table, options):
        print(line[0].upper() + line[1:])
    if text := caveat({"model": options.model, "dataset": dataset.name}):
        print(text[0].upper() + text[1:])
    print(
        f"Each category, and what made the numbers: {Path(options.out) / 'results.csv'}, run.json"
    )


def _print_categories(table: DataFrame) -> None:
    """Print each category's rows, where there are more than one and not too many."""
    from anovl.cli.remarks import MOST_CATEGORIES, mark_of
    from anovl.evaluation.results import terminal_table

    rows = table[table["level"] == "category"]
    if 1 < rows["category"].nunique() <= MOST_CATEGORIES:
        for category, own in rows.groupby("category", sort=False):
            print(f"\n{category}")
            print(terminal_table(own, mark=mark_of))


def _remarks(table: DataFrame, options: argparse.Namespace) -> list[str]:
    """What is to be known of the printed numbers."""
    from anovl.cli.remarks import equal_by_definition, legend, made_with
    from anovl.evaluation.compare import run_record

    equal = equal_by_definition(options.methods)
    return [*legend(table), *([equal] if equal else []), *made_with(run_record(options.out))]
