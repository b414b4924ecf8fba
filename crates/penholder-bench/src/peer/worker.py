# A worker in Python. It does the same as worker.rs.

import ctypes
import json
import sqlite3
import sys
import threading
import time

setting = json.loads(sys.argv[1])
workload, parts = WORKLOADS[sys.argv[2]], json.loads(sys.argv[3])

# The kernel kills this process when its parent ends: PR_SET_PDEATHSIG, SIGKILL.
ctypes.CDLL(None).prctl(1, 9)


def now():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def seconds(duration):
    return duration["secs"] + duration["nanos"] / 1e9


def bucket(nanos):
    """Rounds down to 11 significant bits: to a thousandth."""
    shift = max(0, nanos.bit_length() - 11)
    return nanos >> shift << shift


class Client:
    def __init__(self):
        timeout = seconds(setting["timeout"])
        self.connection = sqlite3.connect(
            setting["database"], isolation_level=None, timeout=max(timeout, 5)
        )
        self.run = self.connection.execute
        self.run("PRAGMA journal_mode = WAL")
        self.run(f"PRAGMA synchronous = {setting['sync']}")
        self.run(f"PRAGMA busy_timeout = {int(timeout * 1000)}")

    def read(self, sql, values, count):
        rows = self.run(sql, values).fetchall()
        if len(rows) != count:
            raise ValueError(f"{len(rows)} rows instead of {count}")
        return "read"

    def execute(self, sql, values):
        return self.write(lambda run: run(sql, values))

    def write(self, work):
        try:
            self.run("BEGIN IMMEDIATE")
            work(self.run)
            self.run("COMMIT")
            return "written"
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            if self.connection.in_transaction:
                self.run("ROLLBACK")
            return "failed"


def empty():
    return dict(acknowledged=0, done=0, failed=0, longest=0, cpu_time=0, error=None)


def read_window():
    print("ready", flush=True)
    return map(int, sys.stdin.readline().split())


def wait_until(start):
    time.sleep(max(0, start - now()) / 1e9)


def once():
    start, _, _ = read_window()
    wait_until(start)
    share, begun = empty(), now()
    try:
        outcome = next(workload(setting["number"], parts))(Client())
    except Exception as error:
        outcome, share["error"] = "failed", str(error)
    failed = outcome == "failed"
    share.update(acknowledged=int(outcome == "written"), done=int(not failed), failed=int(failed))
    share.update(longest=now() - begun, cpu_time=time.process_time_ns())
    return share, {share["longest"]: 1}


def repeat(window):
    """Sends requests; `window` waits for the window when the client is open."""
    client, requests = Client(), workload(setting["number"], parts)
    share, latencies = empty(), {}
    # A pause of a range is for outsiders, which are not written in Python.
    think = seconds(setting["pause"]["shortest"])
    start, counted, end = window()
    wait_until(start)
    before = None
    while True:
        begun = now()
        if begun >= end:
            break
        outcome = next(requests)(client)
        ended = now()
        share["acknowledged"] += outcome == "written"
        if ended >= counted:
            if before is None:
                before = time.process_time_ns()
            took = ended - begun
            key = bucket(took)
            latencies[key] = latencies.get(key, 0) + 1
            share["longest"] = max(share["longest"], took)
            if outcome == "failed":
                share["failed"] += 1
            elif ended <= end:
                share["done"] += 1
        if think:
            time.sleep(think)
    if before is not None:
        share["cpu_time"] = time.process_time_ns() - before
    return share, latencies


def threaded(count):
    """Sends requests from several threads, and counts them together."""
    ready, launched = threading.Barrier(count + 1), threading.Barrier(count + 1)
    window, results, errors = [], [], []

    def wait_for_window():
        ready.wait()
        launched.wait()
        return window

    def one_thread():
        try:
            results.append(repeat(wait_for_window))
        except threading.BrokenBarrierError:
            pass
        except Exception as error:
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=one_thread, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        ready.wait()
    except threading.BrokenBarrierError:
        raise errors[0] from None
    window.extend(read_window())
    launched.wait()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    total, latencies = empty(), {}
    for share, counts in results:
        for key in "acknowledged", "done", "failed":
            total[key] += share[key]
        for key in "longest", "cpu_time":
            total[key] = max(total[key], share[key])
        for key, calls in counts.items():
            latencies[key] = latencies.get(key, 0) + calls
    return total, latencies


if setting["once"]:
    share, latencies = once()
elif setting["threads"] > 1:
    share, latencies = threaded(setting["threads"])
else:
    share, latencies = repeat(read_window)
share["latencies"] = sorted(latencies.items())
print(json.dumps(share), flush=True)
