"""The package: the library, loading it, the command, the wheel."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from processes import Helper, until

import penholder


def test_extension_info() -> None:
    info = penholder.extension_info()
    assert info.name == "penholder" and info.abi == 1
    assert info.path == penholder.loadable_path() + ".so"
    assert os.path.exists(info.path)
    assert info.sqlite_version == sqlite3.sqlite_version
    db = penholder.connect(":memory:")
    assert db.execute("SELECT penholder_version()").fetchone() == (info.version,)
    assert db.execute("SELECT sqlite_source_id()").fetchone() == (info.sqlite_source_id,)


def test_macos_has_another_library_and_another_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from penholder import _loading

    monkeypatch.setattr(sys, "platform", "darwin")
    assert penholder.loadable_path() + ".dylib" == _loading.library_path()
    text = _loading._not_found("its SQLite refused an automatic one (result code 21)")
    assert "Homebrew" in text and "enable_load_extension" in text


def test_load_makes_no_default(tmp_path: Path) -> None:
    # In a process of its own, because what is loaded stays.
    out = Helper(
        """
        before = sqlite3.connect(":memory:")
        penholder.load(before)
        penholder.load(before)
        after = sqlite3.connect(path)
        print(after.execute("SELECT penholder_version()").fetchone() is not None)
        try:
            print(after.execute("SELECT penholder_last_wait()").fetchone())
        except sqlite3.OperationalError as error:
            print("use penholder" in str(error))
        """,
        tmp_path / "app.db",
    ).finish()
    assert out == "True\nTrue\n"


def test_load_on_a_connection_that_is_used_and_whose_extensions_are_off(tmp_path: Path) -> None:
    out = Helper(
        """
        db = sqlite3.connect(path)
        if hasattr(db, "enable_load_extension"):
            db.enable_load_extension(False)
        rows = db.execute("VALUES (1), (2)")
        next(rows)
        penholder.load(db)
        penholder.load(db)
        print(next(rows))
        try:
            db.execute("SELECT load_extension('libm')")
        except sqlite3.OperationalError as error:
            print("not authorized" in str(error) or "no such function" in str(error))
        """,
        tmp_path / "app.db",
    ).finish()
    assert out == "(2,)\nTrue\n"


@pytest.mark.parametrize("is_loaded_before", [False, True])
def test_load_as_default(tmp_path: Path, is_loaded_before: bool) -> None:
    out = Helper(
        """
        scratch = sqlite3.connect(":memory:")
        if args[0] == "True":
            penholder.load(scratch)
        penholder.load(scratch, default=True)
        plain = sqlite3.connect(path)
        print(plain.execute("SELECT penholder_last_wait()").fetchone())
        print(penholder.connect(path).execute("SELECT penholder_last_wait()").fetchone())
        """,
        tmp_path / "app.db",
        is_loaded_before,
    ).finish()
    assert out == "(0,)\n(0,)\n"


def test_there_is_one_copy_of_sqlite(path: Path) -> None:
    out = Helper(
        """
        penholder.connect(path)
        with open("/proc/self/maps") as maps:
            files = {line.split()[-1] for line in maps if ".so" in line}
        print(sum("libsqlite3" in file for file in files), sum("libpenholder" in file for file in files))
        """,
        path,
    ).finish()
    assert out == "1 1\n"


def test_without_enable_load_extension(path: Path) -> None:
    """Also where Python could load it: ``ctypes`` has to do it."""
    out = Helper(
        """
        from penholder import _loading
        _loading.load = lambda connection: _loading._load_automatically(_loading._REGISTER)
        db = penholder.connect(path)
        print(db.execute("SELECT penholder_last_wait()").fetchone())
        plain = sqlite3.connect(path)
        try:
            plain.execute("SELECT penholder_last_wait()")
        except sqlite3.OperationalError as error:
            print("use penholder" in str(error))
        """,
        path,
    ).finish()
    assert out == "(0,)\nTrue\n"


def test_another_sqlite_is_refused(path: Path) -> None:
    out = Helper(
        """
        from penholder import _loading
        _loading._source_id = lambda: "of another SQLite"
        try:
            _loading._load_automatically(_loading._REGISTER)
        except penholder.Error as error:
            print(error)
        """,
        path,
    ).finish()
    assert "does not use the SQLite that was found" in out and "enable_load_extension" in out


@pytest.mark.skipif(
    not hasattr(sqlite3.Connection, "enable_load_extension"), reason="this Python loads none"
)
def test_loadable_path_is_for_sqlite() -> None:
    db = sqlite3.connect(":memory:")
    db.enable_load_extension(True)
    db.load_extension(penholder.loadable_path())
    assert db.execute("SELECT penholder_version()").fetchone() is not None


def test_the_command(path: Path) -> None:
    version = [sys.executable, "-m", "penholder", "--version"]
    out = subprocess.run(version, capture_output=True, text=True, timeout=20, check=True).stdout
    assert out.startswith(f"penholder {penholder.extension_info().version}")
    script = os.path.join(sysconfig.get_path("scripts"), "penholder")
    failed = subprocess.run([script, "nonsense"], capture_output=True, text=True, timeout=20)
    assert failed.returncode == 2 and "nonsense" in failed.stderr
    query = [script, "query", str(path), "SELECT count(*) FROM t", "--scalar"]
    out = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    assert out == "0\n"


def test_the_command_queues_with_python(path: Path) -> None:
    execute = [sys.executable, "-m", "penholder", "exec", str(path), "INSERT INTO t VALUES (9, 9)"]
    with penholder.lock(path):
        command = subprocess.Popen([*execute, "--timeout", "30"])
        until(lambda: penholder.status(path)["queue"], "it queues")
        refused = subprocess.run(
            [*execute, "--timeout", "200ms"], capture_output=True, text=True, timeout=20
        )
        assert refused.returncode == 75 and f"pid:{os.getpid()}" in refused.stderr
    assert command.wait(20) == 0


def test_penholder_run_around_python(path: Path) -> None:
    one = "import penholder, sys; db = penholder.connect(sys.argv[1], timeout=2); db.execute('INSERT INTO t VALUES (1, 1)'); db.commit()"
    run = [sys.executable, "-m", "penholder", "run", str(path), "--", sys.executable, "-c", one, str(path)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("library", "said"),
    [
        ("a copy of SQLite", "does not use the SQLite that was found"),
        ("without SQLite", "built in and cannot be seen from outside"),
    ],
)
def test_sqlite_that_python_does_not_use_is_refused(tmp_path: Path, library: str, said: str) -> None:
    """A second copy of the same SQLite, and a Python that has hidden its own."""
    with open("/proc/self/maps") as maps:
        loaded = {line.split()[-1] for line in maps if "libsqlite3.so" in line}
    if not loaded:
        pytest.skip("the SQLite of this Python is in no library of its own")
    found = tmp_path / "copy.so"
    shutil.copy(loaded.pop(), found)
    if library == "without SQLite":
        found = Path(penholder.loadable_path() + ".so")
    out = Helper(
        """
        import _sqlite3
        from penholder import _loading
        _sqlite3.__file__ = args[0]
        try:
            _loading._load_automatically(_loading._REGISTER)
        except penholder.Error as error:
            print(error)
        """,
        tmp_path / "app.db",
        found,
    ).finish()
    assert said in out and "use a Python whose sqlite3" in out


def test_connections_leave_nothing_behind(path: Path) -> None:
    out = Helper(
        """
        def count():
            return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
        def use():
            db = penholder.connect(path)
            with db:
                db.execute("INSERT INTO t VALUES (1, 1)")
            with penholder.lock(path):
                pass
            penholder.commits(path).token
            db.close()
        for _ in range(20):
            use()
        before = count()
        for _ in range(500):
            use()
        after = count()
        print(all(now <= then + 2 for then, now in zip(before, after)), before, after)
        """,
        path,
    ).finish()
    assert out.startswith("True"), out
