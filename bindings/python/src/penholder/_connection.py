"""Connections that write through penholder."""

from __future__ import annotations

import os
import sqlite3
from typing import Any, Optional, TypeVar, overload

from penholder._error import Error
from penholder._library import AnyPath
from penholder._loading import register
from penholder._uri import penholder_uri

ConnectionT = TypeVar("ConnectionT", bound=sqlite3.Connection)


@overload
def connect(
    database: AnyPath,
    timeout: float = ...,
    label: Optional[str] = ...,
    *,
    lock_file: Optional[AnyPath] = ...,
    policy: Optional[str] = ...,
    allow_network: bool = ...,
    uri: bool = ...,
    factory: type[ConnectionT],
    **arguments: Any,
) -> ConnectionT: ...


@overload
def connect(
    database: AnyPath,
    timeout: float = ...,
    label: Optional[str] = ...,
    *,
    lock_file: Optional[AnyPath] = ...,
    policy: Optional[str] = ...,
    allow_network: bool = ...,
    uri: bool = ...,
    **arguments: Any,
) -> sqlite3.Connection: ...


def connect(
    database: AnyPath,
    timeout: float = 5.0,
    label: Optional[str] = None,
    *,
    lock_file: Optional[AnyPath] = None,
    policy: Optional[str] = None,
    allow_network: bool = False,
    uri: bool = False,
    **arguments: Any,
) -> sqlite3.Connection:
    """Opens a database as ``sqlite3.connect`` does; its writes queue for penholder's lock.

    ``timeout`` is SQLite's busy timeout, in seconds. ``label`` says what the lock is taken for.
    ``lock_file`` is used instead of ``db.lock`` in the directory of the database. ``policy`` is
    ``time-sliced`` or ``fifo``. Other arguments are those of ``sqlite3.connect``. Databases in memory
    and temporary ones are plain ones.
    """
    target = penholder_uri(database, uri, label, lock_file, policy, allow_network)
    register()
    if target is None:
        plain: sqlite3.Connection = sqlite3.connect(database, timeout=timeout, uri=uri, **arguments)
        return plain
    try:
        opened: sqlite3.Connection = sqlite3.connect(target, timeout=timeout, uri=True, **arguments)
        return opened
    except sqlite3.OperationalError as error:
        raise open_error(database, error) from error


def uri(
    database: AnyPath,
    label: Optional[str] = None,
    *,
    lock_file: Optional[AnyPath] = None,
    policy: Optional[str] = None,
    allow_network: bool = False,
) -> str:
    """Returns a URI for libraries that call ``sqlite3.connect(..., uri=True)`` themselves.

    It works in this process, and in its forked children.
    """
    target = penholder_uri(database, False, label, lock_file, policy, allow_network)
    register()
    return "file::memory:" if target is None else target


def explain(connection: sqlite3.Connection) -> Optional[str]:
    """Returns why the connection last gave up waiting, and who has the lock now.

    ``None`` if it has not. To be asked before the connection writes again.
    """
    return _ask(connection, "SELECT penholder_explain()")


def open_error(database: AnyPath, error: sqlite3.OperationalError) -> Error:
    """Returns the error for a database that could not be opened by this thread."""
    connection = sqlite3.connect(":memory:")
    try:
        text = _ask(connection, "SELECT penholder_last_error()")
    finally:
        connection.close()
    return Error(text or f"open: {os.fsdecode(database)!r}: {error}{_advice(database)}")


def _ask(connection: sqlite3.Connection, statement: str) -> Optional[str]:
    cursor = connection.cursor()
    cursor.row_factory = None
    try:
        (text,) = cursor.execute(statement).fetchone()
    except sqlite3.OperationalError as error:
        raise Error(str(error)) from error
    finally:
        cursor.close()
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def _advice(database: AnyPath) -> str:
    path = os.fsdecode(database)
    directory = os.path.dirname(path) or "."
    if path.startswith("file:"):
        return ""
    if os.path.isdir(path):
        return ": it is a directory; give the path of a file in it"
    if not os.path.isdir(directory):
        return f": there is no directory {directory!r}; create it first"
    if not os.access(path if os.path.exists(path) else directory, os.W_OK):
        return ": this user may not write there; check its permissions"
    return ""
