"""The URI by which SQLite opens a database through penholder."""

from __future__ import annotations

import os
from typing import Optional
from urllib.parse import quote_from_bytes, unquote_to_bytes

from penholder._library import AnyPath

_VFS = b"penholder"


def penholder_uri(
    database: AnyPath,
    is_uri: bool = False,
    label: Optional[str] = None,
    lock_file: Optional[AnyPath] = None,
    policy: Optional[str] = None,
    allow_network: bool = False,
) -> Optional[str]:
    """Returns the URI of a database; ``None`` if the database is not in a file.

    ``is_uri`` says whether ``database`` is a URI if it looks like one, as for ``sqlite3.connect``.
    """
    text = os.fsencode(database)
    parameters = [("vfs", _VFS)]
    if label is not None:
        parameters.append(("penholder_label", label.encode()))
    if lock_file is not None:
        parameters.append(("penholder_lock", os.path.abspath(os.fsencode(lock_file))))
    if policy is not None:
        parameters.append(("penholder_policy", policy.encode()))
    if allow_network:
        parameters.append(("penholder_allow_network", b"1"))
    for part in (text, *(value for _, value in parameters)):
        if b"\0" in part:
            raise ValueError("embedded null byte in the path or in an option of a database")
    if is_uri and text.startswith(b"file:"):
        return _extended(text, parameters)
    if text in (b"", b":memory:"):
        return None
    # A path that begins with two slashes would be read as a host without the first two.
    scheme = "file://" if text.startswith(b"/") else "file:"
    return f"{scheme}{quote_from_bytes(text)}?{_query(parameters)}"


def _query(parameters: list[tuple[str, bytes]]) -> str:
    return "&".join(f"{name}={quote_from_bytes(value, safe='')}" for name, value in parameters)


def _extended(uri: bytes, parameters: list[tuple[str, bytes]]) -> Optional[str]:
    """Adds the parameters to those of a URI."""
    rest, hash_sign, fragment = uri.partition(b"#")
    path, _, query = rest.partition(b"?")
    given = dict(_read(part) for part in query.split(b"&") if part)
    vfs = given.get(b"vfs")
    name = unquote_to_bytes(path[len(b"file:") :])
    if name in (b"", b"//", b":memory:") or given.get(b"mode") == b"memory" or vfs == b"memdb":
        return None
    if vfs not in (None, _VFS):
        raise ValueError(
            f"the URI asks for the VFS {os.fsdecode(vfs or b'')!r}; leave it out, or use sqlite3.connect"
        )
    joint = "&" if query else ("" if b"?" in rest else "?")
    added = _query([(key, value) for key, value in parameters if key != "vfs" or vfs is None])
    return os.fsdecode(rest) + (joint + added if added else "") + os.fsdecode(hash_sign + fragment)


def _read(parameter: bytes) -> tuple[bytes, bytes]:
    name, _, value = parameter.partition(b"=")
    return unquote_to_bytes(name), unquote_to_bytes(value)
