"""Huey: a task queue in SQLite whose producers and workers queue for the lock.

    huey_consumer.py huey_queue.huey
"""

import os

import penholder
from huey import SqliteHuey

DATABASE = os.environ.get("HUEY_DATABASE", "huey.db")

# Huey passes what it does not know itself to sqlite3.connect.
huey = SqliteHuey(filename=penholder.uri(DATABASE, label="huey"), uri=True)


@huey.task()
def add(a: int, b: int) -> int:
    return a + b
