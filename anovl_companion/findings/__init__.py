"""The findings of all notebooks: one module a notebook, and `base` for what they are."""

from __future__ import annotations

from importlib import import_module

from anovl_companion.findings.base import Estimate, Finding, state

NOTEBOOKS = ("00", "01", "02", "03", "04", "05", "a1", "a2")
FINDINGS: dict[str, Finding] = {
    name: finding
    for notebook in NOTEBOOKS
    for name, finding in import_module(f"{__name__}.notebook_{notebook}").FINDINGS.items()
}

__all__ = ["FINDINGS", "Estimate", "Finding", "state"]
