"""The findings of notebook 05."""

from __future__ import annotations

from anovl_companion.findings.base import Finding

FINDINGS: dict[str, Finding] = {}
