"""The backend for Django, in processes of a Django project."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import HOLD, Helper, Took

pytest.importorskip("django")
PROJECT = Path(__file__).parent / "django_project"
SETUP = """
import django
django.setup()
from django.db import connection, transaction
from tickets.models import Ticket, take
"""


def environment(path: Path, **settings: Any) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": str(PROJECT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TICKETS_DATABASE": str(path),
        "TICKETS_SETTINGS": json.dumps(settings),
    }


def manage(path: Path, *arguments: str, **settings: Any) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "django", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(path, **settings),
        cwd=path.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def script(text: str, path: Path, *args: Any, **settings: Any) -> Helper:
    import textwrap

    whole = SETUP + textwrap.dedent(text)
    return Helper(whole, path, *args, env=environment(path, **settings))


@pytest.fixture
def migrated(tmp_path: Path) -> Path:
    path = tmp_path / "my tickets.sqlite3"
    manage(path, "migrate", "--verbosity", "0")
    return path


def pragma(path: Path, name: str) -> Any:
    db = sqlite3.connect(path)
    (found,) = db.execute(f"PRAGMA {name}").fetchone()
    db.close()
    return found


def test_its_own_tests_in_memory(tmp_path: Path) -> None:
    out = manage(tmp_path / "unused.sqlite3", "test", "tickets")
    assert "Ran 6 tests" in out and "OK" in out
    assert not os.path.exists(tmp_path / "unused.sqlite3")


def test_its_own_tests_in_a_file_and_in_parallel(tmp_path: Path) -> None:
    test = {"NAME": str(tmp_path / "of tests.sqlite3")}
    assert "OK" in manage(tmp_path / "unused.sqlite3", "test", "tickets", TEST=test)
    assert "OK" in manage(tmp_path / "unused.sqlite3", "test", "tickets", "--parallel", "2")


def test_migrations(migrated: Path) -> None:
    assert pragma(migrated, "journal_mode") == "wal"
    assert (migrated.parent / "db.lock").exists()
    manage(migrated, "migrate", "tickets", "zero", "--verbosity", "0")
    manage(migrated, "migrate", "--verbosity", "0")
    assert "No changes" in manage(migrated, "makemigrations", "--check", "tickets")
    manage(migrated, "check", "--database", "default")


def test_processes_that_start_at_once_on_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite3"
    helpers = [
        script("with connection.cursor() as c: c.execute('CREATE TABLE IF NOT EXISTS s(x)')", path)
        for _ in range(6)
    ]
    for helper in helpers:
        helper.finish()
    assert pragma(path, "journal_mode") == "wal"


def test_no_ticket_is_lost_and_no_process_fails(migrated: Path) -> None:
    takes = """
    for number in range(40):
        take(args[0])
    """
    helpers = [script(takes, migrated, who) for who in range(6)]
    for helper in helpers:
        helper.finish()
    db = sqlite3.connect(migrated)
    assert db.execute("SELECT count(*), max(number) FROM tickets_ticket").fetchone() == (240, 240)
    db.close()


def test_timeout_and_label(migrated: Path) -> None:
    with Helper(HOLD, migrated, "nightly") as holder:
        holder.line()
        waits = """
        from django.db import OperationalError
        import penholder
        connection.ensure_connection()
        begun = time.monotonic()
        try:
            take("a")
        except OperationalError as error:
            print(time.monotonic() - begun, error)
            print(penholder.explain(connection.connection))
        """
        out = script(waits, migrated, OPTIONS={"timeout": 0.3}).finish()
        assert 0.29 < float(out.split()[0]) < 1.0 and "database is locked" in out
        assert f"pid:{holder.pid}" in out and "label: nightly" in out
    labelled = """
    import penholder
    with transaction.atomic():
        print(penholder.status(path)["holder"]["label"])
    """
    assert script(labelled, migrated, OPTIONS={"label": "web"}).finish() == "web\n"


@pytest.mark.parametrize(
    ("options", "mode", "begin"),
    [
        ({}, "wal", "IMMEDIATE"),
        ({"journal_mode": None}, "delete", "IMMEDIATE"),
        ({"journal_mode": "TRUNCATE"}, "truncate", "IMMEDIATE"),
        ({"init_command": "PRAGMA journal_mode = PERSIST"}, "persist", "IMMEDIATE"),
        ({"init_command": "PRAGMA synchronous = NORMAL"}, "wal", "IMMEDIATE"),
        ({"transaction_mode": "EXCLUSIVE"}, "wal", "EXCLUSIVE"),
        ({"transaction_mode": None}, "wal", None),
    ],
)
def test_options(tmp_path: Path, options: dict[str, Any], mode: str, begin: str) -> None:
    import django

    if "init_command" in options and django.VERSION < (5, 1):
        pytest.skip("Django has this option since 5.1")
    asks = """
    from django.test.utils import CaptureQueriesContext
    with CaptureQueriesContext(connection) as captured, transaction.atomic(), connection.cursor() as c:
        print(c.execute("PRAGMA journal_mode").fetchone()[0], captured[0]["sql"])
    """
    out = script(asks, tmp_path / "new.sqlite3", OPTIONS=options).finish()
    assert out == f"{mode} BEGIN {begin}\n" if begin else f"{mode} BEGIN\n"


def test_a_read_only_database(migrated: Path) -> None:
    manage(migrated, "shell", "-c", "pass")
    db = sqlite3.connect(migrated)
    db.execute("PRAGMA journal_mode = DELETE")
    db.close()
    for parameter in ("mode=ro", "immutable=1"):
        name = f"file:{str(migrated).replace(' ', '%20')}?{parameter}"
        out = script("print(Ticket.objects.count())", migrated, NAME=name).finish()
        assert out == "0\n"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"NAME": "/no such directory/t.sqlite3"}, "no directory"),
        ({"OPTIONS": {"transaction_mode": "SOON"}}, "IMMEDIATE"),
        ({"OPTIONS": {"journal_mode": "WAL; DROP"}}, "take WAL"),
        ({"OPTIONS": {"policy": "lifo"}}, "time-sliced"),
        ({"OPTIONS": {"lable": "x"}}, "lable"),
    ],
)
def test_what_is_wrong_is_said(migrated: Path, settings: dict[str, Any], said: str) -> None:
    with script("Ticket.objects.count()", migrated, **settings) as helper:
        _, err = helper.process.communicate(timeout=30)
        assert helper.process.returncode == 1 and said in err
