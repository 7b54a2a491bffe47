"""Rows of tables: means with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pandas import DataFrame


def means_of(table: DataFrame, metrics: Sequence[str], *, bounded: Sequence[str] = ()) -> DataFrame:
    """Return the means of `evaluate`'s table, one row a method, for some metrics.

    Those in `bounded` also have their 95 % interval, as text in per cent. An empty table
    is returned as it is.
    """
    if table.empty:
        return table
    means = table[table["level"] == "mean"]
    shown = means[["method", *metrics]].reset_index(drop=True)
    for metric in bounded:
        ends = means[[f"{metric}_lo", f"{metric}_hi"]].to_numpy()
        shown[f"{metric}, 95 % interval"] = [
            "–" if np.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f}" for low, high in ends
        ]
    return shown
