"""Nobody shall wait for the disk because of what another has left to be written."""

import asyncio
import os

import asyncpg


async def nothing_left_to_write(database_url: str) -> None:
    """Neither pages of PostgreSQL nor files: whoever comes next would wait for the disk."""
    await execute(database_url, "CHECKPOINT")
    await asyncio.to_thread(os.sync)


async def execute(database_url: str, sql: str) -> None:
    """One statement, on a connection of its own."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
