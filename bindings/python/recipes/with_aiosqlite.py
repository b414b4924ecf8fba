"""aiosqlite: the connection is opened through penholder."""

import asyncio
import sys

import aiosqlite
import penholder


async def main(database: str, rows: int) -> None:
    uri = penholder.uri(database, label="asyncio")
    async with aiosqlite.connect(uri, uri=True, timeout=30) as db:
        await db.execute("CREATE TABLE IF NOT EXISTS event(name TEXT)")
        for number in range(rows):
            await db.execute("INSERT INTO event VALUES (?)", (f"event {number}",))
            await db.commit()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
