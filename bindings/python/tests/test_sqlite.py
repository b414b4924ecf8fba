"""What SQLite can do besides writing."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from processes import HOLD, WRITE, Helper, Took, until_free

import penholder


def test_attach(path: Path, tmp_path: Path, db: sqlite3.Connection) -> None:
    other = tmp_path / "other.db"
    db.execute("ATTACH ? AS other", (penholder.uri(other),))
    db.execute("CREATE TABLE other.t(x)")
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO t VALUES (1, 1)")
    db.execute("INSERT INTO other.t VALUES (1)")
    db.execute("COMMIT")
    assert db.execute("SELECT count(*) FROM t, other.t").fetchone() == (1,)


def test_attach_by_a_plain_name_uses_penholder_too(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "other.db"
    other.parent.mkdir()
    db = penholder.connect(path, isolation_level=None)
    db.execute("ATTACH ? AS other", (str(other),))
    db.execute("CREATE TABLE other.t(x)")
    assert penholder.status(other)["counters"]["acquisitions"] > 0
    db.close()


def test_backup(path: Path, tmp_path: Path, db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO t VALUES (1, 1)")
    copy = penholder.connect(tmp_path / "copy.db")
    db.backup(copy)
    assert copy.execute("SELECT count(*) FROM t").fetchone() == (1,)
    copy.execute("DELETE FROM t")
    copy.commit()
    copy.backup(db)
    assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
    copy.close()


def test_vacuum(path: Path, tmp_path: Path, db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO t VALUES (1, 1)")
    db.execute("VACUUM")
    db.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    copy = sqlite3.connect(tmp_path / "copy.db")
    assert copy.execute("SELECT count(*) FROM t").fetchone() == (1,)
    copy.close()


@pytest.mark.parametrize("mode", ["WAL", "DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"])
def test_locking_mode_exclusive(path: Path, mode: str) -> None:
    db = penholder.connect(path, isolation_level=None)
    assert db.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode.lower(),)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    for number in range(3):
        db.execute("INSERT INTO t VALUES (1, ?)", (number,))
    one = "db = penholder.connect(path, timeout=0.3)\ndb.execute('INSERT INTO t VALUES (2, 2)')\ndb.commit()"
    with Helper(one, path) as helper:
        _, err = helper.process.communicate(timeout=20)
        assert "database is locked" in err
    db.close()
    Helper(one, path).finish()


def test_read_only_and_immutable(path: Path, db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO t VALUES (1, 1)")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with Helper(WRITE, path) as holder:
        holder.line()
        for parameter in ("mode=ro", "immutable=1"):
            reader = penholder.connect(f"file:{path}?{parameter}", uri=True)
            assert reader.execute("SELECT count(*) FROM t").fetchone() == (1,)
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader.execute("DELETE FROM t")
            reader.close()


def test_readers_do_not_wait(path: Path) -> None:
    with Helper(WRITE, path) as holder:
        holder.line()
        reader = penholder.connect(path, timeout=0.2)
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
        reader.close()


def test_temporary_tables(path: Path, db: sqlite3.Connection) -> None:
    with Helper(WRITE, path) as holder:
        holder.line()
        db.execute("CREATE TEMP TABLE s(x)")
        db.execute("INSERT INTO s VALUES (1)")
        assert db.execute("SELECT count(*) FROM s").fetchone() == (1,)


def test_a_reader_that_begins_to_write(path: Path, db: sqlite3.Connection) -> None:
    other = penholder.connect(path, isolation_level=None, timeout=5)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM t").fetchone()
    db.execute("INSERT INTO t VALUES (1, 1)")
    # What it has read is out of date: SQLite says so at once.
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("INSERT INTO t VALUES (2, 2)")
    other.execute("ROLLBACK")
    other.execute("INSERT INTO t VALUES (2, 2)")
    other.close()


def test_savepoints_and_rollback(path: Path, db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.execute("SAVEPOINT a")
    db.execute("INSERT INTO t VALUES (1, 1)")
    db.execute("ROLLBACK TO a")
    db.execute("COMMIT")
    db.execute("BEGIN")
    db.execute("INSERT INTO t VALUES (1, 1)")
    db.execute("ROLLBACK")
    assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
    until_free(path)


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_first_reader_does_not_wait_either(path: Path, is_killed: bool) -> None:
    """It makes the WAL index, for which SQLite takes its write lock."""
    if is_killed:
        # Its WAL has a commit that no index knows.
        with Helper(WRITE + "print('committed', flush=True)\ninput()", path) as writer:
            writer.line()
            writer.go()
            writer.line()
            writer.kill()
            writer.process.wait(20)
        os.remove(f"{path}-shm")
    with Helper(HOLD, path) as holder:
        holder.line()
        reader = penholder.connect(path, timeout=5)
        before = penholder.commits(path).token
        with Took() as took:
            assert reader.execute("SELECT count(*) FROM t").fetchone() == (int(is_killed),)
        assert took.seconds < 1
        assert penholder.wait(path, since=before, timeout=0) is None
        reader.close()
