"""A dealership's own export becomes our tables, and every flaw met on the way is said.

A mapping file (TOML, ``reports/intake/*.toml``) describes the export; nothing is guessed and
nothing in an export is ever run. The result is a data folder that `open_warehouse` opens, with
what was met in its manifest:

    python -m crm_analysis.intake reports/intake/cdnow.toml --out reports/out/data/cdnow
"""

from __future__ import annotations

from crm_analysis.intake.folder import is_current, take_in
from crm_analysis.intake.report import intake_report

__all__ = ["intake_report", "is_current", "take_in"]
