"""The findings of notebook 03."""

from __future__ import annotations

from anovl_companion.findings.base import Finding

FINDINGS: dict[str, Finding] = {}
