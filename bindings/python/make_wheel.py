#!/usr/bin/env python3
"""Makes the wheel: builds the library and the command with cargo, and packs them with the package.

    python3 make_wheel.py [DIRECTORY]        the wheel is written to DIRECTORY (dist)

It is also the build backend of ``pyproject.toml``, so ``pip install bindings/python`` works. With
PENHOLDER_BUILT=DIRECTORY it takes the library and ``penholder`` from there.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Optional

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PACKAGE = HERE / "src" / "penholder"
#: File of cargo: its place in the package.
LIBRARY = "libpenholder.dylib" if sys.platform == "darwin" else "libpenholder.so"
BUILT = {LIBRARY: LIBRARY, "penholder": "bin/penholder"}
SUMMARY = "A fair, woken write lock for SQLite that all processes queue for"


def make(directory: Path) -> Path:
    """Writes the wheel and returns its path."""
    with tempfile.TemporaryDirectory() as scratch:
        files = {place: strip(found, Path(scratch)) for place, found in built().items()}
        tag = f"py3-none-{platform_tag(files.values())}"
        version = version_of_workspace()
        # The earliest time of a ZIP file for all: the same files make the same wheel.
        wheel = directory / f"penholder-{version}-{tag}.whl"
        directory.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            pack(archive, files, version, tag)
    return wheel


def built() -> dict[str, Path]:
    """Builds the library and the command; returns them by their place in the package."""
    ready = os.environ.get("PENHOLDER_BUILT")
    if ready is None:
        packages = ["-p", "penholder-extension", "-p", "penholder-cli"]
        command = ["cargo", "build", "--release", "--locked", *packages]
        subprocess.run(command, cwd=REPOSITORY, check=True)
        target = os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")
        ready = str(REPOSITORY / target / "release")
    return {place: Path(ready, name) for name, place in BUILT.items()}


def strip(found: Path, scratch: Path) -> Path:
    """Returns a copy without what only a debugger reads, which is most of it."""
    copy = scratch / found.name
    shutil.copy(found, copy)
    copy.chmod(0o755)
    # That of macOS would remove the names that others look for, too.
    options = ["-x"] if sys.platform == "darwin" else []
    subprocess.run(["strip", *options, copy], check=True)
    return copy


def platform_tag(files: Any) -> str:
    """Returns the tag of the oldest glibc that has each symbol that the files need, or of the oldest
    macOS that Rust builds for."""
    if sys.platform == "darwin":
        return f"macosx_11_0_{os.uname().machine}"
    if (sys.platform, os.uname().machine) != ("linux", "x86_64"):
        sys.exit("make_wheel: only for Linux on x86_64 and for macOS so far")
    needed = []
    for file in files:
        command = ["objdump", "-T", file]
        symbols = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        # A weak symbol (` w `) may be missing.
        strong = [line for line in symbols.splitlines() if " w " not in line]
        found = re.findall(r"GLIBC_(\d+)\.(\d+)", "\n".join(strong))
        needed += [(int(major), int(minor)) for major, minor in found]
    major, minor = max(needed)
    return f"manylinux_{major}_{minor}_x86_64"


def version_of_workspace() -> str:
    manifest = (REPOSITORY / "Cargo.toml").read_text()
    found = re.search(r'^\[workspace\.package\].*?^version = "(.*?)"', manifest, re.M | re.S)
    if found is None:
        sys.exit("make_wheel: Cargo.toml has no version of the workspace")
    return found[1]


def pack(archive: zipfile.ZipFile, files: dict[str, Path], version: str, tag: str) -> None:
    contents = {
        f"penholder/{path.relative_to(PACKAGE)}": (path.read_bytes(), 0o644)
        for path in sorted((PACKAGE).rglob("*"))
        if path.suffix == ".py" or path.name == "py.typed"
    }
    for place, file in files.items():
        contents[f"penholder/{place}"] = (file.read_bytes(), 0o755)
    info = f"penholder-{version}.dist-info"
    contents[f"{info}/METADATA"] = (metadata(version).encode(), 0o644)
    described = f"Wheel-Version: 1.0\nGenerator: make_wheel\nRoot-Is-Purelib: false\nTag: {tag}\n"
    contents[f"{info}/WHEEL"] = (described.encode(), 0o644)
    scripts = "[console_scripts]\npenholder = penholder.__main__:main\n"
    contents[f"{info}/entry_points.txt"] = (scripts.encode(), 0o644)
    for license_file in ("LICENSE-APACHE", "LICENSE-MIT"):
        text = (REPOSITORY / license_file).read_bytes()
        contents[f"{info}/licenses/{license_file}"] = (text, 0o644)
    record = "".join(
        f"{name},sha256={digest(data)},{len(data)}\n" for name, (data, _) in contents.items()
    )
    contents[f"{info}/RECORD"] = (f"{record}{info}/RECORD,,\n".encode(), 0o644)
    for name, (data, mode) in contents.items():
        entry = zipfile.ZipInfo(name)
        entry.external_attr = (0o100000 | mode) << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, data)


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def metadata(version: str) -> str:
    fields = [
        "Metadata-Version: 2.4",
        "Name: penholder",
        f"Version: {version}",
        f"Summary: {SUMMARY}",
        "License-Expression: MIT OR Apache-2.0",
        "License-File: LICENSE-APACHE",
        "License-File: LICENSE-MIT",
        "Keywords: sqlite,lock,queue,concurrency",
        "Requires-Python: >=3.9",
        "Classifier: Operating System :: POSIX :: Linux",
        "Classifier: Topic :: Database",
        "Classifier: Typing :: Typed",
        "Description-Content-Type: text/markdown",
    ]
    return "\n".join(fields) + "\n\n" + (HERE / "README.md").read_text()


# ---- the build backend (PEP 517) ---------------------------------------------------------


def build_wheel(
    wheel_directory: str,
    config_settings: Optional[dict[str, Any]] = None,
    metadata_directory: Optional[str] = None,
) -> str:
    return make(Path(wheel_directory)).name


if __name__ == "__main__":
    print(make(Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "dist")))
