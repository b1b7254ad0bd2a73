"""How a page was made: notebook, parameters, data, code and versions; no clock.

The code is told by its own fingerprint, and the commit beside it: two pages of one commit whose
fingerprints differ were made with changes that had not been committed. So nothing has to ask git,
and pages of equal inputs stay equal byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

from crm_analysis.reporting.fingerprints import short
from crm_analysis.reporting.runs import Run
from crm_analysis.wording import _

__all__ = ["Facts", "commit_of", "provenance"]

_SHOWN_VERSIONS = (
    "polars",
    "narwhals",
    "numpy",
    "scipy",
    "statsmodels",
    "matplotlib",
    "papermill",
    "nbconvert",
)
_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dataclass(frozen=True)
class Facts:
    """What a page states about its making.

    Attributes
    ----------
    notebook_hash : str
        SHA-256 of the notebook's file.
    parameters : mapping
        Every parameter with the value that was used.
    inputs : mapping
        For each parameter that names data: the hash of it.
    as_of : str or None
        Last day the data covers, ISO.
    seed : str or None
        Seed of generated data.
    code : str or None
        Fingerprint of the library that made it.
    commit : str or None
        The project's commit, where it is under git.
    links : mapping
        Where the page leads: the JSON of `links.Links`.
    """

    notebook_hash: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    as_of: str | None = None
    seed: str | None = None
    code: str | None = None
    commit: str | None = None
    links: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Facts:
        """Build the facts that `to_json` described."""
        return cls(**data)

    def without_pdf(self) -> Facts:
        """Return the same facts for a page beside which no PDF lies, and that leads to none."""
        return replace(self, links={k: v for k, v in self.links.items() if k != "pdf"})


def provenance(run: Run, facts: Facts) -> Iterator[tuple[str, list[str]]]:
    """List what a page states about its making: a label and its values."""
    name = Path(run.notebook).name
    yield _("Notebook"), [f"{name} · {short(facts.notebook_hash)}"]
    if facts.parameters:
        yield _("Parameters"), [f"{k} = {_shown(v)}" for k, v in facts.parameters.items()]
    if facts.inputs:
        yield _("Data"), [f"{facts.parameters[k]} · {short(v)}" for k, v in facts.inputs.items()]
    if facts.seed is not None:
        yield _("Seed"), [facts.seed]
    code = [short(facts.code)] if facts.code else []
    code += [_("commit {name}", name=short(facts.commit))] if facts.commit else []
    if code:
        yield _("Code"), code
    yield _("Versions"), list(_versions())


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items()) or "–"
    return "–" if value is None else str(value)


@cache
def _versions() -> tuple[str, ...]:
    found = [
        f"{name} {version}" for name in ("crm-dealership-analysis",) if (version := _version(name))
    ]
    found.append(f"Python {python_version()}")
    found += [f"{name} {version}" for name in _SHOWN_VERSIONS if (version := _version(name))]
    return tuple(found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def commit_of(root: Path) -> str | None:
    """Read the commit a project stands at from its git folder, without starting git.

    Returns
    -------
    str or None
        None where there is no commit, or it is kept in a way that is not read here (reftable).
    """
    try:
        folder = _git_folder(root)
        head = (folder / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head if _HASH.fullmatch(head) else None
        return _commit_of_branch(folder, head.removeprefix("ref: "))
    except (OSError, UnicodeDecodeError):
        return None


def _git_folder(root: Path) -> Path:
    """Return the git folder; that of a second working tree is named in a file."""
    found = root / ".git"
    if not found.is_file():
        return found
    return root / found.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")


def _commit_of_branch(folder: Path, branch: str) -> str | None:
    common = folder / "commondir"
    shared = folder / common.read_text(encoding="utf-8").strip() if common.is_file() else folder
    for place in (folder, shared):
        if (place / branch).is_file():
            name = (place / branch).read_text(encoding="utf-8").strip()
            return name if _HASH.fullmatch(name) else None
    packed = shared / "packed-refs"
    for line in packed.read_text(encoding="utf-8").splitlines():
        name, _space, ref = line.partition(" ")
        if ref == branch and _HASH.fullmatch(name):
            return name
    return None
