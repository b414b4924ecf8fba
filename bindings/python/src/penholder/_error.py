"""The exceptions."""

from __future__ import annotations

import sqlite3
from typing import Any, Optional


class Error(sqlite3.OperationalError):
    """Penholder could not do what was asked for: what failed, where, why, and what to do."""

    #: The lock file, if the lock failed.
    lock_file: Optional[str] = None


class LockTimeout(Error):
    """The write lock was not free in time."""

    #: Who had the lock, as in ``penholder.status``, as far as it is known.
    holder: Optional[dict[str, Any]] = None
