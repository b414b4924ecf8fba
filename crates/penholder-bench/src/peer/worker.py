"""A worker in Python. It does the same as worker.rs."""

import ctypes
import json
import sqlite3
import sys
import time

database, sync, number, timeout, think, mode, insert, text = sys.argv[1:]
number, timeout, think = int(number), float(timeout), float(think)

# The kernel kills this process when its parent ends: PR_SET_PDEATHSIG, SIGKILL.
ctypes.CDLL(None).prctl(1, 9)


def now():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def bucket(nanos):
    """Rounds down to 11 significant bits: to a thousandth."""
    shift = max(0, nanos.bit_length() - 11)
    return nanos >> shift << shift


def connect():
    connection = sqlite3.connect(database, isolation_level=None, timeout=max(timeout, 5))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {sync}")
    connection.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
    return connection


def write(connection):
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(insert, (number, text))
        connection.execute("COMMIT")
        return True
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return False


share = dict(acknowledged=0, writes=0, failed=0, longest=0, cpu_time=0, error=None)
latencies = {}
if mode == "once":
    print("ready", flush=True)
    start = int(sys.stdin.readline().split()[0])
    time.sleep(max(0, start - now()) / 1e9)
    begun = now()
    try:
        written = write(connect())
    except Exception as error:
        written = False
        share["error"] = str(error)
    share.update(acknowledged=int(written), writes=int(written), failed=int(not written))
    share.update(longest=now() - begun, cpu_time=time.process_time_ns())
    latencies[share["longest"]] = 1
else:
    connection = connect()
    print("ready", flush=True)
    start, counted, end = map(int, sys.stdin.readline().split())
    time.sleep(max(0, start - now()) / 1e9)
    before = None
    while True:
        begun = now()
        if begun >= end:
            break
        written = write(connection)
        ended = now()
        share["acknowledged"] += written
        if ended >= counted:
            if before is None:
                before = time.process_time_ns()
            took = ended - begun
            key = bucket(took)
            latencies[key] = latencies.get(key, 0) + 1
            share["longest"] = max(share["longest"], took)
            if not written:
                share["failed"] += 1
            elif ended <= end:
                share["writes"] += 1
        if think:
            time.sleep(think)
    if before is not None:
        share["cpu_time"] = time.process_time_ns() - before
share["latencies"] = sorted(latencies.items())
print(json.dumps(share), flush=True)
