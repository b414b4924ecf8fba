"""A worker for the queue of jobs that ``crates/penholder/examples/jobs.rs`` makes.

It waits for the next commit instead of asking the database again and again::

    python job_worker.py app.db 2
"""

import os
import sys

import penholder

CLAIM = """
UPDATE job SET worker = ?
WHERE id = (SELECT min(id) FROM job WHERE worker IS NULL)
RETURNING id, input
"""


def work(path: str, idle: float) -> int:
    """Works until there was no job for ``idle`` seconds; returns how many were done."""
    db = penholder.connect(path, timeout=10, label="job worker", isolation_level=None)
    worker = f"python {os.getpid()}"
    # Before the first look: a job that is added after it ends the wait.
    commits = penholder.commits(path)
    done = 0
    while True:
        # Fetched to the end: the statement has committed then.
        while claimed := db.execute(CLAIM, (worker,)).fetchall():
            (job, number), = claimed
            db.execute("UPDATE job SET output = ? WHERE id = ?", (number * number, job))
            done += 1
        if commits.wait(idle) is None:
            return done


if __name__ == "__main__":
    print(work(sys.argv[1], float(sys.argv[2])), "done")
