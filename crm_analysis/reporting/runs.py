"""One report to make: which notebook, with which parameters, and where its files go."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from crm_analysis.reporting.parameters import Value

__all__ = [
    "DEFAULT_FORMATS",
    "DEFAULT_TIMEOUT_SECONDS",
    "INSIDE",
    "NETWORK",
    "Run",
    "make_run",
    "page_path",
    "slug",
]

NETWORK = "network"
"""The word for no filter: all dealerships together."""

INSIDE = "CRM_REPORT_INSIDE"
"""Set in the environment of our own kernels: a report does not preview itself without end."""

DEFAULT_FORMATS = ("html",)
_LONGEST_NAME = 80
"""Bytes of a folder's name; file systems take 255, and Windows about 260 for a whole path."""

_DEVICE = re.compile(r"con|prn|aux|nul|(com|lpt)\d")

DEFAULT_READER = "manager"
DEFAULT_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class Run:
    """One report to make.

    Attributes
    ----------
    name : str
        What the report is called in its batch; the notebook's own name unless the plan says else.
    notebook : str
        The notebook's path, relative to the project's root where it lies inside.
    path : str
        Where the page goes, relative to the batch's folder, with forward slashes; files of other
        formats lie beside it.
    parameters : mapping
        Checked values that differ from, or confirm, the notebook's defaults.
    dealership : str or None
        One dealership, ``"network"`` for all together, or None where the plan speaks of none.
    period : str or None
        ``2025-10``, ``2025-Q4``, ``2025``, or None where the plan speaks of none.
    lang : str
        Language of the page, ``"en"`` or ``"ru"``.
    formats : tuple of str
    reader : str
        For whom the report is; the index groups by it.
    timeout_seconds : float
        After this the report is given up.
    show_code : bool
        Whether the page shows code (the researcher's version).
    subject : str or None
        Whose data these are, over the title, where no dealership says it.
    """

    name: str
    notebook: str
    path: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    dealership: str | None = None
    period: str | None = None
    lang: str = "en"
    formats: tuple[str, ...] = DEFAULT_FORMATS
    reader: str = DEFAULT_READER
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    show_code: bool = False
    subject: str | None = None

    @property
    def paths(self) -> dict[str, str]:
        """Every file of the report by its format, relative to the batch's folder."""
        page = PurePosixPath(self.path)
        return {name: page.with_suffix(f".{name}").as_posix() for name in self.formats}

    def to_json(self) -> dict[str, Any]:
        """Return the run as plain JSON, for a worker or a manifest."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Run:
        """Build the run that `to_json` described."""
        return cls(**{**data, "formats": tuple(data["formats"])})


def slug(name: str, *, marked: bool = False) -> str:
    """Make a folder name of a dealership's name: letters and digits of any script, and dashes.

    A name that is too long for a folder, or that Windows keeps for a device, gets a mark of its
    own, so that two names never share a folder by being cut; with `marked` any name does.

    Examples
    --------
    >>> slug("North Star / Motors"), slug("Автомир №2")
    ('north-star-motors', 'автомир-2')
    >>> slug("../../etc"), slug("CON"), slug("???")
    ('etc', 'con-a3db', 'dealership')
    """
    text = re.sub(r"[^\w]+", "-", name.casefold()).strip("-_") or "dealership"
    plain = len(text.encode()) <= _LONGEST_NAME and not _DEVICE.fullmatch(text)
    if plain and not marked:
        return text
    mark = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:4]
    cut = text.encode()[:_LONGEST_NAME].decode(errors="ignore").rstrip("-_")
    return f"{cut}-{mark}"


def page_path(
    name: str, dealership: str | None, period: str | None, lang: str, *, marked: bool = False
) -> str:
    """Say where a report's page goes inside its batch's folder, which may be a `marked` one.

    The file's own name says the period too: a page that was sent on is still known by it.

    Examples
    --------
    >>> page_path("retention", "North Star", "2025-10", "en")
    '2025-10/north-star/retention.2025-10.en.html'
    >>> page_path("retention", None, None, "ru")
    'retention.ru.html'
    """
    words = [slug(name).replace("-", "_"), *([period] if period else []), lang, "html"]
    folders = [period, slug(dealership, marked=marked) if dealership is not None else None]
    return "/".join([*(folder for folder in folders if folder), ".".join(words)])


def make_run(
    notebook: Path,
    parameters: Mapping[str, Value],
    *,
    takes: Iterable[str],
    root: Path,
    name: str,
    dealership: str | None,
    lang: str,
    period: str | None = None,
    **options: Any,
) -> Run:
    """Build one run; `dealership` and `lang` become parameters where the notebook takes them.

    Parameters
    ----------
    notebook : Path
    parameters : mapping
        Checked values.
    takes : iterable of str
        Names of the notebook's parameters.
    root : Path
        The project's root.
    name, dealership, lang, period
        As in `Run`.
    options
        The other fields of `Run`.
    """
    values = dict(parameters)
    if dealership is not None:
        values["dealership"] = None if dealership == NETWORK else dealership
    if "lang" in set(takes):
        values["lang"] = lang
    return Run(
        name=name,
        notebook=_relative(notebook, root),
        path=page_path(name, dealership, period, lang),
        parameters=values,
        dealership=dealership,
        period=period,
        lang=lang,
        **options,
    )


def _relative(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
