"""``penholder.connect``: any path, any kind of database, and what cannot be opened."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from processes import Helper, until_free

import penholder

NAMES = [
    "plain.db",
    "with space.db",
    "question?mark.db",
    "hash#mark.db",
    "per%20cent.db",
    "100%.db",
    "a&b=c;d+e.db",
    "ünïcödé-日本.db",
    "file:app.db",
    "-dash.db",
    "quote'\"`$.db",
    "line\nend.db",
]


def uses_penholder(db: sqlite3.Connection) -> bool:
    try:
        db.execute("SELECT penholder_last_wait()").fetchone()
    except sqlite3.OperationalError:
        return False
    return True


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_any_name(tmp_path: Path, name: str, kind: Any) -> None:
    db = penholder.connect(kind(str(tmp_path / name)))
    with db:
        db.execute("CREATE TABLE t(x)")
    assert uses_penholder(db)
    db.close()
    assert sorted(os.listdir(tmp_path)) == sorted([name, "db.lock", "db.lockq"])
    # Another process finds it by the same name, without penholder.
    helper = Helper("print(sqlite3.connect(path).execute('SELECT count(*) FROM t').fetchone())", tmp_path / name)
    assert helper.finish() == "(0,)\n"
    until_free(tmp_path / name)
    with penholder.lock(kind(str(tmp_path / name))):
        assert penholder.status(tmp_path / name)["holder"]["database"] is not None


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.db"
    db = penholder.connect(path)
    with db:
        db.execute("CREATE TABLE t(x)")
    db.close()
    with penholder.lock(path):
        assert penholder.status(path)["state"] == "held"
    assert os.path.exists(path)


def test_relative_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("sub dir")
    for name in ("a.db", "./b.db", "sub dir/c#.db", "../" + tmp_path.name + "/d.db", "//" + str(tmp_path / "e.db")):
        db = penholder.connect(name)
        with db:
            db.execute("CREATE TABLE t(x)")
        assert uses_penholder(db)
        db.close()
        assert os.path.exists(name)


def test_links_lead_to_one_lock(path: Path, tmp_path: Path) -> None:
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    (directory / "link.db").symlink_to(path)
    with penholder.lock(directory / "link.db"):
        assert penholder.status(path)["state"] == "held"
    db = penholder.connect(directory / "link.db")
    with db:
        db.execute("INSERT INTO t VALUES (1, 1)")
    db.close()
    assert os.listdir(directory) == ["link.db"]


def test_the_parameters_of_a_uri_are_kept(path: Path) -> None:
    db = penholder.connect(f"file:{path}?mode=ro#fragment", uri=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("INSERT INTO t VALUES (1, 1)")
    assert uses_penholder(db)
    db.close()
    db = penholder.connect(f"file:{path}?mode=rw&penholder_label=of%20the%20URI", uri=True)
    db.execute("BEGIN IMMEDIATE")
    assert penholder.status(path)["holder"]["label"] == "of the URI"
    db.close()
    for same in (f"file://{path}", f"file:{path}?", f"file:{path}?vfs=penholder", f"file://localhost{path}"):
        db = penholder.connect(same, uri=True, label="argument")
        db.execute("BEGIN IMMEDIATE")
        assert penholder.status(path)["holder"]["label"] == "argument"
        db.close()
    with pytest.raises(ValueError, match="unix-none"):
        penholder.connect(f"file:{path}?vfs=unix-none", uri=True)
    # Not a URI: a plain name, as for sqlite3.
    db = penholder.connect(str(path), uri=True)
    assert uses_penholder(db)
    db.close()


def test_a_uri_for_other_libraries(path: Path) -> None:
    db = sqlite3.connect(penholder.uri(path, label="handed on"), uri=True)
    db.execute("BEGIN IMMEDIATE")
    assert penholder.status(path)["holder"]["label"] == "handed on"
    db.close()


@pytest.mark.parametrize(
    ("name", "is_uri"),
    [
        (":memory:", False),
        ("", False),
        (b":memory:", False),
        ("file::memory:", True),
        ("file::memory:?cache=shared", True),
        ("file:name?mode=memory&cache=shared", True),
        ("file:/name?vfs=memdb", True),
        ("file:", True),
    ],
)
def test_databases_in_memory_and_temporary_ones_are_plain(name: Any, is_uri: bool) -> None:
    db = penholder.connect(name, uri=is_uri, label="none")
    with db:
        db.execute("CREATE TABLE t(x)")
    assert not uses_penholder(db)
    db.close()


def test_the_defaults_are_those_of_sqlite3(path: Path) -> None:
    ours, plain = penholder.connect(path), sqlite3.connect(path)
    for name in ("isolation_level", "row_factory", "text_factory", "total_changes", "in_transaction"):
        assert getattr(ours, name) == getattr(plain, name)
    for pragma in ("busy_timeout", "journal_mode", "synchronous", "foreign_keys", "locking_mode"):
        asked = f"PRAGMA {pragma}"
        assert ours.execute(asked).fetchone() == plain.execute(asked).fetchone()
    said = []
    for db in (ours, plain):
        with pytest.raises(sqlite3.OperationalError) as raised:
            db.execute("SELECT load_extension('no such library')")
        said.append(str(raised.value))
    assert said[0] == said[1]
    assert type(ours) is sqlite3.Connection
    ours.close()
    plain.close()


def test_arguments_of_sqlite3(path: Path) -> None:
    class Own(sqlite3.Connection):
        pass

    db = penholder.connect(
        path, 1.5, factory=Own, isolation_level=None, detect_types=sqlite3.PARSE_DECLTYPES
    )
    assert type(db) is Own and db.isolation_level is None
    assert db.execute("PRAGMA busy_timeout").fetchone() == (1500,)
    db.close()


def test_what_cannot_be_opened(path: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "no such" / "app.db")
    for database, options, said in [
        (missing, {}, "no directory"),
        (tmp_path, {}, "is a directory"),
        (os.fsencode(tmp_path), {}, "is a directory"),
        (path, {"policy": "lifo"}, "take time-sliced or fifo"),
        (path, {"lock_file": path}, "the lock file is the database"),
        # The error before this one is not told again.
        (missing, {}, "no directory"),
        (f"file:{missing}", {"uri": True}, "unable to open"),
        (f"file:{path}?penholder_lable=x", {"uri": True}, "penholder_lable"),
    ]:
        with pytest.raises(penholder.Error, match=said) as raised:
            penholder.connect(database, **options)
        assert isinstance(raised.value.__cause__, sqlite3.OperationalError)
    assert not os.path.exists(missing)


def test_arguments_that_make_no_sense(path: Path) -> None:
    for make in (penholder.connect, penholder.lock, penholder.status, penholder.commits):
        with pytest.raises(ValueError, match="null"):
            make(f"{path}\0.db")  # type: ignore[operator]
    for of_a_file in (penholder.lock, penholder.status, penholder.commits):
        with pytest.raises(ValueError, match="not in a file"):
            of_a_file(":memory:")  # type: ignore[operator]
    with pytest.raises(ValueError, match="label"):
        penholder.lock(path, label="a\0b")
    with pytest.raises(ValueError, match="null"):
        penholder.connect(path, label="a\0b")
    with pytest.raises(ValueError, match="timeout"):
        penholder.lock(path, timeout=-1)
    with pytest.raises(ValueError, match="timeout"):
        penholder.lock(path, timeout=float("nan"))
    with pytest.raises(TypeError, match="lable"):
        penholder.connect(path, lable="x")
    with pytest.raises(penholder.Error, match="fifo"):
        penholder.lock(path, policy="lifo").acquire()
    with pytest.raises(penholder.Error, match="token"):
        penholder.commits(path, since="nonsense")
    with pytest.raises(penholder.Error, match="check the path"):
        penholder.lock("/no such directory/app.db").acquire()


def test_explain_of_a_connection_without_penholder(path: Path) -> None:
    db = penholder.connect(path)
    assert penholder.explain(db) is None
    db.row_factory = sqlite3.Row
    db.text_factory = bytes
    assert penholder.explain(db) is None
    db.close()
    with pytest.raises(penholder.Error, match="vfs=penholder"):
        penholder.explain(penholder.connect(":memory:"))


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_a_directory_that_may_not_be_written(path: Path, tmp_path: Path) -> None:
    reads = """
    # The other user may not read where penholder is installed.
    penholder.connect(":memory:")
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    db = penholder.connect(path)
    print(db.execute("SELECT count(*) FROM t").fetchone())
    try:
        db.execute("INSERT INTO t VALUES (1, 1)")
    except sqlite3.OperationalError as error:
        print(error)
    try:
        penholder.lock(path, timeout=1).acquire()
    except penholder.Error as error:
        print(error)
    """
    db = penholder.connect(path)
    db.execute("PRAGMA journal_mode = DELETE")
    db.close()
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    os.chmod(path, 0o444)
    out = Helper(reads, path).finish()
    assert out.startswith("(0,)\nattempt to write a readonly database\n"), out
    assert "db.lock" in out and "ermission" in out, out
