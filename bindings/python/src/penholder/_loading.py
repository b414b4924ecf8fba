"""Loading the library into the SQLite that Python uses."""

from __future__ import annotations

import ctypes
import functools
import sqlite3
import sys
from typing import Any, NamedTuple, Optional

from penholder._error import Error
from penholder._library import ABI, library_path, library, loadable_path, version

_REGISTER = "sqlite3_penholder_init"
_DEFAULT = "sqlite3_penholder_default_init"
#: The same for ``sqlite3_auto_extension``.
_AUTOMATIC = {
    _REGISTER: "sqlite3_penholder_auto_register_init",
    _DEFAULT: "sqlite3_penholder_auto_init",
}


class ExtensionInfo(NamedTuple):
    """The library, and the SQLite that it works with."""

    name: str
    version: str
    abi: int
    path: str
    sqlite_version: str
    sqlite_source_id: str
    #: Whether this Python can load extensions itself; otherwise ``ctypes`` does it.
    loads_extensions: bool


def extension_info() -> ExtensionInfo:
    """Returns the version and the path of the library, and the version of SQLite."""
    path, number = library_path(), version()
    loads = hasattr(sqlite3.Connection, "enable_load_extension")
    return ExtensionInfo(
        "penholder", number, ABI, path, sqlite3.sqlite_version, _source_id(), loads
    )


def load(connection: sqlite3.Connection, default: bool = False) -> None:
    """Loads the extension: the VFS ``penholder``, and the SQL functions for this connection and all
    that are opened later.

    With ``default``, all connections that are opened from now on use penholder, also those of
    ``sqlite3.connect``. Where this Python cannot load extensions, ``ctypes`` does it, and this
    connection itself does not get the functions.
    """
    entry = _DEFAULT if default else _REGISTER
    library()
    if not hasattr(connection, "enable_load_extension"):
        return _load_automatically(entry)
    try:
        try:
            _load_by_statement(connection, entry)
        except sqlite3.OperationalError as error:
            if "not authorized" not in str(error):
                raise
            connection.enable_load_extension(True)
            try:
                _load_by_statement(connection, entry)
            finally:
                connection.enable_load_extension(False)
    except sqlite3.Error as error:
        raise Error(_prefixed(str(error))) from error


def _load_by_statement(connection: sqlite3.Connection, entry: str) -> None:
    connection.execute("SELECT load_extension(?, ?)", (loadable_path(), entry)).close()


@functools.lru_cache(maxsize=None)
def register() -> None:
    """Makes the VFS ``penholder`` known to SQLite; forked children have it too."""
    scratch = sqlite3.connect(":memory:")
    try:
        found = _loaded_version(scratch)
        if found is None:
            load(scratch)
        elif found != version():
            raise Error(
                f"load penholder: version {found} is loaded already, and this package has "
                f"{version()}; use one of them"
            )
    finally:
        scratch.close()


def _load_automatically(entry: str) -> None:
    """Loads the extension as an automatic one of the next connection, through the library that
    contains the SQLite of Python."""
    sqlite = _sqlite_of_python()
    function = ctypes.cast(getattr(library(), _AUTOMATIC[entry]), ctypes.c_void_p)
    code = sqlite.sqlite3_auto_extension(function)
    if code != 0:
        raise Error(_not_found(f"its SQLite refused an automatic one (result code {code})"))
    try:
        scratch = sqlite3.connect(":memory:")
        try:
            found = _loaded_version(scratch)
        finally:
            scratch.close()
    except sqlite3.Error as error:
        raise Error(_prefixed(str(error))) from error
    finally:
        sqlite.sqlite3_cancel_auto_extension(function)
    # If it was another copy of SQLite, the connection has not called it.
    if found is None:
        raise Error(_not_found("its module _sqlite3 does not use the SQLite that was found"))


def _sqlite_of_python() -> ctypes.CDLL:
    """Returns the SQLite that the module ``sqlite3`` uses: the object that is loaded already. A
    second copy in one process would drop the locks of the first one."""
    import _sqlite3

    # A search by a handle goes through what that library is linked with, and finds no other copy.
    path: Optional[str] = getattr(_sqlite3, "__file__", None)
    sqlite = ctypes.CDLL(path)
    try:
        functions: list[Any] = [
            sqlite.sqlite3_sourceid,
            sqlite.sqlite3_auto_extension,
            sqlite.sqlite3_cancel_auto_extension,
        ]
    except AttributeError as error:
        raise Error(_not_found("its SQLite is built in and cannot be seen from outside")) from error
    source_id, *registering = functions
    source_id.restype, source_id.argtypes = ctypes.c_char_p, []
    for function in registering:
        function.restype, function.argtypes = ctypes.c_int, [ctypes.c_void_p]
    if source_id().decode() != _source_id():
        raise Error(_not_found("its module _sqlite3 does not use the SQLite that was found"))
    return sqlite


def _source_id() -> str:
    connection = sqlite3.connect(":memory:")
    try:
        return str(connection.execute("SELECT sqlite_source_id()").fetchone()[0])
    finally:
        connection.close()


def _loaded_version(connection: sqlite3.Connection) -> Optional[str]:
    """Returns the version of the extension that is loaded already; ``None`` if there is none."""
    known = "SELECT 1 FROM pragma_function_list WHERE name = 'penholder_version'"
    if connection.execute(known).fetchone() is None:
        return None
    return str(connection.execute("SELECT penholder_version()").fetchone()[0])


def _not_found(why: str) -> str:
    if sys.platform == "darwin":
        # Apple's SQLite loads none at all.
        where = "for example of Homebrew or conda, not that of macOS or python.org"
    else:
        where = "for example that of the system"
    return (
        f"load penholder: this Python cannot load extensions, and {why}; use a Python whose sqlite3 "
        f"has enable_load_extension, {where}"
    )


def _prefixed(text: str) -> str:
    return text if "load penholder" in text else f"load penholder: {text}"
