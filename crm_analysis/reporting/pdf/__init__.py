"""An executed notebook as a PDF: set by Typst, tagged for accessibility, nothing from the system.

`story` reads the notebook, `markup` its HTML, `nodes` are the parts both speak in, `report.typ`
decides how they look, and `press` prints them.
"""

from __future__ import annotations

from crm_analysis.reporting.pdf.press import Press

__all__ = ["Press"]
