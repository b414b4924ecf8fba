"""SQLAlchemy, and the recipes for other libraries, each with several processes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import BOUND, HOLD, Helper, Took, until_free

import penholder

RECIPES = Path(__file__).parent.parent / "recipes"


def count(path: Path, table: str) -> int:
    db = sqlite3.connect(path)
    found: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    db.close()
    return found


def set_to_wal(path: Path) -> None:
    db = penholder.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.close()


# ---- SQLAlchemy --------------------------------------------------------------------------

MODELS = """
import sqlalchemy as sa
from penholder.sqlalchemy import create_engine, listen
table = sa.Table("ticket", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
                 sa.Column("number", sa.Integer, unique=True))
url = sa.URL.create("sqlite", database=path)
"""


def test_sqlalchemy_loses_nothing(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    takes = MODELS + """
engine = create_engine(url, label="web", connect_args={"timeout": 30})
for number in range(40):
    with engine.begin() as connection:
        last = connection.scalar(sa.select(sa.func.max(table.c.number))) or 0
        connection.execute(table.insert(), {"number": last + 1})
"""
    path = tmp_path / "my tickets?.db"
    set_to_wal(path)
    Helper(MODELS + "table.metadata.create_all(create_engine(url))", path).finish()
    helpers = [Helper(takes, path) for _ in range(6)]
    for helper in helpers:
        helper.finish()
    assert count(path, "ticket") == 240


def test_sqlalchemy_orm_pool_and_threads(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    threads = MODELS + """
import threading
from sqlalchemy.orm import Session
engine = sa.create_engine(url, connect_args={"timeout": 30})
listen(engine)
print(type(engine.pool).__name__)
table.metadata.create_all(engine)
def work(who):
    for number in range(20):
        with Session(engine) as session, session.begin():
            session.execute(table.insert(), {"number": who * 100 + number})
threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
[thread.start() for thread in threads]
[thread.join(30) for thread in threads]
"""
    path = tmp_path / "app.db"
    set_to_wal(path)
    assert Helper(threads, path).finish() == "QueuePool\n"
    assert count(path, "ticket") == 80


def test_sqlalchemy_transactions(path: Path) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from penholder.sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{path}", label="engine", connect_args={"timeout": 0.3})
    text = sqlalchemy.text
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO t VALUES (1, 1)"))
        assert penholder.status(path)["holder"]["label"] == "engine"
        connection.rollback()
        until_free(path)
    with engine.begin() as connection, connection.begin_nested() as inner:
        connection.execute(text("INSERT INTO t VALUES (1, 1)"))
        inner.rollback()
    assert count(path, "t") == 0
    reading = engine.execution_options(penholder_begin="DEFERRED")
    automatic = engine.execution_options(isolation_level="AUTOCOMMIT")
    with Helper(HOLD, path) as holder:
        holder.line()
        with reading.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM t")) == 0
        with automatic.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM t")) == 0
        with Took() as took, pytest.raises(sqlalchemy.exc.OperationalError, match="locked"):
            engine.connect().scalar(text("SELECT count(*) FROM t"))
        assert 0.29 < took.seconds < 1
    with automatic.connect() as connection:
        connection.execute(text("INSERT INTO t VALUES (1, 1)"))
    # And after AUTOCOMMIT on the same connection of the pool.
    with engine.begin() as connection:
        assert penholder.status(path)["state"] == "held"
    assert count(path, "t") == 1


@pytest.mark.filterwarnings("ignore:Selection of the SingletonThreadPool")
def test_sqlalchemy_in_memory_and_by_uri(path: Path) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from penholder.sqlalchemy import create_engine, listen

    for url in ("sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&cache=shared&uri=true"):
        with create_engine(url).begin() as connection:
            connection.exec_driver_sql("CREATE TABLE s(x)")
    engine = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true", begin="DEFERRED")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT penholder_last_wait()").scalar() == 0
        with pytest.raises(sqlalchemy.exc.OperationalError, match="readonly"):
            connection.exec_driver_sql("DELETE FROM t")
    with pytest.raises(ValueError, match="IMMEDIATE"):
        create_engine("sqlite://", begin="SOON")
    with pytest.raises(ValueError, match="sqlite:///PATH"):
        listen(sqlalchemy.create_mock_engine("postgresql://", executor=print))
    with pytest.raises(penholder.Error, match="no directory"):
        create_engine("sqlite:////no such directory/app.db").raw_connection()


# ---- recipes -----------------------------------------------------------------------------


def start(script: str, *args: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(RECIPES / script), *map(str, args)], stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate(timeout=BOUND)
    assert process.returncode == 0, err


@pytest.mark.parametrize(
    ("module", "script"),
    [("aiosqlite", "with_aiosqlite.py"), ("sqlite_utils", "with_sqlite_utils.py")],
)
def test_recipes_that_write_rows(tmp_path: Path, module: str, script: str) -> None:
    pytest.importorskip(module)
    path = tmp_path / "app.db"
    set_to_wal(path)
    finish(start(script, path, 1))
    processes = [start(script, path, 40) for _ in range(4)]
    for process in processes:
        finish(process)
    assert count(path, "event") == 161
    assert penholder.status(path)["counters"]["acquisitions"] > 0


def test_huey(tmp_path: Path) -> None:
    pytest.importorskip("huey")
    path = tmp_path / "my huey.db"
    env = {**os.environ, "HUEY_DATABASE": str(path), "PYTHONPATH": str(RECIPES)}
    produces = """
    from huey_queue import add
    results = [add(int(args[0]), number) for number in range(25)]
    print(sum(result.get(blocking=True, timeout=40) for result in results))
    """
    works = """
    import threading
    from huey_queue import huey
    consumer = huey.create_consumer(workers=2, periodic=False, initial_delay=0.01, max_delay=0.1)
    consumer.start()
    print("works", flush=True)
    input()
    consumer.stop(graceful=True)
    """
    workers = [Helper(works, path, env=env) for _ in range(2)]
    for worker in workers:
        assert worker.line() == "works"
    producers = [Helper(produces, path, who, env=env) for who in range(6)]
    for who, producer in enumerate(producers):
        assert producer.finish() == f"{25 * who + 300}\n"
    for worker in workers:
        worker.go()
        worker.finish()
    assert count(path, "task") == 0
    assert penholder.status(path)["counters"]["acquisitions"] > 0
