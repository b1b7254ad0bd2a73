"""One warm kernel, and the papermill engine that runs notebooks in it.

Importing this module imports Jupyter, so only a worker does it. The kernel talks over sockets
in a private folder (no port that another process could take); Windows has none of these, and
there it talks over encrypted TCP.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crm_analysis.errors import ReportError
from crm_analysis.reporting.pool import end_group
from crm_analysis.reporting.runs import INSIDE

# jsonschema's checks of international web addresses build a grammar at import, which takes two
# seconds; its time durations load a calendar library. Notebooks contain neither.
for _unneeded in ("rfc3987_syntax", "isoduration"):
    sys.modules.setdefault(_unneeded, None)  # type: ignore[arg-type]

from jupyter_client.manager import AsyncKernelManager  # noqa: E402
from jupyter_core.utils import run_sync  # noqa: E402
from nbformat.v4 import new_output  # noqa: E402

__all__ = ["ENGINE", "Kernel", "register_engine"]

ENGINE = "crm-warm"
"""Name under which our engine is known to papermill."""

_START_SECONDS = 120.0
_RESTORE_SECONDS = 60.0
_SHORTEST_SECONDS = 0.05
_FRESH = "__import__('crm_analysis.reporting.fresh', fromlist=['fresh'])"
_GUARD = "__import__('crm_analysis.reporting.guard', fromlist=['guard'])"
_MOST_SHOWN = 30_000_000
"""Characters that the cells of one report may show before the rest is left out."""


@dataclass
class Kernel:
    """A running kernel with its imports paid.

    Attributes
    ----------
    folder : Path
        Private folder for its sockets; its path must be short.
    number : int
        Tells this kernel's sockets from those of the kernel it replaces.
    cell_index : int or None
        The cell that is running, or ran last.
    """

    folder: Path
    number: int = 0
    cell_index: int | None = None
    manager: Any = None
    client: Any = None
    _warm: bool = field(default=False, repr=False)

    def launch(self) -> None:
        """Start the process without waiting for it."""
        manager = AsyncKernelManager(
            kernel_name="python3",
            connection_file=str(self.folder / f"k{self.number}.json"),
            **_transport(),
        )
        run_sync(manager.start_kernel)(
            extra_arguments=["--HistoryManager.hist_file=:memory:"],
            cwd=str(self.folder),
            env=_environment(),
        )
        self.manager = manager

    @property
    def process_id(self) -> int:
        """Operating system's number of the kernel's process."""
        return int(self.manager.provisioner.pid)

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        return bool(run_sync(self.manager.is_alive)())

    def wait(self) -> None:
        """Wait until the kernel answers and has imported what reports use."""
        if self._warm:
            return
        self.client = self.manager.client()
        self.client.start_channels()
        run_sync(self.client.wait_for_ready)(timeout=_START_SECONDS)
        self.client.allow_stdin = False
        self._run(f"{_FRESH}.warm_up(); {_GUARD}.remember()", _START_SECONDS)
        self._warm = True

    def ready_again(self, folder: Path) -> bool:
        """Make room for the next report, in `folder`; False where something of the last is left.

        What can be put back is; what cannot, such as a thread that is still running or a part of
        Python that a cell has replaced, asks for a new kernel.
        """
        try:
            self.wait()
            self._run(f"{_GUARD}.check()", _RESTORE_SECONDS)
            self.restore(folder)
        except (ReportError, RuntimeError, TimeoutError, OSError):
            return False
        return True

    @property
    def memory_bytes(self) -> int:
        """Memory that the process holds now; 0 where it cannot be asked."""
        import psutil

        with suppress(psutil.Error):
            return int(psutil.Process(self.process_id).memory_info().rss)
        return 0

    def restore(self, folder: Path) -> None:
        """Give the next report a new namespace and an untouched process, in `folder`."""
        self.wait()
        self._run(f"{_FRESH}.restore({str(folder)!r})", _RESTORE_SECONDS)

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self.client is not None:
            self.client.stop_channels()
        if self.manager is not None:
            end_group(self.process_id)
            run_sync(self.manager.shutdown_kernel)(now=True)
        self._warm = False

    def _run(self, code: str, seconds: float) -> None:
        execute = run_sync(self.client.execute_interactive)
        reply = execute(
            code, silent=True, store_history=False, timeout=seconds, output_hook=_ignore
        )
        content = reply["content"]
        if content["status"] != "ok":
            raise ReportError(
                "A kernel could not be made ready for a report: "
                f"{content.get('ename')}: {content.get('evalue')}. Check that the packages of "
                "requirements.lock are installed in this environment."
            )


def _size(content: dict[str, Any]) -> int:
    values = [content.get("text", ""), *content.get("data", {}).values()]
    return sum(len(value) for value in values if isinstance(value, str))


def _left_out(message: dict[str, Any]) -> dict[str, Any]:
    text = "… the rest of what the cells showed was left out.\n"
    header = {**message["header"], "msg_type": "stream"}
    return {**message, "header": header, "content": {"name": "stderr", "text": text}}


def _allowed(output: Any) -> Any:
    """Show an error that a cell may end with as words: papermill would fail the whole notebook."""
    if output.output_type != "error" or output.ename == "SystemExit":
        return output
    return new_output("stream", name="stderr", text=f"{output.ename}: {output.evalue}\n")  # type: ignore[no-untyped-call]


def _ignore(_message: object) -> None:
    """Drop what the preparation prints."""


def _transport() -> dict[str, str]:
    if os.name == "nt":
        return {"transport_encryption": "auto"}
    return {"transport": "ipc"}


def _environment() -> dict[str, str]:
    """Return the kernel's environment: nothing from the user's own profile, one fixed hash seed."""
    own = {"PYTHONHASHSEED": "0", "PYDEVD_DISABLE_FILE_VALIDATION": "1", INSIDE: "1"}
    return {**os.environ, **own}


def register_engine() -> None:
    """Make the engine known to papermill, under `ENGINE`.

    Done when needed rather than by an entry point: papermill loads every entry point at its own
    import, in programs that have nothing to do with reports.
    """
    from nbformat.v4 import output_from_msg
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import Engine, papermill_engines

    class BoundedClient(PapermillNotebookClient):  # type: ignore[misc]
        """Keeps so much of what cells show, and no more: a loop may show without end."""

        shown = 0

        def output(self, outs: list[Any], msg: Any, *words: Any) -> Any:
            before, self.shown = self.shown, self.shown + _size(msg["content"])
            if self.shown <= _MOST_SHOWN:
                return super().output(outs, msg, *words)
            if before <= _MOST_SHOWN:
                outs.append(output_from_msg(_left_out(msg)))  # type: ignore[no-untyped-call]
            return None

    class WarmEngine(Engine):  # type: ignore[misc]
        """Runs a notebook's cells in a kernel that is already there."""

        @classmethod
        def execute_managed_notebook(
            cls,
            nb_man: Any,
            _kernel_name: str,
            *,
            kernel: Kernel,
            timeout_seconds: float,
            **_options: object,
        ) -> None:
            end = time.monotonic() + timeout_seconds

            def remaining(_cell: object) -> float:
                return max(end - time.monotonic(), _SHORTEST_SECONDS)

            def note(cell_index: int, **_cell: object) -> None:
                kernel.cell_index = cell_index

            client = BoundedClient(
                nb_man, km=kernel.manager, timeout_func=remaining, on_cell_start=note
            )
            client.kc = kernel.client
            client.execute()
            for cell in nb_man.nb.cells:
                if "raises-exception" in cell.metadata.get("tags", []):
                    cell.outputs = [_allowed(output) for output in cell.get("outputs", [])]

    papermill_engines.register(ENGINE, WarmEngine)
