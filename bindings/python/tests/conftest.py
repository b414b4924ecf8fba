from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import penholder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database in WAL mode with the table ``t``."""
    path = tmp_path / "app.db"
    db = penholder.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t(who INTEGER, number INTEGER)")
    db.commit()
    db.close()
    return path


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    db = penholder.connect(path, isolation_level=None)
    yield db
    db.close()
