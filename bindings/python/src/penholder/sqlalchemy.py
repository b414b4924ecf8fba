"""SQLAlchemy 2 through penholder.

``create_engine`` is SQLAlchemy's own with ``listen``: connections are opened by
``penholder.connect``, and a transaction begins with ``BEGIN IMMEDIATE``, so that it waits for the
lock before it reads. One that only reads need not wait:
``engine.execution_options(penholder_begin="DEFERRED")``.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Optional

import sqlalchemy
from sqlalchemy import event

from penholder._connection import connect
from penholder._library import AnyPath

_MODES = ("DEFERRED", "IMMEDIATE", "EXCLUSIVE")


def create_engine(
    url: Any,
    *,
    label: Optional[str] = None,
    lock_file: Optional[AnyPath] = None,
    policy: Optional[str] = None,
    allow_network: bool = False,
    begin: str = "IMMEDIATE",
    **arguments: Any,
) -> sqlalchemy.Engine:
    """Returns an engine for a URL ``sqlite:///…`` whose connections write through penholder."""
    engine = sqlalchemy.create_engine(url, **arguments)
    listen(
        engine,
        label=label,
        lock_file=lock_file,
        policy=policy,
        allow_network=allow_network,
        begin=begin,
    )
    return engine


def listen(engine: sqlalchemy.Engine, *, begin: str = "IMMEDIATE", **options: Any) -> None:
    """Makes an engine use penholder for the connections that it opens from now on."""
    if engine.dialect.name != "sqlite" or engine.dialect.driver != "pysqlite":
        raise ValueError(
            f"the engine is for {engine.dialect.name}+{engine.dialect.driver}; make one with a URL "
            "sqlite:///PATH"
        )
    _check(begin)

    @event.listens_for(engine, "do_connect")
    def open_connection(
        _dialect: Any, _record: Any, positional: Any, named: Any
    ) -> sqlite3.Connection:
        (database,) = positional
        opened: sqlite3.Connection = connect(database, **options, **named)
        return opened

    @event.listens_for(engine, "connect")
    def leave_begin_to_us(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: sqlalchemy.Connection) -> None:
        asked = connection.get_execution_options()
        if asked.get("isolation_level") == "AUTOCOMMIT":
            return
        connection.exec_driver_sql(f"BEGIN {_check(asked.get('penholder_begin', begin))}")


def _check(mode: str) -> str:
    if mode not in _MODES:
        raise ValueError(f"a transaction cannot begin with {mode!r}; take one of {_MODES}")
    return mode
