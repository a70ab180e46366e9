"""A run's files in, one self-contained page and one JSON of figures out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.report.run_report import write_report as write_report

__all__ = ["write_report"]

__getattr__ = facade(__name__, {"write_report": "run_report"})
