"""Helper processes of the tests. Each wait is bounded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any, Callable, Optional

import penholder

#: The longest that anything may take.
BOUND = 60.0


class Helper:
    """A Python process that runs a script: the database is ``path``, further arguments ``args``."""

    def __init__(self, script: str, path: Any, *args: Any, **options: Any) -> None:
        start = "import os, sys, time, sqlite3, penholder\npath, *args = sys.argv[1:]\n"
        command = [sys.executable, "-c", start + textwrap.dedent(script), str(path)]
        self.process = subprocess.Popen(
            [*command, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        # What the process does is killed by its bound, so that no read waits longer.
        self._bound = threading.Timer(BOUND, self.kill)
        self._bound.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """Returns the next line that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            out, err = self.process.communicate(timeout=BOUND)
            raise AssertionError(f"it ended: {out}{err}")
        return line.rstrip("\n")

    def go(self) -> None:
        """Sends it a line, for which it waits with ``input()``."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self) -> str:
        """Waits for its end; returns what it printed."""
        out, err = self.process.communicate(timeout=BOUND)
        self._bound.cancel()
        assert self.process.returncode == 0, f"exit code {self.process.returncode}: {out}{err}"
        return out

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()

    def end(self) -> None:
        """Ends it however it is, and reads nothing."""
        self.kill()
        self.process.communicate(timeout=BOUND)
        self._bound.cancel()

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()


#: Holds the lock until it is sent a line.
HOLD = """
with penholder.lock(path, label=args[0] if args else None):
    print("held", flush=True)
    input()
"""

#: Holds SQLite's write lock until it is sent a line.
WRITE = """
db = penholder.connect(path, label=args[0] if args else None)
db.execute("BEGIN IMMEDIATE")
db.execute("INSERT INTO t VALUES (-1, 0)")
print("held", flush=True)
input()
db.commit()
"""


def until(is_true: Callable[[], Any], what: str, bound: float = 20.0) -> Any:
    """Waits until something is true, and returns what it is."""
    end = time.monotonic() + bound
    while time.monotonic() < end:
        found = is_true()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"not within {bound} s: {what}")


def until_free(path: Any) -> None:
    """Waits until the lock is free: a process that has just written keeps it for some
    milliseconds."""
    until(lambda: penholder.status(path)["state"] == "free", "the lock is free")


def stop(pid: int) -> None:
    """Stops a process, and waits until each of its threads has stopped: one that has not may
    still take a lock."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    until(lambda: all(" T " in stat.read_text() for stat in tasks.glob("*/stat")), "it has stopped")


class Took:
    """How long a block took, in seconds."""

    def __enter__(self) -> Took:
        self.begun = time.monotonic()
        return self

    def __exit__(self, *_: Any) -> None:
        self.seconds = time.monotonic() - self.begun


def run(script: Path, *args: Any, env: Optional[dict[str, str]] = None) -> str:
    """Runs a script to its end; returns what it printed."""
    done = subprocess.run(
        [sys.executable, str(script), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=BOUND,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
