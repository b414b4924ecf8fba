"""A fair, woken write lock for SQLite that all processes queue for.

``penholder.connect`` opens a database as ``sqlite3.connect`` does. Its writes queue with those of all
other programs that use penholder: first come, first served, woken instead of polling.
"""

from penholder._commits import Commits, commits, wait
from penholder._connection import connect, explain, uri
from penholder._error import Error, LockTimeout
from penholder._library import loadable_path
from penholder._loading import ExtensionInfo, extension_info, load
from penholder._lock import Lock, lock
from penholder._status import status

__all__ = [
    "Commits",
    "Error",
    "ExtensionInfo",
    "Lock",
    "LockTimeout",
    "commits",
    "connect",
    "explain",
    "extension_info",
    "load",
    "loadable_path",
    "lock",
    "status",
    "uri",
    "wait",
]
