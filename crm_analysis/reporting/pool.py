"""Workers side by side: hands out runs, replaces a worker that hangs or dies."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crm_analysis.reporting.runs import Run
from crm_analysis.reporting.waiting import WaitingJobs

__all__ = ["Job", "StopBatch", "cores", "end_group", "run_jobs"]

GRACE_SECONDS = 150.0
"""On top of a report's own timeout, for the start of a kernel and for the page."""

_THREADS = (
    "POLARS_MAX_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

_FOLDER_NAMED = "JUPYTER_RUNTIME_DIR"
_LOG_BYTES, _LOG_LINES = 20_000, 40
_LOST = "lost"
"""Status of a report whose worker is no more; `_lost` says it in words."""


class StopBatch(Exception):  # noqa: N818
    """Raised by `done` to hand out no more runs."""


@dataclass(frozen=True)
class Job:
    """One run, the facts its page states, the file it becomes, and what was reported before."""

    run: Run
    facts: Mapping[str, Any]
    path: Path
    reported: Sequence[Mapping[str, Any]] = ()

    def to_line(self) -> str:
        """Return the job as one line of JSON."""
        data = {
            "run": self.run.to_json(),
            "facts": dict(self.facts),
            "path": str(self.path),
            "reported": list(self.reported),
        }
        return json.dumps(data) + "\n"


def cores() -> int:
    """Count the processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_jobs(
    jobs: Iterable[Job],
    *,
    root: Path,
    workers: int,
    isolate: bool,
    done: Callable[[Job, dict[str, Any]], Iterable[Job]],
    started: Callable[[Job], None] | None = None,
) -> None:
    """Make reports with `workers` processes side by side.

    Parameters
    ----------
    jobs : iterable of Job
        Those that may begin at once.
    root : Path
        The project's root.
    workers : int
    isolate : bool
        Whether every report gets a kernel of its own.
    done : callable
        Called here, in this thread, with each job and its result as it ends; returns the jobs
        that may begin now. It may raise `StopBatch`.
    started : callable, optional
        Called with each job as a worker takes it, from the worker's thread.

    Notes
    -----
    When this is interrupted every worker is ended at once; what was made stays.
    """
    todo = WaitingJobs()
    results: queue.SimpleQueue[tuple[Job, dict[str, Any]]] = queue.SimpleQueue()
    with _short_folder() as folder:
        crew = [_Hand(root, folder / f"w{i}", isolate) for i in range(workers)]
        threads = [
            threading.Thread(target=hand.serve, args=(todo, results, started), daemon=True)
            for hand in crew
        ]
        try:
            for thread in threads:
                thread.start()
            _hand_out(jobs, todo, results, done)
        except StopBatch:
            pass
        finally:
            for hand in crew:
                hand.dismiss()
            todo.close()
            for thread in threads:
                thread.join(timeout=10)
            _end_strays(folder)


def _hand_out(
    jobs: Iterable[Job],
    todo: WaitingJobs,
    results: queue.SimpleQueue[tuple[Job, dict[str, Any]]],
    done: Callable[[Job, dict[str, Any]], Iterable[Job]],
) -> None:
    ready, under_way = list(jobs), 0
    while ready or under_way:
        for job in ready:
            todo.put(job)
        under_way += len(ready)
        job, result = _next(results)
        under_way -= 1
        ready = list(done(job, _lost(job, result) if result["status"] == _LOST else result))


def _next(
    results: queue.SimpleQueue[tuple[Job, dict[str, Any]]],
) -> tuple[Job, dict[str, Any]]:
    while True:
        with suppress(queue.Empty):  # waiting in short steps lets Ctrl-C through on Windows
            return results.get(timeout=0.5)


@contextmanager
def _short_folder() -> Iterator[Path]:
    """Give a private folder whose path is short enough for sockets, and clear it away after."""
    base = "/tmp" if os.name == "posix" and os.access("/tmp", os.W_OK) else None  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="crm-", dir=base, ignore_cleanup_errors=True) as name:
        yield Path(name)


def _end_strays(folder: Path) -> None:
    """End what a notebook has cut loose from its kernel: its environment still names our folder."""
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(_FOLDER_NAMED, "").startswith(str(folder)):
                process.kill()


@dataclass
class _Hand:
    """One worker's process, seen from the command."""

    root: Path
    folder: Path
    isolate: bool
    process: subprocess.Popen[str] | None = None
    kernel: int | None = None
    dismissed: bool = False
    _log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self._log = self.folder / "log.txt"

    def serve(
        self,
        todo: WaitingJobs,
        results: queue.SimpleQueue[tuple[Job, dict[str, Any]]],
        started: Callable[[Job], None] | None,
    ) -> None:
        """Take runs until there are none."""
        while (job := todo.take(id(self))) is not None and not self.dismissed:
            if started is not None:
                started(job)
            try:
                result = self._make(job)
            except OSError as error:  # no more processes, files or space for the worker itself
                result = {"status": _LOST, "limit": None, "details": str(error)}
            if not self.dismissed:
                results.put((job, result))

    def dismiss(self) -> None:
        """End the process and its kernel."""
        self.dismissed = True
        self._end()

    def _make(self, job: Job) -> dict[str, Any]:
        limit = job.run.timeout_seconds + GRACE_SECONDS
        process = self.process or self._start()
        timed_out = threading.Event()

        def give_up() -> None:
            timed_out.set()
            self._end()

        timer = threading.Timer(limit, give_up)
        timer.start()
        try:
            return self._ask(process, job)
        except (OSError, EOFError, ValueError):
            self._end()
            after = limit if timed_out.is_set() else None
            return {"status": _LOST, "limit": after, "details": self._last_words()}
        finally:
            timer.cancel()

    def _ask(self, process: subprocess.Popen[str], job: Job) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(job.to_line())
        process.stdin.flush()
        for line in process.stdout:
            message = json.loads(line)
            if "kernel" in message:
                self.kernel = message["kernel"]
            else:
                return dict(message["result"])
        raise EOFError

    def _start(self) -> subprocess.Popen[str]:
        with self._log.open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "crm_analysis.reporting.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env=_environment(self.folder),
                **_own_group(),
            )
        first = {"root": str(self.root), "folder": str(self.folder), "isolate": self.isolate}
        self.process = process
        if self.dismissed:
            self._end()
        with suppress(OSError, ValueError):
            assert process.stdin is not None
            process.stdin.write(json.dumps(first) + "\n")
            process.stdin.flush()
        return process

    def _end(self) -> None:
        process, kernel = self.process, self.kernel
        self.process, self.kernel = None, None
        if process is None:
            return
        process.kill()
        if kernel is not None:
            end_group(kernel)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.close()

    def _last_words(self) -> str:
        try:
            with self._log.open("rb") as log:
                log.seek(max(self._log.stat().st_size - _LOG_BYTES, 0))
                words = log.read().decode(errors="replace")
            return "\n".join(words.splitlines()[-_LOG_LINES:])
        except OSError:
            return ""


def end_group(leader: int) -> None:
    """End a kernel at once, with every process that its notebook may have left behind."""
    with suppress(OSError):
        if os.name == "posix":
            os.killpg(leader, signal.SIGKILL)
        else:
            os.kill(leader, signal.SIGTERM)


def _environment(folder: Path) -> dict[str, str]:
    """Return a worker's environment: one thread each, and nothing from the user's own profile."""
    environment = dict(os.environ)
    for name in _THREADS:
        environment.setdefault(name, "1")
    return {
        **environment,
        **_import_path(),
        "IPYTHONDIR": str(folder),
        _FOLDER_NAMED: str(folder),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYTHONUTF8": "1",
    }


def _import_path() -> dict[str, str]:
    """Let workers and kernels import this very package, also from a checkout not installed."""
    package = str(Path(__file__).resolve().parents[2])
    if package in sysconfig.get_paths().values():
        return {}
    given = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([given, package] if given else [package])}


def _own_group() -> dict[str, Any]:
    """Keep Ctrl-C to the command, which ends its workers itself."""
    if os.name == "nt":
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


def _lost(job: Job, result: Mapping[str, Any]) -> dict[str, Any]:
    """Say how a worker was lost; not in the worker's thread, as all threads speak one language."""
    from crm_analysis.wording import _, speaking

    limit = result["limit"]
    with speaking(job.run.lang):
        if limit is None:
            message = _("The worker that made this report ended by itself.")
            advice = _(
                "Its last words are below; often memory or disk space ran out. Run it again."
            )
        else:
            message = _(
                "The report was not finished after {seconds} seconds and was given up.",
                seconds=f"{limit:g}",
            )
            advice = _("Raise timeout_seconds in the plan, or look for a cell that does not end.")
    failure = {"kind": "worker", "message": message, "advice": advice, "details": result["details"]}
    return {"status": "failed", "failure": failure, "title": job.run.name}
