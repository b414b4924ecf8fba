#!/usr/bin/env python3
"""Compares plain ``sqlite3`` with penholder, in turns in one run.

Each process repeats BEGIN IMMEDIATE, one row, COMMIT until the time is up. Then Django and huey as
they are, and with penholder. It prints a line for each, and counts the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import penholder

HERE = Path(__file__).resolve().parent
VARIANTS = ("plain", "penholder")
#: Who gives up after this time counts as failed.
TIMEOUT = 30.0
#: What did not work with penholder.
faults: list[str] = []


def main() -> None:
    args = arguments()
    if args.worker:
        return WORKERS[args.worker](args)
    sqlite = sqlite3.sqlite_version
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite}, {os.cpu_count()} CPUs, {args.seconds:g} s a turn")
    print(f"{'':28}{'rate':>9}{'ratio':>8}{'longest':>12}{'ratio':>9}{'failed':>8}{'Jain':>7}{'rows':>7}")
    for synchronous in args.synchronous:
        for processes in args.processes:
            name = f"{synchronous}, {processes} processes"
            compare(args, name, "sqlite", processes, synchronous=synchronous)
    for workload in args.libraries:
        compare(args, f"{workload}, 8 processes", workload, 8)
    if faults:
        sys.exit("with penholder, a process failed or rows are missing: please report it")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=3, metavar="N")
    parser.add_argument("--turns", type=int, default=3, metavar="N")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 8, 32], metavar="N")
    parser.add_argument("--synchronous", nargs="*", default=["NORMAL", "FULL"], metavar="MODE")
    parser.add_argument("--libraries", nargs="*", default=["django", "huey"], metavar="NAME")
    parser.add_argument("--directory", help="where the databases are")
    for hidden in ("worker", "variant", "database", "mode"):
        parser.add_argument(f"--{hidden}", help=argparse.SUPPRESS)
    return parser.parse_args()


# ---- measuring ---------------------------------------------------------------------------


def compare(
    args: argparse.Namespace, name: str, workload: str, processes: int, synchronous: str = ""
) -> None:
    """Measures both variants in turns, and prints the medians; of the waits the longest of all."""
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    for _ in range(args.turns):
        for variant in VARIANTS:
            found[variant].append(measure(args, workload, variant, processes, synchronous))
    plain = summary(found["plain"])
    for variant in VARIANTS:
        one = summary(found[variant])
        ratio = one["rate"] / plain["rate"] if plain["rate"] else float("nan")
        shorter = plain["longest"] / one["longest"] if one["longest"] else float("nan")
        label = f"{name}" if variant == "plain" else "  penholder"
        print(
            f"{label:28}{one['rate']:7.0f}/s{ratio:7.2f}x{one['longest'] * 1000:9.1f} ms"
            f"{'1/' + format(shorter, '.1f'):>9}{one['failed']:8}{one['jain']:7.3f}"
            f"{'ok' if one['rows'] else 'WRONG':>7}",
            flush=True,
        )
        if variant == "penholder" and (one["failed"] or not one["rows"]):
            faults.append(name)


def summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "rate": statistics.median(turn["rate"] for turn in turns),
        "longest": statistics.median(turn["longest"] for turn in turns),
        "failed": sum(turn["failed"] for turn in turns),
        "jain": statistics.median(turn["jain"] for turn in turns),
        "rows": all(turn["rows"] for turn in turns),
    }


def measure(
    args: argparse.Namespace, workload: str, variant: str, processes: int, mode: str
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=args.directory) as directory:
        database = os.path.join(directory, "bench.db")
        chosen = ["--variant", variant, "--database", database, "--mode", mode]
        common = [sys.executable, __file__, *chosen, "--seconds", str(args.seconds)]
        subprocess.run([*common, "--worker", f"{workload}-prepare"], check=True)
        workers = [
            subprocess.Popen(
                [*common, "--worker", workload],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(processes)
        ]
        shares = start_together(workers)
        rows = count(database, workload)
    done = [share["done"] for share in shares]
    squares = len(done) * sum(number * number for number in done)
    return {
        # From the first start to the last end: who waits at the end is waited for.
        "rate": sum(done) / max(share["seconds"] for share in shares),
        "longest": max(share["longest"] for share in shares),
        "failed": sum(share["failed"] for share in shares),
        "jain": sum(done) ** 2 / squares if squares else 0,
        "rows": rows == sum(done),
    }


def start_together(workers: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    for worker in workers:
        assert worker.stdin and worker.stdout
        if worker.stdout.readline() != "ready\n":
            sys.exit("a process could not start: its message is above")
    for worker in workers:
        assert worker.stdin
        worker.stdin.close()
    shares = []
    for worker in workers:
        assert worker.stdout
        shares.append(json.loads(worker.stdout.readline()))
        worker.wait()
    return shares


def count(database: str, workload: str) -> int:
    table = {"sqlite": "t", "django": "tickets_ticket", "huey": "task"}[workload]
    db = sqlite3.connect(database)
    found: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    db.close()
    return found


def repeat(args: argparse.Namespace, once: Callable[[], Any], errors: Any) -> None:
    """Does the same again and again until the time is up, and reports."""
    print("ready", flush=True)
    sys.stdin.read()
    share: dict[str, Any] = {"done": 0, "failed": 0, "longest": 0.0}
    start = time.monotonic()
    while (begun := time.monotonic()) < start + args.seconds:
        try:
            once()
            share["done"] += 1
        except errors:
            share["failed"] += 1
        share["longest"] = max(share["longest"], time.monotonic() - begun)
    share["seconds"] = time.monotonic() - start
    print(json.dumps(share), flush=True)


# ---- what the processes do ---------------------------------------------------------------


def connect(args: argparse.Namespace) -> sqlite3.Connection:
    opened = sqlite3.connect if args.variant == "plain" else penholder.connect
    db: sqlite3.Connection = opened(args.database, timeout=TIMEOUT, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {args.mode}")
    return db


def prepare_sqlite(args: argparse.Namespace) -> None:
    db = connect(args)
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text)")
    db.close()


def write(args: argparse.Namespace) -> None:
    db = connect(args)

    def once() -> None:
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t(text) VALUES ('one row')")
        db.execute("COMMIT")

    # SQLite reads the schema before the first one.
    db.execute("SELECT count(*) FROM t").fetchone()
    repeat(args, once, sqlite3.OperationalError)


def set_up_django(args: argparse.Namespace) -> None:
    """As a new project has it: only ENGINE differs."""
    sys.path.insert(0, str(HERE / "tests" / "django_project"))
    engine = "django.db.backends.sqlite3" if args.variant == "plain" else "penholder.django"
    os.environ["TICKETS_ENGINE"], os.environ["TICKETS_DATABASE"] = engine, args.database
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    sys.dont_write_bytecode = True
    import django

    django.setup()


def prepare_django(args: argparse.Namespace) -> None:
    set_up_django(args)
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def take_tickets(args: argparse.Namespace) -> None:
    set_up_django(args)
    from django.db import OperationalError, connection
    from tickets.models import Ticket, take  # type: ignore[import-not-found]

    def once() -> None:
        # As at the end of a request with CONN_MAX_AGE = 0, which is the default.
        try:
            take("bench")
        finally:
            connection.close()

    Ticket.objects.count()
    repeat(args, once, OperationalError)


def huey_of(args: argparse.Namespace) -> Any:
    from huey import SqliteHuey

    if args.variant == "plain":
        return SqliteHuey(filename=args.database)
    return SqliteHuey(filename=penholder.uri(args.database), uri=True)


def prepare_huey(args: argparse.Namespace) -> None:
    huey_of(args)


def enqueue(args: argparse.Namespace) -> None:
    huey = huey_of(args)

    @huey.task()  # type: ignore[untyped-decorator]
    def nothing() -> None:
        pass

    huey.pending_count()
    repeat(args, nothing, sqlite3.OperationalError)


WORKERS: dict[str, Callable[[argparse.Namespace], None]] = {
    "sqlite-prepare": prepare_sqlite,
    "sqlite": write,
    "django-prepare": prepare_django,
    "django": take_tickets,
    "huey-prepare": prepare_huey,
    "huey": enqueue,
}

if __name__ == "__main__":
    main()
