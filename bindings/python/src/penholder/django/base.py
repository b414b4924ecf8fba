"""SQLite as Django's own backend has it, with penholder's write lock.

These OPTIONS are penholder's; the others are those of Django's backend.

==================  ==============================================================================
``transaction_mode``  ``IMMEDIATE`` if it is not given: a transaction waits for the lock when it begins
``journal_mode``      ``WAL`` if neither this nor ``init_command`` says otherwise; ``None`` leaves it
``label``             what the lock is taken for, shown to waiting processes
``lock_file``         instead of ``db.lock`` in the directory of the database
``policy``            ``time-sliced`` or ``fifo``
``allow_network``     whether the lock file may be on a network file system
==================  ==============================================================================
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any, Optional

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.sqlite3 import base

from penholder._connection import open_error
from penholder._loading import register
from penholder._lock import lock
from penholder._uri import penholder_uri

_OWN_OPTIONS = ("label", "lock_file", "policy", "allow_network")
_JOURNAL_MODE = re.compile(r"\bjournal_mode\b", re.IGNORECASE)


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's backend for SQLite, opened through penholder."""

    display_name = "SQLite with penholder"
    #: The name of the database as Django has it.
    _name: Any = None
    _lock_options: dict[str, Any]
    _journal_mode: Optional[str] = None
    _begin = "BEGIN"

    def get_connection_params(self) -> dict[str, Any]:
        options = self.settings_dict["OPTIONS"]
        arguments: dict[str, Any] = super().get_connection_params()
        # Django before 5.1 does not know this option, and leaves it.
        arguments.pop("transaction_mode", None)
        self._begin = _begin(self.alias, options.get("transaction_mode", "IMMEDIATE"))
        is_set_by_command = _JOURNAL_MODE.search(options.get("init_command") or "")
        self._journal_mode = arguments.pop("journal_mode", None if is_set_by_command else "WAL")
        found = {name: arguments.pop(name) for name in _OWN_OPTIONS if name in arguments}
        self._lock_options = found
        self._name = arguments["database"]
        uri = penholder_uri(self._name, True, **found)
        if uri is None:
            self._journal_mode = None
        else:
            arguments["database"] = uri
        return arguments

    def get_new_connection(self, conn_params: dict[str, Any]) -> sqlite3.Connection:
        register()
        try:
            connection: sqlite3.Connection = super().get_new_connection(conn_params)
        except sqlite3.OperationalError as error:
            if "unable to open" not in str(error):
                raise
            raise open_error(self._name, error) from error
        if self._journal_mode is not None:
            self._set_journal_mode(connection, self._journal_mode, conn_params.get("timeout", 5.0))
        return connection

    def _set_journal_mode(
        self, connection: sqlite3.Connection, mode: str, timeout: float
    ) -> None:
        if not re.fullmatch(r"\w+", mode):
            raise ImproperlyConfigured(
                f"settings.DATABASES[{self.alias!r}]['OPTIONS']['journal_mode'] is {mode!r}; "
                "take WAL, or another one of SQLite"
            )
        (now,) = connection.execute("PRAGMA journal_mode").fetchone()
        if now == mode.lower():
            return
        switch = f"PRAGMA journal_mode = {mode}"
        try:
            connection.execute(switch)
        except sqlite3.OperationalError as error:
            if "readonly" in str(error):
                return
            if "locked" not in str(error):
                raise
            # SQLite fails at once if two processes switch at the same time, whatever the timeout.
            path = connection.execute("PRAGMA database_list").fetchone()[2]
            with lock(path, timeout, **self._lock_options):
                connection.execute(switch)

    def _start_transaction_under_autocommit(self) -> None:
        self.cursor().execute(self._begin)


def _begin(alias: str, mode: Optional[str]) -> str:
    if mode is None:
        return "BEGIN"
    if mode.upper() not in ("DEFERRED", "EXCLUSIVE", "IMMEDIATE"):
        raise ImproperlyConfigured(
            f"settings.DATABASES[{alias!r}]['OPTIONS']['transaction_mode'] is {mode!r}; take "
            "'DEFERRED', 'EXCLUSIVE', 'IMMEDIATE' or None"
        )
    return f"BEGIN {mode.upper()}"
