"""sqlite-utils: it takes a connection."""

import sys

import penholder
import sqlite_utils


def main(database: str, rows: int) -> None:
    db = sqlite_utils.Database(penholder.connect(database, timeout=30, label="sqlite-utils"))
    for number in range(rows):
        db["event"].insert({"name": f"event {number}"})
    db.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
