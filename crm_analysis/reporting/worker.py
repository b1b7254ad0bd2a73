"""A worker: one process, one warm kernel, one report after another.

It reads jobs from its standard input and answers on its standard output, one line of JSON each.
A process of its own keeps Jupyter's imports out of the command, and lets a report that hangs be
ended without the others.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from crm_analysis import wording
from crm_analysis.errors import ReportError
from crm_analysis.files import write_whole
from crm_analysis.reporting.beside import put_beside, tables_in
from crm_analysis.reporting.execute import Failure, execute
from crm_analysis.reporting.kernel import Kernel, register_engine
from crm_analysis.reporting.pool import end_group
from crm_analysis.reporting.runs import Run
from crm_analysis.wording import _

__all__ = ["main"]

_REPORTS_PER_KERNEL = 200
_MOST_KERNEL_BYTES = 1_500_000_000
"""A kernel is replaced after so many reports, or past so much memory, which else may grow."""


class Worker:
    """Makes reports, replacing its kernel when it must.

    Parameters
    ----------
    root, folder : Path
        The project's root, and a private folder for the kernel's sockets.
    isolate : bool
        Whether every report gets a kernel of its own.
    tell : callable
        Sends one message to the command.
    """

    def __init__(
        self, root: Path, folder: Path, *, isolate: bool, tell: Callable[[dict[str, Any]], None]
    ) -> None:
        self.root = root
        self.folder = folder
        self.isolate = isolate
        self.tell = tell
        self.kernel: Kernel | None = None
        self.made = 0
        self.started = 0
        self.exporter: Any = None
        self.press: Any = None
        self.ready_at = 0.0

    def prepare(self) -> None:
        """Start a kernel, and import what rendering needs while it wakes up."""
        self._launch()
        from crm_analysis.reporting.render import make_exporter

        # papermill asks pyarrow for Hadoop's files: a third of a second, and no report lies there.
        sys.modules.setdefault("pyarrow.fs", None)  # type: ignore[arg-type]
        register_engine()
        self.exporter = make_exporter()
        gc.freeze()  # what was imported stays: it need not be looked through after every page

    def make(self, job: dict[str, Any]) -> dict[str, Any]:
        """Make one report and say how it went."""
        from crm_analysis.reporting.render import Facts, render_failure, render_report
        from crm_analysis.reporting.reported import show_reported

        run = Run.from_json(job["run"])
        facts = Facts.from_json(job["facts"])
        kernel = self._ready_kernel((self.root / run.notebook).parent)
        with wording.speaking(run.lang):
            notebook, failure = execute(run, kernel, root=self.root)
            tables, failure = _tables(notebook, failure)
            if failure is None:
                show_reported(notebook, job["reported"])
            printed, refused = self._printed(notebook, run, facts, failure)
            if printed is None:
                facts = facts.without_pdf()
            if failure is None:
                page = render_report(notebook, run, facts, self.exporter)
            else:
                page = render_failure(notebook, run, facts, failure, self.exporter)
        self.made += 1
        broken = failure is not None and failure.kind != "cell"
        if broken or self.isolate or self._is_worn(kernel):
            self.stop()
        failure = failure or refused
        path = Path(job["path"])
        beside: list[str] = []
        try:
            beside = put_beside(path, tables)
            if "html" in run.formats or refused is not None:
                write_whole(path, page.html)
            if printed is not None:
                write_whole(path.with_suffix(".pdf"), printed)
            else:  # one of a time when it could be made would mislead
                path.with_suffix(".pdf").unlink(missing_ok=True)
        except OSError as error:
            with wording.speaking(run.lang):
                failure = unwritten(error)
        return {
            "status": "made" if failure is None else "failed",
            **({} if failure is None else {"failure": failure.to_json()}),
            **page.summary,
            **({"files": beside} if beside else {}),
        }

    def _printed(
        self, notebook: Any, run: Run, facts: Any, failure: Failure | None
    ) -> tuple[bytes | None, Failure | None]:
        """Print the PDF where one is asked for; when that fails the page still stands."""
        if "pdf" not in run.formats:
            return None, None
        from crm_analysis.reporting.pdf import Press

        try:
            self.press = self.press or Press()
            if failure is None:
                return self.press.report(notebook, run, facts), None
            return self.press.failure(notebook, run, facts, failure), None
        except ReportError as error:
            return None, unprinted(error)

    def stop(self) -> None:
        """End the kernel."""
        if self.kernel is not None:
            self.kernel.stop()
        self.kernel, self.made = None, 0

    def abandon(self) -> None:
        """End the kernel and this process in the middle of whatever they do, and tidy up."""
        if self.kernel is not None:
            with suppress(Exception):  # it may be starting just now
                end_group(self.kernel.process_id)
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other workers' folders may lie there yet
            self.folder.parent.rmdir()
        os._exit(1)

    def _ready_kernel(self, folder: Path) -> Kernel:
        """Return a kernel that stands in `folder`, nothing of an earlier report being left."""
        if self.kernel is not None and not (self.kernel.alive and self.kernel.ready_again(folder)):
            self.stop()
        kernel = self.kernel
        if kernel is None:
            kernel = self._launch()
            kernel.restore(folder)
        self.ready_at = time.monotonic()
        return kernel

    def _is_worn(self, kernel: Kernel) -> bool:
        return self.made >= _REPORTS_PER_KERNEL or kernel.memory_bytes > _MOST_KERNEL_BYTES

    def _launch(self) -> Kernel:
        self.kernel = Kernel(self.folder, self.started)
        self.started += 1
        self.kernel.launch()
        self.tell({"kernel": self.kernel.process_id})
        return self.kernel


def _tables(notebook: Any, failure: Failure | None) -> tuple[dict[str, bytes], Failure | None]:
    """Take the tables to stand beside a page out of its notebook; none of one that failed."""
    if failure is not None:
        return {}, failure
    try:
        return tables_in(notebook), None
    except ReportError as error:
        return {}, Failure(kind="cell", message=str(error), advice="")


def unwritten(error: OSError) -> Failure:
    """Say that a page was made and could not be kept."""
    return Failure(
        kind="disk",
        message=_("The page could not be written: {reason}.", reason=error.strerror or error),
        advice=_("Free some space, or choose another folder with 'out', and run it again."),
    )


def unprinted(error: ReportError) -> Failure:
    """Say that a report was made and its PDF could not be."""
    return Failure(
        kind="pdf",
        message=str(error),
        advice=_("The HTML page was made and holds everything; only its PDF is missing."),
    )


def main() -> None:
    """Serve jobs until standard input ends."""
    answers = _take_output()

    def tell(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    first = json.loads(sys.stdin.readline())
    worker = Worker(Path(first["root"]), Path(first["folder"]), isolate=first["isolate"], tell=tell)
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders, worker), daemon=True).start()
    try:
        worker.prepare()
        while True:
            result = worker.make(json.loads(orders.get()))
            seconds = round(time.monotonic() - worker.ready_at, 3)  # a kernel's start left out
            tell({"result": {**result, "seconds": seconds}})
    finally:
        worker.stop()


def _listen(orders: queue.SimpleQueue[str], worker: Worker) -> None:
    """Take orders as they come; when the command is gone, killed perhaps, end at once.

    Else a report without end would go on for nobody until its timeout.
    """
    for line in sys.stdin:
        orders.put(line)
    worker.abandon()


def _take_output() -> TextIO:
    """Keep standard output for answers; whatever else prints goes to the log."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main()
