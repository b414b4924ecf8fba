"""``penholder.lock``."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from processes import HOLD, Helper, Took, until, until_free

import penholder


def test_a_write_of_the_same_thread_joins(path: Path, db: sqlite3.Connection) -> None:
    with penholder.lock(path) as lock, Took() as took:
        assert lock.held
        db.execute("INSERT INTO t VALUES (1, 1)")
        with db:
            db.execute("BEGIN")
            db.execute("INSERT INTO t VALUES (1, 2)")
    assert took.seconds < 1
    assert not lock.held
    until_free(path)


def test_another_thread_waits(path: Path, db: sqlite3.Connection) -> None:
    order = []

    def write() -> None:
        own = penholder.connect(path, timeout=20, isolation_level=None)
        own.execute("INSERT INTO t VALUES (2, 2)")
        order.append("other")
        own.close()

    thread = threading.Thread(target=write)
    with penholder.lock(path):
        thread.start()
        time.sleep(0.3)
        db.execute("INSERT INTO t VALUES (1, 1)")
        order.append("this")
    thread.join(20)
    assert order == ["this", "other"]


def test_a_thread_may_take_it_again(path: Path) -> None:
    lock = penholder.lock(path, timeout=1)
    with lock, lock, penholder.lock(path, timeout=1):
        assert lock.held
    assert not lock.held
    # And use it again.
    with lock:
        assert penholder.status(path)["state"] == "held"
    until_free(path)


def test_what_this_thread_does_not_have_it_does_not_release(path: Path) -> None:
    lock = penholder.lock(path)
    with pytest.raises(RuntimeError, match="acquire"):
        lock.release()
    with lock:
        refused = []

        def release() -> None:
            try:
                lock.release()
            except RuntimeError as error:
                refused.append(error)

        thread = threading.Thread(target=release)
        thread.start()
        thread.join(20)
        assert refused
        assert penholder.status(path)["state"] == "held"


def test_a_timeout_names_the_holder(path: Path) -> None:
    with Helper(HOLD, path, "nightly") as holder:
        holder.line()
        lock = penholder.lock(path, timeout=0.2, label="report")
        with Took() as took, pytest.raises(penholder.LockTimeout) as raised, lock:
            pass
        assert 0.19 < took.seconds < 1.0
        error = raised.value
        assert isinstance(error, (penholder.Error, sqlite3.OperationalError))
        assert error.holder is not None and error.holder["pid"] == holder.pid
        assert error.holder["label"] == "nightly"
        assert error.lock_file == str(path.parent / "db.lock")
        assert f"pid:{holder.pid}" in str(error) and "after 200ms" in str(error)
        copy = pickle.loads(pickle.dumps(error))
        assert (copy.holder, copy.lock_file) == (error.holder, error.lock_file)
        # What timed out can be tried again.
        holder.go()
        holder.finish()
        with lock:
            pass


def test_no_time_and_no_limit(path: Path) -> None:
    with penholder.lock(path, timeout=0):
        pass
    with penholder.lock(path, timeout=None):
        pass
    with Helper(HOLD, path) as holder:
        holder.line()
        with Took() as took, pytest.raises(penholder.LockTimeout):
            penholder.lock(path, timeout=0).acquire()
        assert took.seconds < 0.5


def test_ctrl_c_ends_the_wait(path: Path) -> None:
    waits = """
    import signal
    signal.signal(signal.SIGINT, signal.default_int_handler)
    lock = penholder.lock(path, timeout=None)
    try:
        lock.acquire()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    input()
    with penholder.lock(path, timeout=20):
        print("held", flush=True)
    """
    with Helper(HOLD, path) as holder:
        holder.line()
        waiter = Helper(waits, path)
        until(lambda: penholder.status(path)["queue"], "it queues")
        with Took() as took:
            os.kill(waiter.pid, signal.SIGINT)
            assert waiter.line() == "interrupted"
        assert took.seconds < 1
        until(lambda: not penholder.status(path)["queue"], "it has left the queue")
        holder.go()
        holder.finish()
        waiter.go()
        assert waiter.line() == "held"
        waiter.finish()


def test_ctrl_c_ends_the_wait_of_a_statement_soon(path: Path) -> None:
    waits = """
    import signal
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    db = penholder.connect(path, timeout=30)
    print("begins", flush=True)
    db.execute("INSERT INTO t VALUES (1, 1)")
    """
    with Helper(HOLD, path) as holder:
        holder.line()
        waiter = Helper(waits, path)
        waiter.line()
        until(lambda: penholder.status(path)["queue"], "it queues")
        os.kill(waiter.pid, signal.SIGINT)
        assert waiter.process.wait(5) == -signal.SIGINT
        waiter.end()


def test_waiting_lock_is_given_up_with_its_object(path: Path) -> None:
    with Helper(HOLD, path) as holder:
        holder.line()
        with pytest.raises(penholder.LockTimeout):
            penholder.lock(path, timeout=0.1).acquire()
        until(lambda: not penholder.status(path)["queue"], "its place is free")


def test_lock_file_and_policy(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.lock"
    with penholder.lock(path, lock_file=other, policy="fifo", allow_network=True):
        until_free(path)
        assert penholder.status(path, lock_file=other)["state"] == "held"
        db = penholder.connect(path, lock_file=other, policy="fifo", timeout=0.2)
        with db:
            db.execute("INSERT INTO t VALUES (1, 1)")
        db.close()


DATABASES = """
first, second = args[0], args[1]
for number in range(100):
    a = penholder.connect(first, timeout=30)
    b = penholder.connect(second, timeout=30)
    with a:
        a.execute("INSERT INTO t VALUES (1, 1)")
        with b:
            b.execute("INSERT INTO t VALUES (1, 1)")
    a.close()
    b.close()
"""


def test_two_databases_in_one_directory_nest_in_both_orders(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    db = penholder.connect(other)
    db.execute("CREATE TABLE t(who, number)")
    db.commit()
    helpers = [Helper(DATABASES, path, path, other), Helper(DATABASES, path, other, path)]
    for helper in helpers:
        helper.finish()
    assert db.execute("SELECT count(*) FROM t").fetchone() == (200,)
    db.close()


def test_commits_wake_those_who_wait_for_them(path: Path, db: sqlite3.Connection) -> None:
    commits = penholder.commits(path)
    before = commits.token
    with Took() as took:
        assert penholder.wait(path, timeout=0.2) is None
    assert 0.19 < took.seconds < 1
    db.execute("INSERT INTO t VALUES (1, 1)")
    after = penholder.wait(path, since=before, timeout=5)
    assert after is not None and after != before
    assert next(commits) == after == commits.token
    assert penholder.wait(path, since=after, timeout=0) is None
    writes = """
    input()
    with penholder.connect(path) as db:
        db.execute("INSERT INTO t VALUES (1, 1)")
    """
    with Helper(writes, path) as helper:
        helper.go()
        assert commits.wait(20) not in (None, after)
        helper.finish()


def test_ctrl_c_ends_the_wait_for_commits(path: Path) -> None:
    waits = """
    import signal
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("waits", flush=True)
    try:
        for _ in penholder.commits(path):
            pass
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    """
    with Helper(waits, path) as waiter:
        waiter.line()
        time.sleep(0.3)
        os.kill(waiter.pid, signal.SIGINT)
        assert waiter.line() == "interrupted"
        waiter.finish()
