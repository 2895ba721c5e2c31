"""The auditor's connection, and short consistent looks through it.

A look is one REPEATABLE READ, READ ONLY transaction over one bounded piece of work. There is none
for a whole run: an old snapshot would keep every dead version of the lanes' rows alive, and slow
down the very consumers that go on meanwhile.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

ROLE = "funnel_audit"
_CONNECT_SECONDS_MAX = 10.0
_STATEMENT_SECONDS_MAX = 600.0
"""One bounded piece of work on a cold disk: a guess with a wide margin."""
_LOCK_SECONDS_MAX = 10
_IDLE_SECONDS_MAX = 10
"""Who writes holds locks: a process that stalls, or waits, lets go of them after so long."""


_WALKING = {
    "enable_seqscan": "off",
    "enable_sort": "off",
    "enable_incremental_sort": "off",
    "max_parallel_workers_per_gather": "0",  # its connections are as many as cores are given to it
}
"""How a range is read, whatever statistics say of how long it is, or while there are none: what is
ordered by a key and must not be sorted goes by the index of that key. Left to itself, PostgreSQL
takes a range of pairs for a quarter of its table, and may read that for each range.
"""


class AuditRefused(Exception):
    """The database does not let the auditor look; the message names the remedy."""


@asynccontextmanager
async def open_audit(
    database_url: str,
    *,
    name: str = "funnel verify",
    role: str = ROLE,
    walking: bool = False,
    transaction_seconds_max: int | None = None,
) -> AsyncIterator[asyncpg.Connection]:
    """A connection with the auditor's rights and no others, or those of another role.

    Args:
        name: which command it is, as operators see it in `pg_stat_activity`.
        role: with the rights of another role, for what writes.
        walking: through whole tables, in ranges that are read by the index of their order.
        transaction_seconds_max: for what writes: how long a transaction may take; none waits for a
            lock, or for its client, for more than a part of that.

    Raises:
        AuditRefused: the role, a grant or a table is missing.
        OSError, asyncpg.PostgresConnectionError: PostgreSQL does not answer.
    """
    bounds = {} if transaction_seconds_max is None else _bounds(transaction_seconds_max)
    try:
        connection = await asyncpg.connect(
            database_url,
            timeout=_CONNECT_SECONDS_MAX,
            command_timeout=_STATEMENT_SECONDS_MAX,
            server_settings={
                "role": role,
                "application_name": name,
                "timezone": "UTC",
                "jit": "off",
                "work_mem": "64MB",  # one sort or hash of one bounded piece
                # Ranges differ: each is planned for what it holds.
                "plan_cache_mode": "force_custom_plan",
                **(_WALKING if walking else {}),
                **bounds,
            },
        )
    except asyncpg.InvalidParameterValueError as error:
        raise AuditRefused(f"There is no role {role}: run `funnel migrate up`.") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise AuditRefused(f"This login may not take the role {role}: grant it.") from error
    try:
        await connection.set_type_codec(
            "json", schema="pg_catalog", format="binary", encoder=bytes, decoder=bytes
        )
        yield connection
    except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedTableError) as error:
        raise AuditRefused(f"{error.args[0]}, as {role}: run `funnel migrate up`.") from error
    finally:
        await connection.close(timeout=_CONNECT_SECONDS_MAX)


def _bounds(transaction_seconds: int) -> dict[str, str]:
    return {
        "transaction_timeout": f"{transaction_seconds}s",
        "lock_timeout": f"{min(_LOCK_SECONDS_MAX, transaction_seconds)}s",
        "idle_in_transaction_session_timeout": f"{min(_IDLE_SECONDS_MAX, transaction_seconds)}s",
    }


@asynccontextmanager
async def look(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Everything within sees one state of the database."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        yield
