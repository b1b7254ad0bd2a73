"""The last pass: a CRM as people really keep it, with a label on everything that is wrong.

Each kind of defect has a module of its own; it proposes changes to clean tables, and the proposals
become the labels of `truth_defect`. The labels then *are* the defects: putting them on gives the
defective tables, taking them off (`repair`) gives the clean ones back, exactly.

A cell has at most one defect, and a level holds all the defects of the levels below it: each cell
has one uniform, cut into an interval for each kind that may befall it, and a heavier level only
widens the intervals.
"""

from __future__ import annotations

from synthetic.config import DEFECT_LEVELS, DefectSettings
from synthetic.defects.labels import repair
from synthetic.defects.spoiling import spoil, with_defects

__all__ = ["DEFECT_LEVELS", "DefectSettings", "repair", "spoil", "with_defects"]
