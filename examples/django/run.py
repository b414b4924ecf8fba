"""Sends requests to a Django application from several processes at once.

First as Django is, then under penholder's lock; and the same again with the settings that
are usually advised. Prints one line for each.
"""

import argparse
import json
import logging
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from wsgiref.util import setup_testing_defaults

HERE = os.path.dirname(os.path.abspath(__file__))
VARIANTS = [
    ("Django as it is", []),
    ("  under the lock", ["TICKETS_LOCK"]),
    ("WAL and IMMEDIATE", ["TICKETS_ADVICE"]),
    ("  under the lock", ["TICKETS_ADVICE", "TICKETS_LOCK"]),
]
CREATE = """
import tickets
from django.db import connection
with connection.schema_editor() as editor:
    editor.create_model(tickets.Ticket)
"""


def main():
    args = arguments()
    if args.worker is not None:
        return work(args)
    import django

    print(f"Django {django.get_version()}, SQLite {sqlite3.sqlite_version}: ", end="")
    print(f"{args.processes} processes send requests for {args.seconds:g} s")
    print(f"{'':20}requests    failed    longest    answered   fairness (Jain)")
    for name, variables in VARIANTS:
        result = measure(args, variables)
        print(name.ljust(20) + line(args, **result), flush=True)
        if "TICKETS_LOCK" in variables and result["failed"]:
            sys.exit("requests failed under the lock: please report it")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--processes", type=int, default=8, metavar="N")
    parser.add_argument("--seconds", type=float, default=5, metavar="N")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(args, variables):
    """Starts the processes on a new database, and adds up what they report."""
    with tempfile.TemporaryDirectory() as directory:
        database = os.path.join(directory, "tickets.db")
        environment = os.environ | {"TICKETS_DATABASE": database}
        environment |= dict.fromkeys(variables, "1")
        python = [sys.executable, "-c", CREATE]
        subprocess.run(python, cwd=HERE, env=environment, check=True)
        shares = start_together(args, environment)
        answered = [share["answered"] for share in shares]
        check(database, sum(answered))
    failed = sum(share["failed"] for share in shares)
    return dict(answered=answered, failed=failed, longest=max(s["longest"] for s in shares))


def start_together(args, environment):
    command = [sys.executable, os.path.join(HERE, "run.py"), "--seconds", str(args.seconds)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    workers = [
        subprocess.Popen([*command, "--worker", str(number)], env=environment, **pipes)
        for number in range(args.processes)
    ]
    for worker in workers:
        if worker.stdout.readline() != "ready\n":
            sys.exit("a process could not start: its message is above")
    for worker in workers:
        worker.stdin.close()
    return [json.loads(worker.stdout.readline()) for worker in workers]


def check(database, answered):
    """Every answered request has its row, and there is no other row."""
    connection = sqlite3.connect(database)
    count = "SELECT count(*) FROM tickets_ticket WHERE owner <> 'warm-up'"
    rows = connection.execute(count).fetchone()[0]
    connection.close()
    if rows != answered:
        sys.exit(f"{answered} requests were answered, but there are {rows} rows")


def line(args, answered, failed, longest):
    requests = sum(answered) + failed
    squares = len(answered) * sum(n * n for n in answered)
    jain = sum(answered) ** 2 / squares if squares else 0
    return (
        f"{requests:8}{failed / requests:10.1%}{longest * 1000:8.0f} ms"
        f"{sum(answered) / args.seconds:10.0f}/s{jain:18.3f}"
    )


def work(args):
    """One process: sends requests until the time is up, and reports."""
    logging.disable(logging.CRITICAL)
    import tickets  # noqa: F401
    from django.core.handlers.wsgi import WSGIHandler

    application = WSGIHandler()
    send(application, "warm-up")
    print("ready", flush=True)
    sys.stdin.read()
    share = dict(answered=0, failed=0, longest=0)
    end = time.monotonic() + args.seconds
    while (begun := time.monotonic()) < end:
        is_answered = send(application, f"process-{args.worker}")
        share["answered" if is_answered else "failed"] += 1
        share["longest"] = max(share["longest"], time.monotonic() - begun)
    print(json.dumps(share))


def send(application, owner):
    """One request through all of Django, as a server sends it; without a network."""
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": f"/take/{owner}"}
    setup_testing_defaults(environ)
    statuses = []
    response = application(environ, lambda status, headers: statuses.append(status))
    response.close()
    return statuses == ["200 OK"]


if __name__ == "__main__":
    main()
