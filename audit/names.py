"""What lists and prefix filters search, `candidate_names`, is what the candidates say.

Compared as a set inside PostgreSQL, range of keys by range of keys; only what differs comes out.
"""

from uuid import UUID

import asyncpg

from audit.findings import Findings
from audit.keys import Key
from audit.sqlfiles import statement

_NAMES = statement("names")


async def wrong_names(
    connection: asyncpg.Connection, first: Key, last: Key
) -> tuple[int, dict[Key, str]]:
    """How many rows of names a range of keys has; and what is wrong with those of which keys."""
    (found,) = await connection.fetch(_NAMES, *first, *last)
    return found["names_total"], {
        Key(UUID(organization), UUID(candidate)): wrong
        for organization, candidate, wrong in found["wrong"] or ()
    }


def tell_names(findings: Findings, key: Key, found: str) -> None:
    """One candidate that lists would not find, or not by what it says."""
    findings.add(
        "state",
        f"names of candidate {key}",
        expected="one row, as the candidate has them",
        found=found,
    )
