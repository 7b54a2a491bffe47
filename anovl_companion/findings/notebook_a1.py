"""The findings of notebook A1."""

from __future__ import annotations

from anovl_companion.findings.base import Finding

FINDINGS: dict[str, Finding] = {}
