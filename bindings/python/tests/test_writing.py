"""Several processes and threads write to one database."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from processes import HOLD, WRITE, Helper, Took, stop, until

import penholder

WRITES = """
who, count = int(args[0]), int(args[1])
db = penholder.connect(path, timeout=30)
for number in range(count):
    with db:
        db.execute("INSERT INTO t VALUES (?, ?)", (who, number))
"""


def count(path: Path) -> int:
    db = sqlite3.connect(path)
    found: int = db.execute("SELECT count(*) FROM t").fetchone()[0]
    db.close()
    return found


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_each_write_of_each_process_is_a_row(path: Path, mode: str) -> None:
    db = penholder.connect(path)
    assert db.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode.lower(),)
    db.close()
    helpers = [Helper(WRITES, path, who, 50) for who in range(6)]
    for helper in helpers:
        helper.finish()
    assert count(path) == 300


def test_processes_that_open_the_database_for_each_write(path: Path) -> None:
    opening = """
    for number in range(150):
        db = penholder.connect(path, timeout=30)
        with db:
            db.execute("INSERT INTO t VALUES (?, ?)", (int(args[0]), number))
        db.close()
    """
    helpers = [Helper(opening, path, who) for who in range(3)]
    for helper in helpers:
        helper.finish()
    assert count(path) == 450


def test_programs_without_penholder_are_kept_apart_by_sqlite(path: Path) -> None:
    plain = WRITES.replace("penholder.connect", "sqlite3.connect")
    helpers = [Helper(script, path, who, 50) for who, script in enumerate([WRITES, plain] * 3)]
    for helper in helpers:
        helper.finish()
    assert count(path) == 300


def test_the_timeout_is_that_of_sqlite3(path: Path, db: sqlite3.Connection) -> None:
    with Helper(WRITE, path, "importing") as holder:
        holder.line()
        impatient = penholder.connect(path, timeout=0.2)
        with Took() as took, pytest.raises(sqlite3.OperationalError, match="database is locked"):
            impatient.execute("INSERT INTO t VALUES (1, 1)")
        assert 0.19 < took.seconds < 1.0
        text = penholder.explain(impatient)
        assert text is not None and f"pid:{holder.pid}" in text and "label: importing" in text
        impatient.close()


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_program_without_penholder_is_named_too(path: Path, mode: str) -> None:
    plain = """
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    print("held", flush=True)
    input()
    """
    db = penholder.connect(path, timeout=1)
    db.execute(f"PRAGMA journal_mode = {mode}")
    with Helper(plain, path) as holder:
        holder.line()
        with Took() as took, pytest.raises(sqlite3.OperationalError, match="locked"):
            db.execute("INSERT INTO t VALUES (1, 1)")
        assert 0.9 < took.seconds < 3
        text = penholder.explain(db)
        assert text is not None and f"pid:{holder.pid}" in text and "SQLite's own lock" in text
    db.close()


def test_status_names_the_script_and_the_label(path: Path) -> None:
    with Helper(HOLD, path, "nightly") as holder:
        holder.line()
        found = penholder.status(path)["holder"]
        assert (found["pid"], found["label"], found["database"]) == (holder.pid, "nightly", "app.db")
        assert "python" in found["cmd"]


def test_a_connection_that_waits_is_woken(path: Path) -> None:
    waits = """
    db = penholder.connect(path, timeout=30, isolation_level=None)
    for _ in range(5):
        input()
        db.execute("BEGIN IMMEDIATE")
        print(time.monotonic(), flush=True)
        db.execute("ROLLBACK")
    """
    delays = []
    with Helper(waits, path) as waiter:
        for _ in range(5):
            lock = penholder.lock(path)
            lock.acquire()
            waiter.go()
            until(lambda: penholder.status(path)["queue"], "it queues")
            # From now on the busy handler of SQLite sleeps for 100 ms each time.
            time.sleep(0.4)
            lock.release()
            released = time.monotonic()
            delays.append(float(waiter.line()) - released)
        waiter.finish()
    assert sorted(delays)[2] < 0.05, delays


@pytest.mark.parametrize("script", [HOLD, WRITE])
def test_a_holder_that_is_killed_gives_the_lock_up(path: Path, script: str) -> None:
    db = penholder.connect(path, timeout=20)
    with Helper(script, path) as holder:
        holder.line()
        holder.kill()
        with Took() as took, db:
            db.execute("INSERT INTO t VALUES (1, 1)")
        assert took.seconds < 5
    assert count(path) == 1
    db.close()


def test_a_stopped_holder_is_named(path: Path, db: sqlite3.Connection) -> None:
    with Helper(WRITE, path) as holder:
        holder.line()
        stop(holder.pid)
        impatient = penholder.connect(path, timeout=0.5)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            impatient.execute("INSERT INTO t VALUES (1, 1)")
        text = penholder.explain(impatient)
        assert text is not None and f"pid:{holder.pid}" in text and "stopped" in text
        impatient.close()
        os.kill(holder.pid, signal.SIGCONT)
        holder.go()
        holder.finish()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_waiter_that_is_killed_or_stopped_keeps_nobody(path: Path, how: signal.Signals) -> None:
    one = "db = penholder.connect(path, timeout=30)\nwith db: db.execute('INSERT INTO t VALUES (1, 1)')"
    with Helper(HOLD, path) as holder:
        holder.line()
        waiter, next_one = Helper(one, path), Helper(one, path)
        pids = lambda: {one["pid"] for one in penholder.status(path)["queue"]}  # noqa: E731
        until(lambda: {waiter.pid, next_one.pid} <= pids(), "both queue")
        if how == signal.SIGSTOP:
            stop(waiter.pid)
        else:
            waiter.process.kill()
            waiter.process.wait(20)
        with Took() as took:
            holder.go()
            next_one.finish()
        assert took.seconds < 5
        if how == signal.SIGSTOP:
            os.kill(waiter.pid, signal.SIGCONT)
            waiter.finish()
        else:
            waiter.end()
    assert count(path) == (1 if how == signal.SIGKILL else 2)


def test_threads_share_a_connection(path: Path) -> None:
    db = penholder.connect(path, timeout=20, check_same_thread=False, isolation_level=None)
    mutex = threading.Lock()

    def write(who: int) -> None:
        for number in range(50):
            with mutex:
                db.execute("INSERT INTO t VALUES (?, ?)", (who, number))

    run_threads(write)
    assert count(path) == 200
    db.close()


def test_threads_with_a_connection_each(path: Path) -> None:
    def write(who: int) -> None:
        own = penholder.connect(path, timeout=20)
        for number in range(50):
            with own:
                own.execute("INSERT INTO t VALUES (?, ?)", (who, number))
        own.close()

    run_threads(write)
    assert count(path) == 200


def run_threads(write: object) -> None:
    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def write_in_child(path: str, who: int) -> None:
    db = penholder.connect(path, timeout=30)
    for number in range(20):
        with penholder.lock(path, timeout=30), db:
            db.execute("INSERT INTO t VALUES (?, ?)", (who, number))
    db.close()


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_multiprocessing(path: Path, how: str) -> None:
    # The parent has used the lock when it forks.
    write_in_child(str(path), 0)
    context = multiprocessing.get_context(how)
    children = [
        context.Process(target=write_in_child, args=(str(path), who)) for who in range(1, 5)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert count(path) == 100


def test_a_forked_child_does_not_have_the_lock_of_its_parent(path: Path) -> None:
    with penholder.lock(path) as lock:
        child = os.fork()
        if child == 0:
            code = 3 if lock.held else 1
            try:
                lock.release()
                penholder.lock(path, timeout=0.2).acquire()
            except penholder.LockTimeout as error:
                is_parent = error.holder is not None and error.holder["pid"] == os.getppid()
                code = 0 if is_parent and code == 1 else 2
            finally:
                os._exit(code)
        ended: list[int] = []
        until(lambda: ended.extend(os.waitpid(child, os.WNOHANG)) or any(ended), "it ends")
        status = ended[-1]
        assert status == 0
        # The end of the child has not released it.
        holder = penholder.status(path)["holder"]
        assert holder["pid"] == os.getpid()
