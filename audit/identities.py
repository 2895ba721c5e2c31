"""No command is settled twice: each identity stands once in the journal, as far back as
deduplication reaches."""

from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import asyncpg

from audit.bookmark import Side
from audit.findings import Meter
from audit.sqlfiles import statement

SLICE_ROWS = 500_000
"""Some 40 MB of hash table in PostgreSQL, should it choose one. Identities are hashes, so equal
slices of their range hold about equally many."""

_RANGE = 2**128
_REPEATED = statement("repeated_identities")
_SETTLED_AGAIN = statement("settled_again")


async def check_identities(
    connection: asyncpg.Connection,
    side: Side,
    meter: Meter,
    *,
    rows_total: int,
    deduplication: timedelta,
) -> None:
    """Look for commands that were settled again within `deduplication`."""
    slices_total, done = side.place("identities") or (rows_total // SLICE_ROWS + 1, 0)
    bounds = [_RANGE * number // slices_total for number in range(slices_total + 1)]
    for number, (first, end) in enumerate(pairwise(bounds)):
        if number < done:
            continue
        repeated = await connection.fetch(_REPEATED, UUID(int=first), UUID(int=end - 1))
        identities = [row["identity"] for row in repeated]
        again = await connection.fetch(_SETTLED_AGAIN, identities, deduplication)
        for row in again if identities else ():
            side.findings.add(
                "identities",
                f"lane {row['lane']}, result {row['result_sequence']}",
                expected=f"settled once, by lane {row['lane_before']}, "
                f"result {row['result_before']}",
                found="settled again",
            )
        meter.advance(rows_total // slices_total)
        side.reached("identities", (slices_total, number + 1))
