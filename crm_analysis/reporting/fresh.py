"""Inside the kernel: pay for imports once, and give every report a room as it was found.

These functions run in the kernel's own process, silently, before a report's cells. A kernel
that has made forty reports must give the forty-first exactly what a new kernel would.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import random
import sys
import warnings
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

__all__ = ["LARGEST_SVG_BYTES", "restore", "warm_up"]

LARGEST_SVG_BYTES = 200_000
"""A figure whose drawing is larger than this is kept as a picture."""

_SEED = 0
_PNG_DPI = 160
_HASH_SALT = "crm"
_MOST_ROWS = 200
_WARM = ("numpy", "polars", "matplotlib.pyplot", "great_tables", "babel.numbers")


@dataclass(frozen=True)
class _Room:
    """What the process looked like before the first report."""

    environ: dict[str, str]
    path: list[str]
    filters: list[Any]
    modules: frozenset[str]
    rc_params: dict[str, Any]
    numpy_error: dict[str, Any]
    numpy_print: dict[str, Any]


_rooms: list[_Room] = []
_folders: list[str] = []


def warm_up() -> None:
    """Import what reports use, and remember the state of the process."""
    for name in _WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _import_public_names()
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is not None:
        matplotlib.rcParams["svg.hashsalt"] = _HASH_SALT
        sys.modules["matplotlib.pyplot"].switch_backend("inline")
    importlib.import_module("crm_analysis.remembered").start()
    _rooms[:] = [_look()]


def restore(folder: str) -> None:
    """Make the process what it was after `warm_up`, standing in `folder`."""
    room = _rooms[0]
    os.chdir(folder)  # first: the last report may have removed the folder it stood in
    _shell().reset(new_session=True)
    _forget_modules(room)
    _folders[:] = [folder]
    os.environ.clear()
    os.environ.update(room.environ)
    sys.path[:] = room.path
    warnings.resetwarnings()
    warnings.filters.extend(room.filters)  # type: ignore[attr-defined]
    random.seed(_SEED)
    _restore_numbers(room)
    _restore_figures(room)
    _show_frames_plainly()
    if "crm_analysis.wording" in sys.modules:
        sys.modules["crm_analysis.wording"].set_language("en")
    gc.collect()


def _import_public_names() -> None:
    """Load every public name of the package: its modules are imported only when touched."""
    package = importlib.import_module("crm_analysis")
    for name in getattr(package, "__all__", ()):
        with contextlib.suppress(ImportError, AttributeError):
            getattr(package, name)


def _shell() -> Any:
    from IPython.core.getipython import get_ipython

    return get_ipython()


def _look() -> _Room:
    numpy = sys.modules.get("numpy")
    matplotlib = sys.modules.get("matplotlib")
    return _Room(
        environ=dict(os.environ),
        path=list(sys.path),
        filters=list(warnings.filters),
        modules=frozenset(sys.modules),
        rc_params=dict(matplotlib.rcParams) if matplotlib else {},
        numpy_error=numpy.geterr() if numpy else {},
        numpy_print=numpy.get_printoptions() if numpy else {},
    )


def _forget_modules(room: _Room) -> None:
    """Drop modules that lie beside the last notebook: the next may have its own of that name."""
    for folder in _folders:
        for name in set(sys.modules) - room.modules:
            file = Path(getattr(sys.modules[name], "__file__", None) or sys.prefix)
            if file.is_relative_to(folder) and not file.is_relative_to(sys.prefix):
                del sys.modules[name]
    importlib.invalidate_caches()


def _restore_numbers(room: _Room) -> None:
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(_SEED)
        numpy.seterr(**room.numpy_error)
        numpy.set_printoptions(**room.numpy_print)
    polars = sys.modules.get("polars")
    if polars is not None:
        polars.Config.restore_defaults()
        polars.set_random_seed(_SEED)
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        pandas.reset_option("^display")


def _show_frames_plainly() -> None:
    """Show a polars frame as a table for readers: no types, no quotes, numbers to the right."""
    formatters = _shell().display_formatter.formatters
    formatters["text/html"].for_type_by_name("polars.dataframe.frame", "DataFrame", _frame_html)


def _frame_html(frame: Any) -> str:
    kinds = ["right" if kind.is_numeric() else "left" for kind in frame.dtypes]
    names = zip(kinds, frame.columns, strict=True)
    head = "".join(f'<th scope="col" class="{k}">{escape(name)}</th>' for k, name in names)
    rows = (
        "".join(f'<td class="{k}">{_cell(v)}</td>' for k, v in zip(kinds, row, strict=True))
        for row in frame.head(_MOST_ROWS).iter_rows()
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    left_out = frame.height - _MOST_ROWS
    more = f"<p><small>… + {left_out}</small></p>" if left_out > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return escape(f"{value:.6g}" if isinstance(value, float) else str(value))


def _restore_figures(room: _Room) -> None:
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is None:
        return
    sys.modules["matplotlib.pyplot"].close("all")
    matplotlib.rcParams.update(room.rc_params)
    display_formatter = _shell().display_formatter
    figure = sys.modules["matplotlib.figure"].Figure
    for formatter in display_formatter.formatters.values():
        formatter.pop(figure, None)
    display_formatter.mimebundle_formatter.for_type(figure, _figure_bundle)


def _figure_bundle(figure: Any, **_asked: object) -> tuple[dict[str, object], dict[str, object]]:
    """Show a plain figure as a drawing without a date in it, or as a picture when too large."""
    if not figure.axes and not figure.lines:
        return {}, {}
    look = {"facecolor": figure.get_facecolor(), "bbox_inches": "tight"}
    drawing = io.BytesIO()
    figure.savefig(drawing, format="svg", metadata={"Date": None}, **look)
    if drawing.tell() <= LARGEST_SVG_BYTES:
        return {"image/svg+xml": drawing.getvalue().decode()}, {}
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_PNG_DPI, **look)
    width = round(figure.get_figwidth() * 96)
    return {"image/png": picture.getvalue()}, {"image/png": {"width": width}}
