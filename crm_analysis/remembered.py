"""Results of long computations, kept for whoever asks the same again in this process.

A report is made in two languages, and every dealership's report holds its figures against the same
network: the same fits, the same drawn parameters and the same counts, to the last bit. What a pure
function gave for these very numbers is kept here, under a digest of all of them: nothing that
depends on a language, a clock or a setting, so that no answer can be out of date.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

__all__ = [
    "LARGEST_BYTES",
    "Memory",
    "digest",
    "is_remembering",
    "remembered",
    "start",
    "stop",
]

Result = TypeVar("Result")

MOST_BYTES = 96_000_000
"""So much is kept in a process; what was not asked for longest goes first."""

LARGEST_BYTES = 24_000_000
"""A result above this is not kept: one alone must not drive out the others."""


class Memory:
    """Results under the numbers that they follow from, bounded in bytes.

    Parameters
    ----------
    most_bytes, largest_bytes : int
        Of all results together, and of one.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, largest_bytes: int = LARGEST_BYTES) -> None:
        self.most_bytes, self.largest_bytes = most_bytes, largest_bytes
        self._kept: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    @property
    def n_bytes(self) -> int:
        """How much is kept."""
        return self._n_bytes

    def recall(
        self,
        key: tuple[object, ...],
        compute: Callable[[], Result],
        *,
        size: Callable[[Result], int] | None = None,
    ) -> Result:
        """Return what `compute` gave for this key, or gives now.

        Parameters
        ----------
        key : tuple
            Names the function and holds everything that the result follows from: text, bytes,
            numbers, None, numpy arrays, and tuples of these.
        compute : callable
            Pure: it returns numbers, arrays, or a tuple or dataclass of them. Arrays are kept
            read-only, so that nobody changes what the next one gets.
        size : callable, optional
            Tells the bytes of a result of another kind, of which the caller gives out copies.

        Raises
        ------
        TypeError
            A key or a result that is none of these.
        """
        name = digest(key)
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name][0]  # type: ignore[no-any-return]
        result = compute()
        self._keep(name, result, _sealed_bytes(result) if size is None else size(result))
        return result

    def _keep(self, name: bytes, result: object, size: int) -> None:
        if size > self.largest_bytes:
            return
        with self._lock:
            if name not in self._kept:
                self._kept[name] = (result, size)
                self._n_bytes += size
            while self._n_bytes > self.most_bytes:
                _, (_, gone) = self._kept.popitem(last=False)
                self._n_bytes -= gone


def digest(key: object) -> bytes:
    """Return a digest that two keys share only when they are the same, types and shapes too.

    Examples
    --------
    >>> digest(("fit", 1.0)) == digest(("fit", 1.0)), digest(("fit", 1)) == digest(("fit", 1.0))
    (True, False)
    """
    seen = hashlib.blake2b(digest_size=20)
    _add(seen, key)
    return seen.digest()


def _add(seen: hashlib.blake2b, part: object) -> None:
    if isinstance(part, tuple):
        seen.update(b"(%d" % len(part))
        for inner in part:
            _add(seen, inner)
    elif isinstance(part, np.ndarray) and part.dtype.kind in "biuf":
        seen.update(f"a{part.dtype.str}{part.shape}".encode())
        seen.update(np.ascontiguousarray(part).data)
    elif isinstance(part, bytes):
        seen.update(b"b%d:" % len(part) + part)
    elif part is None or isinstance(part, bool | int | float | str):
        # A length in front, so that no two texts run together into a third.
        text = f"{type(part).__name__} {part!r}".encode()
        seen.update(b"%d:" % len(text) + text)
    else:
        raise TypeError(f"A key of texts, numbers and arrays was expected; got {type(part)}.")


def _sealed_bytes(result: object) -> int:
    """Make the arrays of a result read-only and return how much memory they take."""
    if isinstance(result, np.ndarray):
        result.setflags(write=False)
        return result.nbytes
    if isinstance(result, tuple):
        return sum(_sealed_bytes(part) for part in result)
    if is_dataclass(result):
        return sum(_sealed_bytes(getattr(result, field.name)) for field in fields(result))
    if result is None or isinstance(result, bool | int | float):
        return 8
    raise TypeError(f"Numbers and arrays can be kept; got {type(result)}.")


_memories: list[Memory] = []


def start() -> None:
    """Keep results from now on, in this process.

    For processes that make one report after another. At a researcher's desk nothing is kept: there
    the code behind a result may be edited and loaded anew.
    """
    if not _memories:
        _memories.append(Memory())


def stop() -> None:
    """Keep nothing any more, and forget what was kept."""
    _memories.clear()


def is_remembering() -> bool:
    """Tell whether results are kept in this process."""
    return bool(_memories)


def remembered(
    key: tuple[object, ...],
    compute: Callable[[], Result],
    *,
    size: Callable[[Result], int] | None = None,
) -> Result:
    """Return what `compute` gave for this key, or gives now; see `Memory.recall`."""
    return _memories[0].recall(key, compute, size=size) if _memories else compute()
