"""``python -m penholder``: the command of penholder."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from penholder._library import command_path


def main() -> NoReturn:
    """Becomes the command, with the arguments of this program."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command_path(), ["penholder", *sys.argv[1:]])


if __name__ == "__main__":
    main()
