"""What a report depends on, as short hashes, without importing anything heavy.

A run is not made again while its key stays the same. The key covers the notebook and the
modules beside it, this package's source, the installed packages, the page template, the data
and the parameters. File hashes are remembered by size and time of change, so that a second
batch over large data costs no reading.
"""

from __future__ import annotations

import hashlib
import json
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crm_analysis.errors import ReportError
from crm_analysis.reporting.places import resolve_path
from crm_analysis.reporting.runs import Run

__all__ = ["Fingerprints", "digest", "short"]

SHOWN_DIGITS = 12
_PACKAGE = Path(__file__).resolve().parents[1]
_SOURCE_SUFFIXES = {".py", ".pyi", ".mplstyle", ".j2", ".css", ".js", ".json", ".po", ".typ"}


def short(digest: str) -> str:
    """Cut a hash to the length shown on a page."""
    return digest[:SHOWN_DIGITS]


@dataclass
class Fingerprints:
    """Hashes of files, folders and runs; `known` remembers files between batches."""

    root: Path
    known: dict[str, list[Any]] = field(default_factory=dict)
    _once: dict[str, str] = field(default_factory=dict)
    _paths: dict[str, Path | None] = field(default_factory=dict)

    def of_file(self, path: Path) -> str:
        """Return the SHA-256 of a file's bytes."""
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        held = self.known.get(str(path))
        if held is None or held[:2] != stamp:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            held = self.known[str(path)] = [*stamp, digest]
        return str(held[2])

    def of_data(self, path: Path) -> str:
        """Return the hash of a file, or of a folder of data.

        A folder with a `manifest.json` (which holds the hashes of its tables) is taken at its
        word, checked against the sizes of its files; any other is read whole.
        """
        return self._cached(f"data:{path}", lambda: self._of_data(path))

    def _of_data(self, path: Path) -> str:
        try:
            return self._read_data(path)
        except OSError as error:
            raise ReportError(
                f"The data {path} could not be read: {error.strerror} ({error.filename}). Were "
                "they being written just now? Wait until they are whole, and run it again."
            ) from error

    def _read_data(self, path: Path) -> str:
        if path.is_file():
            return self.of_file(path)
        # A hidden file is somebody's note beside the data, such as the stamp of a passed check.
        files = sorted(
            file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")
        )
        manifest = path / "manifest.json"
        if manifest.is_file():
            lines: list[Any] = [self.of_file(manifest)]
            lines += [[file.relative_to(path).as_posix(), file.stat().st_size] for file in files]
        else:
            lines = [[file.relative_to(path).as_posix(), self.of_file(file)] for file in files]
        return digest(lines)

    def of_notebook(self, path: Path) -> str:
        """Return the hash of a notebook's file."""
        return self.of_file(path)

    def of_library(self) -> str:
        """Return the hash of this package's source, its template and the installed packages."""
        return self._cached("library", self._of_library)

    def _of_library(self) -> str:
        folders = [_PACKAGE, self.root / "reports" / "locale"]
        files = [
            file
            for folder in folders
            for file in sorted(folder.rglob("*"))
            if file.suffix in _SOURCE_SUFFIXES and "__pycache__" not in file.parts
        ]
        lock = self.root / "requirements.lock"
        files += [lock] if lock.is_file() else []
        lines: list[Any] = [[file.name, self.of_file(file)] for file in files]
        return digest([*lines, sys.version, _installed()])

    def of_inputs(self, run: Run) -> dict[str, str]:
        """Return the hash of every file or folder that a parameter of the run names."""
        found = {}
        for name, value in run.parameters.items():
            path = self._named(value) if isinstance(value, str) else None
            if path is not None and not self.root.is_relative_to(path):
                found[name] = self.of_data(path)
        return found

    def _named(self, value: str) -> Path | None:
        if value not in self._paths:
            self._paths[value] = resolve_path(value, root=self.root)
        return self._paths[value]

    def of_run(self, run: Run) -> str:
        """Return the key of a run: while it stays, the report need not be made again.

        Parameters
        ----------
        run : Run
            With a value for every parameter of its notebook. For whom the report is and in how
            many formats changes nothing in it.
        """
        asked = run.to_json()
        for name in ("reader", "formats", "timeout_seconds"):
            del asked[name]
        notebook = self.root / run.notebook
        return digest(
            [
                asked,
                self.of_notebook(notebook),
                self._cached(f"beside:{notebook.parent}", lambda: self._beside(notebook)),
                self.of_inputs(run),
                self.of_library(),
            ]
        )

    def _beside(self, notebook: Path) -> str:
        return digest([self.of_file(path) for path in sorted(notebook.parent.glob("*.py"))])

    def _cached(self, key: str, compute: Callable[[], str]) -> str:
        if key not in self._once:
            self._once[key] = compute()
        return self._once[key]


def _installed() -> list[str]:
    folders = {sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]}
    return sorted(
        entry.name
        for folder in folders
        if Path(folder).is_dir()
        for entry in Path(folder).glob("*.dist-info")
    )


def digest(value: object) -> str:
    """Return the SHA-256 of a plain value, the same whatever the order of its names."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
