"""The write lock, taken by a thread for all that it does."""

from __future__ import annotations

import ctypes
import os
import threading
from types import TracebackType
from typing import Optional

from penholder._library import (
    AGAIN,
    AnyPath,
    Options,
    c_path,
    check,
    library,
    milliseconds,
    options,
)

#: After so many milliseconds Python gets to run the handlers of signals, such as Ctrl-C.
PAUSE = 50


class Lock:
    """The write lock of a database. It may be taken again and again, by any thread.

    A thread that has it may take it once more; each ``acquire`` needs a ``release`` by the same
    thread. In a forked child it is not held.
    """

    def __init__(self, path: bytes, timeout: int, options: Options) -> None:
        """Use ``penholder.lock``."""
        self._path = path
        self._timeout = timeout
        self._options = options
        self._threads = _Threads()

    def acquire(self) -> None:
        """Takes the lock for this thread.

        Raises ``LockTimeout`` if it was not free in time. Ctrl-C, and any other signal whose handler
        raises an exception, ends the wait.
        """
        held = _Held(self._path, self._options)
        held.acquire(self._timeout)
        self._threads.stack.append(held)

    def release(self) -> None:
        """Releases what this thread has taken last."""
        if not self._threads.stack:
            raise RuntimeError("release: this thread does not have the lock; acquire it first")
        self._threads.stack.pop().release()

    @property
    def held(self) -> bool:
        """Whether this thread has taken the lock, in this process."""
        return any(held.process == os.getpid() for held in self._threads.stack)

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.release()


def lock(
    path: AnyPath,
    timeout: Optional[float] = 5.0,
    label: Optional[str] = None,
    *,
    lock_file: Optional[AnyPath] = None,
    policy: Optional[str] = None,
    allow_network: bool = False,
) -> Lock:
    """Returns the write lock of a database, for a ``with`` statement.

    Meanwhile this thread writes through any connections of ``penholder.connect``; other threads and
    processes wait. ``timeout`` is in seconds, ``None`` for no limit. ``label`` says what the lock is
    taken for.
    """
    asked = options(label, lock_file, policy, allow_network)
    return Lock(c_path(path), milliseconds(timeout), asked)


class _Threads(threading.local):
    """What each thread has taken."""

    def __init__(self) -> None:
        self.stack: list[_Held] = []


class _Held:
    """One ``penholder_lock``."""

    def __init__(self, path: bytes, options: Options) -> None:
        self.process = os.getpid()
        self._place = ctypes.c_void_p()
        check(library().penholder_lock_new(path, options, self._place))

    def acquire(self, timeout: int) -> None:
        while True:
            code = library().penholder_lock_acquire(self._place, timeout, PAUSE)
            if code != AGAIN:
                return check(code)

    def release(self) -> None:
        check(library().penholder_lock_release(self._place))

    def __del__(self) -> None:
        # It gives up its place, or releases the lock. At the end of Python there may be no library.
        if self._place and library is not None:
            library().penholder_lock_free(self._place)
            self._place = ctypes.c_void_p()
