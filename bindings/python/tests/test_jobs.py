"""The worker of ``recipes/job_worker.py``, with others in Rust where the example is built."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import penholder

RECIPE = Path(__file__).parent.parent / "recipes" / "job_worker.py"
#: The example `jobs` of the crate `penholder`, if it was built.
RUST = os.environ.get("PENHOLDER_JOBS")
JOBS = 400


def test_each_job_is_done_once_by_one_of_the_workers(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    db = penholder.connect(path, timeout=30, isolation_level=None)
    if RUST:
        subprocess.run([RUST, path, "add", "0"], check=True, timeout=60)
    else:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE job(id INTEGER PRIMARY KEY, input INTEGER, worker TEXT, output INTEGER)")
    commands = [[sys.executable, RECIPE, path, "2"]] * 3 + ([[RUST, path, "work", "2"]] * 2 if RUST else [])
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    for number in range(JOBS):
        db.execute("INSERT INTO job(input) VALUES (?)", (number,))
        if number % 50 == 0:
            # Time for them to find nothing, and to sleep.
            time.sleep(0.05)
    said = [worker.communicate(timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers), said
    assert sum(int(line.split()[0]) for line in said) == JOBS, said
    done = db.execute("SELECT count(*), sum(output = input * input) FROM job WHERE worker IS NOT NULL")
    assert done.fetchone() == (JOBS, JOBS)
