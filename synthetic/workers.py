"""Make the parts of a world in several processes, and hand them over in their order.

Every value is a function of its key, so a part is the same wherever it is made; taking the parts in
order makes the files the same too. A worker waits with its part until it is asked for, so memory
holds a part a worker, whatever the number of customers.
"""

from __future__ import annotations

import gc
import io
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import polars as pl

from crm_analysis.errors import CrmError, InputError
from synthetic.config import Config
from synthetic.settings import check_settings
from synthetic.world import Frames, count_parts, lay_ground, make_part

_PATIENCE = 5.0
"""Seconds that a worker gets to end by itself."""


def _packed(frame: pl.DataFrame) -> memoryview:
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="uncompressed")
    return buffer.getbuffer()


def _send(pipe: Connection, frames: Frames) -> None:
    """Send a part table by table, so that no second copy of the whole part is made."""
    pipe.send(list(frames))
    for name in list(frames):
        pipe.send_bytes(_packed(frames.pop(name)))


def _serve(pipe: Connection, config: Config, seed: int, first: int, step: int) -> None:
    """Make every `step`-th part from `first` on, and send each when the one before was taken."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends its workers
    try:
        ground = lay_ground(config, seed)
        gc.freeze()  # what was made to here stays: collections need not look at it again
        for part in range(first, count_parts(config), step):
            _send(pipe, make_part(ground, part))
    except (CrmError, MemoryError) as error:
        pipe.send(error)
    except OSError:  # nobody reads any more: the parent is gone
        os._exit(1)


def _received(pipe: Connection, worker: Any, part: int) -> Frames:
    try:
        message = pipe.recv()
        if isinstance(message, BaseException):
            raise message
        return {name: pl.read_ipc(pipe.recv_bytes()) for name in message}
    except (OSError, EOFError) as error:  # it ended between two messages, or inside one
        worker.join(_PATIENCE)
        raise InputError(
            f"Part {part} of the world was being made in a process of its own, and the process "
            f"ended (exit status {worker.exitcode}; -9 often means that memory ran out). Use fewer "
            "workers with --workers, or smaller blocks with --set block_size=4096."
        ) from error


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let each process that starts meanwhile use one thread: there is a process for every core."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ |= dict.fromkeys(THREADS, "1")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


THREADS = ("POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that say how many threads libraries keep: idle ones cost a start and memory."""


def generate_with(config: Config, seed: int, workers: int) -> Iterator[Frames]:
    """Yield the parts of a world as `synthetic.world.generate` does, made in several processes.

    Parameters
    ----------
    config, seed
        The world.
    workers : int
        Processes, two or more.

    Raises
    ------
    InputError
        A process ended before its work was done.
    """
    context = get_context("spawn")
    check_settings(config)
    n_parts = count_parts(config)
    held: list[tuple[Connection, Any]] = []
    try:
        for first in range(min(workers, n_parts)):
            here, there = context.Pipe(duplex=False)
            what = (there, config, seed, first, workers)
            worker = context.Process(target=_serve, args=what, daemon=True)
            with _one_thread_each():
                worker.start()
            there.close()
            held.append((here, worker))
        for part in range(n_parts):
            yield _received(*held[part % workers], part)
    finally:
        for pipe, worker in held:
            pipe.close()
            worker.terminate()
            worker.join(_PATIENCE)
