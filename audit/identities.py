"""No command is settled twice: each identity stands once in the journal, as far back as
deduplication reaches."""

from datetime import timedelta
from uuid import UUID

import asyncpg

from audit.findings import Findings
from audit.sqlfiles import statement
from audit.walks import Step

SLICE_ROWS = 500_000
"""Rows of the index read at once: some tenths of a second."""

_FIRST = UUID(int=0)
_REPEATED = statement("repeated_identities")
_SETTLED_AGAIN = statement("settled_again")


def identities_step(deduplication: timedelta) -> Step:
    """Looks for commands that were settled again within `deduplication`."""

    async def step(
        connection: asyncpg.Connection, place: str | None, findings: Findings
    ) -> str | None:
        first = UUID(place or _FIRST.hex)
        ((last, repeated, rows),) = await connection.fetch(_REPEATED, first, SLICE_ROWS)
        again_from = None
        if rows == SLICE_ROWS:  # another of the last one may follow
            again_from = last if last != first else UUID(int=last.int + 1)
            repeated = [each for each in repeated if each != again_from]
        again = await connection.fetch(_SETTLED_AGAIN, repeated, deduplication)
        for row in again if repeated else ():
            findings.add(
                "identities",
                f"lane {row['lane']}, result {row['result_sequence']}",
                expected=f"settled once, by lane {row['lane_before']}, "
                f"result {row['result_before']}",
                found="settled again",
            )
        return None if again_from is None else again_from.hex

    return step
