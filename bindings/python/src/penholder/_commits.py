"""Waiting for commits."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from typing import Optional

from penholder._library import (
    OK,
    TIMEOUT,
    AnyPath,
    c_path,
    c_text,
    check,
    library,
    milliseconds,
    options,
    take_text,
)

#: After so many milliseconds Python gets to run the handlers of signals, such as Ctrl-C.
PAUSE = 50


class Commits(Iterator[str]):
    """The commits to a database from a point on: one token after the other, without an end.

    Several commits may count as one. ``token`` stands for the last one that it has returned, or
    for the point from which on it waits.
    """

    def __init__(self, path: bytes, since: Optional[bytes], lock_file: Optional[AnyPath]) -> None:
        """Use ``penholder.commits``."""
        self._place = ctypes.c_void_p()
        asked = options(lock_file=lock_file)
        check(library().penholder_watch_new(path, asked, since, self._place))

    @property
    def token(self) -> str:
        """A text to go on from, in any process: ``penholder.commits(path, since=token)``."""
        text = ctypes.c_void_p()
        check(library().penholder_watch_token(self._place, text))
        return take_text(text)

    def wait(self, timeout: Optional[float] = None) -> Optional[str]:
        """Waits for the next commit; returns its token, or ``None`` after ``timeout`` seconds."""
        milliseconds(timeout)
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = PAUSE if end is None else milliseconds(max(0.0, end - time.monotonic()))
            code = library().penholder_watch_wait(self._place, min(left, PAUSE))
            if code == OK:
                return self.token
            if code != TIMEOUT:
                check(code)
            if left == 0:
                return None

    def __iter__(self) -> Commits:
        return self

    def __next__(self) -> str:
        token = self.wait()
        if token is None:
            raise StopIteration
        return token

    def __del__(self) -> None:
        # At the end of Python there may be no library.
        if self._place and library is not None:
            library().penholder_watch_free(self._place)
            self._place = ctypes.c_void_p()


def commits(
    path: AnyPath, since: Optional[str] = None, *, lock_file: Optional[AnyPath] = None
) -> Commits:
    """Returns the commits after the one that the token ``since`` stands for, or from now on.

    A commit of a program without penholder is seen within about 40 ms.
    """
    return Commits(c_path(path), c_text("since", since), lock_file)


def wait(
    path: AnyPath,
    since: Optional[str] = None,
    timeout: Optional[float] = None,
    *,
    lock_file: Optional[AnyPath] = None,
) -> Optional[str]:
    """Waits for a commit after ``since``, or from now on; returns its token.

    It returns ``None`` if there was none for ``timeout`` seconds.
    """
    return commits(path, since, lock_file=lock_file).wait(timeout)
