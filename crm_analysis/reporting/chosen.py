"""Some reports of a plan, chosen by `NAME`, `NAME/dealership` or `NAME/dealership/period`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from crm_analysis.errors import ReportError, listed, near
from crm_analysis.reporting.runs import Run, slug

__all__ = ["chosen_runs"]


def chosen_runs(runs: Sequence[Run], patterns: Iterable[str]) -> set[str]:
    """Return the paths of the runs that any of the patterns means.

    Parameters
    ----------
    runs : sequence of Run
    patterns : iterable of str
        Up to three parts with ``/`` between: the report's name, the dealership (its name or its
        folder), the period. An empty part means any; ``*`` stands for any letters.

    Raises
    ------
    ReportError
        A pattern that means no report; the message says what there is.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        found = {run.path for run in runs if _means(pattern, run)}
        if not found:
            known = list(dict.fromkeys(_said(run) for run in runs))
            raise ReportError(
                f"--only {pattern} means no report of the plan{near(pattern, known)}. "
                f"There are: {listed(known)}."
            )
        chosen |= found
    return chosen


def _means(pattern: str, run: Run) -> bool:
    parts = pattern.split("/")
    asked = [*parts, "", ""]
    dealership = run.dealership or ""
    names = ((run.name,), (dealership, slug(dealership)), (run.period or "",))
    return len(parts) <= len(names) and all(
        not part or any(fnmatchcase(name.casefold(), part.casefold()) for name in options)
        for part, options in zip(asked, names, strict=False)
    )


def _said(run: Run) -> str:
    place = slug(run.dealership) if run.dealership else ""
    return "/".join([run.name, place, run.period or ""]).rstrip("/")
