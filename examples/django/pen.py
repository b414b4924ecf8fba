"""penholder's write lock for Python: `flock` on `db.lock` next to the database.

The lock is the kernel's, so it is free as soon as its holder ends, however it ends. The
record is for people: `penholder status` and timeouts of other programs show it.
"""

import contextlib
import fcntl
import functools
import os
import sys
import time

RECORD_LENGTH = 512
BLANK = b" " * (RECORD_LENGTH - 1) + b"\n"


@contextlib.contextmanager
def write_lock(path):
    """Waits for the lock, without a limit, and holds it."""
    # Opened each time: threads and forked processes that share a descriptor share the lock.
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.pwrite(file, record(), 0)
        try:
            yield
        finally:
            os.pwrite(file, BLANK, 0)
    finally:
        os.close(file)


def record():
    head, tail = identity(os.getpid())
    now = time.time()
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    text = f"{head}{seconds}.{int(now % 1 * 1000):03}Z{tail}".encode()
    return text + BLANK[len(text) :]


@functools.cache
def identity(pid):
    """What stands before and after the time. Pid and start are one process for certain."""
    with open("/proc/self/stat") as stat:
        # The 22nd field; the second, in brackets, may contain spaces.
        start = stat.read().rpartition(")")[2].split()[19]
    namespace = os.stat("/proc/self/ns/pid").st_ino
    command = " ".join(sys.orig_argv).encode("unicode_escape").decode()[:160]
    return f"pid:{pid}\ntime:", f"\ncmd:{command}\nstart:{start}\npidns:{namespace}\n"
