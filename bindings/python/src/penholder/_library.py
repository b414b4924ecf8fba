"""The library ``libpenholder`` and its C interface (``penholder.h``)."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import sys
from pathlib import Path
from typing import Any, Optional, Union

from penholder._error import Error, LockTimeout

#: What names a file.
AnyPath = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]

OK = 0
AGAIN = 1
TIMEOUT = 2
#: The version of the interface that this package is written for.
ABI = 1
#: No limit, in milliseconds.
FOREVER = 2**64 - 1

_DIRECTORY = Path(__file__).parent


class Options(ctypes.Structure):
    """``penholder_options``."""

    _fields_ = [
        ("label", ctypes.c_char_p),
        ("lock_file", ctypes.c_char_p),
        ("policy", ctypes.c_char_p),
        ("allow_network", ctypes.c_int),
    ]


_TEXT = ctypes.c_char_p
_POINTER = ctypes.c_void_p
_PLACE = ctypes.POINTER(ctypes.c_void_p)
_OPTIONS = ctypes.POINTER(Options)
_TIME = ctypes.c_uint64

#: Function: what it returns, and its arguments.
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "penholder_abi": (ctypes.c_uint32, []),
    "penholder_version": (_TEXT, []),
    "penholder_error_text": (_TEXT, []),
    "penholder_error_json": (_TEXT, []),
    "penholder_text_free": (None, [_POINTER]),
    "penholder_lock_new": (ctypes.c_int, [_TEXT, _OPTIONS, _PLACE]),
    "penholder_lock_acquire": (ctypes.c_int, [_POINTER, _TIME, _TIME]),
    "penholder_lock_release": (ctypes.c_int, [_POINTER]),
    "penholder_lock_free": (None, [_POINTER]),
    "penholder_status": (ctypes.c_int, [_TEXT, _OPTIONS, _PLACE]),
    "penholder_watch_new": (ctypes.c_int, [_TEXT, _OPTIONS, _TEXT, _PLACE]),
    "penholder_watch_wait": (ctypes.c_int, [_POINTER, _TIME]),
    "penholder_watch_token": (ctypes.c_int, [_POINTER, _PLACE]),
    "penholder_watch_free": (None, [_POINTER]),
}


def loadable_path() -> str:
    """Returns the path of the library without its suffix, for ``load_extension`` of SQLite."""
    return str(_DIRECTORY / "libpenholder")


def library_path() -> str:
    """Returns the path of the library."""
    return loadable_path() + (".dylib" if sys.platform == "darwin" else ".so")


def command_path() -> str:
    """Returns the path of the command."""
    return str(_DIRECTORY / "bin" / "penholder")


@functools.lru_cache(maxsize=None)
def library() -> ctypes.CDLL:
    """Opens the library."""
    path = library_path()
    try:
        opened = ctypes.CDLL(path)
    except OSError as error:
        raise Error(f"load penholder: {error}; install the wheel for this system") from error
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(opened, name)
        function.restype, function.argtypes = result, arguments
    abi = opened.penholder_abi()
    if abi != ABI:
        raise Error(
            f"load penholder: {path} has the C interface {abi}, and this package needs {ABI}; "
            "install the package again"
        )
    return opened


def version() -> str:
    """Returns the version of the library."""
    text: bytes = library().penholder_version()
    return text.decode()


def check(code: int) -> None:
    """Raises what the last function failed with, if its code says that it failed."""
    if code == OK:
        return
    text: Optional[bytes] = library().penholder_error_json()
    failure: dict[str, Any] = json.loads(text) if text else {"message": f"penholder failed (code {code})"}
    error = LockTimeout(failure["message"]) if code == TIMEOUT else Error(failure["message"])
    error.lock_file = failure.get("lock_file")
    if isinstance(error, LockTimeout):
        error.holder = failure.get("holder")
    raise error


def take_text(place: ctypes.c_void_p) -> str:
    """Returns a text that a function has stored, and frees it."""
    text = ctypes.cast(place, _TEXT).value or b""
    library().penholder_text_free(place)
    return text.decode("utf-8", "replace")


def c_path(path: AnyPath) -> bytes:
    """Returns the path of a database as C text."""
    text = os.fsencode(path)
    if b"\0" in text:
        raise ValueError("embedded null byte in the path of a database")
    if text in (b"", b":memory:"):
        raise ValueError("a database that is not in a file has no lock; give the path of one that is")
    return text


def c_text(name: str, text: Optional[str]) -> Optional[bytes]:
    """Returns an argument as C text."""
    if text is None:
        return None
    if "\0" in text:
        raise ValueError(f"embedded null character in {name}")
    return text.encode()


def options(
    label: Optional[str] = None,
    lock_file: Optional[AnyPath] = None,
    policy: Optional[str] = None,
    allow_network: bool = False,
) -> Options:
    """Returns the options of a lock."""
    return Options(
        c_text("label", label),
        None if lock_file is None else c_path(lock_file),
        c_text("policy", policy),
        allow_network,
    )


def milliseconds(seconds: Optional[float]) -> int:
    """Returns a timeout as the library takes it; ``None`` is no limit."""
    if seconds is None or seconds >= FOREVER / 1000:
        return FOREVER
    if not seconds >= 0:
        raise ValueError(f"the timeout is {seconds}; give seconds, or None for no limit")
    return -int(-seconds * 1000 // 1)
