"""One report by itself: the run that a person asks for at the terminal or in a notebook."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from os import environ
from pathlib import Path
from typing import Any

from crm_analysis.errors import ReportError, listed
from crm_analysis.reporting.batch import single_batch
from crm_analysis.reporting.making import make_batch
from crm_analysis.reporting.parameters import Parameter, Value, check_values, read_parameters
from crm_analysis.reporting.places import find_notebook, find_root
from crm_analysis.reporting.plan import LANGUAGES
from crm_analysis.reporting.runs import INSIDE, NETWORK, Run, make_run

__all__ = ["Preview", "preview", "single_run"]

_LINK = re.compile(r'<a class="crm-file"[^>]*>(.*?)</a>')
"""A link to a file beside the page: there is none beside a preview."""


def single_run(
    path: Path,
    inputs: tuple[Parameter, ...],
    values: Mapping[str, Value],
    *,
    lang: str | None,
    root: Path,
    timeout_seconds: float,
    show_code: bool,
) -> Run:
    """Build the run of one notebook; what is not asked for is as the notebook has it.

    Raises
    ------
    ReportError
        Pages are not written in that language.
    """
    defaults = {item.name: item.default for item in inputs}
    own = dict(values)
    chosen = lang or own.get("lang") or defaults.get("lang") or "en"
    if chosen not in LANGUAGES:
        raise ReportError(
            f"A page in the language {chosen!r} was asked for. Pages are written in: "
            f"{listed(LANGUAGES)}."
        )
    asked = own.pop("dealership", defaults.get("dealership"))
    dealership = str(asked or NETWORK) if "dealership" in defaults else None
    return make_run(
        path,
        own,
        takes=defaults,
        root=root,
        name=path.stem,
        dealership=dealership,
        lang=str(chosen),
        timeout_seconds=timeout_seconds,
        show_code=show_code,
    )


@dataclass(frozen=True)
class Preview:
    """A finished page, shown in a frame of its own in which nothing can run.

    Attributes
    ----------
    html : str
        The whole page, as it would be handed on.
    height : int
        Of the frame, in pixels.
    """

    html: str
    height: int = 800

    def __repr__(self) -> str:
        return f"Preview({len(self.html):,} characters)"

    def _repr_html_(self) -> str:
        return (
            f'<iframe sandbox srcdoc="{escape(self.html, quote=True)}" title="Preview" '
            f'style="width:100%;height:{self.height}px;border:1px solid #8888;border-radius:6px">'
            "</iframe>"
        )


def preview(
    notebook: str,
    *,
    lang: str | None = None,
    show_code: bool = False,
    height: int = 800,
    timeout_seconds: float = 600.0,
    **parameters: Any,
) -> Preview | None:
    """Show a report as whoever it is for will see it, below the cell.

    The notebook is executed as it was saved last, by itself, with a kernel of its own: what is
    only in the editor, or in the memory of this kernel, is not in it. Save first.

    Parameters
    ----------
    notebook : str
        Its name (``"retention"``) or its path.
    lang : str, optional
        ``"en"`` or ``"ru"``; without it as the notebook says.
    show_code : bool
        Whether to show the researcher's version.
    height : int
        Of the frame, in pixels.
    timeout_seconds : float
        After this the report is given up.
    **parameters
        Values of the notebook's parameters, checked as a plan's are.

    Returns
    -------
    Preview or None
        None inside a report that is being made, so that a cell with a preview may stay in a
        notebook: the page leaves it out.

    Raises
    ------
    ReportError
        No such notebook, language or parameter, or a value of another kind. A report that fails
        is shown as its page says it.

    Examples
    --------
    >>> preview("retention", dealership="Riverside Motors", lang="ru")  # doctest: +SKIP
    """
    if environ.get(INSIDE):
        return None
    root = find_root(Path.cwd())
    path = find_notebook(notebook, root=root)
    inputs = read_parameters(path)
    run = single_run(
        path,
        inputs,
        check_values(inputs, parameters, notebook=path.stem),
        lang=lang,
        root=root,
        timeout_seconds=timeout_seconds,
        show_code=show_code,
    )
    with tempfile.TemporaryDirectory(prefix="crm-preview-") as folder:
        batch = single_batch(run, root=root, out=Path(folder))
        batch.check()
        make_batch(batch, workers=1, keep=False)
        if batch.interrupted:
            raise KeyboardInterrupt
        page = Path(folder) / run.path
        if not page.is_file():
            failure = batch.outcomes[0].result.get("failure") or {}
            raise ReportError(f"The page could not be made: {failure.get('message')}")
        html = page.read_text(encoding="utf-8")
        return Preview(_LINK.sub(r"\1", html), height)
