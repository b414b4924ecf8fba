"""What can be seen of a lock."""

from __future__ import annotations

import ctypes
import json
from typing import Any, Optional

from penholder._library import AnyPath, c_path, check, library, options, take_text


def status(path: AnyPath, *, lock_file: Optional[AnyPath] = None) -> dict[str, Any]:
    """Returns the lock of a database: the holder, the queue, counters, events.

    The fields are those of ``penholder status --json``. It only looks, and never waits.
    """
    place = ctypes.c_void_p()
    check(library().penholder_status(c_path(path), options(lock_file=lock_file), place))
    found: dict[str, Any] = json.loads(take_text(place))
    return found
