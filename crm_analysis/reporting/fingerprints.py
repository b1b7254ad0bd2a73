"""What a report depends on, as short hashes, without importing anything heavy.

A run is not made again while its key stays the same. The key covers the notebook, the modules
beside it, the project's packages that it imports, this package's source, the installed
packages, the page template, the data and the parameters. File hashes are remembered by size and
time of change, so that a second batch over large data costs no reading.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crm_analysis.errors import ReportError
from crm_analysis.reporting.places import may_be_path, resolve_path
from crm_analysis.reporting.runs import Run

__all__ = ["Fingerprints", "digest", "short"]

SHOWN_DIGITS = 12
_PACKAGE = Path(__file__).resolve().parents[1]
_IMPORT = re.compile(r"\b(?:from|import)\s+(\w+)")
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
    _paths: dict[tuple[str, Path], Path | None] = field(default_factory=dict)

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
        """Return the hash of a file, or of every file in a folder of data.

        A `manifest.json` that holds hashes of the tables is not taken at its word: whoever mends
        a value in a table seldom mends the manifest too.
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
        return digest([[file.relative_to(path).as_posix(), self.of_file(file)] for file in files])

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
        folder = (self.root / run.notebook).parent
        for name, value in run.parameters.items():
            path = self._named(str(value), folder) if may_be_path(name, value) else None
            if path is not None and not self.root.is_relative_to(path):
                found[name] = self.of_data(path)
        return found

    def _named(self, value: str, folder: Path) -> Path | None:
        asked = (value, folder)
        if asked not in self._paths:
            self._paths[asked] = resolve_path(value, root=self.root, beside=folder)
        return self._paths[asked]

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
                self._cached(f"imported:{notebook}", lambda: self._imported(notebook)),
                self.of_inputs(run),
                self.of_library(),
            ]
        )

    def _beside(self, notebook: Path) -> str:
        """Return the hash of the modules that a notebook finds beside it, and of packages there."""
        folder = notebook.parent
        packages = [file.parent for file in folder.glob("*/__init__.py")]
        return self._sources(sorted(folder.glob("*.py")), packages)

    def _imported(self, notebook: Path) -> str:
        """Return the hash of the project's own packages that a notebook imports."""
        packages = [
            file.parent for file in self.root.glob("*/__init__.py") if file.parent != _PACKAGE
        ]
        text = notebook.read_text(encoding="utf-8", errors="replace") if packages else ""
        imported = set(_IMPORT.findall(text))
        return self._sources([], [path for path in packages if path.name in imported])

    def _sources(self, files: Sequence[Path], packages: Iterable[Path]) -> str:
        inside = [file for package in sorted(packages) for file in sorted(package.rglob("*.py"))]
        return digest([[file.name, self.of_file(file)] for file in (*files, *inside)])

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
