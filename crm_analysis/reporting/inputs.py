"""What a run rests on, known before it runs: its values, its data's last day, its key.

Everything here is read from small files and remembered, without importing anything heavy: a batch
with nothing to do asks these questions for every report and is still done in a blink.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from crm_analysis.errors import ReportError
from crm_analysis.reporting.fingerprints import Fingerprints, digest
from crm_analysis.reporting.history import Chain, kind_of
from crm_analysis.reporting.parameters import read_parameters
from crm_analysis.reporting.places import resolve_path
from crm_analysis.reporting.runs import Run

__all__ = ["Inputs", "read_json"]

_NOT_SETTINGS = {"dealership", "lang", "as_of", "data", "targets"}
"""Parameters that say who, when, in which words and against what: not how a figure is defined."""


@dataclass
class Inputs:
    """What the runs of a project rest on."""

    root: Path
    prints: Fingerprints
    _defaults: dict[str, dict[str, Any]] = field(default_factory=dict)
    _manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)

    def values(self, run: Run) -> dict[str, Any]:
        """Return every parameter with the value that will be used."""
        if run.notebook not in self._defaults:
            self._defaults[run.notebook] = {
                item.name: item.default
                for item in read_parameters(self.root / run.notebook)
                if item.kind != "computed"
            }
        return {**self._defaults[run.notebook], **run.parameters}

    def as_of(self, run: Run) -> str | None:
        """Return the day a run looks at its data as of, where it is known before they are read."""
        values = self.values(run)
        day = values.get("as_of") or self._manifest(values.get("data")).get("as_of")
        return str(day) if _is_date(day) else None

    def last_day(self, data: str) -> date | None:
        """Return the last day that data cover, as their manifest says."""
        day = self._manifest(data).get("as_of")
        return date.fromisoformat(str(day)) if _is_date(day) else None

    def facts(self, run: Run) -> dict[str, Any]:
        """Collect what a report's page states about its making."""
        from crm_analysis.reporting.provenance import commit_of  # brings Babel

        values = self.values(run)
        seed = self._manifest(values.get("data")).get("seed")
        return {
            "notebook_hash": self.prints.of_notebook(self.root / run.notebook),
            "parameters": values,
            "inputs": self.prints.of_inputs(replace(run, parameters=values)),
            "as_of": self.as_of(run),
            "seed": None if seed is None else str(seed),
            "code": self.prints.of_library(),
            "commit": commit_of(self.root),
        }

    def key(self, run: Run) -> str:
        """Return the hash of everything a report depends on, but for what was reported before."""
        if run.path not in self._keys:
            self._keys[run.path] = self.prints.of_run(replace(run, parameters=self.values(run)))
        return self._keys[run.path]

    def chain(self, run: Run) -> Chain:
        """Return what makes this report comparable with those of other days."""
        values = self.values(run)
        settings = {name: value for name, value in values.items() if name not in _NOT_SETTINGS}
        return Chain(
            run.name, run.dealership or run.subject, digest(settings)[:12], kind_of(run.period)
        )

    def origin(self, run: Run, batch: str) -> dict[str, Any]:
        """Return the columns of the history that say where a report's figures come from."""
        chain, facts = self.chain(run), self.facts(run)
        data = self.values(run).get("data")
        last_day = self.last_day(data) if isinstance(data, str) else None
        return {
            "batch": batch,
            "report": chain.report,
            "notebook": run.notebook,
            "settings": chain.settings,
            "dealership": chain.dealership,
            "period": run.period or facts["as_of"],
            "as_of": facts["as_of"],
            "reported_at": last_day.isoformat() if last_day else facts["as_of"],
            "data": digest(facts["inputs"])[:12],
            "code": digest([facts["notebook_hash"], self.prints.of_library()])[:12],
        }

    def check(self, run: Run) -> None:
        """Refuse a run whose data are not there.

        Raises
        ------
        ReportError
        """
        data = self.values(run).get("data")
        folder = (self.root / run.notebook).parent
        if isinstance(data, str) and resolve_path(data, root=self.root, beside=folder) is None:
            raise ReportError(
                f"The report {run.name!r} reads its data from {data!r}, and there is no such file "
                f"or folder in {self.root.name}/. Generate it (python -m synthetic generate "
                f"--preset small --seed 1 --out {data}) or set 'data' to a folder that is there."
            )

    def _manifest(self, data: object) -> Mapping[str, Any]:
        if not isinstance(data, str):
            return {}
        if data not in self._manifests:
            path = resolve_path(data, root=self.root)
            folder = path is not None and path.is_dir()
            self._manifests[data] = read_json(path / "manifest.json") if path and folder else {}
        return self._manifests[data]


def read_json(path: Path) -> dict[str, Any]:
    """Read JSON; a file that is missing or was cut short counts as empty."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _is_date(text: object) -> bool:
    try:
        date.fromisoformat(str(text))
    except ValueError:
        return False
    return True
